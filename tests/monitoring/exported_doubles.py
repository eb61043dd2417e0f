"""Prices as the exporter sees them, without a market: bars of three tickers, and notes about some of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from financial_assets.market.index.coverage import Coverage
from financial_assets.market.quality.notes import QualityNote
from financial_assets.monitoring.exported.prices import StoredPrices

NOW = pd.Timestamp("2024-03-08 12:00", tz="UTC")
DAYS = pd.to_datetime(["2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07"])
BARS = {"AAA": DAYS, "BBB": DAYS[[0, 3]], "CCC": DAYS[2:]}
"""BBB lacks two sessions; CCC was listed later, and lacks none."""

NOTES = (
    QualityNote("BBB", "left out", "a price of 0", ("2024-03-05", "2024-03-06"), 2),
    QualityNote("AAA", "suspicious", "a move of 40 %", ("2024-03-06",), 1),
    QualityNote("CCC", "suspicious", "a move of 50 %", ("2024-03-07",), 1),
)


def stored_prices(folder: Path, *, is_live: bool = False, ingested: pd.Timestamp = NOW) -> StoredPrices:
    """A store that was filled at ``ingested``, whose clock stands at the third day."""
    import os

    file = folder / "quality.json"
    file.write_text("[]")
    os.utime(file, (ingested.timestamp(), ingested.timestamp()))
    keys = pd.DataFrame([(day, ticker) for ticker, days in BARS.items() for day in days], columns=["date", "ticker"])
    return StoredPrices(lambda: Coverage.of(keys), lambda: NOTES, lambda: DAYS[2], file, is_live)
