"""What a test can expect before it starts: how much the two arms' daily scores differ, on days that are no evidence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from financial_assets.experiment.paired_score import PairedMetric, paired_score
from financial_assets.experiment.plan.plan import DailyDeviation
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.models.training import Training

__all__ = ["expected_deviation"]


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
    keys = ["session", "ticker"]
    both = _scores(champion, metric).merge(_scores(challenger, metric), on=keys, suffixes=("", "_challenger"))
    daily = (both["score_challenger"] - both["score"]).groupby(both["session"]).mean().to_numpy(np.float64)
    measured = DailyDeviation.of_days(daily, "the calibration block") if len(daily) else None
    return measured or DailyDeviation.assumed(tickers, metric)


def _scores(training: Training, metric: PairedMetric) -> pd.DataFrame:
    answers = training.held_out
    probability = expit(training.platt.scale * answers.logit + training.platt.bias)
    given = {"probability_up": probability}
    if metric == "pinball":
        given |= dict(zip(QUANTILE_COLUMNS, _quantiles(training).T, strict=True))
    score = paired_score(metric, pd.DataFrame(given), answers.up, answers.outcome)
    return pd.DataFrame({"session": answers.session, "ticker": answers.ticker, "score": np.asarray(score, np.float64)})


@torch.no_grad()
def _quantiles(training: Training) -> np.ndarray:
    """Calibrated quantiles of the log return ``[n, 5]``."""
    answers = training.held_out
    logit, multiples, volatility = (
        torch.from_numpy(np.asarray(values, np.float32).reshape(len(answers), -1))
        for values in (answers.logit, answers.multiples, answers.volatility)
    )
    return training.calibration(logit, multiples, volatility)[1].double().numpy()
