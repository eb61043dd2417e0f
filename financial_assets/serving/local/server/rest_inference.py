"""Inference over REST past MLServer's web framework: what can be read goes straight to the data plane.

FastAPI resolves, validates and serialises each request in generic ways, which takes longer than reading the tensors.
Middlewares, metrics and the data plane are MLServer's, and the answers are the same to the byte.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import HTTPException
from mlserver.errors import MLServerError
from mlserver.handlers import DataPlane
from mlserver.rest.errors import handle_mlserver_error
from mlserver.types import InferenceRequest
from mlserver.utils import extract_headers, insert_headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from financial_assets.serving.client.protocol import BINARY_HEADER
from financial_assets.serving.local.server.raw_tensors import binary_outputs, response_body
from financial_assets.serving.local.server.rest_requests import PlaneRequest

INTERNAL_HEADER = "seldon-internal-model"
_INFER = re.compile(r"/v2/models/([^/]+)/infer")
# Only the name is replaced, as in the cluster: a stray suffix such as ".experiment" stays and is refused.
_NAMED = re.compile(r"/v2/models/[\w-]+(?:/versions/\w+)?")


class ChosenModel:
    """ASGI middleware: puts the model version that the gateway chose into the path.

    In the cluster an agent between gateway and server does it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._header = INTERNAL_HEADER.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one about a model under the chosen name."""
        chosen = next((value for name, value in scope.get("headers", ()) if name == self._header), None)
        named = _NAMED.match(scope["path"]) if chosen is not None else None
        if chosen is not None and named is not None:
            path = f"/v2/models/{chosen.decode('latin-1')}{scope['path'][named.end() :]}"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


class DirectInference:
    """ASGI middleware: answers inference requests; passes on all others, and those that cannot be read.

    Parameters
    ----------
    app
        MLServer's own routes. They refuse what cannot be read here, and name its fault.
    data_plane
        MLServer's.
    """

    def __init__(self, app: ASGIApp, data_plane: DataPlane) -> None:
        self._app = app
        self._data_plane = data_plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        asked = _INFER.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        request = PlaneRequest(scope, receive)
        try:
            payload = InferenceRequest.model_validate(await request.json())
        except ClientDisconnect:
            return
        except (HTTPException, ValueError):  # not hidden: they are raised again where the body is read again
            await self._app(scope, request.again, send)
            return
        binary = binary_outputs(payload)
        insert_headers(payload, dict(request.sent.items()))
        try:
            response = await self._data_plane.infer(payload, asked[1])
        except MLServerError as error:
            refusal = await handle_mlserver_error(request, error)
            await refusal(scope, receive, send)
            return
        headers = extract_headers(response) or {}
        content, json_length = response_body(response, binary)
        for message in _messages(content, json_length, headers):
            await send(message)


def _messages(content: bytes, json_length: int | None, headers: dict[str, Any]) -> tuple[Message, Message]:
    """An answer of the server as ASGI sends it."""
    kind = b"application/json" if json_length is None else b"application/octet-stream"
    lines = [(name.lower().encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()]
    lines += [(b"content-length", str(len(content)).encode()), (b"content-type", kind)]
    if json_length is not None:
        lines.append((BINARY_HEADER.encode(), str(json_length).encode()))
    return (
        {"type": "http.response.start", "status": 200, "headers": lines},
        {"type": "http.response.body", "body": content},
    )
