"""Bars laid out as dense arrays: the whole of them, or what a new session adds to those laid out before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from financial_assets.market.panels.digests import LANES, digests_of
from financial_assets.market.panels.sections import Sections

CHANNELS = ("open", "high", "low", "close", "volume", "market", "day")
_PRICES = ("open", "high", "low", "close")
_CLOSE, _VOLUME, _MARKET, _DAY = (CHANNELS.index(name) for name in ("close", "volume", "market", "day"))

MARKET_BASE = 100.0
"""Level of the market index in the panel's first session; features do not depend on it."""

_LOOKED_BACK = 8
"""Sessions in which a ticker's latest bar is looked for first."""

_LEAST_COLUMNS = 2
"""NumPy adds up the rows of a matrix one after the other, but those of a single column by halves."""

_BLOCK = 2**16
"""Bars whose returns are computed together: they stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Dense arrays of a universe over a gapless run of sessions.

    Attributes
    ----------
    tickers, sessions
        The axes.
    sections
        float32 ``[ticker, channel, session]``: see ``PricePanel.values``.
    adjusted
        float64 ``[ticker, session]``: adjusted close of each session on which the ticker traded, else NaN. In sections,
        too.
    growth
        float64 ``[session]``: level of the market's index over that of the first session.
    belongs
        bool ``[ticker, session]``: whether the ticker is a member of the universe.
    digests
        uint64 ``[2, session]``: see ``PricePanel.session_digests``, of as many of the first sessions as are known.
    """

    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    sections: Sections
    adjusted: Sections
    growth: np.ndarray
    belongs: np.ndarray
    digests: np.ndarray = field(default_factory=lambda: np.empty((LANES, 0), dtype=np.uint64))

    @property
    def values(self) -> np.ndarray:
        """The sections, joined."""
        return self.sections.joined()

    @property
    def valid(self) -> np.ndarray:
        """Whether the ticker traded, as a member of the universe: bool ``[ticker, session]``."""
        return self.valid_between(0, len(self.sessions))

    def valid_between(self, first: int, end: int) -> np.ndarray:
        """The same of the sessions from number ``first`` to before ``end``."""
        return ~np.isnan(self.adjusted.between(first, end).joined()) & self.belongs[:, first:end]

    def valid_of(self, rows: np.ndarray) -> np.ndarray:
        """The same of the tickers at some places, all sessions."""
        return ~np.isnan(self.adjusted.of_row(rows)) & self.belongs[rows]

    def has_traded(self, tickers: np.ndarray, before: int) -> np.ndarray:
        """Whether the tickers at these places have a bar before the session number ``before``."""
        return np.isfinite(_latest(self.adjusted, tickers, before))


def lay_out(
    prices: pd.DataFrame, codes: np.ndarray, tickers: tuple[str, ...], sessions: pd.DatetimeIndex, belongs: np.ndarray
) -> Layout:
    """All bars of a universe.

    Parameters
    ----------
    prices
        Possible prices of traded bars, each ticker and session once.
    codes
        Place of each row's ticker in ``tickers``.
    belongs
        See ``Layout``.
    """
    values, adjusted = _bars(prices, codes, len(tickers), sessions)
    _carry_forward(values, ~np.isnan(adjusted))
    layout = Layout(tickers, sessions, Sections([values]), Sections([adjusted]), np.ones(len(sessions)), belongs)
    values[:, _MARKET] = _market(layout, 0)
    values[:, _DAY, :] = as_days(sessions)
    return layout


def extended(
    layout: Layout, count: int, prices: pd.DataFrame, codes: np.ndarray, sessions: pd.DatetimeIndex, belongs: np.ndarray
) -> Layout:
    """The first ``count`` sessions of ``layout``, and the later ones of ``sessions`` from their bars.

    Parameters
    ----------
    count
        At least one session.
    prices, codes
        Traded bars of the sessions after these, and the places of their tickers: see ``lay_out``.
    sessions, belongs
        Of the result; its first ``count`` are those of ``layout``.
    """
    new = sessions[count:]
    tail, tail_adjusted = _bars(prices, codes, len(layout.tickers), new)
    # The close before is carried on, be it a bar's or itself carried on.
    values = layout.sections.between(count - 1, count).with_next(tail).joined()
    _carry_forward(values, ~np.isnan(values[:, _CLOSE]))
    added = values[:, :, 1:]
    adjusted = layout.adjusted.between(0, count).with_next(tail_adjusted)
    growth = np.concatenate([layout.growth[:count], np.ones(len(new))])
    sections = layout.sections.between(0, count).with_next(added)
    longer = Layout(layout.tickers, sessions, sections, adjusted, growth, belongs, layout.digests[:, :count])
    added[:, _MARKET] = _market(longer, count)
    added[:, _DAY] = as_days(new)
    return longer


