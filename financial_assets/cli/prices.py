"""The commands ``prices ...``: what files of prices hold, without a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from financial_assets.cli import examples
from financial_assets.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

    from financial_assets.market.sources.files import FileBars, FileProblem
    from financial_assets.settings import Settings

_MOST_LINES = 40
"""Lines of the table; a folder may hold thousands of files."""


@click.group(epilog=examples("prices check bars/", "prices check AAPL.csv MSFT.parquet"))
def prices() -> None:
    """Look at files of prices before a run reads them."""


@prices.command(epilog=examples("prices check bars/", "prices check 'bars/**/*.csv'"))
@click.argument("files", nargs=-1)
def check(files: tuple[str, ...]) -> None:
    """Show what would be read from FILES, and what is wrong with it.

    FILES are files, folders or globs; without them those of PRICE_FILES. Shown are ticker, rows, first and last day,
    the form that was recognised, and where the adjusted close comes from. Nothing is stored. The exit code is 1 when a
    file cannot be read or holds bars that cannot be true.
    """
    from financial_assets.settings import load_settings

    settings = load_settings()
    paths = files or ((settings.price_files,) if settings.price_files else ())
    if not paths:
        raise SettingsError("PRICE_FILES: not set; name files: financial-assets prices check bars/")
    from dataclasses import replace

    from financial_assets.market import calendar
    from financial_assets.market.frames import empty_prices, sort_prices
    from financial_assets.market.sources.files import FileBars, FileRules, join_bars, survey

    calendar.use(settings.market_calendar)
    mark = {"point": ".", "comma": ","}.get(settings.decimal_mark or "")
    rules = FileRules(
        adjustment=settings.adjustment, date_order=settings.date_order, decimal_mark=mark, zone=calendar.zone()
    )
    if len(paths) == len(settings.tickers) == 1:
        rules = replace(rules, only_ticker=settings.tickers[0])
    read = [table for path in paths for table in survey(path, rules)]
    bars = [table for table in read if isinstance(table, FileBars)]
    _print_table(bars)
    unreadable = _print_problems(read)
    frame = sort_prices(join_bars(bars)) if bars else empty_prices()
    refused = bool(len(frame)) and _print_screening(frame, settings)
    if len(frame) and "tickers" in settings.model_fields_set:
        _print_universe(frame, settings)
    sys.exit(1 if unreadable or refused else 0)


def _print_table(bars: Sequence[FileBars]) -> None:
    from rich.console import Console

    from financial_assets.cli.tables import make_table

    lines: list[tuple[str, ...]] = []
    for table in bars:
        names, dates = table.columns["ticker"], table.columns["date"].astype("datetime64[D]")
        for ticker in table.tickers:
            days = dates[names == ticker]
            span = (str(days.min()), str(days.max()))
            lines.append((_short(table.origin), ticker, f"{len(days):,}", *span, table.form, table.adjustment))
    if lines:
        columns = ("file", "ticker", "rows", "first", "last", "form", "adjusted close")
        # A terminal folds the cells; a pipe gets every line whole.
        console = Console(width=None if sys.stdout.isatty() else 240)
        console.print(make_table("what would be read", columns, lines[:_MOST_LINES]))
    if len(lines) > _MOST_LINES:
        click.echo(f"and {len(lines) - _MOST_LINES} more")


def _short(origin: str) -> str:
    return origin if len(origin) <= 48 else f"...{origin[-45:]}"


def _print_problems(read: Sequence[FileBars | FileProblem]) -> bool:
    """Print what cannot be read and what was left out; whether anything cannot be read."""
    from financial_assets.market.sources.files import FileProblem, grouped

    reasons: list[str] = []
    notes: list[str] = []
    for table in read:
        if isinstance(table, FileProblem):
            reasons.append(table.reason)
        else:
            reasons += table.refused.values()
            notes += [f"{table.origin}: {note}" for note in table.notes]
    for note in grouped(notes):
        click.echo(f"note: {note}")
    for reason in grouped(reasons):
        click.echo(f"cannot be read: {reason}")
    return bool(reasons)


def _print_screening(frame: pd.DataFrame, settings: Settings) -> bool:
    """Print what a run would leave out, repair or doubt; whether any row would not be used as it is delivered."""
    import pandas as pd

    from financial_assets.market.frames import empty_prices
    from financial_assets.market.quality.notes import notes_of, warnings_of
    from financial_assets.market.quality.overrides import load_overrides
    from financial_assets.market.quality.screening import screen

    screening = screen(
        frame,
        stored=empty_prices(),
        policy=settings.quality_policy,
        overrides=load_overrides(settings.quality_overrides),
        now=pd.Timestamp.now(tz="UTC"),
    )
    for override, rows in screening.overridden:
        if not rows and override.action != "accept":
            click.echo(f"note: QUALITY_OVERRIDES has no row to {override.action} for: {override}")
    messages = warnings_of(notes_of(screening))
    click.echo("\n".join(messages) if messages else f"{len(frame):,} rows pass all checks of prices")
    return bool(screening.waiting) or len(screening.quarantined) > 0


def _print_universe(frame: pd.DataFrame, settings: Settings) -> None:
    """Print which tickers of the universe and of the covariates the files do not have."""
    from financial_assets.installation import MarketState, configure

    covariates = configure(MarketState, settings).covariate_channels().tickers
    held = set(frame["ticker"])

    def absent(tickers: Sequence[str]) -> str:
        return ", ".join(ticker for ticker in tickers if ticker not in held and f"{ticker}.US" not in held)

    if missing := absent(settings.tickers):
        names = ",".join(sorted(held - set(covariates))[:20])
        fix = f"set TICKERS to what is, e.g. TICKERS={names}"
        name, fix = ("UNIVERSE_FILE", "correct it") if settings.universe_file else ("TICKERS", fix)
        click.echo(f"of {name} not there: {missing}; {fix}")
    if missing := absent(covariates):
        click.echo(f"of COVARIATES not there: {missing}; without them a run fails")
