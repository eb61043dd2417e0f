"""What the arms did in each kind of market: regimes known before a session's first bar, never chosen afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.allocation.regimes import VALUES, Dimension
from financial_assets.experiment.evaluation.measures import Skill
from financial_assets.experiment.evaluation.risk import correlation, days_of_both, equal_correlations
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.scoring.autocorrelation import hac_mean
from financial_assets.scoring.classification import hits
from financial_assets.scoring.intervals import Interval
from financial_assets.scoring.regimes import trend_directions, volatility_terciles

_DIMENSIONS: tuple[Dimension, ...] = ("volatility", "trend")
_FEWEST_DAYS = 30


@dataclass(frozen=True, slots=True)
class RegimeRow:
    """One kind of market.

    Attributes
    ----------
    dimension, value
        ``volatility`` and ``low``, for example.
    days
        Evaluated sessions in it.
    accuracy
        Share of right directions by forecaster.
    advantage
        Challenger minus champion in accuracy, one number per day; ``None`` with fewer than 30 days.
    profit
        The same in daily net return.
    correlation
        Of the two arms' daily net returns, on the days on which neither book was wiped out yet.
    """

    dimension: str
    value: str
    days: int
    accuracy: dict[str, float]
    advantage: Interval | None
    profit: Interval | None
    correlation: Interval | None


@dataclass(frozen=True, slots=True)
class RegimeView:
    """All regimes.

    Attributes
    ----------
    rows
        Volatility terciles, then trends.
    unknown
        Evaluated sessions that come before there is enough history to tell.
    stable
        p-value of equal correlation of the two arms' profit, by dimension; ``None`` where it cannot be tested.
    """

    rows: tuple[RegimeRow, ...]
    unknown: int
    stable: dict[str, float | None]


def view_by_regime(
    panel: PricePanel,
    sessions: pd.DatetimeIndex,
    rows: Mapping[str, pd.DataFrame],
    skills: Sequence[Skill],
    level: float,
) -> RegimeView:
    """Accuracy and profit by volatility tercile and trend of the market, taken from bars before each session.

    Parameters
    ----------
    panel
        Prices.
    sessions
        Evaluated sessions, those of the skills' daily returns.
    rows
        Scored rows by forecaster (``session``, ``probability_up``, ``up``).
    skills
        Scores by forecaster, with roles.
    level
        Confidence of intervals.
    """
    market = panel.values[0, CHANNELS.index("market")].astype(np.float64)
    place = panel.sessions.get_indexer(sessions)  # regimes need the history before the first evaluated session
    labels = {
        "volatility": np.array(volatility_terciles(market), dtype=object)[place],
        "trend": np.array(trend_directions(market), dtype=object)[place],
    }
    daily = {name: _daily_accuracy(frame, sessions) for name, frame in rows.items()}
    pair = [next((s for s in skills if s.role == role), None) for role in ("challenger", "champion")]
    every = tuple(
        _row(dimension, value, labels[dimension] == value, daily, pair, level)
        for dimension in _DIMENSIONS
        for value in VALUES[dimension]
    )
    shown = tuple(row for row in every if row.days)
    return RegimeView(
        rows=shown,
        unknown=int(np.sum((labels["volatility"] == None) | (labels["trend"] == None))),  # noqa: E711 (elementwise)
        stable={dimension: _stable([row for row in shown if row.dimension == dimension]) for dimension in _DIMENSIONS},
    )


def _daily_accuracy(frame: pd.DataFrame, sessions: pd.DatetimeIndex) -> tuple[np.ndarray, np.ndarray]:
    """Right directions and predictions of each session ``[session]``."""
    right = hits(frame["probability_up"].to_numpy(), frame["up"].to_numpy())
    place = sessions.get_indexer(pd.DatetimeIndex(frame["session"]))
    return np.bincount(place, right, len(sessions)), np.bincount(place, minlength=len(sessions)).astype(np.float64)


def _row(
    dimension: str,
    value: str,
    inside: np.ndarray,
    daily: Mapping[str, tuple[np.ndarray, np.ndarray]],
    pair: Sequence[Skill | None],
    level: float,
) -> RegimeRow:
    accuracy = {
        name: float(right[inside].sum() / count[inside].sum())
        for name, (right, count) in daily.items()
        if count[inside].sum()
    }
    first, second = pair
    advantage = profit = alike = None
    if first is not None and second is not None:
        if first.name in daily and second.name in daily:
            (right, count), (other, others) = daily[first.name], daily[second.name]
            both = inside & (count > 0) & (others > 0)
            if both.sum() >= _FEWEST_DAYS:
                advantage = hac_mean(right[both] / count[both] - other[both] / others[both], level)[0]
        if first.pnl is not None and second.pnl is not None:
            ours, theirs = (np.asarray(s.pnl.daily, np.float64) for s in (first, second) if s.pnl is not None)
            traded = inside & (np.arange(ours.size) < days_of_both(ours, theirs))
            alike = correlation(ours[traded], theirs[traded], level) if traded.sum() >= _FEWEST_DAYS else None
            profit = hac_mean((ours - theirs)[inside], level)[0] if inside.sum() >= _FEWEST_DAYS else None
    return RegimeRow(dimension, value, int(np.sum(inside)), accuracy, advantage, profit, alike)


def _stable(rows: Sequence[RegimeRow]) -> float | None:
    correlations = [row.correlation for row in rows if row.correlation is not None]
    return equal_correlations(correlations) if len(correlations) == len(rows) else None
