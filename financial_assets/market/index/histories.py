"""The bars that were stored first, ticker by ticker.

The price store keeps them by date, as most days ask for the last sessions of everybody. A dividend asks for all
sessions of the ticker that pays it: without this file that would read everybody's. It is made of the base of the price
store, which never changes, and can be made anew from it at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.market.frames import VALUE_COLUMNS, by_ticker_and_date, in_order, ticker_codes

_COLUMNS = ("date", *VALUE_COLUMNS)


@dataclass(frozen=True, eq=False)
class Histories:
    """Where each ticker's bars lie in the file.

    Attributes
    ----------
    tickers
        Sorted.
    starts
        Row at which each ticker's bars begin, and the number of all rows: int64 ``[ticker + 1]``.
    sums
        Sum of each ticker's bytes in each column, as numbers of 64 bits and modulo 2^64: uint64 ``[column, ticker]``.
    columns
        64-bit numbers of the rows, column by column, left in the file.
    """

    tickers: pd.Index
    starts: np.ndarray
    sums: np.ndarray
    columns: tuple[np.ndarray, ...]

    def read(self, tickers: Sequence[str]) -> pd.DataFrame | None:
        """Bars of some tickers, sorted by ticker and date, the tickers as a categorical column.

        ``None`` where what lies in the file is not what was written.
        """
        places = np.unique(self.tickers.get_indexer(pd.Index(tickers)))
        places = places[places >= 0]
        pieces = [slice(self.starts[place], self.starts[place + 1]) for place in places]
        parts = [[column[piece] for piece in pieces] for column in self.columns]
        for column, sums in zip(parts, self.sums, strict=True):
            if any(_sum(part) != sums[place] for part, place in zip(column, places, strict=True)):
                return None
        joined = [np.concatenate([np.empty(0, dtype=np.uint64), *column]) for column in parts]
        counts = (self.starts[1:] - self.starts[:-1])[places]
        codes = np.repeat(np.arange(len(places)), counts)
        return pd.DataFrame(
            {
                "date": joined[0].view("datetime64[ns]"),
                "ticker": pd.Categorical.from_codes(cast(Sequence[int], codes), self.tickers[places]),
                **{name: values.view(np.float64) for name, values in zip(VALUE_COLUMNS, joined[1:], strict=True)},
            },
            copy=False,
        )


def save_histories(path: Path, bars: pd.DataFrame, content_hash: str) -> None:
    """Write the bars of a price frame to ``path``, atomically, as those with that ``hash_prices``."""
    codes, names = ticker_codes(bars["ticker"].astype(object), sort=True)
    dates = bars["date"].to_numpy("datetime64[ns]")
    if not in_order(codes, dates):
        order = by_ticker_and_date(codes, dates)
        bars, codes, dates = bars.take(order), codes[order], dates[order]
    starts = np.searchsorted(codes, np.arange(len(names) + 1))
    columns = [dates.view(np.uint64)]
    columns += [np.ascontiguousarray(bars[name].to_numpy(np.float64)).view(np.uint64) for name in VALUE_COLUMNS]
    sums = np.array([np.add.reduceat(column, starts[:-1]) for column in columns])
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        for array in (np.array(content_hash), np.array(names, dtype=np.str_), starts, sums, *columns):
            np.save(stream, array, allow_pickle=False)


def load_histories(path: Path, content_hash: str) -> Histories | None:
    """What ``save_histories`` wrote of the bars with that hash; ``None`` without such a file that can be read."""
    try:
        with path.open("rb") as stream:
            if str(np.load(stream, allow_pickle=False)) != content_hash:
                return None
            tickers, starts, sums = (np.load(stream, allow_pickle=False) for _ in range(3))
            columns = tuple(_mapped(stream) for _ in _COLUMNS)
    except (OSError, ValueError, EOFError):
        return None
    is_whole = all(column.shape == (starts[-1],) for column in columns) and sums.shape == (len(columns), len(tickers))
    return Histories(pd.Index(tickers.astype(object)), starts, sums, columns) if is_whole else None


def _sum(part: np.ndarray) -> np.uint64:
    return np.add.reduce(part, dtype=np.uint64)


def _mapped(stream: IO[bytes]) -> np.ndarray:
    """The next array of the file, where it lies."""
    np.lib.format.read_magic(stream)
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    start = stream.tell()
    values = np.memmap(stream, dtype=dtype, mode="r", offset=start, shape=shape).view(np.ndarray)
    stream.seek(start + values.nbytes)
    return values
