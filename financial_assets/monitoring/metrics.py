"""Prometheus metrics of the experiment, computed from the prediction log at each scrape.

Nothing is counted in memory: counters and histograms are totals over the log, so they survive a restart of the
exporter, and a log that cannot be read yields an error, not the numbers of yesterday. Names are those of the original
system where their meaning is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pandas as pd
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from financial_assets.errors import FinancialAssetsError, LogNotFoundError
from financial_assets.experiment.allocation.regimes import regime_experiment
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.plan.sections import GuardrailPolicy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.statistics.srm_sequential import SequentialSrm
from financial_assets.market.calendar import sessions_closed
from financial_assets.market.panel import PricePanel
from financial_assets.monitoring.accuracy import RollingAccuracy, rolling_accuracy
from financial_assets.monitoring.log_totals import UNATTRIBUTED, Histogram, LogTotals, read_totals
from financial_assets.scoring.intervals import Interval

__all__ = ["LATENCY_BUCKETS", "LEVEL", "PROBABILITY_BUCKETS", "WINDOW", "ExperimentCollector", "open_log"]

LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds, those of the original."""

PROBABILITY_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))
"""Upper bounds of answered probabilities."""

WINDOW = 60
"""Sessions of the rolling accuracy."""

LEVEL = 0.99
"""Confidence of the rolling accuracy's intervals: they are looked at every day, so 95 % would cry wolf."""

_ENDINGS = ("ok", "failed", "rejected", "timeout")
_ARM = ("model_name", "experiment")
_EXPERIMENT = ("experiment",)
_log = logging.getLogger(__name__)


def open_log(url: str) -> PredictionLog:
    """The prediction log at ``url``, which must exist: reading it must not make one.

    Raises
    ------
    LogNotFoundError
        It does not exist.
    LogError
        It cannot be used.
    """
    with suppress(ArgumentError):  # a malformed URL is for the log to explain
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).is_file():
            raise LogNotFoundError(f"there is no prediction log {parsed.database}; run `financial-assets run`")
    return PredictionLog(url, busy_timeout_s=5.0)


class ExperimentCollector(Collector):
    """Reads log and prices afresh at each scrape.

    Parameters
    ----------
    log
        Opens the prediction log; called at each scrape, because a connection to a file that was replaced would go on
        reading the old one.
    panel
        Prices up to the market clock.
    window
        Sessions of the rolling accuracy.
    level
        Confidence of its intervals.
    now
        The current UTC instant.
    """

    def __init__(
        self,
        log: Callable[[], PredictionLog],
        panel: Callable[[], PricePanel],
        *,
        window: int = WINDOW,
        level: float = LEVEL,
        now: Callable[[], pd.Timestamp] = lambda: pd.Timestamp.now(tz="UTC"),
    ) -> None:
        if window < 2:
            raise ValueError(f"window is {window}; an interval needs at least two sessions")
        self._open, self._panel, self._window, self._level, self._now = log, panel, window, level, now

    def collect(self) -> Iterator[Metric]:
        """All families; of a source that cannot be read, only that it cannot."""
        health = GaugeMetricFamily(
            "ab_test_exporter_up",
            "1 if the source could be read at this scrape; if 0, what is made from it is left out (the exporter's log "
            "says why)",
            labels=["source"],
        )
        families: list[Metric] = []
        try:
            with closing(self._open()) as log:
                totals = read_totals(log.engine, LATENCY_BUCKETS, PROBABILITY_BUCKETS)
                alphas = {epoch.experiment: _srm_alpha(log, epoch) for epoch in _in_force(totals.epochs)}
                families += self._from_log(totals, alphas)
                health.add_metric(["log"], 1)
                families += self._from_outcomes(log, _in_force(totals.epochs), health)
        except (FinancialAssetsError, OSError) as error:
            _log.error("the prediction log cannot be read: %s", error)
            health = GaugeMetricFamily(health.name, health.documentation, labels=["source"])
            health.add_metric(["log"], 0)
            families = []
        yield health
        yield from families

    def _from_log(self, totals: LogTotals, srm_alphas: Mapping[str, float]) -> list[Metric]:
        return [
            *_requests(totals),
            _histogram("ab_test_response_time_seconds", "Seconds to the end of a routed request", totals.latency),
            _histogram("ab_test_prediction_value", "Answered probability of a rise", totals.probability),
            *_traffic(totals, srm_alphas),
            *self._age(totals),
        ]

    def _from_outcomes(
        self, log: PredictionLog, epochs: tuple[WeightEpoch, ...], health: GaugeMetricFamily
    ) -> list[Metric]:
        try:
            panel = self._panel()
        except (FinancialAssetsError, OSError) as error:
            _log.error("prices cannot be read: %s", error)
            health.add_metric(["prices"], 0)
            return []
        scores = rolling_accuracy(log, epochs, panel, self._window, self._level)
        health.add_metric(["prices"], 1)
        return _accuracy(scores, f"over the last {self._window} sessions with a known outcome", self._level)

    def _age(self, totals: LogTotals) -> list[Metric]:
        since = "since the latest answered request, or since the experiment began when there is none"
        now = self._now()
        began = {epoch.experiment: epoch.opened_at for epoch in reversed(totals.epochs)}
        last = {experiment: totals.last_answer.get(experiment, began[experiment]) for experiment in sorted(began)}
        seconds = {(experiment,): (now - instant).total_seconds() for experiment, instant in last.items()}
        sessions = {(experiment,): sessions_closed(instant, now) for experiment, instant in last.items()}
        closed = f"Sessions of the exchange's calendar that have closed {since}"
        return [
            _gauge("ab_test_seconds_since_last_prediction", f"Seconds {since}", seconds, _EXPERIMENT),
            _gauge("ab_test_sessions_since_last_prediction", closed, sessions, _EXPERIMENT),
        ]


