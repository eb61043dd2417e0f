"""The scores by which two arms can be compared row by row; larger is better."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.scoring.classification import hits, log_losses, squared_errors
from financial_assets.scoring.quantiles import QUANTILE_LEVELS, pinball_losses

__all__ = ["METRICS", "PairedMetric", "answer_columns", "in_words", "paired_score"]

PairedMetric = Literal["accuracy", "brier", "log_loss", "pinball"]
"""``accuracy`` and ``brier``: daily differences lie in [-1, 1]. ``log_loss`` (nats) and ``pinball`` (mean over the five
quantiles, in log return) have no bound: tests clip their daily differences at a size that is registered beforehand."""

METRICS: tuple[PairedMetric, ...] = get_args(PairedMetric)


def answer_columns(metric: PairedMetric) -> tuple[str, ...]:
    """Columns of a prediction that the score needs."""
    return QUANTILE_COLUMNS if metric == "pinball" else ("probability_up",)


def in_words(value: float, metric: PairedMetric) -> str:
    """A difference with its sign; losses are small numbers, of which three digits are kept."""
    return f"{value:+.3f}" if metric == "accuracy" else f"{value:+.3g}"


def paired_score(metric: PairedMetric, answers: pd.DataFrame, up: np.ndarray, log_return: np.ndarray) -> np.ndarray:
    """The score of each row, larger is better: a hit, or a loss with its sign turned.

    Parameters
    ----------
    metric
        Which.
    answers
        Columns of :func:`answer_columns`, without gaps.
    up, log_return
        Outcomes ``[row]``.
    """
    if metric == "pinball":
        losses = [
            pinball_losses(log_return, answers[column].to_numpy(np.float64), level)
            for column, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True)
        ]
        return -np.mean(losses, axis=0)
    probability = answers["probability_up"].to_numpy(np.float64)
    if metric == "accuracy":
        return hits(probability, up).astype(np.float64)
    return -(squared_errors(probability, up) if metric == "brier" else log_losses(probability, up))
