"""What routes share: how a session is asked for, and how a ticker that cannot be answered is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

import pandas as pd
from fastapi import Query, Request

from financial_assets.api.errors import ApiError, ErrorAnswer, Problem
from financial_assets.api.sessions import ServedSession, Sessions, unknown_ticker
from financial_assets.errors import SignalsError

SessionDate = Annotated[
    date | None,
    Query(alias="session", description="As-of session with stored signals (YYYY-MM-DD); default: the current one"),
]

_MEANINGS = {
    401: "No API key, or an unknown one",
    403: "The key's scopes do not allow this, or the caller is not on this machine and there are no keys",
    404: "Unknown ticker, session or plan",
    409: "It contradicts what is kept: another plan of that name, a series that rewrites its past, a closed gate",
    413: "The body is too large",
    422: "The request is not understood, or cannot be fulfilled",
    429: "Too many requests; see Retry-After",
    503: "There are no current signals, or the state cannot be read; the error names the command that fixes it",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of the answers that are not 2xx."""
    return {
        status: {"model": ErrorAnswer, "description": _MEANINGS[status]} for status in (401, 403, *statuses, 429, 503)
    }


def sessions_of(request: Request) -> Sessions:
    """The sessions of the application."""
    found: Sessions = request.app.state.sessions
    return found


PARAMETERS: Mapping[str, dict[str, Any]] = {
    "ticker": {
        "name": "ticker",
        "in": "path",
        "required": True,
        "description": "Ticker of the universe; case does not matter",
        "schema": {"type": "string", "maxLength": 32},
    },
    "session": {
        "name": "session",
        "in": "query",
        "required": False,
        "description": "As-of session with stored signals (YYYY-MM-DD); default: the current one",
        "schema": {"type": "string", "format": "date"},
    },
    "direction": {
        "name": "direction",
        "in": "query",
        "required": False,
        "description": "Only signals of this direction",
        "schema": {"type": "string", "enum": ["BUY", "SELL", "HOLD"]},
    },
}
"""Parameters of the routes whose answers lie ready: the framework's own reading of three of them takes longer than all
else that such a request needs, so that these routes read them by :func:`query`."""


def documented(*names: str) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads these parameters itself."""
    return {"parameters": [PARAMETERS[name] for name in names]}


def query(request: Request, *names: str) -> dict[str, str]:
    """The parameters behind the question mark, checked against their schema.

    Raises
    ------
    ApiError
        422: one is not among ``names``, is there twice, or is not what its schema says.
    """
    if not request.scope["query_string"]:
        return {}
    problems: list[Problem] = []
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        schema = PARAMETERS[name]["schema"] if name in names else {}
        if name not in names:
            problems.append(Problem(field=f"query.{name}", message=f"is not a parameter; there are {', '.join(names)}"))
        elif name in found:
            problems.append(Problem(field=f"query.{name}", message="is there twice"))
        elif "enum" in schema and value not in schema["enum"]:
            problems.append(Problem(field=f"query.{name}", message=f"must be one of {', '.join(schema['enum'])}"))
        elif schema.get("format") == "date" and not _is_date(value):
            problems.append(Problem(field=f"query.{name}", message="must be a date, YYYY-MM-DD"))
        found[name] = value
    if problems:
        fix = "correct the parameters in `problems`; /docs shows what is allowed"
        text = f"{problems[0].field}: {problems[0].message}"
        raise ApiError(422, "invalid_request", text, fix, problems=problems[:50])
    return found


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


async def served(request: Request, session: date | str | None) -> ServedSession:
    """The session that a request asks for.

    Raises
    ------
    ApiError
        404: a session was named that has no signals.
    """
    if session is None:
        return await sessions_of(request).current()
    try:
        return await sessions_of(request).of(pd.Timestamp(session))
    except SignalsError as error:
        fix = "name a session with signals; without `session` the current one is answered"
        raise ApiError(404, "unknown_session", f"there are no signals of {session}", fix) from error


def refuse_ticker(found: ServedSession, ticker: str, universe: list[str], status: int = 404) -> ApiError:
    """Why a ticker has no signal."""
    reason = found.session.without_signal.get(ticker)
    if reason is not None:
        return ApiError(
            status,
            "no_signal",
            f"{ticker} {reason}",
            "/v1/universe says which tickers have a signal, and why others do not",
        )
    if ticker in universe:
        text = f"{ticker} has no signal of {found.session.as_of:%Y-%m-%d}"
        return ApiError(status, "no_signal", text, "it may have joined the universe later; ask for another session")
    fix = "add it to TICKERS on the server and run `financial-assets run`, or ask for a ticker of /v1/universe"
    return ApiError(status, "unknown_ticker", unknown_ticker(ticker, universe), fix)
