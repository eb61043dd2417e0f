"""What routes share: how a session is asked for, and how a ticker that cannot be answered is refused."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import pandas as pd
from fastapi import Query, Request

from financial_assets.api.errors import ApiError, ErrorAnswer
from financial_assets.api.sessions import ServedSession, Sessions, unknown_ticker
from financial_assets.errors import SignalsError

SessionDate = Annotated[
    date | None,
    Query(alias="session", description="As-of session with stored signals (YYYY-MM-DD); default: the current one"),
]

_MEANINGS = {
    401: "No API key, or an unknown one",
    403: "The key's scopes do not allow this, or the caller is not on this machine and there are no keys",
    404: "Unknown ticker or session",
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


async def served(request: Request, session: date | None) -> ServedSession:
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
