"""Risk of positions."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request

from financial_assets.api.access import route_class
from financial_assets.api.errors import ApiError
from financial_assets.api.routes.common import SessionDate, errors, served, sessions_of
from financial_assets.api.routes.valuation import market_values, warnings_about
from financial_assets.api.schemas.risk import (
    METHOD,
    Coverage,
    HorizonAnswer,
    LimitCheck,
    PositionTail,
    RiskAnswer,
    RiskRequest,
    Tail,
)
from financial_assets.api.schemas.signals import CAVEAT
from financial_assets.api.sessions import ServedSession
from financial_assets.portfolio.joint_risk.measures import TailRisk
from financial_assets.workflows.desk.risk import HorizonRisk

router = APIRouter(prefix="/v1", route_class=route_class("risk"))


@router.post("/risk", responses=errors(404, 413, 422), tags=["risk"])
async def risk(request: Request, asked: RiskRequest, session: SessionDate = None) -> RiskAnswer:
    """Value at risk and expected shortfall of each position and of all together, and whether limits are kept."""
    found = await served(request, session)
    sessions = sessions_of(request)
    values = market_values(asked.positions, found, sessions.installation.market.tickers)
    if not any(values.values()):
        fix = "give at least one position a value or quantity other than 0"
        raise ApiError(422, "empty_portfolio", "all positions are 0", fix)
    return await sessions.in_thread(_answer, found, asked, values)


def _answer(found: ServedSession, asked: RiskRequest, values: dict[str, float]) -> RiskAnswer:
    known = found.session
    horizons = found.risk.assess(values, most=asked.scenarios, tested=asked.back_test)
    gross, net = sum(abs(value) for value in values.values()), sum(values.values())
    capital = asked.capital or gross
    limits = _checks(asked, found, values, horizons, capital)
    warnings = warnings_about(found, list(values))
    if len(horizons) == 1:
        warnings.append("The model behind the signals forecasts one session only, so there are no figures for five.")
    return RiskAnswer(
        as_of=known.as_of.date(),
        target_session=known.target.date(),
        model=known.arm.model,
        version=known.arm.version,
        capital=capital,
        capital_is="given" if asked.capital else "gross value of the positions",
        gross=gross,
        net=net,
        horizons=[_horizon(horizon, found, values) for horizon in horizons],
        limits=limits,
        within_limits=not any(check.breached for check in limits),
        method=METHOD,
        warnings=warnings,
        caveat=CAVEAT,
    )


def _horizon(horizon: HorizonRisk, found: ServedSession, values: dict[str, float]) -> HorizonAnswer:
    risk = horizon.risk
    return HorizonAnswer(
        sessions=horizon.sessions,
        portfolio=_tail(risk.whole),
        positions=[
            PositionTail(
                ticker=ticker,
                value=value,
                price=found.session.prices.get(ticker),
                alone=_tail(alone),
                share_of_es_95=float(risk.share_of_es_95[place]),
                share_of_es_99=float(risk.share_of_es_99[place]),
            )
            for place, ((ticker, value), alone) in enumerate(zip(values.items(), risk.alone, strict=True))
        ],
        diversification_95=risk.diversification_95,
        scenarios=risk.scenarios,
        back_test=[
            Coverage(
                level=test.level,
                sessions=test.sessions,
                beyond=test.beyond,
                expected=test.expected,
                kupiec_p=test.kupiec,
                independence_p=test.independence,
            )
            for test in horizon.back_test
        ],
    )


def _tail(risk: TailRisk) -> Tail:
    return Tail.model_validate(asdict(risk))


def _checks(
    asked: RiskRequest,
    found: ServedSession,
    values: dict[str, float],
    horizons: tuple[HorizonRisk, ...],
    capital: float,
) -> list[LimitCheck]:
    """Every limit that was given, against what is there."""
    sectors: dict[str, float] = {}
    for ticker, value in values.items():
        sector = found.session.sectors.get(ticker, "")
        sectors[sector] = sectors.get(sector, 0.0) + abs(value)
    largest = max(values, key=lambda ticker: abs(values[ticker]))
    fullest = max(sectors, key=lambda sector: sectors[sector])
    by_horizon = {horizon.sessions: asdict(horizon.risk.whole) for horizon in horizons}
    observed: dict[str, tuple[float, str]] = {
        "gross": (sum(sectors.values()), ""),
        "net": (abs(sum(values.values())), ""),
        "per_name": (abs(values[largest]), largest),
        "per_sector": (sectors[fullest], fullest or "no sector is known"),
        **{name: (loss, "one session") for name, loss in by_horizon[1].items()},
        **{f"{name}_5d": (loss, "five sessions") for name, loss in by_horizon.get(5, {}).items()},
    }
    given = {name: limit for name, limit in asked.limits.model_dump().items() if limit is not None}
    missing = sorted(given.keys() - observed.keys())
    if missing:
        text = f"{', '.join(missing)}: the model behind the signals has no answer for five sessions"
        raise ApiError(422, "limit_not_checkable", text, "leave these limits out")
    return [
        LimitCheck(
            limit=name,
            observed=observed[name][0] / capital,
            allowed=limit,
            breached=observed[name][0] / capital > limit,
            detail=observed[name][1],
        )
        for name, limit in given.items()
    ]
