"""What happens to every request, whatever it asks for: id, limit of size, count, time, one line in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from financial_assets.api.errors import ApiError, answer_of
from financial_assets.api.logs import FIELDS
from financial_assets.api.metrics import Metrics
from financial_assets.api.request_id import HEADER, begin_request

MOST_BODY_BYTES = 1_000_000
"""A thousand positions take a tenth of it."""
_PROBES = ("/healthz", "/readyz", "/metrics")
_log = logging.getLogger("financial_assets.api")


class _BodyTooLargeError(Exception):
    pass


class RequestFrame:
    """ASGI middleware around the application.

    Parameters
    ----------
    app
        The application.
    metrics
        Where requests are counted.
    larger
        Bytes that a body may have, by path, where they are not :data:`MOST_BODY_BYTES`.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, larger: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._larger = dict(larger or {})
        self._metrics = metrics
        # A label's child is found by a lock and a dictionary at each use, which costs as much as a small route.
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = begin_request(scope["headers"])
        status = 500
        received = 0
        has_begun = is_too_large = False
        most = self._larger.get(scope["path"], MOST_BODY_BYTES)

        async def send_with_id(message: Message) -> None:
            nonlocal status, has_begun
            if is_too_large:
                return  # the framework would say that the body broke off; what it was, is said below
            if message["type"] == "http.response.start":
                status, has_begun = message["status"], True
                message["headers"].append((HEADER, request_id.encode()))
            await send(message)

        async def receive_limited() -> Message:
            nonlocal received, is_too_large
            message = await receive()
            received += len(message.get("body", b""))
            is_too_large = received > most
            if is_too_large:
                raise _BodyTooLargeError
            return message

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive_limited, send_with_id)
            if is_too_large:
                is_too_large = False
                await answer_of(_too_large(most))(scope, receive, send_with_id)
        except Exception:
            _log.exception("a request failed")
            if not has_begun:
                internal = ApiError(
                    500,
                    "internal_error",
                    "the request could not be answered; this is a fault of the server",
                    "report the request id: the server's log has the reason",
                )
                await answer_of(internal)(scope, receive, send_with_id)
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # Of the route, not of the path: a path may name anything, and each name would be a series of its own.
        route = getattr(scope.get("route"), "path", "unknown")
        key = (route, scope["method"] if route != "unknown" else "-", status)
        if key not in self._children:
            self._children[key] = (
                self._metrics.requests.labels(key[0], key[1], str(status)),
                self._metrics.seconds.labels(route),
            )
        count, duration = self._children[key]
        count.inc()
        duration.observe(seconds)
        # Probes ask every second, and are news only when they fail.
        level = logging.DEBUG if route in _PROBES and status < 400 else logging.INFO
        if _log.isEnabledFor(level):
            client = scope.get("client")
            fields = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1000 * seconds, 3),
                "caller": scope.get("caller", "-"),
                "client": client[0] if client else "-",
            }
            # As ``_log.log`` does, but for the search in the stack for the line that logs, which nobody asks for.
            _log.handle(_log.makeRecord(_log.name, level, __file__, 0, "request", (), None, extra={FIELDS: fields}))


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        "body_too_large",
        f"the body has more than {most:,} bytes",
        "send fewer positions or outcomes at once",
        headers={"Connection": "close"},
    )