def with_rows(layout: Layout, rows: np.ndarray, prices: pd.DataFrame, codes: np.ndarray) -> Layout:
    """The layout with all bars of the tickers ``rows`` replaced, in place; ``codes`` are places in ``rows``.

    Only their values are touched, and the market's index where it comes out otherwise.
    """
    values, adjusted = _bars(prices, codes, len(rows), layout.sessions)
    _carry_forward(values, ~np.isnan(adjusted))
    before, digests = layout.sections.of_row(rows), layout.digests.copy()
    values[:, _MARKET:] = before[:, _MARKET:]
    known = digests.shape[1]
    digests -= digests_of(before[..., :known], layout.valid_of(rows)[:, :known], rows)
    layout.sections.set_rows(rows, values)
    layout.adjusted.set_rows(rows, adjusted)
    digests += digests_of(values[..., :known], layout.valid_of(rows)[:, :known], rows)
    levels, held = _market(layout, 0), values[0, _MARKET]
    changed = np.flatnonzero(levels != held)
    layout.sections.set_channel(_MARKET, changed, levels[changed])
    return replace(layout, digests=digests[:, : changed[0]] if len(changed) else digests)


def _bars(
    prices: pd.DataFrame, codes: np.ndarray, tickers: int, sessions: pd.DatetimeIndex
) -> tuple[np.ndarray, np.ndarray]:
    """Values and adjusted closes of the bars, NaN where there is none."""
    columns = sessions.get_indexer(pd.DatetimeIndex(prices["date"]))
    values = np.full((tickers, len(CHANNELS), len(sessions)), np.nan, dtype=np.float32)
    adjusted = np.full((tickers, len(sessions)), np.nan)
    close = prices["adj_close"].to_numpy(np.float64)
    adjusted[codes, columns] = close
    # In float64, and rounded once: raw and split-adjusted sources then give the same float32.
    factor = close / prices["close"].to_numpy(np.float64)
    for name in _PRICES:
        values[codes, CHANNELS.index(name), columns] = prices[name].to_numpy(np.float64) * factor
    values[codes, _VOLUME, columns] = prices["volume"].to_numpy(np.float64) / factor
    return values, adjusted


def _carry_forward(values: np.ndarray, traded: np.ndarray) -> None:
    """Fill sessions without a bar, after the first one, with the last close and zero volume, in place."""
    # The place of the latest bar at each session; -1 before the listing, where nothing may be filled in.
    index = np.where(traded, np.arange(traded.shape[1], dtype=np.int32), np.int32(-1))
    last = np.maximum.accumulate(index, axis=1)
    row, session = np.nonzero(~traded & (last >= 0))
    close = values[row, _CLOSE, last[row, session]]
    for name in _PRICES:
        values[row, CHANNELS.index(name), session] = close
    values[row, _VOLUME, session] = 0.0


def _market(layout: Layout, first: int) -> np.ndarray:
    """The market's index from session number ``first`` on, from its level before: float32 ``[session]``.

    ``layout.growth`` is set, in place.
    """
    if first == 0:
        start = np.ones(1)
        returns = _mean_returns(layout.tickers, layout.adjusted, layout.belongs)
    else:
        before = _latest(layout.adjusted, np.arange(len(layout.tickers)), first)[:, None]
        adjusted = Sections([before, layout.adjusted.between(first, len(layout.sessions)).joined()])
        belongs = np.column_stack([np.ones(len(before), dtype=bool), layout.belongs[:, first:]])
        start = layout.growth[first - 1 : first]
        returns = _mean_returns(layout.tickers, adjusted, belongs)
    only, count = _only_ticker(layout)
    alone = layout.sections.between(first, max(count, first)).of_row(only)[_CLOSE]
    if len(alone):
        # While there is one ticker, the market is this ticker. An index that rounds otherwise would leave noise of both
        # where nothing is: in returns relative to the market.
        layout.growth[first:count] = alone.astype(np.float64) / MARKET_BASE
        start, returns = layout.growth[count - 1 : count], returns[len(returns) - (len(layout.sessions) - count) :]
    # From one session to the next, whatever was known before: a panel that is continued has the same levels.
    growth = np.cumprod(np.concatenate((start, 1.0 + returns)))
    layout.growth[len(layout.sessions) - len(returns) :] = growth[1:]
    if first == 0 and not len(alone):
        layout.growth[0] = 1.0
    levels = (MARKET_BASE * layout.growth[first:]).astype(np.float32)
    levels[: len(alone)] = alone
    return levels


