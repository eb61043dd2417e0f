"""Back-test of a portfolio's value at risk: whether the scenarios of past sessions would have held.

For every past session with a forecast, the value at risk of the same positions is made of what was known then, and
compared with what they earned. Kupiec's test asks whether losses went beyond it as often as promised, Christoffersen's
whether they did so on days that are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import PortfolioError
from financial_assets.portfolio.joint_risk.measures import LEVELS
from financial_assets.portfolio.joint_risk.residuals import MOST_SCENARIOS, JointResiduals
from financial_assets.portfolio.joint_risk.scenarios import ForecastRange, scenario_returns
from financial_assets.scoring.risk import (
    christoffersen_independence,
    historical_var,
    kupiec_unconditional_coverage,
)

FEWEST_EXPECTED = 2.5
"""Expected sessions beyond a value at risk below which no test is made: its distribution is that of large samples."""


@dataclass(frozen=True, eq=False)
class PastForecasts:
    """Ranges that were served, and what then happened.

    Attributes
    ----------
    sessions
        Decision sessions, sorted.
    low, median, high
        Quantiles of the log return over the horizon ``[session, ticker]``; NaN where there was no answer.
    outcome
        Log return over the horizon ``[session, ticker]``; NaN where it is not known.
    """

    sessions: pd.DatetimeIndex
    low: NDArray[np.float64]
    median: NDArray[np.float64]
    high: NDArray[np.float64]
    outcome: NDArray[np.float64]


@dataclass(frozen=True)
class CoverageTest:
    """How one value at risk has held.

    Attributes
    ----------
    level
        0.95 or 0.99.
    sessions, beyond
        Past sessions, and those whose loss was greater than the value at risk.
    expected
        ``sessions * (1 - level)``.
    kupiec, independence
        p-values; ``None`` with too few expected sessions.
    """

    level: float
    sessions: int
    beyond: int
    expected: float
    kupiec: float | None
    independence: float | None


def back_test(
    values: ArrayLike,
    tickers: Sequence[str],
    residuals: JointResiduals,
    past: PastForecasts,
    *,
    most: int = MOST_SCENARIOS,
) -> tuple[CoverageTest, ...]:
    """Test the value at risk of positions ``values`` ``[ticker]`` at 95 and 99 %; empty if no session can be judged.

    Outcomes over more than one session overlap: of these, only every ``residuals.horizon``-th session is taken.
    """
    held = np.asarray(values, dtype=np.float64)
    judged = np.isfinite(past.low).all(axis=1) & np.isfinite(past.outcome).all(axis=1)
    # By the calendar's grid, not by the judged sessions: a gap must not bring two outcomes that overlap together.
    grid = residuals.sessions.get_indexer(past.sessions) % residuals.horizon == 0
    losses: list[float] = []
    promised: list[tuple[float, ...]] = []
    for place in np.flatnonzero(judged & grid).tolist():
        try:
            known = residuals.known_at(past.sessions[place], tickers, most=most)
        except PortfolioError:  # too early: fewer scenarios than an answer needs
            continue
        forecast = ForecastRange(past.low[place], past.median[place], past.high[place])
        profits = scenario_returns(known, forecast) @ held
        promised.append(tuple(historical_var(profits, level) for level in LEVELS))
        losses.append(-float(np.expm1(past.outcome[place]) @ held))
    if not losses:
        return ()
    lost, borders = np.array(losses), np.array(promised)
    return tuple(_test(lost > borders[:, place], level) for place, level in enumerate(LEVELS))


def _test(exceeded: NDArray[np.bool_], level: float) -> CoverageTest:
    rate, count = 1 - level, len(exceeded)
    if count * rate < FEWEST_EXPECTED:
        return CoverageTest(level, count, int(exceeded.sum()), count * rate, None, None)
    return CoverageTest(
        level=level,
        sessions=count,
        beyond=int(exceeded.sum()),
        expected=count * rate,
        kupiec=kupiec_unconditional_coverage(exceeded, rate).p_value,
        independence=christoffersen_independence(exceeded).p_value,
    )
