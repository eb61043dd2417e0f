"""From what a source delivered to typed rows: what cannot be read, keyed or dated is set aside row by row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.market import calendar
from financial_assets.market.frames import VALUE_COLUMNS, ticker_codes
from financial_assets.market.quality.sessions import stray_days


def has_form(prices: pd.DataFrame) -> bool:
    """Whether every price column is there once and has its type, so that the rows can be judged one by one."""
    if not prices.columns.is_unique or not {"date", "ticker", *VALUE_COLUMNS} <= set(prices.columns):
        return False
    return (
        prices["date"].dtype == np.dtype("datetime64[ns]")
        and prices["ticker"].dtype == object
        and all(prices[name].dtype == np.float64 for name in VALUE_COLUMNS)
    )


def key_faults(prices: pd.DataFrame) -> list[tuple[np.ndarray, str]]:
    """Rows without a date or ticker that could be a key."""
    date = prices["date"].to_numpy()
    # A universe has few tickers and many rows; a row without a ticker has the code -1, the last place.
    codes, found = ticker_codes(prices["ticker"])
    is_name = np.array([isinstance(name, str) and len(name.split()) == 1 for name in found] + [True])
    missing = np.isnat(date)
    return [
        (missing, "date is missing"),
        (~missing & (date != date.astype("datetime64[D]")), "date has a time of day"),
        (codes < 0, "ticker is missing"),
        (~is_name[codes], "ticker is not a ticker"),
    ]


def date_faults(dates: pd.DatetimeIndex, now: pd.Timestamp) -> list[tuple[np.ndarray, str]]:
    """Days that cannot have a bar at the instant ``now`` (with a time zone): no session, or not over yet."""
    completed = calendar.last_completed_session(now)
    today = now.tz_convert("UTC").tz_localize(None).normalize()
    later = np.asarray(dates > completed)
    future = later & np.asarray(dates > max(today, completed))
    strays = [(mask & ~later, problem) for mask, problem in stray_days(dates)]
    return [
        *strays,
        (future, "the day lies in the future"),
        (later & ~future, f"the session was not over when it was fetched ({now:%Y-%m-%d %H:%M} UTC)"),
    ]
