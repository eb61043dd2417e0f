"""Bars in order: adjusted log prices by ticker and date, and what lies around a bar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.market.frames import ticker_codes

_REACH = 10
"""Bars on each side of a bar that say what is ordinary there."""

_LEAST_NOISE = 0.01
"""Bars of a quiet fortnight must not make the next ordinary day look like an error."""


@dataclass(frozen=True, eq=False)
class Bars:
    """Possible bars sorted by ticker and date; every array has one entry per bar.

    Attributes
    ----------
    frame
        The price frame, on a fresh index.
    open, high, low, close
        Log prices, adjusted for splits and dividends.
    volume
        Shares as delivered; ``log_volume`` is NaN where it is 0.
    factor
        Log of ``close / adj_close``.
    tick
        A cent, as a share of the close, where prices below 1 are in whole cents; 0 elsewhere.
    follows
        Whether the bar before is of the same ticker.
    first, last
        Positions of the ticker's first and last bar.
    """

    frame: pd.DataFrame
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    log_volume: np.ndarray
    factor: np.ndarray
    tick: np.ndarray
    follows: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Bars:
        """The bars of a sorted frame whose prices are positive and finite, keys unique."""
        names = ("open", "high", "low", "close", "adj_close")
        opening, high, low, close, adjusted = (np.log(frame[name].to_numpy(np.float64)) for name in names)
        factor = close - adjusted
        ticker, _ = ticker_codes(frame["ticker"])
        follows = np.zeros(len(frame), dtype=bool)
        follows[1:] = ticker[1:] == ticker[:-1]
        starts = np.flatnonzero(~follows)
        lengths = np.diff(np.append(starts, len(frame)))
        volume = frame["volume"].to_numpy(np.float64)
        with np.errstate(divide="ignore"):
            log_volume = np.where(volume > 0, np.log(volume), np.nan)
        return cls(
            frame=frame,
            open=opening - factor,
            high=high - factor,
            low=low - factor,
            close=adjusted,
            volume=volume,
            log_volume=log_volume,
            factor=factor,
            tick=_ticks(frame),
            follows=follows,
            first=np.repeat(starts, lengths),
            last=np.repeat(starts + lengths - 1, lengths),
        )

    def step(self, values: np.ndarray) -> np.ndarray:
        """``values`` minus those of the bar before; 0 at a ticker's first bar."""
        return np.where(self.follows, np.diff(values, prepend=values[:1]), 0.0)

    def after(self, values: np.ndarray) -> np.ndarray:
        """``values`` of the next bar of the same ticker; NaN at its last one."""
        shifted = np.append(values[1:], np.nan)
        return np.where(np.arange(len(values)) < self.last, shifted, np.nan)

    def around(self, at: np.ndarray, values: np.ndarray, before: int, after: int) -> np.ndarray:
        """``values`` of the neighbours of the bars ``at``, without themselves: ``[at, before + after]``.

        NaN where the ticker has no bar.
        """
        offsets = np.concatenate([np.arange(-before, 0), np.arange(1, after + 1)])
        places = at[:, None] + offsets
        inside = (places >= self.first[at][:, None]) & (places <= self.last[at][:, None])
        return np.where(inside, values[np.clip(places, 0, len(values) - 1)], np.nan)

    def noise(self, at: np.ndarray) -> np.ndarray:
        """What prices move around the bars ``at`` in an ordinary session: a log range, median of the neighbours."""
        ranges = median(self.around(at, self.high - self.low, _REACH, _REACH))
        # Where prices move overnight only, ranges say too little. Of normal moves with standard deviation s the median
        # size is 0.67 s, and the range within a session about 1.3 s, as a part of the move is overnight.
        moves = 1.3 / 0.67 * median(self.around(at, np.abs(self.step(self.close)), _REACH, _REACH))
        # A share at two cents halves with one tick, and has no range on most days.
        ticks = median(self.around(at, self.tick, _REACH, _REACH)) if self.tick.any() else _LEAST_NOISE
        return np.fmax(np.fmax(ranges, moves), np.fmax(ticks, _LEAST_NOISE))


def _ticks(frame: pd.DataFrame) -> np.ndarray:
    ticks = np.zeros(len(frame))
    low_priced = np.flatnonzero(frame["close"].to_numpy() < 1.0)
    # Of the few rows only: a table of all prices would be copied first.
    prices = [frame[name].to_numpy()[low_priced] for name in ("open", "high", "low", "close")]
    cents = 100.0 * np.column_stack(prices)
    is_whole = (np.abs(cents - np.round(cents)) < 1e-4).all(axis=1)
    ticks[low_priced[is_whole]] = 1.0 / cents[is_whole, 3]
    return ticks


def median(values: np.ndarray) -> np.ndarray:
    """Median of each row's numbers, NaN where there are none."""
    # Sorted, NaN come last: nanmedian gives the same, but warns about empty rows and is slower.
    ordered, count = np.sort(values, axis=1), np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, values.shape[1] - 1)
    return np.where(count > 0, 0.5 * (ordered[rows, low] + ordered[rows, high]), np.nan)
