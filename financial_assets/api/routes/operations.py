"""Health, readiness and metrics: open to probes and scrapers, which have no keys and learn nothing from them."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from financial_assets.api.access import Access
from financial_assets.api.metrics import Metrics
from financial_assets.api.page import api_page
from financial_assets.api.routes.common import sessions_of
from financial_assets.api.schemas.records import Health, Readiness
from financial_assets.errors import FinancialAssetsError

router = APIRouter(tags=["operations"])
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives; nothing else is looked at."""
    return Health(status="alive")


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(request: Request) -> Response:
    """Whether signals of the current session can be answered; 503 and the reason if not."""
    problems: list[str] = []
    as_of = None
    if request.app.state.draining:
        problems.append("the server is about to end")
    try:
        as_of = (await sessions_of(request).current()).session.as_of.date()
    except FinancialAssetsError as error:
        problems.append(str(error))
    access: Access = request.app.state.access
    answer = Readiness(
        ready=not problems,
        as_of=as_of,
        authentication="this machine only" if access.open_to_this_machine else "API keys",
        problems=problems,
    )
    return JSONResponse(answer.model_dump(mode="json"), 503 if problems else 200)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """What can be asked, for people."""
    return HTMLResponse(api_page(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus metrics of this interface."""
    # Which session is served is looked up when somebody asks for it; a scrape must not tell of the last time.
    with suppress(FinancialAssetsError):  # then none can be served, which the gauge says
        await sessions_of(request).current()
    found: Metrics = request.app.state.metrics
    return Response(found.exposition(), media_type=CONTENT_TYPE_LATEST)
