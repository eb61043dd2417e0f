"""Signals, their explanation, and the universe."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from financial_assets.api.access import route_class
from financial_assets.api.answers import signals_answer
from financial_assets.api.errors import ApiError
from financial_assets.api.routes.common import (
    SessionDate,
    documented,
    errors,
    query,
    refuse_ticker,
    served,
    sessions_of,
)
from financial_assets.api.schemas.signals import (
    AnswerExplanation,
    Explanation,
    Signal,
    Signals,
    UniverseAnswer,
    UniverseMember,
)
from financial_assets.errors import TrainingError

router = APIRouter(prefix="/v1", route_class=route_class("signals"))
Symbol = Annotated[str, Path(min_length=1, max_length=32, description="Ticker of the universe; case does not matter")]
_LONGEST = 32


@router.get(
    "/signals",
    response_model=Signals,
    responses=errors(404, 422),
    tags=["signals"],
    openapi_extra=documented("direction", "session"),
)
async def all_signals(request: Request) -> Response:
    """All signals of a session: direction, probability, range, risk of either side, size and stop."""
    asked = query(request, "direction", "session")
    found = await served(request, asked.get("session"))
    direction = asked.get("direction")
    if direction is None:
        return _json(found.all_of_them)
    chosen = [signal for signal in found.signals.values() if signal.direction == direction]
    answer = signals_answer(found.session, chosen, is_current=found.is_current, halted=found.halted)
    return _json(answer.model_dump_json().encode())


@router.get(
    "/signals/{ticker}",
    response_model=Signal,
    responses=errors(404, 422),
    tags=["signals"],
    openapi_extra=documented("ticker", "session"),
)
async def one_signal(request: Request) -> Response:
    """The signal of one ticker."""
    found = await served(request, query(request, "session").get("session"))
    symbol = str(request.path_params["ticker"]).upper()[:_LONGEST]
    body = found.bodies.get(symbol)
    if body is None:
        raise refuse_ticker(found, symbol, sessions_of(request).installation.market.tickers)
    return _json(body)


@router.get("/signals/{ticker}/explanation", response_model=Explanation, responses=errors(404, 422), tags=["signals"])
async def explanation(request: Request, ticker: Symbol, session: SessionDate = None) -> Explanation:
    """Which feature families moved the answers about a ticker, by integrated gradients of the served window."""
    from financial_assets.workflows.desk.explanation import METHOD

    found = await served(request, session)
    symbol, sessions = ticker.upper(), sessions_of(request)
    if symbol not in found.signals:
        raise refuse_ticker(found, symbol, sessions.installation.market.tickers)
    try:
        answers = await sessions.in_thread(sessions.explain, found, symbol)
    except TrainingError as error:
        fix = "the model's report (`financial-assets explain`) shows what it has instead"
        raise ApiError(404, "no_explanation", str(error), fix) from error
    return Explanation(
        ticker=symbol,
        as_of=found.session.as_of.date(),
        model=found.session.arm.model,
        version=found.session.arm.version,
        method=METHOD,
        answers=[AnswerExplanation.model_validate(asdict(answer)) for answer in answers],
    )


@router.get("/universe", responses=errors(404, 422), tags=["signals"])
async def universe(request: Request, session: SessionDate = None) -> UniverseAnswer:
    """Tickers, their sectors, and which of them have a signal."""
    found = await served(request, session)
    known = found.session
    tickers = sorted({*sessions_of(request).installation.market.tickers, *found.signals})
    return UniverseAnswer(
        as_of=known.as_of.date(),
        tickers=[
            UniverseMember(
                ticker=ticker,
                sector=known.sectors.get(ticker),
                last_close=known.prices.get(ticker),
                has_signal=ticker in found.signals,
                reason=None if ticker in found.signals else known.without_signal.get(ticker, "has no stored signal"),
            )
            for ticker in tickers
        ],
    )


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
