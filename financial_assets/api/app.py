"""The application: routes, access, errors and what every request passes through."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from financial_assets.api.access import Access
from financial_assets.api.errors import ApiError, on_api_error, on_http_error, on_invalid, on_package_error
from financial_assets.api.keys import KeyRing
from financial_assets.api.limits import RateLimit
from financial_assets.api.metrics import Metrics
from financial_assets.api.middleware import MOST_BODY_BYTES, RequestFrame
from financial_assets.api.routes import judge, judge_gates, operations, portfolio, records, risk, signals
from financial_assets.api.sessions import LOOK_S, Sessions
from financial_assets.errors import FinancialAssetsError
from financial_assets.experiment.judge.store import JudgeStore
from financial_assets.installation import Installation

_DESCRIPTION = """\
Signals of the champion for the next session, risk of positions, target weights and orders, the experiment behind them,
and a judge of any two series of outcomes. Errors have one form: `error.code`, `message`, `fix`, `request_id`. Without
`API_KEYS_FILE` only this machine is answered. Nothing here is investment advice."""
_BYTES_PER_OUTCOME = 120


def create_app(
    installation: Installation,
    *,
    look_s: float = LOOK_S,
    warm_up: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """The application of an installation.

    Parameters
    ----------
    installation
        State folder, log and settings; only the judge writes, to a folder of its own in it.
    look_s
        Seconds between two looks at the market clock.
    warm_up
        Load the session, and import what takes seconds, before anybody asks.
    clock
        What the judge takes for now, with its zone.

    Raises
    ------
    SettingsError
        ``API_KEYS_FILE`` cannot be read.
    """
    settings, metrics = installation.settings, Metrics()
    keys = None if settings.api_keys_file is None else KeyRing(settings.api_keys_file)
    sessions = Sessions(installation, metrics, look_s=look_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        warming = asyncio.create_task(_warm_up(sessions)) if warm_up else None
        yield
        if warming is not None:
            warming.cancel()
        sessions.close()

    app = FastAPI(
        title="financial_assets",
        version=version("financial-assets"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        # The framework's own pages load their scripts from another host.
        docs_url=None,
        redoc_url=None,
    )
    app.state.sessions = sessions
    app.state.metrics = metrics
    app.state.access = Access(keys, RateLimit(settings.api_requests_per_minute, settings.api_burst), metrics)
    app.state.draining = False
    app.state.judge = JudgeStore(settings.home / "judge")
    app.state.judge_most_outcomes = settings.judge_most_outcomes
    app.state.clock = clock
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(FinancialAssetsError, on_package_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    for part in (signals, risk, portfolio, records, judge, judge_gates, operations):
        app.include_router(part.router)
    series_bytes = max(MOST_BODY_BYTES, _BYTES_PER_OUTCOME * settings.judge_most_outcomes)
    app.add_middleware(RequestFrame, metrics=metrics, larger={"/v1/judge": series_bytes})
    app.openapi = lambda: _with_security(app)  # type: ignore[method-assign]
    return app


async def _warm_up(sessions: Sessions) -> None:
    """Do beforehand what the first question about risk or a portfolio would wait for."""
    log = logging.getLogger("financial_assets.api")

    try:
        served = await sessions.current()
        await sessions.in_thread(import_module, "financial_assets.workflows.desk.portfolio")
        await sessions.in_thread(lambda: served.risk.residuals)
        # What the imports made lives as long as the process; a full collection that looks at it again and again would
        # keep a request waiting for a tenth of a second.
        gc.collect()
        gc.freeze()
    except FinancialAssetsError as error:  # who asks is told, and so is the probe of readiness
        log.warning(f"not ready yet: {error}")


def _with_security(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, which says how keys are sent."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document.setdefault("components", {})["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, methods in document["paths"].items():
            if path.startswith("/v1/"):
                for operation in methods.values():
                    operation["security"] = [{"bearer": []}, {"header": []}]
        app.openapi_schema = document
    return app.openapi_schema
