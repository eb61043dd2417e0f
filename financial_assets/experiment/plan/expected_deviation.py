"""What a test can expect before it starts: how much the two arms' daily scores differ, on days that are no evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import expit

from financial_assets.experiment.metrics.metric import Metric, Question
from financial_assets.experiment.metrics.paired import KEYS, PairedDays, paired_days
from financial_assets.experiment.metrics.registry import GUARDS, METRICS, metrics_of
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.long_run_spread import inflation_of, long_run_of
from financial_assets.experiment.plan.plan import DailyDeviation
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel
from financial_assets.models.baselines.fitted import Baselines
from financial_assets.models.baselines.history import predict_last
from financial_assets.models.training import Training

BLOCK = "the calibration block"


def expected_deviation(
    champion: Training,
    challenger: Training,
    metric: PairedMetric,
    tickers: int,
    panel: PricePanel,
    baselines: pd.DataFrame | None = None,
) -> DailyDeviation:
    """Standard deviation of the daily paired differences in the block that calibrated the two arms.

    Their mean there is worth nothing, because calibration has seen that block; how much they differ from day to day is
    what a plan needs. Without 20 common days, or where they never differ, cautious figures are assumed.

    Parameters
    ----------
    champion, challenger
        What was kept of their trainings.
    metric
        By which the two are compared.
    tickers
        Tickers of the experiment.
    panel
        Prices; those after the data cut-offs are not read.
    baselines
        Daily predictions of baselines that have not learned from that block: ``date``, ``ticker``, ``model``, answers.
        ``None``: how the challenger differs from them is not measured, and simulations of the plan assume it.

    Raises
    ------
    ExperimentError
        See :meth:`.DailyDeviation.assumed`.
    """
    known = _known(champion, challenger, panel)
    arms = _answers(champion), _answers(challenger)
    measured = _measured(*arms, METRICS[metric], known, baselines)
    return measured or DailyDeviation.assumed(tickers, metric)


def block_predictions(
    fitted: Baselines, champion: Training, challenger: Training, panel: PricePanel
) -> pd.DataFrame | None:
    """What baselines answer in the block that calibrated both arms; ``None`` if they have learned from it.

    Parameters
    ----------
    fitted
        Baselines. Those of no later cut-off have learned from earlier blocks only.
    champion, challenger
        What was kept of their trainings.
    panel
        Prices; those after the data cut-offs are not read.

    Raises
    ------
    TrainingError
        The baselines were fitted on other features.
    """
    known = _known(champion, challenger, panel)
    first = max(training.spans["calibrate"][0] for training in (champion, challenger))
    sessions = int((known.sessions >= first).sum())
    if pd.Timestamp(fitted.cutoff) > known.sessions[-1]:
        return None
    return predict_last(fitted, known, sessions)


def expected_deviations(
    champion: Training, challenger: Training, question: Question, panel: PricePanel
) -> dict[str, DailyDeviation]:
    """:func:`expected_deviation` of every metric of a question that both arms' calibration blocks can measure."""
    known, arms = _known(champion, challenger, panel), (_answers(champion), _answers(challenger))
    found = {metric.name: _measured(*arms, metric, known) for metric in metrics_of(question)}
    return {name: measured for name, measured in found.items() if measured is not None}


def deviation_of_days(days: PairedDays, metric: Metric, panel: PricePanel) -> DailyDeviation | None:
    """What days that are no evidence say of those to come; ``None`` with fewer than 20 or without any difference.

    Parameters
    ----------
    days
        Daily differences of the calibration block.
    metric
        Of the differences.
    panel
        Prices up to where the block is settled.
    """
    measured = DailyDeviation.of_days(days.differences, BLOCK)
    if measured is None:
        return None
    long_run = long_run_of(metric, panel, days.sessions)
    calm = f", times {long_run.regime:.2f}, because it was calmer than the past" if long_run.regime > 1 else ""
    inflation = inflation_of(days.differences, metric.horizon)
    if metric.horizon > 1:
        # A block of a few months shows too little of how much outcomes that overlap share: the past says it better.
        # Days that do not overlap depend on each other as the two models make them, not as other forecasters do.
        inflation = max(inflation, long_run.inflation)
    return replace(
        measured,
        deviation=measured.deviation * long_run.regime,
        basis=f"{measured.basis}{calm}",
        regime=long_run.regime,
        inflation=inflation,
    )


def _known(champion: Training, challenger: Training, panel: PricePanel) -> PricePanel:
    """Prices up to the later of the data cut-offs: by then every outcome of both blocks is settled."""
    return panel.until(max(champion.cutoff, challenger.cutoff))


def _measured(
    champion: pd.DataFrame,
    challenger: pd.DataFrame,
    metric: Metric,
    known: PricePanel,
    baselines: pd.DataFrame | None = None,
) -> DailyDeviation | None:
    scored = challenger.merge(outcome_frame(known, scaled=True), on=KEYS)
    days = paired_days(scored, champion, metric)
    measured = deviation_of_days(days, metric, known)
    if measured is None:
        return None
    others = {
        f"guard {name}": paired_days(scored, champion, guard)
        for name, guard in GUARDS.items()
        if guard.name != metric.name
    }
    if baselines is not None:
        rows = baselines.rename(columns={"date": "session"})
        for name in metric.baselines:
            others[f"against {name}"] = paired_days(scored, rows[rows["model"] == name], metric)
    return replace(measured, beside=_on_the_same_days(days, others))


def _on_the_same_days(days: PairedDays, others: Mapping[str, PairedDays]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Series that vary and have a value on each of the days; simulations draw all of them together."""
    found = list[tuple[str, tuple[float, ...]]]()
    for name, other in others.items():
        place = other.sessions.get_indexer(days.sessions)
        if place.min() < 0:
            continue
        values = other.differences[place]
        if np.ptp(values) > 0:
            found.append((name, tuple(map(float, values))))
    return tuple(found)


def _answers(training: Training) -> pd.DataFrame:
    """What a training's model answers in its calibration block, in the columns of an arm's rows."""
    answers, served = training.held_out, training.calibrated(training.held_out)
    columns: dict[str, object] = {
        "session": answers.session,
        "ticker": answers.ticker.astype(object),
        "probability_up": expit(training.platt.scale * answers.logit + training.platt.bias),
        "excess_return": served.excess_return.double().numpy().ravel(),
    }
    for names, quantiles in (
        (QUANTILE_COLUMNS, served.return_quantiles),
        (QUANTILE_5D_COLUMNS, served.return_quantiles_5d),
    ):
        columns |= dict(zip(names, np.asarray(quantiles.double()).T, strict=True))
    return pd.DataFrame(columns)
