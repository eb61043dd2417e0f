"""Yahoo Finance through yfinance: one batched download, retried with exponential backoff."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence

import pandas as pd

from financial_assets.errors import SourceError
from financial_assets.market import calendar
from financial_assets.market.frames import VALUE_COLUMNS, empty_prices, sort_prices
from financial_assets.market.sources import FetchResult

Download = Callable[[Sequence[str], dt.date, dt.date], pd.DataFrame | None]
"""Tickers, first day and last day (both included) to a frame as ``yfinance.download`` returns it."""

_FIELDS = {name.replace("_", " ").title(): name for name in VALUE_COLUMNS}


def download_from_yahoo(tickers: Sequence[str], start: dt.date, end: dt.date) -> pd.DataFrame | None:
    """One batched ``yfinance.download``, unadjusted, so that Adj Close is there."""
    import yfinance  # slow to import, and needed by this source only

    return yfinance.download(
        list(tickers),
        start=start.isoformat(),
        end=(end + dt.timedelta(days=1)).isoformat(),  # yfinance leaves the end out
        auto_adjust=False,
        actions=False,
        group_by="column",
        multi_level_index=True,
        threads=True,
        progress=False,
        timeout=30,
    )


class YahooPrices:
    """Daily bars from Yahoo Finance; open, high, low, close and volume are split-adjusted.

    Parameters
    ----------
    attempts
        Downloads to try, each for the tickers still missing.
    backoff
        Seconds before the second attempt; doubled for each further one.
    download, sleep, instant
        What to download, wait and tell the time (UTC-aware) with.
    """

    name: str = "yahoo"
    live: bool = True

    def __init__(
        self,
        *,
        attempts: int = 4,
        backoff: float = 2.0,
        download: Download = download_from_yahoo,
        sleep: Callable[[float], None] = time.sleep,
        instant: Callable[[], pd.Timestamp] = lambda: pd.Timestamp.now(tz="UTC"),
    ) -> None:
        if attempts < 1:
            raise SourceError(f"a download needs at least one attempt, not {attempts}")
        self._attempts = attempts
        self._backoff = backoff
        self._download = download
        self._sleep = sleep
        self._instant = instant

    def fetch(self, tickers: Sequence[str], start: dt.date | None = None, end: dt.date | None = None) -> FetchResult:
        """Bars of ``tickers``; see ``PriceSource.fetch``. The bar of a session that has not closed is left out."""
        last = calendar.last_completed_session(self._instant()).date()
        first = start or calendar.first_day().date()
        until = min(end or last, last)
        if not tickers or first > until:
            raise SourceError(f"nothing to fetch from Yahoo: {len(tickers)} tickers, {first} to {until}")
        parts, failures = self._download_all(tickers, first, until)
        if not parts:
            raise SourceError("; ".join(f"{ticker}: {why}" for ticker, why in failures.items()))
        return FetchResult(sort_prices(pd.concat(parts)), failures)

    def _download_all(
        self, tickers: Sequence[str], first: dt.date, until: dt.date
    ) -> tuple[list[pd.DataFrame], dict[str, str]]:
        """Non-empty price frames, and the reason of each ticker that none of them holds."""
        parts: list[pd.DataFrame] = []
        missing, reason = list(tickers), "no bars"
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(self._backoff * 2.0 ** (attempt - 1))
            try:
                raw = self._download(missing, first, until)
            except Exception as error:  # yfinance and its transports share no base class; told below, never swallowed
                reason = f"{type(error).__name__}: {error}"
                continue
            prices = parse_download(raw, missing)
            prices = prices[prices["date"].between(pd.Timestamp(first), pd.Timestamp(until))]
            reason = "no bars"
            if len(prices):
                parts.append(prices)
                missing = [ticker for ticker in missing if ticker not in set(prices["ticker"])]
            if not missing:
                break
        why = (
            f"Yahoo answered {self._attempts} times for {first} to {until}, at last with {reason}: an unknown or "
            "delisted ticker, no network, or too many requests"
        )
        return parts, dict.fromkeys(missing, why)


def parse_download(raw: pd.DataFrame | None, tickers: Sequence[str]) -> pd.DataFrame:
    """A frame as ``yfinance.download`` returns it, as a price frame.

    Understands columns (field, ticker) and (ticker, field), a single ticker with plain columns, tickers that are
    missing or all NaN (left out), an empty frame, and an index with or without a time zone.

    Raises
    ------
    SourceError
        The frame has bars, but not the columns of an unadjusted download.
    """
    if raw is None or raw.empty:
        return empty_prices()
    days = _session_dates(raw.index)
    parts = [bars.assign(date=days, ticker=ticker) for ticker, bars in _by_ticker(raw, tickers)]
    parts = [part[part[["open", "high", "low", "close"]].notna().any(axis=1)] for part in parts]
    parts = [part for part in parts if len(part)]
    return sort_prices(pd.concat(parts)) if parts else empty_prices()


def _by_ticker(raw: pd.DataFrame, tickers: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    columns = raw.columns
    if isinstance(columns, pd.MultiIndex):
        level = next((n for n in range(columns.nlevels) if "Close" in columns.get_level_values(n)), None)
        if level is None or columns.nlevels != 2:
            raise SourceError(f"Yahoo's frame has columns {list(columns)[:8]}; a field Close was expected")
        names = columns.get_level_values(1 - level)
        wanted = {str(name).upper(): name for name in names.unique()}
        return [
            (ticker, _fields(pd.DataFrame(raw.xs(wanted[ticker], axis=1, level=1 - level)), ticker))
            for ticker in tickers
            if ticker in wanted
        ]
    if len(tickers) != 1:
        raise SourceError(f"Yahoo's frame does not say which of {', '.join(tickers)} its columns belong to")
    return [(tickers[0], _fields(raw, tickers[0]))]


def _fields(bars: pd.DataFrame, ticker: str) -> pd.DataFrame:
    absent = [field for field in _FIELDS if field not in bars]
    if absent:
        raise SourceError(f"Yahoo's frame for {ticker} lacks {', '.join(absent)}; it has {list(bars.columns)}")
    return bars[list(_FIELDS)].rename(columns=_FIELDS).astype("float64")


def _session_dates(index: pd.Index) -> pd.DatetimeIndex:
    stamps = pd.DatetimeIndex(index)
    if stamps.tz is not None:
        # Midnight in New York, told in New York's time or in UTC, has the same date in both.
        stamps = stamps.tz_localize(None)
    return stamps.normalize().as_unit("ns")
