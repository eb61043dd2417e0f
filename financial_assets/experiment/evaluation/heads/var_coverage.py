"""Value at risk of the whole universe over one and five sessions: how often it was exceeded, beside what was promised.

Outcomes of five sessions that start every session overlap: four fifths of one are in the next. Their intervals come
from ``scoring.coverage``, which counts how many independent outcomes would know as much; so do those of one session, on
which tickers move together. Per ticker, over one session, see ``var_backtest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from financial_assets.experiment.evaluation.skill import trading_grid
from financial_assets.experiment.evaluation.var_backtest import TAILS, Side
from financial_assets.experiment.statistics.multiplicity import holm
from financial_assets.scoring.autocorrelation import FEWEST_DAYS
from financial_assets.scoring.coverage import exceedances, universe_coverage
from financial_assets.scoring.intervals import Interval
from financial_assets.serving.bar_rules import SESSIONS_5D

_HORIZONS: Mapping[int, tuple[str, str]] = {1: ("", "log_return"), SESSIONS_5D: ("_5d", "outcome_5d")}
"""Sessions ahead -> ending of the quantile columns, and column of the outcome."""


@dataclass(frozen=True, slots=True)
class TailCoverage:
    """One tail of all tickers' forecasts by one arm, over one horizon.

    Attributes
    ----------
    model, role
        Whose forecasts.
    horizon
        Sessions ahead.
    side, level
        ``lower``: losses of who is long; ``upper``: of who is short. 0.95 or 0.99.
    sessions, rows
        With a forecast and a known outcome.
    share
        Of the rows beyond the value at risk, with its interval; ``None`` with too few sessions for one.
    effective_rows
        Independent rows that would know as much.
    frequency, independence
        p-values of "as often as promised" and of "at unpredictable times", at a single look.
    frequency_holm
        The first, adjusted by Holm's method for the arm's tails and horizons.
    beyond
        Rows beyond the value at risk.
    """

    model: str
    role: str
    horizon: int
    side: Side
    level: float
    sessions: int
    rows: int
    share: Interval | None = None
    effective_rows: float | None = None
    frequency: float | None = None
    independence: float | None = None
    frequency_holm: float | None = None
    beyond: int = 0

    @property
    def promised(self) -> float:
        """Share of outcomes that should be beyond it."""
        return round(1 - self.level, 6)

    @property
    def name(self) -> str:
        """``VaR 95 %, 5 sessions``; of the upper tail ``VaR 95 % of a short position, 1 session``."""
        ahead = "1 session" if self.horizon == 1 else f"{self.horizon} sessions"
        return f"VaR {100 * self.level:g} %{' of a short position' if self.side == 'upper' else ''}, {ahead}"

    @property
    def needed(self) -> int:
        """Sessions from which there is an interval, if none is missing."""
        return FEWEST_DAYS * self.horizon


def tail_coverage(
    rows: Mapping[str, pd.DataFrame], roles: Mapping[str, str], sessions: pd.DatetimeIndex, level: float = 0.95
) -> tuple[TailCoverage, ...]:
    """Coverage of all arms, in the order of ``roles``; an arm without forecasts of five sessions has none of them.

    Parameters
    ----------
    rows
        Model -> its due predictions: ``session``, ``ticker``, ``q01`` ... ``q99``, ``q01_5d`` ... ``q99_5d`` (NaN from
        a model without that head), ``log_return``, ``outcome_5d`` (NaN until it is due), ``traded_return``; each
        session and ticker once.
    roles
        Model -> role.
    sessions
        The calendar. A session without rows keeps its place, so that outcomes five sessions apart do not overlap.
    level
        Confidence of the intervals.
    """
    return tuple(
        tail
        for model, role in roles.items()
        if model in rows and len(rows[model])
        for tail in _of_arm(model, role, rows[model], sessions, level)
    )


def _of_arm(
    model: str, role: str, rows: pd.DataFrame, sessions: pd.DatetimeIndex, level: float
) -> tuple[TailCoverage, ...]:
    grid, tails = trading_grid(rows, sessions), list[TailCoverage]()
    spots = grid.spots(rows)
    for horizon, (ending, outcome) in _HORIZONS.items():
        happened = grid.spread(spots, rows[outcome])
        for column, (side, confidence) in TAILS.items():
            bound = grid.spread(spots, rows[f"{column}{ending}"])
            beyond = exceedances(happened, bound, upper=side == "upper")
            known = beyond == beyond
            counts = int(known.any(axis=0).sum()), int(known.sum())
            if not known.any() and horizon > 1:  # an earlier model, or nothing is due
                continue
            tail = TailCoverage(model, role, horizon, side, confidence, *counts, beyond=int(np.nansum(beyond)))
            # Each of the series of outcomes that do not overlap needs so many sessions.
            if min(int(known[:, start::horizon].any(axis=0).sum()) for start in range(horizon)) >= FEWEST_DAYS:
                found = universe_coverage(beyond, tail.promised, horizon)
                tail = replace(
                    tail,
                    share=found.interval(level),
                    effective_rows=found.effective_rows,
                    frequency=found.coverage,
                    independence=found.independence,
                )
            tails.append(tail)
    tested = {str(place): tail.frequency for place, tail in enumerate(tails) if tail.frequency is not None}
    adjusted = holm(tested)
    return tuple(replace(tail, frequency_holm=adjusted.get(str(place))) for place, tail in enumerate(tails))
