"""Scores of the uncalibrated answers on the calibrate block, with intervals clustered by the day."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from financial_assets.models.answers import Answers
from financial_assets.models.heads import HORIZONS, QUANTILE_LEVELS
from financial_assets.scoring.autocorrelation import day_blocks
from financial_assets.scoring.intervals import Interval, day_clustered_mean
from financial_assets.scoring.quantiles import mean_pinball_losses
from financial_assets.scoring.ranking import information_coefficients
from financial_assets.scoring.volatility import qlike_losses

FEWEST_RANKED = 3
"""Tickers of a session below which it has no rank correlation."""

_INDEPENDENT_BLOCKS = 8
"""Blocks of sessions that are kept where sessions are few, though their outcomes then overlap at the borders."""


def held_out_scores(answers: Answers, level: float = 0.95) -> Mapping[str, Interval]:
    """Scores of the uncalibrated answers on the calibrate block, which the network never saw.

    ``accuracy`` and ``accuracy_minus_majority`` (shares), ``brier`` and ``log_loss`` (nats), ``pinball`` (mean over the
    levels, in units of volatility) and ``coverage_<level>`` (share of outcomes at or below the quantile); for five
    sessions ``pinball_5d`` and ``coverage_5d_<level>``. ``qlike`` and ``qlike_5d`` judge the forecast volatility by the
    squared return (lower is better; only differences between models mean something). ``score_loss`` is Huber's, and
    ``rank_ic`` the mean rank correlation of score and excess return over the tickers of a session, where at least one
    session can be ranked.

    Outcomes over five sessions overlap: the intervals of their scores are clustered by blocks of sessions.
    """
    rows = {
        **_of_direction(answers),
        **_of_quantiles(answers.scaled_return, answers.multiples, ""),
        "qlike": qlike_losses(answers.outcome**2, answers.volatility[:, 0] ** 2),
        "score_loss": huber_losses(answers.excess - answers.score),
    }
    weeks = independent_blocks(answers.session)
    over_weeks = {
        **_of_quantiles(answers.scaled_return_5d, answers.multiples_5d, "_5d"),
        "qlike_5d": qlike_losses(answers.outcome_5d**2, answers.volatility[:, 1] ** 2),
    }
    scores = {name: day_clustered_mean(values, answers.session, level) for name, values in rows.items()}
    scores |= {name: day_clustered_mean(values, weeks, level) for name, values in over_weeks.items()}
    ranked = rank_correlations(answers)
    if len(ranked) > 1:
        scores["rank_ic"] = day_clustered_mean(ranked, np.arange(len(ranked)), level)
    return scores


def independent_blocks(session: np.ndarray) -> np.ndarray:
    """The block of consecutive sessions that each row belongs to ``[n]``: outcomes of two blocks hardly overlap."""
    longest = HORIZONS[-1] * HORIZONS[-1]
    return day_blocks(session, max(min(longest, len(np.unique(session)) // _INDEPENDENT_BLOCKS), 1))


def rank_correlations(answers: Answers) -> np.ndarray:
    """Rank correlation of score and excess return in every session of at least ``FEWEST_RANKED`` tickers, in order."""
    tickers, row = np.unique(answers.ticker, return_inverse=True)
    sessions, column = np.unique(answers.session, return_inverse=True)
    forecasts, outcomes = np.full((2, len(tickers), len(sessions)), np.nan)
    forecasts[row, column], outcomes[row, column] = answers.score, answers.excess
    found = information_coefficients(forecasts, outcomes, fewest=FEWEST_RANKED)
    return found[np.isfinite(found)]


def huber_losses(errors: np.ndarray) -> np.ndarray:
    """Huber's loss of errors in units of volatility, squared up to one: what the score is trained on."""
    within = np.clip(errors, -1.0, 1.0)
    return within * (errors - 0.5 * within)


def _of_direction(answers: Answers) -> dict[str, np.ndarray]:
    up = answers.up.astype(np.float64)
    probability = 1.0 / (1.0 + np.exp(-answers.logit))
    majority = up if up.mean() >= 0.5 else 1.0 - up
    return {
        "accuracy": answers.correct.astype(np.float64),
        "accuracy_minus_majority": answers.correct - majority,
        "brier": (probability - up) ** 2,
        "log_loss": np.logaddexp(0.0, answers.logit) - up * answers.logit,
    }


def _of_quantiles(scaled_return: np.ndarray, multiples: np.ndarray, suffix: str) -> dict[str, np.ndarray]:
    below = (scaled_return[:, None] <= multiples).astype(np.float64)
    return {
        f"pinball{suffix}": mean_pinball_losses(scaled_return, multiples),
        **{f"coverage{suffix}_{level:.0%}": below[:, place] for place, level in enumerate(QUANTILE_LEVELS)},
    }
