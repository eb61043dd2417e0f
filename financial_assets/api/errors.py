"""Errors as an answer: one form for all of them, with what to change and the request's id."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from financial_assets.api.request_id import current_request_id
from financial_assets.errors import (
    FinancialAssetsError,
    JudgeError,
    LogError,
    MarketDataError,
    PortfolioError,
    SignalsError,
    TrackingError,
)
from financial_assets.redaction import redact

_OF_KIND = {"invalid": 422, "conflict": 409, "unknown": 404}
_NAMED = re.compile(r"([a-z_]+(?:, [a-z_]+)*): (.+)", re.DOTALL)
"""A contradiction between fields, found by a check of the whole: the message names them; no single one is at fault."""


class Problem(BaseModel):
    """One thing that is wrong."""

    field: str = Field(description="Where: path in the request, such as `positions.3.value`; empty for all of it")
    message: str = Field(description="What is wrong there")


class ErrorBody(BaseModel):
    """What is wrong and what to do."""

    code: str = Field(description="Stable name of the error, for programs")
    message: str = Field(description="What is wrong, for people")
    fix: str = Field(description="What to change, or the command that fixes it")
    request_id: str = Field(description="Names this request in the logs; the header X-Request-ID has it, too")
    problems: list[Problem] = Field(default=[], description="Each thing that is wrong, where there may be several")


class ErrorAnswer(BaseModel):
    """Every answer that is not 2xx."""

    error: ErrorBody


class ApiError(Exception):
    """Raised by routes; becomes an :class:`ErrorAnswer`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        fix: str,
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"code": code, "message": redact(message), "fix": redact(fix)}
        self.problems = tuple(problems)
        self.headers = dict(headers or {})


def answer_of(error: ApiError) -> JSONResponse:
    """The answer that tells of an error."""
    body = ErrorBody(**error.body, request_id=current_request_id(), problems=list(error.problems))
    return JSONResponse(ErrorAnswer(error=body).model_dump(), error.status, headers=error.headers)


def of_package(error: FinancialAssetsError) -> ApiError:
    """An error that this package raises on purpose; its message already names the fix."""
    text = str(error)
    if isinstance(error, SignalsError):
        code = "signals_stale" if error.stale else "signals_missing"
        return ApiError(503, code, text, error.fix, headers={"Retry-After": "60"})
    if isinstance(error, PortfolioError):
        return ApiError(422, "cannot_be_judged", text, "leave the named positions out, or change what is named")
    if isinstance(error, JudgeError):
        problems = [Problem(field=field, message=message) for field, message in error.problems]
        return ApiError(_OF_KIND[error.kind], error.code, error.message, error.fix, problems=problems)
    fix = "`financial-assets doctor` on the server names the first broken layer and its fix"
    codes = (
        (LogError, "log_unreadable"),
        (MarketDataError, "prices_unreadable"),
        (TrackingError, "registry_unreadable"),
    )
    code = next((code for kind, code in codes if isinstance(error, kind)), "unavailable")
    return ApiError(503, code, text, fix, headers={"Retry-After": "60"})


async def on_api_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of ``ApiError``."""
    assert isinstance(error, ApiError)
    return answer_of(error)


async def on_package_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of the package's own errors."""
    assert isinstance(error, FinancialAssetsError)
    return answer_of(of_package(error))


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Handler of requests that break the schema: each problem with its place, and never the value itself."""
    assert isinstance(error, RequestValidationError)
    problems = [
        _problem(".".join(str(part) for part in one["loc"] if part != "body"), str(one["msg"]))
        for one in error.errors()
    ]
    first = f"{problems[0].field or 'the request'}: {problems[0].message}" if problems else "the request is malformed"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    fix = "correct the fields in `problems`; /docs shows what is allowed"
    return answer_of(ApiError(422, "invalid_request", f"{first}{more}", fix, problems=problems[:50]))


def _problem(field: str, message: str) -> Problem:
    text = message.removeprefix("Value error, ")
    if not field and (named := _NAMED.fullmatch(text)):
        return Problem(field=named[1], message=named[2])
    return Problem(field=field, message=text)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of what the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "refused")
    return answer_of(
        ApiError(
            error.status_code,
            code,
            f"{request.method} {request.url.path}: {error.detail}",
            "/docs lists all paths and methods",
            headers=dict(error.headers or {}),
        )
    )