def _latest(adjusted: Sections, rows: np.ndarray, end: int) -> np.ndarray:
    """The last number of each of ``rows`` before the session number ``end``; NaN where there is none yet."""
    latest = np.full(len(rows), np.nan)
    missing, count = np.arange(len(rows)), _LOOKED_BACK
    # Nearly all traded a few sessions ago: all the past is looked through for the others only.
    while len(missing) and end > 0:
        begin = max(0, end - count)
        block = adjusted.between(begin, end).joined()[rows[missing]]
        traded = ~np.isnan(block)
        at = block.shape[1] - 1 - np.argmax(traded[:, ::-1], axis=1)
        latest[missing] = block[np.arange(len(block)), at]
        missing, end, count = missing[~traded.any(axis=1)], begin, 8 * count
    return latest


def _only_ticker(layout: Layout) -> tuple[int, int]:
    """The place of the one ticker that traded in the first session, and for how many sessions it was the only one.

    0 sessions where others traded in the first, too, where it is an index (``^VIX``), and where it does not belong to
    the universe throughout.
    """
    held = np.array([place for place, name in enumerate(layout.tickers) if not name.startswith("^")], dtype=np.intp)
    if np.count_nonzero(~np.isnan(layout.adjusted.between(0, 1).joined()[held])) != 1:
        return 0, 0
    traded = ~np.isnan(layout.adjusted.joined()[held])
    listed = np.where(traded.any(axis=1), traded.argmax(axis=1), traded.shape[1])
    only = int(held[listed.argmin()])
    count = int(np.min(listed[listed > 0], initial=traded.shape[1]))
    return (only, count) if layout.belongs[only, :count].all() else (0, 0)


def _mean_returns(tickers: Sequence[str], adjusted: Sections, belongs: np.ndarray) -> np.ndarray:
    """Return ``[session - 1]`` of an index that holds every member in equal parts, rebalanced at each close.

    A session's return is the mean simple return of the members that traded on it and had traded before; it uses
    nothing later. Index tickers (``^VIX``) cannot be held and are left out, unless the universe has nothing else.
    """
    held = np.array([not name.startswith("^") for name in tickers])
    rows = np.flatnonzero(held) if held.any() else np.arange(len(tickers))
    sessions = adjusted.shape[1]
    width = ((0, 0), (0, max(0, 1 + _LEAST_COLUMNS - sessions)))
    total, count = np.empty((0, sessions + width[1][1] - 1)), np.zeros(sessions + width[1][1] - 1, dtype=np.int64)
    together = max(1, _BLOCK // max(1, sessions))
    for first in range(0, len(rows), together):
        block = rows[first : first + together]
        returns, traded = _returns(
            np.pad(adjusted.of_row(block), width, constant_values=np.nan), np.pad(belongs[block], width)
        )
        # The sum of those before is one more row: as if all were added up in one matrix, one after the other.
        total = np.concatenate([total, returns]).sum(axis=0)[None]
        count += traded.sum(axis=0)
    return (total[0] / np.maximum(count, 1))[: sessions - 1]


def _returns(adjusted: np.ndarray, belongs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Simple returns ``[ticker, session - 1]`` of members, 0 where there is none, and where there is one."""
    is_known = ~np.isnan(adjusted)
    earlier = adjusted[:, :-1]
    halted = np.flatnonzero((is_known[:, :-1] & ~is_known[:, 1:]).any(axis=1))
    if len(halted):
        # A ticker that was halted yesterday returns from its latest close, which may be days ago.
        place = np.where(is_known[halted], np.arange(adjusted.shape[1], dtype=np.int32), np.int32(0))
        last = np.maximum.accumulate(place, axis=1)[:, :-1]
        earlier = earlier.copy()
        earlier[halted] = np.take_along_axis(adjusted[halted], last, axis=1)
    traded = is_known[:, 1:] & belongs[:, 1:] & ~np.isnan(earlier)
    return np.where(traded, adjusted[:, 1:] / earlier - 1.0, 0.0), traded


def as_days(sessions: pd.DatetimeIndex) -> np.ndarray:
    """Days since 1970-01-01."""
    return sessions.to_numpy().astype("datetime64[D]").astype(np.int64)
