"""Where prices come from. A source delivers price frames; it never decides what the rest may see.

To add one: a module here that fulfils ``PriceSource``, its name in ``settings.market`` (``price_source``), and a case
in ``make_source``, which gives it its settings.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from financial_assets.errors import SourceError
from financial_assets.market.frames import of_tickers, sort_prices, ticker_codes

__all__ = ["FetchResult", "PriceSource", "deliver"]


@dataclass(frozen=True)
class FetchResult:
    """What a source delivered.

    Attributes
    ----------
    prices
        Price frame (``schemas.PRICE_COLUMNS``), sorted by ticker and date. Not yet checked.
    failures
        Ticker to reason, for each ticker that could not be delivered.
    notes
        What else was left out, one sentence each: files that cannot be read and that nobody asked for.
    """

    prices: pd.DataFrame
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class PriceSource(Protocol):
    """A supplier of daily bars.

    Attributes
    ----------
    name
        As in the setting ``PRICE_SOURCE``.
    live
        Whether bars go on until today: live sources run on ``LiveClock``, others on ``HistoricalClock``.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def live(self) -> bool: ...  # noqa: D102

    def fetch(self, tickers: Sequence[str], start: dt.date | None, end: dt.date | None) -> FetchResult:
        """Bars of ``tickers`` from ``start`` to ``end``, both included; ``None``: as far as the source goes.

        Raises
        ------
        SourceError
            Nothing could be delivered at all.
        """
        ...


def deliver(
    held: pd.DataFrame,
    tickers: Sequence[str],
    start: dt.date | None,
    end: dt.date | None,
    *,
    origin: str,
    others: Collection[str] = (),
) -> FetchResult:
    """The asked-for part of the bars that a source holds.

    Parameters
    ----------
    held
        Everything that the source has, as a price frame in any order; what is delivered may share its values.
    origin
        What to call the source in messages.
    others
        Tickers that the source has, too, and that were not asked for: for messages.

    Raises
    ------
    SourceError
        No ticker is left.
    """
    if not tickers:
        raise SourceError("no ticker was asked for; set TICKERS, e.g. TICKERS=AAPL,MSFT")
    inside = of_tickers(held, tickers)
    if start is not None:
        inside &= (held["date"] >= pd.Timestamp(start)).to_numpy()
    if end is not None:
        inside &= (held["date"] <= pd.Timestamp(end)).to_numpy()
    names = sorted({*map(str, ticker_codes(held["ticker"])[1]), *others})
    chosen = held if inside.all() else held[inside]
    present = set(ticker_codes(chosen["ticker"])[1])
    span = f"{start or 'its first day'} to {end or 'its last day'}"
    failures = {
        ticker: (f"{origin} has no bars from {span}" if ticker in names else f"{origin} does not have it")
        for ticker in tickers
        if ticker not in present
    }
    if chosen.empty:
        raise SourceError(
            f"{origin} has none of {', '.join(tickers)} from {span}; it holds {_enumerate(names)} (set TICKERS, "
            "INGESTION_START_DATE and INGESTION_END_DATE to what it has)"
        )
    return FetchResult(sort_prices(chosen, copy=False), failures)


def _enumerate(names: Sequence[str], most: int = 20) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
