"""The price frame: one row per ticker and session."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

KEY_COLUMNS = ("date", "ticker")
VALUE_COLUMNS = ("open", "high", "low", "close", "volume", "adj_close")
PRICE_COLUMNS = KEY_COLUMNS + VALUE_COLUMNS

_FEW_ROWS = 1000
"""So few are looked up at once."""

_BLOCK = 16_384
"""Rows that are hashed together."""

_DAY_BITS = 32

_LANES = 2
_LANE_BITS = 64
_GOLDEN = 0x9E3779B97F4A7C15


_EMPTY = pd.DataFrame(
    {"date": pd.Series(dtype="datetime64[ns]"), "ticker": pd.Series(dtype="object")}
    | {name: pd.Series(dtype="float64") for name in VALUE_COLUMNS}
)


def empty_prices() -> pd.DataFrame:
    """A price frame without rows, its columns typed."""
    return _EMPTY.copy()


def sort_prices(prices: pd.DataFrame, *, copy: bool = True) -> pd.DataFrame:
    """The price columns, sorted by ticker and date, on a fresh index.

    Without ``copy``, a frame that is sorted already shares its values with the result.
    """
    columns = prices.copy(deep=False) if list(prices) == list(PRICE_COLUMNS) else prices.loc[:, list(PRICE_COLUMNS)]
    columns.columns, columns.index = pd.Index(PRICE_COLUMNS), pd.RangeIndex(len(prices))
    # A universe has few tickers and many rows: sorting numbers instead of strings takes a tenth of the time.
    codes = ticker_codes(columns["ticker"], sort=True)[0]
    date = columns["date"].to_numpy()
    if date.dtype.kind != "M" or (codes < 0).any():
        return columns.sort_values(["ticker", "date"], kind="stable", ignore_index=True)
    if in_order(codes, date):
        return columns.copy() if copy else columns
    return renumbered(columns.take(by_ticker_and_date(codes, date)))


def in_order(codes: np.ndarray, dates: np.ndarray, *, once: bool = False) -> bool:
    """Whether rows are sorted by ticker code and date already; with ``once`` also that no key occurs twice."""
    same = codes[1:] == codes[:-1]
    later = dates[1:] > dates[:-1] if once else dates[1:] >= dates[:-1]
    return bool(((codes[1:] > codes[:-1]) | (same & later)).all())


def has_repeats(prices: pd.DataFrame) -> bool:
    """Whether a ticker and date occur more than once."""
    codes, date = ticker_codes(prices["ticker"])[0], prices["date"].to_numpy()
    is_sorted = date.dtype.kind == "M" and in_order(codes, date, once=True)
    return not is_sorted and bool(prices.duplicated(["ticker", "date"]).any())


def places_in(frame: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray:
    """For every row of ``keys`` the position of the row of ``frame`` with its ticker and day; -1: there is none."""
    if frame.empty or keys.empty:
        return np.full(len(keys), -1, dtype=np.intp)
    within = _between(frame, keys)
    if within is not None:
        place = places_in(frame[list(KEY_COLUMNS)].iloc[within], keys)
        return np.append(within, -1)[place]
    held, wanted, order = numbered(frame, keys)
    place = order[np.minimum(np.searchsorted(held, wanted, sorter=order), len(held) - 1)]
    return np.where(held[place] == wanted, place, -1)


def _between(frame: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray | None:
    """Rows of ``frame`` between the first and the last day of ``keys``; ``None`` where most of them are.

    Mostly a few days are looked up in what is kept for months.
    """
    days, wanted = (rows["date"].to_numpy("datetime64[ns]") for rows in (frame, keys))
    within = np.flatnonzero((days >= wanted.min()) & (days <= wanted.max()))
    # A day that is missing is not later than any: such keys are looked up among all rows.
    return within if len(within) <= len(frame) // 2 and not np.isnat(wanted).any() else None


def places_before(frame: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray:
    """The same of the ticker's last row of ``frame`` before the day of each row of ``keys``; -1: there is none."""
    if frame.empty or keys.empty:
        return np.full(len(keys), -1, dtype=np.intp)
    held, wanted, order = numbered(frame, keys)
    rank = np.searchsorted(held, wanted, sorter=order) - 1
    place = order[np.maximum(rank, 0)]
    # A ticker that the frame does not have is numbered below all others.
    is_same = (rank >= 0) & (wanted >= 0) & (code_of(held[place]) == code_of(wanted))
    return np.where(is_same, place, -1)


