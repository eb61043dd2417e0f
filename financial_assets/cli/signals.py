"""The command ``signal``: the champion's forecast for the next session of one ticker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from financial_assets.cli import examples
from financial_assets.errors import MarketDataError

_BACKTEST_FIELDS = ("side", "level", "sessions", "beyond", "expected", "kupiec", "independence", "verdict")
_MOST_NAMED = 20
"""Tickers named in a refusal; a universe may have hundreds."""


@click.command(
    epilog=examples("signal AAPL", "signal AAPL --json", "--home .mine signal JPM", "signal AAPL --request > body.json")
)
@click.argument("symbol")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: the names and values of daily_signals, and the clock."
)
@click.option("--request", is_flag=True, help="Print the V2 request instead of sending it: JSON, for curl -d @-.")
def signal(symbol: str, as_json: bool, request: bool) -> None:
    """Ask the champion about the next session of one ticker.

    Shows direction, expected range and value at risk, as of the market clock: the last session whose bars the models
    may see. When the newest stored bar is of another session, both dates are printed.
    """
    from financial_assets.settings import load_settings

    settings = load_settings()
    symbol = symbol.upper()
    if symbol not in settings.tickers:  # before pandas is imported: a typing error is answered at once
        more = len(settings.tickers) - _MOST_NAMED
        universe = ", ".join(settings.tickers[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise MarketDataError(
            f"TICKERS: {symbol} is not in the universe ({universe}); to add it, append it to TICKERS and run "
            "`financial-assets run`"
        )
    from financial_assets.installation import open_installation
    from financial_assets.workflows.signals import (
        champion_backtest,
        champion_signal,
        doubtful_bars,
        rank_of,
        signal_request,
    )

    installation = open_installation(settings)
    market, ab_test = installation.market, installation.ab_test
    if request:
        click.echo(signal_request(symbol, market))
        return
    values = champion_signal(symbol, market, installation.serving, ab_test)
    gap = market.clock_gap()
    tails = champion_backtest(symbol, market, ab_test)
    doubts = [note.sentence for note in doubtful_bars(market.panel(), market) if note.ticker == symbol]
    days = {
        name: None if values[name] is None else f"{values[name]:%Y-%m-%d}"
        for name in ("as_of", "target_session", "target_session_5d")
    }
    if as_json:
        backtest = [{name: getattr(tail, name) for name in _BACKTEST_FIELDS} for tail in tails]
        click.echo(
            json.dumps(values | days | gap.fields | {"var_backtest": backtest, "price_quality": doubts}, indent=2)
        )
        return
    from rich.console import Console

    from financial_assets.cli.tables import make_table

    rows: list[tuple[str, str]] = [
        ("direction", values["direction"]),
        ("probability up", f"{values['probability_up']:.1%}"),
        ("expected range, 5 to 95 %", f"{values['expected_low']:+.2%} to {values['expected_high']:+.2%}"),
        ("value at risk, 95 %", f"{values['var_95']:.2%}"),
        ("value at risk, 99 %", f"{values['var_99']:.2%}"),
        ("expected shortfall, 95 %", f"{values['es_95']:.2%}"),
        *_further(values, rank_of(values, market)),
        *((f"{tail.name}, so far", tail.sentence) for tail in tails if tail.side == "lower"),
        ("model", f"{values['model']} (version {values['version']})"),
        ("as of the close of", str(days["as_of"])),
    ]
    Console().print(make_table(f"{values['ticker']}, session {days['target_session']}", ("", "signal"), rows))
    if values["score"] is None:
        click.echo(
            f"{values['model']} was deployed by an earlier version: it says nothing about five sessions, and does not "
            "rank the universe."
        )
    for doubt in doubts:
        click.echo(f"Warning: {doubt}")
    if gap.sentence:
        click.echo(gap.sentence)


def _further(values: Mapping[str, Any], place: tuple[int, int] | None) -> list[tuple[str, str]]:
    """Rows about five sessions and the rank; none where the model has no such heads."""
    if values["score"] is None:
        return []
    rank = "known once `daily_signals` of this session is stored" if place is None else f"{place[0]} of {place[1]}"
    return [
        (
            f"expected range until {values['target_session_5d']:%Y-%m-%d}, 5 to 95 %",
            f"{values['expected_low_5d']:+.2%} to {values['expected_high_5d']:+.2%}",
        ),
        ("value at risk of five sessions, 95 %", f"{values['var_95_5d']:.2%}"),
        ("value at risk of five sessions, 99 %", f"{values['var_99_5d']:.2%}"),
        ("expected shortfall of five sessions, 95 %", f"{values['es_95_5d']:.2%}"),
        ("score against the market, in volatilities", f"{values['score']:+.3f}"),
        ("rank in the universe", rank),
    ]
