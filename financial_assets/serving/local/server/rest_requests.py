"""REST requests as the plane's MLServer reads them: JSON, with or without raw tensors behind it, read strictly.

MLServer by itself reads a body of another content type as bytes, decompresses without a bound, keeps the last of two
equal keys, converts texts and Booleans in a shape to numbers, drops unknown members, and lacks the binary tensor data
extension (``mlserver/rest/requests.py``, ``Request.json``: the whole body is parsed as JSON).
"""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException, Request
from mlserver.rest import app as rest_app
from mlserver.rest.responses import Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Message, Receive, Scope, Send

from financial_assets.serving.client.protocol import BINARY_HEADER
from financial_assets.serving.local.limits import REST_BODY_BYTES
from financial_assets.serving.local.server.raw_tensors import attach_tensors, split_body

_UNSUPPORTED, _TOO_LARGE, _BAD = 415, 413, 400
# `curl -d` names the second one unless told otherwise.
_JSON_TYPES = ("application/json", "application/x-www-form-urlencoded")
_BINARY_TYPE = "application/octet-stream"
_CHARSETS = {"", "utf-8", "utf8", "us-ascii"}
_MEMBERS = {
    "request": {"id", "parameters", "inputs", "outputs"},
    "inputs": {"name", "shape", "datatype", "parameters", "data"},
    "outputs": {"name", "parameters"},
}
_GZIP = 31  # zlib's number for a gzip header and trailer
_PART = 2**20
_SEND_JSON = "send the header content-type: application/json and a body in UTF-8"


def install(application: FastAPI) -> None:
    """Make MLServer's REST application read requests as :class:`PlaneRequest`, and refuse in the V2 shape."""
    # MLServer's routes look the class up by this name at each request; there is no other way to replace it.
    rest_app.Request = PlaneRequest
    application.add_exception_handler(StarletteHTTPException, _refuse)