_Values = Mapping[tuple[str, ...], float]
"""Values of the labels, in their order -> value."""


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily], name: str, meaning: str, values: _Values, labels: Sequence[str]
) -> Metric:
    family = kind(name, meaning, labels=labels)
    for of_labels, value in values.items():
        family.add_metric(of_labels, value)
    return family


def _gauge(name: str, meaning: str, values: _Values, labels: Sequence[str] = _ARM) -> Metric:
    return _family(GaugeMetricFamily, name, meaning, values, labels)


def _in_force(epochs: Sequence[WeightEpoch]) -> tuple[WeightEpoch, ...]:
    return tuple({epoch.experiment: epoch for epoch in epochs}.values())


def _requests(totals: LogTotals) -> Iterator[Metric]:
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
    yield _family(CounterMetricFamily, "ab_test_unattributed", unattributed, lost, _EXPERIMENT)
    yield _gauge("ab_test_pending_requests", "Intents without a result", pending, _EXPERIMENT)


def _histogram(name: str, meaning: str, histograms: Sequence[Histogram]) -> Metric:
    family = HistogramMetricFamily(name, f"{meaning}, over the whole log", labels=_ARM)
    for histogram in histograms:
        buckets = [(floatToGoString(bound), float(count)) for bound, count in histogram.buckets]
        family.add_metric((histogram.model, histogram.experiment), buckets, histogram.total)
    return family


def _srm_alpha(log: PredictionLog, epoch: WeightEpoch) -> float:
    """The registered error probability of the sample-ratio test; the smallest of several challengers' plans.

    Where no test is registered it is the default of the rollout policy, which the exporter does not read.
    """
    plans = [log.plan(epoch.experiment, epoch.champion.model, arm.model) for arm in epoch.challengers]
    return min((plan.guardrails.srm_alpha for plan in plans if plan), default=GuardrailPolicy().srm_alpha)


def _traffic(totals: LogTotals, srm_alphas: Mapping[str, float]) -> Iterator[Metric]:
    epochs = _in_force(totals.epochs)
    wanted: dict[tuple[str, ...], float] = {}
    seen: dict[tuple[str, ...], float] = {}
    for epoch in epochs:
        for regime in (None, *epoch.regimes):
            name, requests = regime_experiment(epoch.experiment, regime), _attributed(totals, epoch, regime)
            wanted |= {(model, name): 100 * epoch.propensity(model, regime) for model in epoch.weights_in(regime)}
            if total := sum(requests.values()):
                seen |= {(model, name): 100 * count / total for model, count in requests.items()}
    number = {(epoch.experiment,): epoch.number for epoch in epochs}
    yield _gauge("ab_test_weight_epoch", "Number of the current weight epoch", number, _EXPERIMENT)
    yield _gauge("ab_test_traffic_weight_percentage", "Share that the weights ask for", wanted)
    share = "Share of the attributed requests of the current weight epoch"
    yield _gauge("ab_test_traffic_percentage", share, seen)
    test = "Sequential sample-ratio test over all weight epochs of the current arms"
    p_value = {(epoch.experiment,): _split_p_value(totals, epoch) for epoch in epochs}
    yield _gauge("ab_test_srm_p_value", f"{test}: a p-value that is valid at every scrape", p_value, _EXPERIMENT)
    registered = "Error probability of that test as registered in the plan: at this p-value the split is broken"
    alpha = {(epoch.experiment,): srm_alphas[epoch.experiment] for epoch in epochs}
    yield _gauge("ab_test_srm_alpha", registered, alpha, _EXPERIMENT)


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


def _accuracy(scores: Sequence[RollingAccuracy], span: str, level: float) -> list[Metric]:
    def gauge(name: str, meaning: str, value: Callable[[RollingAccuracy], float | None]) -> Metric:
        values = {(score.model, score.experiment): value(score) for score in scores}
        known = {arm: number for arm, number in values.items() if number is not None}
        return _gauge(f"ab_test_{name}", f"{meaning} {span}", known)

    def interval(name: str, meaning: str, of: Callable[[RollingAccuracy], Interval | None]) -> list[Metric]:
        def percentage(bound: str) -> Callable[[RollingAccuracy], float | None]:
            return lambda score: None if (its := of(score)) is None else 100 * getattr(its, bound)

        bound = f"{level:.0%} day-clustered bound of the {meaning.lower()}"
        return [
            gauge(name, meaning, percentage("estimate")),
            gauge(f"{name}_lower", f"Lower {bound}", percentage("low")),
            gauge(f"{name}_upper", f"Upper {bound}", percentage("high")),
        ]

    def majority(score: RollingAccuracy) -> float | None:
        return None if score.majority is None else 100 * score.majority

    baseline = "Percentage that the direction more frequent before the window gets right on the same rows"
    advantage = "Accuracy minus that of the majority class on the same rows, in points,"
    return [
        *interval("model_accuracy", "Percentage of right directions", lambda score: score.accuracy),
        *interval("accuracy_advantage", advantage, lambda score: score.advantage),
        gauge("majority_accuracy", baseline, majority),
        gauge("accuracy_days", "Days with a scored prediction", lambda score: score.days),
        gauge("accuracy_predictions", "Scored predictions", lambda score: score.rows),
    ]
