"""Bars against the calendar: sessions without a bar, and days that cannot have one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.market import calendar
from financial_assets.market.frames import ticker_codes
from financial_assets.market.quality.results import failure_table


def completeness(frame: pd.DataFrame) -> pd.DataFrame:
    """Sessions missing between a ticker's first and last bar, and bars on days that are not sessions."""
    dated = frame[frame["date"].notna() & frame["ticker"].notna()]
    strays = stray_days(pd.DatetimeIndex(dated["date"]))
    table = failure_table(dated, strays)
    missing = missing_sessions(dated)
    if missing.empty:
        return table
    parts = [part for part in (table, missing.reindex(columns=table.columns)) if len(part)]
    return pd.concat(parts).sort_values(["date", "ticker"], kind="stable", ignore_index=True)


_FEW = 1000
"""Dates that are looked up one by one."""


def stray_days(dates: pd.DatetimeIndex) -> list[tuple[np.ndarray, str]]:
    """Which of ``dates`` cannot have a bar, and why: rules for :func:`failure_table`, booleans of the same length.

    A day that the calendar does not know is not called a day without trading.
    """
    if len(dates) > _FEW:
        # Many bars lie on few days.
        codes, days = pd.factorize(dates, use_na_sentinel=False)
        return [(mask[codes], problem) for mask, problem in _strays(pd.DatetimeIndex(days))]
    return _strays(dates)


def _strays(dates: pd.DatetimeIndex) -> list[tuple[np.ndarray, str]]:
    inside = ~calendar.outside(dates)
    early = ~inside & np.asarray(dates < calendar.first_day())
    closed = inside.copy()
    closed[inside] = ~calendar.is_session(dates[inside])
    name = calendar.name()
    begins = f"the {name} calendar begins at {calendar.first_day():%Y-%m-%d}: set INGESTION_START_DATE"
    ends = f"the {name} calendar ends a year from now and does not know this day: set INGESTION_END_DATE"
    return [(closed, f"{name} does not trade on this day"), (early, begins), (~inside & ~early, ends)]


def missing_sessions(*parts: pd.DataFrame) -> pd.DataFrame:
    """Sessions without a bar between a ticker's first and last one: ``date``, ``ticker`` and ``problem``.

    Parameters
    ----------
    parts
        ``date`` and ``ticker`` of bars; of a key that is in several of them, or twice in one, there is a bar. Tickers
        that the first part does not have, and bars on days without a session, are not looked at.
    """
    nothing = pd.DataFrame({"date": [], "ticker": [], "problem": []})
    if not parts or parts[0].empty:
        return nothing
    names = ticker_codes(parts[0]["ticker"], sort=True)[1]
    # Many bars lie on few days.
    coded = [(*ticker_codes(part["ticker"]), *pd.factorize(part["date"].to_numpy())) for part in parts]
    days = pd.DatetimeIndex(np.unique(np.concatenate([found for *_, found in coded])))
    days = days[~np.logical_or.reduce([mask for mask, _ in _strays(days)])]
    if days.empty:
        return nothing
    sessions = calendar.sessions(days[0], days[-1])
    # A last row and a last column for what is not looked at.
    seen = np.zeros((len(names) + 1, len(sessions) + 1), dtype=bool)
    for codes, tickers, day_codes, found in coded:
        rows, columns = names.get_indexer(tickers), sessions.get_indexer(pd.DatetimeIndex(found))
        seen[np.append(rows, -1)[codes], np.append(columns, -1)[day_codes]] = True
    seen = seen[:-1, :-1]
    # Between a ticker's first and last bar: seen before and seen after. Outside, nothing is missing.
    listed = np.logical_or.accumulate(seen, axis=1) & np.logical_or.accumulate(seen[:, ::-1], axis=1)[:, ::-1]
    ticker, session = np.nonzero(listed & ~seen)
    problem = f"no bar on this {calendar.name()} session"
    return pd.DataFrame({"date": sessions[session], "ticker": names[ticker], "problem": problem})
