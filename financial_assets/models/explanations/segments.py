"""Where a model is wrong: scores by kind of market, sector, weekday and volatility, with the rest beside them.

Many groups are looked at, so some look odd by chance. Differences between a group and the rest therefore have
*simultaneous* intervals: with the confidence given, all of them hold at once (Bonferroni). What stays outside zero is a
question for the next experiment and not yet an answer: the groups were not planned beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.market.universe import Universe
from financial_assets.scoring.intervals import Interval, day_clustered_difference, day_clustered_mean
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from financial_assets.scoring.regimes import TERCILES, TRENDS, trend_directions, volatility_terciles

SCORES = ("log_loss", "pinball", "accuracy")
"""Scores of a row: cross-entropy of the direction (nats); pinball loss of the next return in units of the row's
volatility, mean of the levels; whether the direction was right."""

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_QUANTILES = tuple(f"q{100 * level:02.0f}" for level in QUANTILE_LEVELS)
FEWEST_DAYS = 20
"""Days below which a group is left out: its interval would not mean anything."""


@dataclass(frozen=True)
class Segment:
    """One group of rows.

    Attributes
    ----------
    dimension, value
        ``sector`` and ``energy``, for example.
    days, rows
        How much it holds.
    scores
        Score -> mean of the group with its own interval.
    difference
        Score -> group minus all other rows, with a simultaneous interval; empty where there are no others.
    """

    dimension: str
    value: str
    days: int
    rows: int
    scores: dict[str, Interval]
    difference: dict[str, Interval]

    @property
    def stands_out(self) -> tuple[str, ...]:
        """Scores whose simultaneous interval excludes zero."""
        return tuple(name for name, interval in self.difference.items() if not interval.spans_zero)


@dataclass(frozen=True)
class SegmentView:
    """All groups.

    Attributes
    ----------
    segments
        By dimension, in their natural order.
    left_out
        ``dimension: value`` of groups of too few days.
    compared
        Differences that were looked at, for which intervals allow.
    level
        Confidence of all of them together.
    """

    segments: tuple[Segment, ...]
    left_out: tuple[str, ...]
    compared: int
    level: float

    @property
    def caution(self) -> str:
        """What so many comparisons mean, in words."""
        if not self.compared:
            return "No group has enough days to be compared with the rest."
        odd = [f"{segment.dimension} {segment.value}" for segment in self.segments if segment.stands_out]
        chance = self.compared * (1 - self.level)
        found = (
            f"{', '.join(odd)} differ{'s' if len(odd) == 1 else ''} from the rest beyond that. The groups were not "
            "planned beforehand: test it on later sessions before acting on it"
            if odd
            else "None differs from the rest beyond that"
        )
        return (
            f"{self.compared} differences were looked at; about {chance:.1f} would stand out by chance at "
            f"{self.level:.0%} each, so their intervals are wide enough for all of them together. {found}."
        )


def group_labels(
    rows: pd.DataFrame, panel: PricePanel, universe: Universe | None = None
) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """Groups of every row, by dimension: label of each row (``None``: not known), and the labels in their order.

    Parameters
    ----------
    rows
        ``date``, ``ticker``, ``volatility``.
    panel
        Prices, for the regimes of the market.
    universe
        Sectors; without one, or without sectors in it, there is no such dimension.
    """
    dates = pd.DatetimeIndex(rows["date"])
    level = panel.values[0, CHANNELS.index("market")].astype(np.float64)
    place = panel.sessions.get_indexer(dates)
    weekdays = np.array(_WEEKDAYS, dtype=object)[dates.weekday.to_numpy()]
    edges = np.quantile(rows["volatility"], [1 / 3, 2 / 3])
    buckets = np.array(TERCILES, dtype=object)[np.searchsorted(edges, rows["volatility"].to_numpy())]
    labels: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
        "market volatility": (np.array(volatility_terciles(level), dtype=object)[place], TERCILES),
        "market trend": (np.array(trend_directions(level), dtype=object)[place], TRENDS),
        "weekday": (weekdays, _WEEKDAYS),
        "stock volatility": (buckets, TERCILES),
    }
    sectors = None if universe is None else _sectors(universe, rows["ticker"].to_numpy(), dates)
    if sectors is not None:
        labels["sector"] = (sectors, tuple(sorted({str(sector) for sector in sectors if sector is not None})))
    return labels


def view_segments(
    rows: pd.DataFrame, labels: Mapping[str, tuple[np.ndarray, tuple[str, ...]]], *, level: float = 0.95
) -> SegmentView:
    """Scores of every group.

    Parameters
    ----------
    rows
        Columns of a forecast table: ``date``, ``probability_up``, ``q01`` ... ``q99``, ``volatility``, ``outcome``;
        rows whose outcome is not settled are left out.
    labels
        From ``group_labels``.
    level
        Confidence of each group's own interval, and of all differences together.

    Raises
    ------
    TrainingError
        No outcome is settled.
    """
    settled = rows["outcome"].notna().to_numpy()
    if not settled.any():
        raise TrainingError("no outcome is settled: errors cannot be grouped")
    scores, days = row_scores(rows[settled]), rows["date"].to_numpy()[settled]
    groups: list[tuple[str, str, np.ndarray]] = []
    left_out: list[str] = []
    for dimension, (values, order) in labels.items():
        known = values[settled]
        for value in order:
            inside = known == value
            count = len(np.unique(days[inside]))
            if count >= FEWEST_DAYS:
                groups.append((dimension, value, inside))
            elif count:
                left_out.append(f"{dimension}: {value}")
    others = {
        (dimension, value): ~inside & np.array([known is not None for known in labels[dimension][0][settled]])
        for dimension, value, inside in groups
    }
    comparable = {key for key, rest in others.items() if len(np.unique(days[rest])) >= FEWEST_DAYS}
    compared = len(comparable) * len(SCORES)
    joint = 1 - (1 - level) / max(compared, 1)
    segments = [
        Segment(
            dimension,
            value,
            len(np.unique(days[inside])),
            int(inside.sum()),
            {name: day_clustered_mean(score[inside], days[inside], level) for name, score in scores.items()},
            {
                name: day_clustered_difference(score[inside], days[inside], score[rest], days[rest], joint)
                for name, score in scores.items()
                for rest in [others[dimension, value]]
                if (dimension, value) in comparable
            },
        )
        for dimension, value, inside in groups
    ]
    return SegmentView(tuple(segments), tuple(left_out), compared, level)


def row_scores(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """``SCORES`` of every row ``[n]``."""
    up = (rows["outcome"] > 0).to_numpy()
    probability = rows["probability_up"].to_numpy()
    error = (rows["outcome"].to_numpy()[:, None] - rows[list(_QUANTILES)].to_numpy()) / rows["volatility"].to_numpy()[
        :, None
    ]
    levels = np.asarray(QUANTILE_LEVELS)
    of_outcome = np.where(up, probability, 1 - probability)
    return {
        "log_loss": -np.log(np.clip(of_outcome, np.finfo(np.float64).tiny, None)),
        "pinball": np.maximum(levels * error, (levels - 1) * error).mean(axis=1),
        "accuracy": ((probability > 0.5) == up).astype(np.float64),
    }


def _sectors(universe: Universe, tickers: np.ndarray, dates: pd.DatetimeIndex) -> np.ndarray | None:
    """Sector of every row at its day; ``None`` where the universe names none at all."""
    found = np.full(len(tickers), None, dtype=object)
    for membership in universe.memberships:
        if membership.sector:
            found[(tickers == membership.ticker) & membership.covers(dates)] = membership.sector
    return None if all(sector is None for sector in found) else found
