"""Target weights and orders."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date

import numpy as np
from fastapi import APIRouter, Request

from financial_assets.api.access import route_class
from financial_assets.api.errors import ApiError, Problem
from financial_assets.api.routes.common import SessionDate, errors, refuse_ticker, served, sessions_of
from financial_assets.api.routes.valuation import market_values, warnings_about
from financial_assets.api.schemas.portfolio import (
    METHOD,
    OrderAnswer,
    OrdersAnswer,
    PortfolioAnswer,
    PortfolioRequest,
    Target,
)
from financial_assets.api.schemas.signals import CAVEAT
from financial_assets.api.sessions import ServedSession
from financial_assets.errors import InfeasibleError
from financial_assets.installation import Installation

router = APIRouter(prefix="/v1", route_class=route_class("portfolio"))


@router.post("/portfolio", responses=errors(404, 413, 422), tags=["portfolio"])
async def portfolio(request: Request, asked: PortfolioRequest, session: SessionDate = None) -> PortfolioAnswer:
    """The book that the constraints allow and the forecasts favour, and the orders that lead there."""
    found = await served(request, session)
    sessions = sessions_of(request)
    universe = sessions.installation.market.tickers
    values = market_values(asked.positions, found, universe)
    unknown = [ticker for ticker in asked.tickers or [] if ticker not in found.signals]
    if unknown:
        refusal = refuse_ticker(found, unknown[0], universe, status=422)
        raise ApiError(
            422,
            refusal.body["code"],
            refusal.body["message"],
            refusal.body["fix"],
            problems=[Problem(field="tickers", message=f"{ticker} has no signal") for ticker in unknown[:50]],
        )
    halted = sessions.installation.trading.switch.halt_in_force()
    answer = await sessions.in_thread(_answer, found, asked, values)
    if halted is None:
        return answer
    return answer.model_copy(update={"orders": [], "warnings": [halted.sentence, *answer.warnings]})


@router.get("/orders", responses=errors(404, 422), tags=["portfolio"])
async def orders(request: Request, session: SessionDate = None) -> OrdersAnswer:
    """The file of orders that the daily run has made of a session: its latest revision, and what became of each."""
    sessions = sessions_of(request)
    return await sessions.in_thread(_orders, sessions.installation, session)


def _orders(installation: Installation, session: date | None) -> OrdersAnswer:
    trading = installation.trading
    state = trading.paper.state()
    stored = trading.files.read(state.references)
    day = None if session is None else session.isoformat()
    found = [one for one in stored if day is None or one.document.session == day]
    if not found:
        wanted = "" if day is None else f" of {day}"
        fix = "the job `daily` makes them; without `session` the latest are answered"
        raise ApiError(404, "no_orders", f"there are no orders{wanted}", fix)
    one, halted = found[-1], trading.switch.halt_in_force()
    document = one.document.to_dict()
    del document["targets"]
    document["orders"] = [
        {**order, "state": state.states.get(order["key"], "not sent"), "why_not": state.unfilled.get(order["key"])}
        for order in document["orders"]
        if halted is None  # nobody who reads orders alone may find any
    ]
    return OrdersAnswer.model_validate(
        {**document, "digest": one.digest, "halted": None if halted is None else halted.sentence}
    )


def _answer(found: ServedSession, asked: PortfolioRequest, values: dict[str, float]) -> PortfolioAnswer:
    # skfolio and its solver take seconds to import: whoever asks for signals alone need not wait.
    from financial_assets.portfolio.construction.constraints import Constraints
    from financial_assets.portfolio.construction.optimise import Appetite
    from financial_assets.workflows.desk.portfolio import FORECASTS, propose_book

    known = found.session
    forecast = asked.forecast or ("score" if asked.constraints.mode == "neutral" else "probability")
    try:
        proposal = propose_book(
            found.risk,
            values,
            capital=asked.capital,
            constraints=Constraints(**asked.constraints.model_dump()),
            appetite=Appetite(asked.risk_aversion, asked.holding_sessions, known.cost_per_side),
            forecast=forecast,
            only=asked.tickers,
            lot=asked.lot,
            smallest=asked.smallest_order,
        )
    except InfeasibleError as error:
        raise ApiError(
            422,
            "infeasible_constraints",
            str(error),
            "loosen what `problems` names, as far as each says",
            problems=[Problem(field=f"constraints.{name}", message=text) for name, text in error.conflicts.items()],
        ) from error
    weights, book = proposal.book.weights, proposal.book
    order = np.argsort(-np.abs(weights), kind="stable")
    return PortfolioAnswer(
        as_of=known.as_of.date(),
        target_session=known.target.date(),
        model=known.arm.model,
        version=known.arm.version,
        targets=[
            Target(
                ticker=proposal.tickers[place],
                weight=float(weights[place]),
                current=float(proposal.current[place]),
                expected_return=float(proposal.expected[place]),
                sector=known.sectors.get(proposal.tickers[place]),
            )
            for place in order
            if weights[place] or proposal.current[place]
        ],
        orders=[OrderAnswer.model_validate(asdict(one)) for one in proposal.orders],
        gross=float(np.abs(weights).sum()),
        net=float(weights.sum()),
        cash=float(1 - weights.sum()),
        turnover=book.turnover,
        expected_return=book.expected_return,
        volatility=book.volatility,
        cost=book.cost,
        forecast_is=FORECASTS[forecast],
        left_out=dict(proposal.left_out),
        method=METHOD,
        warnings=warnings_about(found, proposal.tickers),
        caveat=CAVEAT,
    )
