"""Prices of the user's own as a panel: any frame or file that ``PRICE_FILES`` may name, checked as a run checks it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from financial_assets.errors import MarketDataError, SourceError
from financial_assets.market import calendar as market_calendar
from financial_assets.market.frames import empty_prices, sort_prices
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.quality.notes import notes_of, warnings_of
from financial_assets.market.quality.overrides import Override
from financial_assets.market.quality.screening import QualityPolicy, screen
from financial_assets.market.sources import deliver
from financial_assets.market.sources.files import FileBars, FileProblem, FileRules, join_bars, survey
from financial_assets.market.sources.files.contents import Content
from financial_assets.market.sources.files.reading import read_bars
from financial_assets.market.sources.sample import SAMPLE_TICKERS, SamplePrices
from financial_assets.market.universe import Universe, read_universe

Prices = pd.DataFrame | str | Path | Sequence[str | Path]
"""A frame, or a file, folder or glob, or several of them; ``"sample"``: the bundled bars of AAPL, MSFT, IBM, GOOG."""

SAMPLE = "sample"

_MOST_REASONS = 5
"""Reasons in one error: a folder may hold thousands of files."""


class PriceWarning(UserWarning):
    """What was left out, repaired or doubted of the prices given."""


def load_panel(
    prices: Prices,
    *,
    tickers: Sequence[str] | None = None,
    start: str | pd.Timestamp | None = None,
    end: str | pd.Timestamp | None = None,
    adjustment: str | None = None,
    calendar: str = "XNYS",
    universe: Universe | str | Path | None = None,
    policy: QualityPolicy = "quarantine",
    overrides: Sequence[Override] = (),
) -> PricePanel:
    """Read, check and lay out daily bars.

    Parameters
    ----------
    prices
        A frame as pandas, yfinance or a vendor's export gives it (long with a ticker column, wide, or with two header
        rows), or files that hold such tables, or ``"sample"``.
    tickers
        Which ones; default: all that are there. A table without any ticker takes the only one given.
    start, end
        First and last day, both included; default: all.
    adjustment
        What ``close`` is in a table without an adjusted close: ``adjusted``, ``splits`` or ``none``. Never guessed.
    calendar
        Name of an exchange_calendars calendar, or ``24/7``. It holds for the whole process: annual figures count its
        sessions.
    universe
        Dated membership, or a file of it (ticker, from, to, sector, currency): before and after, a ticker is known but
        not traded.
    policy
        ``quarantine`` leaves bars out that cannot be true and says so in a ``PriceWarning``; ``strict`` refuses them.
    overrides
        A person's decisions on single bars, see ``market.quality.overrides``.

    Returns
    -------
    PricePanel
        float32 ``[ticker, channel, session]``, adjusted for splits and dividends, with a mask of what traded.

    Raises
    ------
    SourceError
        The prices cannot be read: names column and row, and what to do.
    MarketDataError
        Nothing is left, or with ``strict`` something is wrong.
    """
    market_calendar.use(calendar)
    rules = FileRules(adjustment=adjustment, zone=market_calendar.zone())
    if tickers is not None and len(tickers) == 1:
        rules = replace(rules, only_ticker=tickers[0])
    bars = _of_sample(tickers) if isinstance(prices, str) and prices == SAMPLE else _read(prices, rules, tickers)
    bars = _between(bars, tickers, start, end)
    screening = screen(
        bars,
        stored=empty_prices(),
        policy=policy,
        overrides=overrides,
        now=pd.Timestamp.now(tz="UTC"),
    )
    messages = warnings_of(notes_of(screening))
    if policy == "strict" and len(screening.quarantined):
        raise MarketDataError("\n".join([*messages, "policy='quarantine' leaves them out"]))
    if screening.accepted.empty:
        raise MarketDataError("\n".join(["no bar can be used", *messages]))
    for message in messages:
        warnings.warn(message, PriceWarning, stacklevel=2)
    membership = read_universe(Path(universe)) if isinstance(universe, str | Path) else universe
    return build_panel(screening.accepted, None if membership is None else membership.members)


def _of_sample(tickers: Sequence[str] | None) -> pd.DataFrame:
    return SamplePrices().fetch(list(SAMPLE_TICKERS if tickers is None else tickers)).prices


def _read(prices: Prices, rules: FileRules, tickers: Sequence[str] | None) -> pd.DataFrame:
    if isinstance(prices, pd.DataFrame):
        return _joined([read_bars(_content(prices), rules)])
    places = [prices] if isinstance(prices, str | Path) else list(prices)
    if not places:
        raise SourceError("no file of prices was named")
    asked = None if tickers is None else frozenset(tickers)
    found = [table for place in places for table in survey(str(place), rules, asked)]
    problems = [table for table in found if isinstance(table, FileProblem)]
    # A broken file of tickers that nobody asked for takes nothing away.
    if missed := [problem.reason for problem in problems if asked is None or problem.tickers]:
        raise SourceError("\n".join(missed[:_MOST_REASONS]))
    for problem in problems:
        warnings.warn(f"left out: {problem.reason}", PriceWarning, stacklevel=3)
    return _joined([table for table in found if isinstance(table, FileBars)])


def _content(frame: pd.DataFrame) -> Content:
    """The frame as the file that its owner would have saved: one way to read tables, whatever they come from."""
    if frame.empty:
        raise SourceError("the frame of prices has no rows")
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise SourceError(f"the frame of prices cannot be read: {error}") from error
    return Content("the frame of prices", PurePosixPath("prices.parquet"), buffer.getvalue(), "parquet")


def _joined(tables: Sequence[FileBars]) -> pd.DataFrame:
    refused = [f"{ticker}: {reason}" for table in tables for ticker, reason in table.refused.items()]
    if refused:
        raise SourceError("\n".join(refused[:_MOST_REASONS]))
    return sort_prices(join_bars(tables))


def _between(
    bars: pd.DataFrame, tickers: Sequence[str] | None, start: str | pd.Timestamp | None, end: str | pd.Timestamp | None
) -> pd.DataFrame:
    names = list(dict.fromkeys(bars["ticker"])) if tickers is None else list(tickers)
    first, last = (None if day is None else pd.Timestamp(day).date() for day in (start, end))
    delivered = deliver(bars, names, first, last, origin="the prices given")
    if delivered.failures:
        raise SourceError("; ".join(f"{ticker}: {reason}" for ticker, reason in delivered.failures.items()))
    return delivered.prices
