"""What a test can expect before it starts: how much the two arms' daily scores differ, on days that are no evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import expit

from financial_assets.experiment.metrics.metric import Metric, Question
from financial_assets.experiment.metrics.paired import KEYS, PairedDays, paired_days
from financial_assets.experiment.metrics.registry import METRICS, metrics_of
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.long_run_spread import inflation_of, long_run_of
from financial_assets.experiment.plan.plan import DailyDeviation
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel
from financial_assets.models.training import Training

BLOCK = "the calibration block"


def expected_deviation(
    champion: Training, challenger: Training, metric: PairedMetric, tickers: int, panel: PricePanel
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

    Raises
    ------
    ExperimentError
        See :meth:`.DailyDeviation.assumed`.
    """
    known = _known(champion, challenger, panel)
    measured = _measured(_answers(champion), _answers(challenger), METRICS[metric], known)
    return measured or DailyDeviation.assumed(tickers, metric)


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
    champion: pd.DataFrame, challenger: pd.DataFrame, metric: Metric, known: PricePanel
) -> DailyDeviation | None:
    outcomes = outcome_frame(known, scaled=True)
    return deviation_of_days(paired_days(challenger.merge(outcomes, on=KEYS), champion, metric), metric, known)


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
