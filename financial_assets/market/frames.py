"""The price frame: one row per ticker and session."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = [
    "KEY_COLUMNS",
    "PRICE_COLUMNS",
    "VALUE_COLUMNS",
    "by_ticker_and_date",
    "combined_hash",
    "empty_prices",
    "hash_prices",
    "sort_prices",
]

KEY_COLUMNS = ("date", "ticker")
VALUE_COLUMNS = ("open", "high", "low", "close", "volume", "adj_close")
PRICE_COLUMNS = KEY_COLUMNS + VALUE_COLUMNS

_LANES = 2
_LANE_BITS = 64
_GOLDEN = 0x9E3779B97F4A7C15


def empty_prices() -> pd.DataFrame:
    """A price frame without rows, its columns typed."""
    return pd.DataFrame(
        {"date": pd.Series(dtype="datetime64[ns]"), "ticker": pd.Series(dtype="object")}
        | {name: pd.Series(dtype="float64") for name in VALUE_COLUMNS}
    )


def sort_prices(prices: pd.DataFrame) -> pd.DataFrame:
    """The price columns, sorted by ticker and date, on a fresh index."""
    columns = prices.loc[:, list(PRICE_COLUMNS)].rename_axis(columns=None).reset_index(drop=True)
    # A universe has few tickers and many rows: sorting numbers instead of strings takes a tenth of the time.
    codes = pd.factorize(columns["ticker"], sort=True, use_na_sentinel=False)[0]
    date = columns["date"].to_numpy()
    if date.dtype.kind != "M" or pd.isna(columns["ticker"]).any():
        return columns.sort_values(["ticker", "date"], kind="stable", ignore_index=True)
    if len(codes) < 2 or ((codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & (date[1:] >= date[:-1]))).all():
        return columns
    return columns.take(by_ticker_and_date(codes, date)).reset_index(drop=True)


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


def hash_prices(prices: pd.DataFrame) -> str:
    """Hash of a price frame's content, whatever its row order, index or file format: 32 hexadecimal digits.

    It is the sum of a hash of each row, in two independent 64-bit lanes. Adding or removing rows therefore changes it
    by the hash of those rows alone (``combined_hash``), and a store of any size knows its own hash after an append. It
    shows that content differs; it does not protect against somebody who forges prices on purpose.
    """
    if prices.empty:
        return "0" * (_LANES * _LANE_BITS // 4)
    codes, names = pd.factorize(prices["ticker"])
    columns = [
        pd.util.hash_array(np.asarray(names, dtype=object))[codes],
        prices["date"].to_numpy("datetime64[ns]").view("u8"),
        *(np.ascontiguousarray(prices[name].to_numpy(np.float64)).view("u8") for name in VALUE_COLUMNS),
    ]
    lanes: list[int] = []
    for lane in range(_LANES):
        mixed = np.full(len(prices), _GOLDEN * (2 * lane + 1) % 2**_LANE_BITS, dtype=np.uint64)
        for column in columns:
            mixed = _mix(mixed ^ column)
        lanes.append(int(mixed.sum(dtype=np.uint64)))
    return "".join(f"{lane:016x}" for lane in lanes)


def _mix(state: np.ndarray) -> np.ndarray:
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
