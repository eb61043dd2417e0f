"""Real daily bars without a network: AAPL, MSFT, IBM and GOOG, 2000-03-01 to 2013-03-01, from ``bokeh_sampledata``.

Open, high, low, close and volume are raw, so three splits show in them: AAPL 2:1 on 2000-06-21 and on 2005-02-28,
MSFT 2:1 on 2003-02-18. ``Adj Close`` takes splits and dividends out. GOOG was listed on 2004-08-19.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

import pandas as pd

from financial_assets.errors import SourceError
from financial_assets.market.frames import PRICE_COLUMNS
from financial_assets.market.sources import FetchResult, deliver

SAMPLE_TICKERS = ("AAPL", "GOOG", "IBM", "MSFT")
# The wheel's fifth ticker, FB, was listed nine months before the data end: fewer bars than a served window.

_COLUMNS = {"Adj Close": "adj_close"} | {
    name.capitalize(): name for name in ("ticker", "date", "open", "high", "low", "close", "volume")
}


class SamplePrices:
    """The bundled bars."""

    name: str = "sample"
    live: bool = False

    def fetch(self, tickers: Sequence[str], start: dt.date | None = None, end: dt.date | None = None) -> FetchResult:
        """Bars of ``tickers``; see ``PriceSource.fetch``."""
        return deliver(_bundled().copy(), tickers, start, end, origin="PRICE_SOURCE=sample")


@lru_cache(maxsize=1)
def _bundled() -> pd.DataFrame:
    try:
        archive = resources.files("bokeh_sampledata") / "_data" / "stocks.csv.gz"
        with archive.open("rb") as stream:
            frame = pd.read_csv(stream, compression="gzip").rename(columns=_COLUMNS)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise SourceError(f"the package bokeh_sampledata is incomplete ({error}); run: make setup") from error
    missing = set(PRICE_COLUMNS) - set(frame.columns)
    if missing:
        raise SourceError(f"bokeh_sampledata's stocks.csv.gz lacks {', '.join(sorted(missing))}; reinstall: make setup")
    frame["date"] = pd.to_datetime(frame["date"], format="%Y-%m-%d")
    frame["volume"] = frame["volume"].astype("float64")
    return frame.loc[frame["ticker"].isin(SAMPLE_TICKERS), list(PRICE_COLUMNS)]
