"""The id of the request that is being answered, for logs and errors."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

HEADER = b"x-request-id"
_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="-")


def current_request_id() -> str:
    """``-`` outside of a request."""
    return _current.get()


def begin_request(headers: list[tuple[bytes, bytes]]) -> str:
    """Take the caller's id, if it is one that a log can hold, or make one."""
    given = next((value for name, value in headers if name == HEADER), b"")
    request_id = given.decode("ascii") if _GIVEN.fullmatch(given) else uuid.uuid4().hex
    _current.set(request_id)
    return request_id
