"""What a test can expect before it starts: how much the two arms' daily scores differ, on days that are no evidence."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from financial_assets.experiment.plan import DailySpread
from financial_assets.models.training import Training
from financial_assets.scoring.classification import hits

__all__ = ["expected_spread"]


def expected_spread(champion: Training, challenger: Training, metric: str, tickers: int) -> DailySpread:
    """Standard deviation of the daily paired differences in the block that calibrated the two arms.

    Their mean there is worth nothing, because calibration has seen that block; how much they differ from day to day is
    what a plan needs. Without 20 common days, or where they never differ, cautious figures are assumed.

    Parameters
    ----------
    champion, challenger
        What was kept of their trainings.
    metric
        ``accuracy`` or ``brier``.
    tickers
        Tickers of the experiment.
    """
    keys = ["session", "ticker"]
    both = _scores(champion, metric).merge(_scores(challenger, metric), on=keys, suffixes=("", "_challenger"))
    daily = (both["score_challenger"] - both["score"]).groupby(both["session"]).mean().to_numpy(np.float64)
    measured = DailySpread.of_days(daily, "the calibration block") if len(daily) else None
    return measured or DailySpread.assumed(tickers)


def _scores(training: Training, metric: str) -> pd.DataFrame:
    answers = training.held_out
    probability = expit(training.platt.scale * answers.logit + training.platt.bias)
    score = hits(probability, answers.up) if metric == "accuracy" else -((probability - answers.up) ** 2)
    return pd.DataFrame({"session": answers.session, "ticker": answers.ticker, "score": np.asarray(score, np.float64)})
