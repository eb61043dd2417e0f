"""Families of metrics, made from the log's totals and the rolling accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from financial_assets.experiment.allocation.regimes import regime_experiment
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.statistics.srm_sequential import SequentialSrm
from financial_assets.monitoring.accuracy import RollingAccuracy
from financial_assets.monitoring.log_totals import UNATTRIBUTED, Histogram, LogTotals
from financial_assets.scoring.intervals import Interval

EXPERIMENT = ("experiment",)
_ARM = ("model_name", "experiment")
_ENDINGS = ("ok", "failed", "rejected", "timeout")

Values = Mapping[tuple[str, ...], float]
"""Label values, in the order of the labels -> value."""


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily], name: str, meaning: str, values: Values, labels: Sequence[str]
) -> Metric:
    family = kind(name, meaning, labels=labels)
    for of_labels, value in values.items():
        family.add_metric(of_labels, value)
    return family


def gauge(name: str, meaning: str, values: Values, labels: Sequence[str] = _ARM) -> Metric:
    """A family of gauges with the given values."""
    return _family(GaugeMetricFamily, name, meaning, values, labels)


def requests(totals: LogTotals) -> Iterator[Metric]:
    """How routed requests ended, how many named no arm, and how many wait for their end."""
    # Every series exists from the start at 0: the first failure must count as an increase.
    arms = [(model, epoch.experiment) for epoch in totals.epochs for model in epoch.weights]
    ended = {(*arm, status): 0 for arm in arms for status in _ENDINGS}
    lost = {(epoch.experiment,): 0 for epoch in sorted(totals.epochs, key=lambda epoch: epoch.experiment)}
    pending = dict(lost)
    ended |= {(UNATTRIBUTED, experiment, UNATTRIBUTED): 0 for (experiment,) in lost}
    for row in totals.requests:
        if row.status == "pending":
            pending[row.experiment,] += row.count
            continue
        key = (row.model, row.experiment, row.status)
        ended[key] = ended.get(key, 0) + row.count
        lost[row.experiment,] += row.count if row.status == UNATTRIBUTED else 0
    how = "Routed requests by how they ended, over the whole log"
    yield _family(CounterMetricFamily, "ab_test_requests", how, dict(sorted(ended.items())), (*_ARM, "status"))
    unattributed = "Routed requests whose answer named no arm of its weight epoch"
    yield _family(CounterMetricFamily, "ab_test_unattributed", unattributed, lost, EXPERIMENT)
    yield gauge("ab_test_pending_requests", "Intents without a result", pending, EXPERIMENT)


def histogram(name: str, meaning: str, histograms: Sequence[Histogram]) -> Metric:
    """A histogram of every model over the whole log."""
    family = HistogramMetricFamily(name, f"{meaning}, over the whole log", labels=_ARM)
    for totals in histograms:
        buckets = [(floatToGoString(bound), float(count)) for bound, count in totals.buckets]
        family.add_metric((totals.model, totals.experiment), buckets, totals.total)
    return family


def traffic(totals: LogTotals, srm_alphas: Mapping[str, float]) -> Iterator[Metric]:
    """Wanted and seen shares of the current weight epochs, and the test of their difference at ``srm_alphas``."""
    epochs = totals.current_epochs
    wanted: dict[tuple[str, ...], float] = {}
    seen: dict[tuple[str, ...], float] = {}
    for epoch in epochs:
        for regime in (None, *epoch.regimes):
            name, requests = regime_experiment(epoch.experiment, regime), _attributed(totals, epoch, regime)
            wanted |= {(model, name): 100 * epoch.propensity(model, regime) for model in epoch.weights_in(regime)}
            if total := sum(requests.values()):
                seen |= {(model, name): 100 * count / total for model, count in requests.items()}
    number = {(epoch.experiment,): epoch.number for epoch in epochs}
    yield gauge("ab_test_weight_epoch", "Number of the current weight epoch", number, EXPERIMENT)
    yield gauge("ab_test_traffic_weight_percentage", "Share that the weights ask for", wanted)
    share = "Share of the attributed requests of the current weight epoch"
    yield gauge("ab_test_traffic_percentage", share, seen)
    test = "Sequential sample-ratio test over all weight epochs of the current arms"
    p_value = {(epoch.experiment,): _split_p_value(totals, epoch) for epoch in epochs}
    yield gauge("ab_test_srm_p_value", f"{test}: a p-value that is valid at every scrape", p_value, EXPERIMENT)
    registered = "Error probability of that test as registered in the plan: at this p-value the split is broken"
    alpha = {(epoch.experiment,): srm_alphas[epoch.experiment] for epoch in epochs}
    yield gauge("ab_test_srm_alpha", registered, alpha, EXPERIMENT)


def _split_p_value(totals: LogTotals, current: WeightEpoch) -> float:
    """The decision's test, looked at now: 1 over the present e-value is a p-value at whatever instant one looks.

    It covers the epochs in which a current challenger was tested against the current champion, as the decision does.
    """
    challengers = {arm.model for arm in current.challengers}
    tested = [
        epoch
        for epoch in totals.epochs
        if (epoch.experiment, epoch.champion.model) == (current.experiment, current.champion.model)
        and challengers & {arm.model for arm in epoch.challengers}
    ]
    test = SequentialSrm()
    test.update(
        {
            (epoch.number, regime): (epoch.weights_in(regime), _attributed(totals, epoch, regime))
            for epoch in tested or [current]
            for regime in (None, *epoch.regimes)
        }
    )
    return test.p_value


def _attributed(totals: LogTotals, epoch: WeightEpoch, regime: str | None) -> dict[str, int]:
    seen, stratum = dict.fromkeys(epoch.weights, 0), (epoch.experiment, epoch.number, regime)
    for row in totals.requests:
        if (row.experiment, row.epoch, row.regime) == stratum and row.status in _ENDINGS:
            seen[row.model] = seen.get(row.model, 0) + row.count
    return seen


def accuracy(scores: Sequence[RollingAccuracy], span: str, level: float) -> Iterator[Metric]:
    """Rolling accuracy in percent, its advantage in points, and the bounds of both at confidence ``level``."""

    def of_arms(name: str, meaning: str, values: Iterable[float | None]) -> Metric:
        arms = [(score.model, score.experiment) for score in scores]
        measured = {arm: value for arm, value in zip(arms, values, strict=True) if value is not None}
        return gauge(f"ab_test_{name}", f"{meaning} {span}", measured)

    def interval(name: str, meaning: str, intervals: Sequence[Interval | None]) -> Iterator[Metric]:
        bound = f"{level:.0%} day-clustered bound of the {meaning.lower()}"
        yield of_arms(name, meaning, [measured and 100 * measured.estimate for measured in intervals])
        yield of_arms(f"{name}_lower", f"Lower {bound}", [measured and 100 * measured.low for measured in intervals])
        yield of_arms(f"{name}_upper", f"Upper {bound}", [measured and 100 * measured.high for measured in intervals])

    advantage = "Accuracy minus that of the majority class on the same rows, in points,"
    yield from interval("model_accuracy", "Percentage of right directions", [score.accuracy for score in scores])
    yield from interval("accuracy_advantage", advantage, [score.advantage for score in scores])
    baseline = "Percentage that the direction more frequent before the window gets right on the same rows"
    majority = [None if score.majority is None else 100 * score.majority for score in scores]
    yield of_arms("majority_accuracy", baseline, majority)
    yield of_arms("accuracy_days", "Days with a scored prediction", [score.days for score in scores])
    yield of_arms("accuracy_predictions", "Scored predictions", [score.rows for score in scores])