class PlaneRequest(Request):
    """A request whose body is JSON, whatever equivalent content type the client named.

    Attributes
    ----------
    sent
        The headers as the client sent them.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send | None = None) -> None:
        self.sent = Headers(scope=scope)
        others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        # FastAPI parses JSON by this header only; the client's own is checked in ``body``.
        headers = [*others, (b"content-type", b"application/json")]
        super().__init__({**scope, "headers": headers}, receive, *([] if send is None else [send]))
        self._is_repeated = False

    async def body(self) -> bytes:
        """The decoded body.

        Raises
        ------
        HTTPException
            Another content type, character set or encoding (415), a broken encoding (400), or too large (413).
        """
        if not hasattr(self, "_decoded"):
            problem = _header_fault(self.sent)
            if problem is not None:
                raise HTTPException(_UNSUPPORTED, problem, {"accept-encoding": "gzip"})
            content = await super().body()
            if _encodings(self.sent):
                content = await asyncio.to_thread(_decompress, content)
            self._decoded = content
        return self._decoded

    async def json(self) -> Any:
        """The parsed body.

        Raises
        ------
        HTTPException
            A key occurs twice, a member is unknown, a size is not a whole number, or raw tensors are not as long as
            their shapes say (400).
        """
        content = await self.body()
        length, raw = self.sent.get(BINARY_HEADER), None
        try:
            if length is not None:
                content, raw = split_body(content, length)
        except ValueError as error:
            raise HTTPException(_BAD, str(error)) from error
        document = orjson.loads(content)
        problem = json_fault(content, document)
        if problem is not None:
            raise HTTPException(_BAD, problem)
        try:
            if raw is not None:
                attach_tensors(document, raw)
        except ValueError as error:
            raise HTTPException(_BAD, str(error)) from error
        return document

    async def again(self) -> Message:
        """The body once more as ASGI delivers it, for another reader; then what follows it."""
        if not hasattr(self, "_body") or self._is_repeated:
            return await self.receive()
        self._is_repeated = True
        return {"type": "http.request", "body": self._body, "more_body": False}


def _header_fault(headers: Headers) -> str | None:
    encodings = _encodings(headers)
    if set(encodings) - {"gzip", "x-gzip"} or len(encodings) > 1:
        named = ", ".join(encodings)[:80]
        return f"content-encoding {named!r} is not supported: send the body as it is, or compressed once with gzip"
    kind, _, rest = ", ".join(headers.getlist("content-type")).lower().partition(";")
    kind = kind.strip()
    is_json = kind.startswith("application/") and kind.endswith("+json")
    is_binary = kind == _BINARY_TYPE and BINARY_HEADER in headers
    if kind and kind not in _JSON_TYPES and not is_json and not is_binary:
        return f"content-type {kind[:80]!r} is not supported: {_SEND_JSON}"
    named = [part.strip().removeprefix("charset=") for part in rest.split(";") if part.strip().startswith("charset=")]
    charset = named[-1].strip('"') if named else ""
    if charset not in _CHARSETS:
        return f"charset {charset[:80]!r} is not supported: {_SEND_JSON}"
    return None


def _encodings(headers: Headers) -> list[str]:
    named = ",".join(headers.getlist("content-encoding")).lower().split(",")
    return [name.strip() for name in named if name.strip() not in ("", "identity")]


def _decompress(content: bytes) -> bytes:
    """Bounded: a few kilobytes of gzip may hold gigabytes. In parts, so that other requests get their turn."""
    reader = zlib.decompressobj(_GZIP)
    parts: list[bytes] = []
    left = REST_BODY_BYTES
    try:
        while content and not reader.eof:
            parts.append(reader.decompress(content, _PART))
            content, left = reader.unconsumed_tail, left - len(parts[-1])
            if left < 0:
                raise HTTPException(_TOO_LARGE, f"the decompressed body has more than {REST_BODY_BYTES} bytes")
    except zlib.error as error:
        raise HTTPException(_BAD, f"the body is not gzip, as content-encoding says: {error}") from error
    if not reader.eof or reader.unused_data:
        what = "ends early" if not reader.eof else "goes on after its end"
        raise HTTPException(_BAD, f"the body is not one whole gzip stream: it {what}")
    return b"".join(parts)


def json_fault(content: bytes, document: Any) -> str | None:
    """Name what a lenient reader would silently ignore: equal keys, unknown members, sizes that are not numbers.

    Parameters
    ----------
    content
        The body.
    document
        The body parsed, of equal keys the last.
    """
    # Every key has exactly one colon outside texts, so a plain count finds equal keys without a second parse of what
    # may be megabytes. Where an escape may hide a colon, the count proves nothing and the body is parsed again.
    if b"\\" in content or content.count(b":") != _colons(document):
        twice = _repeated_key(content)
        if twice is not None:
            return f"the key {twice[:80]!r} occurs more than once in one object"
    if not isinstance(document, dict):
        return None
    fault = _unknown_members("request", document)
    for place in ("inputs", "outputs"):
        members = document.get(place)
        entries: list[Any] = members if isinstance(members, list) else []
        for index, member in enumerate(entries):
            if isinstance(member, dict):
                where = f"{place}[{index}]"
                fault = fault or _unknown_members(place, member, where) or _shape_fault(member.get("shape"), where)
    return fault


def _unknown_members(kind: str, members: dict[str, Any], place: str = "the request") -> str | None:
    unknown = ", ".join(sorted(set(members) - _MEMBERS[kind]))
    if not unknown:
        return None
    return f"{place} has unknown members: {unknown[:80]}; known: {', '.join(sorted(_MEMBERS[kind]))}"


def _shape_fault(shape: Any, place: str) -> str | None:
    if isinstance(shape, list) and any(isinstance(size, str | bool | None) for size in shape):
        return f"{place}.shape has a size that is not a whole number"
    return None


def _colons(value: Any) -> int:
    """Colons that the text of ``value`` needs; fewer where a list holds numbers first and something else later."""
    if isinstance(value, dict):
        return sum(1 + key.count(":") + _colons(member) for key, member in value.items())
    if isinstance(value, str):
        return value.count(":")
    if isinstance(value, list) and value and not isinstance(value[0], float | int):
        return sum(map(_colons, value))
    return 0


def _repeated_key(content: bytes) -> str | None:
    repeated: list[str] = []

    def pairs(members: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in members]
        repeated.extend(sorted({name for name in names if names.count(name) > 1}))

    json.loads(content, object_pairs_hook=pairs)
    return repeated[0] if repeated else None


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    text = str(error.detail)
    allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow")
    if allowed:
        text = f"{request.method[:20]} is not allowed here; allowed: {allowed}"
    return Response(status_code=error.status_code, content={"error": text}, headers=error.headers)
