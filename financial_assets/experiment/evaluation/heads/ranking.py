"""Does an arm's score order the universe? Rank information coefficients, one per session.

A coefficient is Spearman's correlation, over the tickers of a session, of the score with the return to the next
session. The market's move is common to all of them and drops out. The returns are not divided by volatilities, because
a position of equal money earns the return itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.evaluation.skill import trading_grid
from financial_assets.experiment.metrics.paired import without_gaps
from financial_assets.experiment.metrics.ranking import FEWEST_TICKERS
from financial_assets.scoring.autocorrelation import FEWEST_DAYS
from financial_assets.scoring.ranking import RankingSkill, information_coefficients, skill_of


@dataclass(frozen=True, slots=True)
class ArmRanking:
    """How well one arm orders the universe.

    Attributes
    ----------
    model, role
        Whose scores.
    skill
        Mean coefficient with its interval, ratio and p-value; ``None`` with fewer than eight ranked sessions.
    sessions, coefficients
        ISO date and coefficient of each ranked session, in order.
    """

    model: str
    role: str
    skill: RankingSkill | None
    sessions: tuple[str, ...]
    coefficients: tuple[float, ...]

    @property
    def share_above_zero(self) -> float:
        """Of the ranked sessions, those with a coefficient above 0."""
        return float(np.mean(np.array(self.coefficients) > 0))


def arm_rankings(
    rows: Mapping[str, pd.DataFrame], roles: Mapping[str, str], sessions: pd.DatetimeIndex, level: float = 0.95
) -> tuple[ArmRanking, ...]:
    """Rankings of the arms that have a score, in the order of ``roles``; none of a session with too few tickers.

    Parameters
    ----------
    rows
        Model -> its due predictions: ``session``, ``ticker``, ``excess_return`` (the score; NaN from a model without
        that head), ``log_return``, ``traded_return``; each session and ticker once.
    roles
        Model -> role.
    sessions
        The calendar.
    level
        Confidence of the intervals.
    """
    found: list[ArmRanking] = []
    for model, role in roles.items():
        scored = without_gaps(rows[model], ["excess_return"]) if model in rows else pd.DataFrame()
        # Universes are small as a rule: then there is nothing to spread out in a grid.
        if scored.empty or scored["ticker"].nunique() < FEWEST_TICKERS:
            continue
        grid = trading_grid(scored, sessions)
        spots = grid.spots(scored)
        forecasts, outcomes = (grid.spread(spots, scored[name]) for name in ("excess_return", "log_return"))
        every = information_coefficients(forecasts, outcomes, fewest=FEWEST_TICKERS)
        ranked = np.isfinite(every)
        if not ranked.any():
            continue
        enough = int(ranked.sum()) >= FEWEST_DAYS
        found.append(
            ArmRanking(
                model,
                role,
                skill_of(every, FEWEST_TICKERS, level) if enough else None,
                tuple(session.date().isoformat() for session in grid.sessions[ranked]),
                tuple(map(float, every[ranked])),
            )
        )
    return tuple(found)
