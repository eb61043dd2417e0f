"""Bars that do not fit their own body or their neighbours: wicks, shifted closes, repeated bars, no trade at all."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.market.frames import row_hashes, ticker_codes
from financial_assets.market.quality.bars import Bars
from financial_assets.market.quality.results import Marks, Severity
from financial_assets.market.quality.values import TICK

IMPOSSIBLE_WICK, CLEAR_WICK = np.log(1.7), 12.0
"""Beyond the body, in log prices and in times the usual range. The flash crashes of 2010 and 2015 left less in bars
that were not cancelled."""

SUSPICIOUS_WICK, UNUSUAL_WICK = np.log(1.25), 8.0

SHIFT_WINDOW, SHIFT_SHARE = 10, 0.3
"""Bars looked at together, and the share of closes outside their bar from which on a shift by a day is tried."""

LONG_STANDSTILL = 5
"""Bars without volume and movement that are no trade even where the source never gives a volume (indices, rates)."""

MANY_TICKS = 10
"""Range of a bar, in ticks, from which on four equal prices are no coincidence."""

WORTH_REPEATING = 1000.0
"""Number of shares from which on an equal volume at equal prices is none."""


def mark_wicks(bars: Bars) -> list[Marks]:
    """High or low far beyond the body, judged by the ranges of the bars around."""
    marks: list[Marks] = []
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    for name, wick, word in (("high", bars.high - top, "above"), ("low", bottom - bars.low, "below")):
        at = np.flatnonzero(wick > SUSPICIOUS_WICK)
        clear = wick[at] / bars.noise(at)
        impossible = (wick[at] > IMPOSSIBLE_WICK) & (clear > CLEAR_WICK)
        suspicious = ~impossible & (clear > UNUSUAL_WICK)
        severities: tuple[tuple[Severity, np.ndarray], ...] = (
            ("impossible", at[impossible]),
            ("suspicious", at[suspicious]),
        )
        for severity, rows in severities:
            problems = [f"{name} is {100 * np.expm1(min(wick[row], 50.0)):.0f} % {word} the body" for row in rows]
            if name == "low":
                problems = [f"low is {-100 * np.expm1(-wick[row]):.0f} % below the body" for row in rows]
            marks.append(Marks(severity, rows, problems))
    return marks


def mark_copies(bars: Bars) -> list[Marks]:
    """Bars that repeat an earlier one, or its prices only, and closes that stand still although shares were traded."""
    same = bars.follows.copy()
    for name in ("open", "high", "low", "close"):
        values = bars.frame[name].to_numpy()
        same &= values == np.roll(values, 1)
    moves = bars.high > bars.low
    copies = same & moves & (bars.volume > 0) & (bars.volume == np.roll(bars.volume, 1))
    # Where a bar has few ticks, equal prices may be chance.
    frame = bars.frame
    fine = (frame["high"] - frame["low"]).to_numpy() > MANY_TICKS * TICK
    repeated = same & fine & ~copies
    traded = np.flatnonzero(fine & (bars.volume >= WORTH_REPEATING) & ~copies)
    again = _repeats(bars, traded)
    flat = bars.follows & (bars.high <= bars.low) & (bars.step(bars.close) == 0.0)
    frozen = runs(flat & (bars.volume > 0), bars.follows) >= LONG_STANDSTILL
    return [
        Marks.all("impossible", np.flatnonzero(copies), "is a copy of the bar before"),
        Marks.all("impossible", traded[again], "is a copy of an earlier bar"),
        Marks.all("suspicious", np.flatnonzero(repeated), "prices are a copy of the bar before"),
        Marks.all("suspicious", np.flatnonzero(frozen), "price stands still although shares are traded"),
    ]


def _repeats(bars: Bars, at: np.ndarray) -> np.ndarray:
    """Which of the bars ``at`` have the prices and the volume of an earlier one among them."""
    columns = ["open", "high", "low", "close", "volume"]
    values = [bars.frame[name].to_numpy()[at] for name in columns]
    hashes = row_hashes(bars.first[at], values)
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(shared):
        return np.zeros(len(at), dtype=bool)
    # Only rows that share a hash can be equal, and hardly any does.
    twice = np.flatnonzero(np.isin(hashes, shared))
    rows = pd.DataFrame({"first": bars.first[at[twice]]} | dict(zip(columns, (v[twice] for v in values), strict=True)))
    repeats = np.zeros(len(at), dtype=bool)
    repeats[twice] = rows.duplicated().to_numpy()
    return repeats


def mark_shifted_closes(bars: Bars) -> list[Marks]:
    """Spans whose closes fall outside their bars, but fit the bars of the day before or after."""
    frame, marks = bars.frame, list[Marks]()
    low, high, close = (frame[name].to_numpy() for name in ("low", "high", "close"))
    outside = _outside(close, low, high)
    if not outside.any():
        return marks
    for days, word in ((1, "after"), (-1, "before")):
        # The close of this bar, were it given one row too early (or too late).
        elsewhere = np.roll(close, days)
        known = bars.follows if days == 1 else np.arange(len(close)) < bars.last
        misfit = _outside(elsewhere, low, high) & known
        wrong = _share(outside, bars) >= SHIFT_SHARE
        fits = _share(misfit, bars) <= SHIFT_SHARE / 3
        span = wrong & fits
        marks.append(Marks.all("impossible", np.flatnonzero(span), f"close looks like that of the session {word}"))
    return marks


def _outside(close: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    slack = np.maximum(TICK, 1e-3 * close)
    return (close > high + slack) | (close < low - slack)


def _share(mask: np.ndarray, bars: Bars) -> np.ndarray:
    """Share of marked bars among the ``SHIFT_WINDOW`` around each, of the same ticker."""
    total = np.concatenate([[0], np.cumsum(mask)])
    here = np.arange(len(mask))
    start = np.maximum(here - SHIFT_WINDOW // 2, bars.first)
    end = np.minimum(here + SHIFT_WINDOW // 2, bars.last) + 1
    return (total[end] - total[start]) / (end - start)


def not_traded(prices: pd.DataFrame) -> np.ndarray:
    """Rows that are padding, not trades: no volume, and all four prices equal to the close before.

    A row is judged by earlier rows only, so that a panel up to a session never depends on later ones.

    Parameters
    ----------
    prices
        Possible prices, sorted by ticker and date.
    """
    still = stands_still(prices)
    if not still.any():
        return still
    volume = prices["volume"].to_numpy()
    ticker, _ = ticker_codes(prices["ticker"])
    follows = np.zeros(len(prices), dtype=bool)
    follows[1:] = ticker[1:] == ticker[:-1]
    # Where no volume was ever given, a close that repeats may be true; not many times in a row.
    had_volume = pd.Series(volume > 0).groupby(ticker).cummax().to_numpy(dtype=bool)
    return still & (had_volume | (runs(still, follows) >= LONG_STANDSTILL))


def stands_still(prices: pd.DataFrame) -> np.ndarray:
    """Rows without volume, all four prices equal to the close before: padding, unless no volume is ever given."""
    close, volume = prices["close"].to_numpy(), prices["volume"].to_numpy()
    at = np.flatnonzero((volume == 0) & (close == np.roll(close, 1)))
    ticker, bars = prices["ticker"].to_numpy(), prices[["open", "high", "low"]]
    still = np.zeros(len(prices), dtype=bool)
    still[at] = (at > 0) & (ticker[at] == ticker[at - 1]) & (bars.to_numpy()[at] == close[at, None]).all(axis=1)
    return still


def runs(mask: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """How many marked bars of one ticker end at each bar, itself included; 0 where it is not marked."""
    here = np.arange(1, len(mask) + 1)
    # The last bar before which counting begins anew: an unmarked bar, or the one before a ticker's first.
    restart = np.maximum.accumulate(np.where(~mask, here, np.where(~follows, here - 1, 0)))
    return np.where(mask, here - restart, 0)
