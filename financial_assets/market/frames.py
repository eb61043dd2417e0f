"""The price frame: one row per ticker and session."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

__all__ = ["KEY_COLUMNS", "PRICE_COLUMNS", "VALUE_COLUMNS", "empty_prices", "hash_prices", "sort_prices"]

KEY_COLUMNS = ("date", "ticker")
VALUE_COLUMNS = ("open", "high", "low", "close", "volume", "adj_close")
PRICE_COLUMNS = KEY_COLUMNS + VALUE_COLUMNS


def empty_prices() -> pd.DataFrame:
    """A price frame without rows, its columns typed."""
    return pd.DataFrame(
        {"date": pd.Series(dtype="datetime64[ns]"), "ticker": pd.Series(dtype="object")}
        | {name: pd.Series(dtype="float64") for name in VALUE_COLUMNS}
    )


def sort_prices(prices: pd.DataFrame) -> pd.DataFrame:
    """The price columns, sorted by ticker and date, on a fresh index."""
    columns = prices.loc[:, list(PRICE_COLUMNS)].rename_axis(columns=None)
    return columns.sort_values(["ticker", "date"], kind="stable", ignore_index=True)


def hash_prices(prices: pd.DataFrame) -> str:
    """SHA-256 of a price frame's content, whatever its row order, index or file format."""
    frame = sort_prices(prices)
    digest = hashlib.sha256()
    digest.update("\n".join(frame["ticker"]).encode())
    digest.update(frame["date"].to_numpy("datetime64[ns]").astype("<i8").tobytes())
    for name in VALUE_COLUMNS:
        digest.update(np.ascontiguousarray(frame[name].to_numpy("<f8")).tobytes())
    return digest.hexdigest()
