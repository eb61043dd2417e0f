"""Positions of a request as market values, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

from financial_assets.api.errors import ApiError, Problem
from financial_assets.api.routes.common import refuse_ticker
from financial_assets.api.schemas.positions import Position
from financial_assets.api.sessions import ServedSession


def market_values(positions: Sequence[Position], found: ServedSession, universe: list[str]) -> dict[str, float]:
    """Ticker -> market value.

    Raises
    ------
    ApiError
        422: a ticker is unknown or has no signal, or has no price by which shares could be valued; names each.
    """
    values: dict[str, float] = {}
    problems: list[Problem] = []
    codes: set[str] = set()
    for place, position in enumerate(positions):
        if position.ticker not in found.signals:
            refusal = refuse_ticker(found, position.ticker, universe, status=422)
            codes.add(refusal.body["code"])
            problems.append(Problem(field=f"positions.{place}.ticker", message=refusal.body["message"]))
            continue
        price = found.session.prices.get(position.ticker)
        if position.value is not None:
            values[position.ticker] = position.value
        elif position.quantity is not None and price is not None:
            values[position.ticker] = position.quantity * price
        else:
            codes.add("no_price")
            problems.append(
                Problem(field=f"positions.{place}", message=f"{position.ticker} has no price; give its value")
            )
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ApiError(
            422,
            sorted(codes)[-1],
            problems[0].message + more,
            "leave these positions out, or correct them; /v1/universe says which tickers have a signal",
            problems=problems[:50],
        )
    return values


def warnings_about(found: ServedSession, tickers: Sequence[str]) -> list[str]:
    """Remarks about the session, and doubtful bars behind the tickers."""
    return [
        *found.session.remarks,
        *(sentence for ticker in tickers for sentence in found.session.warnings.get(ticker, ())),
    ]