def numbered(frame: pd.DataFrame, keys: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tickers and days of two frames as single numbers, and the order of those of ``frame``.

    They are counted ticker by ticker, as the tickers first occur in ``frame``; those of others are negative.
    """
    # Integers: an index of strings is ten times slower to compare.
    codes, known = ticker_codes(frame["ticker"])
    key_codes, names = ticker_codes(keys["ticker"])
    translated = np.append(known.get_indexer(names), -1)[key_codes]
    held, wanted = (
        (numbers.astype(np.int64) << _DAY_BITS) + _days(rows) for numbers, rows in ((codes, frame), (translated, keys))
    )
    is_sorted = bool((held[1:] > held[:-1]).all())
    return held, wanted, np.arange(len(held)) if is_sorted else np.argsort(held, kind="stable")


def code_of(numbers: np.ndarray) -> np.ndarray:
    """The ticker's code in numbers of :func:`numbered`."""
    return numbers >> _DAY_BITS


def _days(rows: pd.DataFrame) -> np.ndarray:
    return rows["date"].to_numpy("datetime64[D]").astype(np.int64)


def by_ticker_and_date(codes: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """The stable order of rows by ticker code and date (datetime64): rows with equal keys keep theirs.

    NumPy sorts 16-bit numbers in linear time, and a universe has few tickers and few days: two such passes order
    millions of rows in a tenth of the time of one general sort.
    """
    days = (
        (dates.astype("datetime64[D]") - dates.min().astype("datetime64[D]")).astype(np.int64) if len(dates) else dates
    )
    is_small = len(codes) > 0 and days.max() < 2**16 and codes.max() < 2**16 and codes.min() >= 0
    if not is_small or (dates != dates.astype("datetime64[D]")).any():
        return np.lexsort((dates, codes))
    order = np.argsort(days.astype(np.uint16), kind="stable")
    return order[np.argsort(codes[order].astype(np.uint16), kind="stable")]


def renumbered(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame on a fresh index; it shares its values with the one given."""
    fresh = frame.copy(deep=False)
    fresh.index = pd.RangeIndex(len(fresh))
    return fresh


def ticker_codes(tickers: pd.Series, *, sort: bool = False) -> tuple[np.ndarray, pd.Index]:
    """``pandas.factorize`` of a column of tickers: codes (-1: none) and names.

    Rows of a ticker mostly lie together: then only the first of each run is looked up, in a quarter of the time.
    """
    values = tickers.to_numpy()
    if values.dtype != object or len(values) < _FEW_ROWS:
        return pd.factorize(tickers, sort=sort)
    try:
        starts = _run_starts(values)
    except TypeError:  # pandas.NA is neither equal to anything nor different from it
        return pd.factorize(tickers, sort=sort)
    found = values[starts]
    if _is_rising(found):
        codes, names = np.arange(len(found)), pd.Index(found, dtype=object)
    else:
        codes, names = pd.factorize(pd.Series(found, dtype=object), sort=sort)
    return np.repeat(codes, np.diff(starts, append=len(values))), names


def _is_rising(names: np.ndarray) -> bool:
    """Whether these are strings in order, each once: they number themselves, sorted or as they occur."""
    try:
        # What can be compared with a string is one.
        return isinstance(names[0], str) and bool((names[1:] > names[:-1]).all())
    except TypeError:
        return False


def _run_starts(values: np.ndarray) -> np.ndarray:
    """Positions in a column of objects at which a value differs from the one before."""
    at = np.arange(1, len(values))
    if values.flags.c_contiguous:
        # Rows of one ticker mostly share one string. Whether they do is a comparison of addresses, several times
        # quicker than one of strings, which is left for the few places where they do not.
        addresses = np.frombuffer(values, dtype=np.intp)
        at = at[addresses[1:] != addresses[:-1]]
    return np.concatenate(([0], at[values[at] != values[at - 1]]))


def of_tickers(prices: pd.DataFrame, tickers: Collection[str]) -> np.ndarray:
    """Which rows are of any of ``tickers``: bool ``[row]``."""
    codes, names = ticker_codes(prices["ticker"])
    # A row without a ticker has the code -1, the last place.
    return np.append(names.isin(list(tickers)), False)[codes]


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The parts one after the other; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def row_hashes(codes: np.ndarray, columns: Sequence[np.ndarray]) -> np.ndarray:
    """A 64-bit hash of each row's code and float64 values: equal rows have equal ones, others hardly ever."""
    bits = [np.ascontiguousarray(column, dtype=np.float64).view("u8") for column in columns]
    hashes = np.empty(len(codes), dtype=np.uint64)
    for start in range(0, len(codes), _BLOCK):
        state = mixed(codes[start : start + _BLOCK].astype(np.uint64))
        for column in bits:
            state = mixed(state ^ column[start : start + _BLOCK])
        hashes[start : start + _BLOCK] = state
    return hashes


def hash_prices(prices: pd.DataFrame) -> str:
    """Hash of a price frame's content, whatever its row order, index or file format: 32 hexadecimal digits.

    It is the sum of a hash of each row, in two independent 64-bit lanes. Adding or removing rows therefore changes it
    by the hash of those rows alone (``combined_hash``), and a store of any size knows its own hash after an append. It
    shows that content differs; it does not protect against somebody who forges prices on purpose.
    """
    if prices.empty:
        return "0" * (_LANES * _LANE_BITS // 4)
    codes, names = ticker_codes(prices["ticker"])
    columns = [
        pd.util.hash_array(np.asarray(names, dtype=object))[codes],
        prices["date"].to_numpy("datetime64[ns]").view("u8"),
        *(np.ascontiguousarray(prices[name].to_numpy(np.float64)).view("u8") for name in VALUE_COLUMNS),
    ]
    lanes = [0] * _LANES
    # Block by block: what fits into the processor's cache is mixed in half the time.
    for start in range(0, len(prices), _BLOCK):
        block = [column[start : start + _BLOCK] for column in columns]
        for lane in range(_LANES):
            state = np.full(len(block[0]), _GOLDEN * (2 * lane + 1) % 2**_LANE_BITS, dtype=np.uint64)
            for column in block:
                state = mixed(state ^ column)
            lanes[lane] = (lanes[lane] + int(state.sum(dtype=np.uint64))) % 2**_LANE_BITS
    return "".join(f"{lane:016x}" for lane in lanes)


def mixed(state: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    state = state + np.uint64(_GOLDEN)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def combined_hash(content: str, added: str, removed: str) -> str:
    """The hash of ``content`` after rows with the hash ``added`` came and rows with the hash ``removed`` went."""
    digits = _LANE_BITS // 4
    lanes = [
        (int(content[at : at + digits], 16) + int(added[at : at + digits], 16) - int(removed[at : at + digits], 16))
        % 2**_LANE_BITS
        for at in range(0, _LANES * digits, digits)
    ]
    return "".join(f"{lane:016x}" for lane in lanes)
