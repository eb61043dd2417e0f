"""What a test can expect before it starts: how much the two arms' daily scores differ, on days that are no evidence."""

from __future__ import annotations

import pandas as pd
from scipy.special import expit

from financial_assets.experiment.paired_score import PairedMetric, paired_days
from financial_assets.experiment.plan.plan import DailyDeviation
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.models.training import Training


def expected_deviation(champion: Training, challenger: Training, metric: PairedMetric, tickers: int) -> DailyDeviation:
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

    Raises
    ------
    ExperimentError
        See :meth:`.DailyDeviation.assumed`.
    """
    days = paired_days(_answers(challenger, metric), _answers(champion, metric), metric)
    measured = DailyDeviation.of_days(days.differences, "the calibration block")
    return measured or DailyDeviation.assumed(tickers, metric)


def _answers(training: Training, metric: PairedMetric) -> pd.DataFrame:
    """What a training's model answers in its calibration block, in the columns of an arm's rows."""
    answers = training.held_out
    columns = {
        "session": answers.session,
        "ticker": answers.ticker,
        "probability_up": expit(training.platt.scale * answers.logit + training.platt.bias),
        "up": answers.up,
        "log_return": answers.outcome,
    }
    if metric == "pinball":
        columns |= dict(
            zip(QUANTILE_COLUMNS, training.calibrated(answers).return_quantiles.double().numpy().T, strict=True)
        )
    return pd.DataFrame(columns)
