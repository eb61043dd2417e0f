"""MLServer as the plane runs it: ``python -m financial_assets.serving.local.mlserver <settings.json>``.

In the cluster an agent beside MLServer renames requests to the model version that Envoy chose. REST paths are
rewritten by our Envoy, but the name inside a gRPC message can only be changed by a server: an interceptor here does
it. Two more differences from ``mlserver start``: models are loaded *before* the ports open, so that a restart never
answers "model not found", and one that cannot be loaded keeps the others serving; and raw tensors reach the runtime
as arrays instead of lists of Python floats.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from google.protobuf.message import DecodeError
from grpc import aio
from mlserver.codecs.numpy import to_dtype
from mlserver.errors import InferenceError, MLServerError
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc import server as grpc_server
from mlserver.grpc.logging import logger as grpc_logger
from mlserver.grpc.servicers import InferenceServicer
from mlserver.grpc.utils import handle_mlserver_error
from mlserver.logging import logger
from mlserver.repository.factory import ModelRepositoryFactory
from mlserver.rest.responses import Response
from mlserver.server import MLServer
from mlserver.settings import ModelSettings, Settings
from mlserver.types import Datatype, InferenceRequest, TensorData
from mlserver.utils import install_uvloop_event_loop
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from financial_assets.errors import FinancialAssetsError
from financial_assets.serving.local import rest_requests
from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.limits import LARGE_BODY_BYTES
from financial_assets.serving.local.restoring import mend_models

_INTERNAL_HEADER = "seldon-internal-model"
_NAME_FIELDS = {"ModelInfer": "model_name", "ModelReady": "name", "ModelMetadata": "name"}
_RAW_TYPES = [datatype.value for datatype in Datatype if datatype is not Datatype.BYTES]


class AgentInterceptor(aio.ServerInterceptor):
    """Puts the model version that the gateway chose into the message."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a unary call about one model."""
        handler = await continuation(handler_call_details)
        field = _NAME_FIELDS.get(str(handler_call_details.method).rpartition("/")[2])
        chosen = dict(handler_call_details.invocation_metadata or ()).get(_INTERNAL_HEADER)
        if handler is None or field is None or chosen is None:
            return handler
        answer: Any = handler.unary_unary

        async def renamed(content: bytes, context: Any) -> Any:
            # Parsed here, because bytes that are not a message would otherwise be reported as the server's fault.
            try:
                request: Any = handler.request_deserializer(content)
            except DecodeError as error:
                return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a V2 message: {error}")
            setattr(request, field, chosen)
            if field == "model_name":
                request.model_version = ""
            return await answer(request, context)

        return grpc.unary_unary_rpc_method_handler(renamed, response_serializer=handler.response_serializer)


_MODEL_READY: Callable[..., Awaitable[Any]] = handle_mlserver_error(InferenceServicer.ModelReady)


class RawTensorServicer(InferenceServicer):
    """Hands raw tensors on as arrays, after checking that their sizes match their shapes."""

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> Any:  # noqa: N802
        """Whether a model is ready; a missing one is NOT_FOUND instead of a failure of the server."""
        return await _MODEL_READY(self, request, context)

    def _InsertHeaders(self, request: pb.ModelInferRequest, context: Any) -> InferenceRequest:  # noqa: N802
        raw = list(request.raw_input_contents)
        arrays = [_to_array(tensor, content) for tensor, content in zip(request.inputs, raw, strict=False)]
        if raw and len(raw) != len(request.inputs):
            raise InferenceError(f"{len(request.inputs)} inputs, but {len(raw)} raw contents")
        for tensor in request.inputs:
            _check_contents(tensor, raw=bool(raw))
        del request.raw_input_contents[:]
        try:
            payload = super()._InsertHeaders(request, context)
        except ValidationError as error:  # of parameters that MLServer knows, but of another type
            problems = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()[:5])
            raise InferenceError(f"parameters: {problems}") from error
        for tensor, array in zip(payload.inputs, arrays, strict=False):
            tensor.data = TensorData.model_construct(root=array)
        return payload


def _check_contents(tensor: Any, *, raw: bool) -> None:
    """Refuse what MLServer would ignore: contents beside raw ones, or in another field than the datatype's."""
    given = [field.name for field, _ in tensor.contents.ListFields()]
    if raw and given:
        raise InferenceError(f"input {tensor.name}: {', '.join(given)} beside raw_input_contents; send one of them")
    if tensor.datatype == "FP32" and given not in ([], ["fp32_contents"]):
        raise InferenceError(f"input {tensor.name}: {', '.join(given)}; FP32 has fp32_contents")


def _to_array(tensor: Any, content: bytes) -> np.ndarray:
    if tensor.datatype not in _RAW_TYPES:
        raise InferenceError(f"input {tensor.name}: raw datatype {tensor.datatype!r}; allowed: {', '.join(_RAW_TYPES)}")
    kind = to_dtype(tensor).newbyteorder("<")
    needed = math.prod(tensor.shape) * kind.itemsize
    if len(content) != needed or any(size < 0 for size in tensor.shape):
        raise InferenceError(
            f"input {tensor.name}: {len(content)} raw bytes, but {tensor.datatype} {list(tensor.shape)} needs {needed}"
        )
    return np.frombuffer(content, dtype=kind)


class _GRPCServer(grpc_server.GRPCServer):
    """MLServer's gRPC server with our interceptor in front and our servicer behind."""

    def _create_server(self) -> aio.Server:
        interceptors: list[aio.ServerInterceptor] = [AgentInterceptor()]
        if self._settings.metrics_endpoint:
            interceptors.append(grpc_server.PromServerInterceptor(enable_handling_time_histogram=True))
        servicer = RawTensorServicer(self._data_plane, self._model_repository_handlers)
        self._server = aio.server(interceptors=interceptors, options=self._get_options())
        grpc_server.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        self._server.add_insecure_port(f"{self._settings.host}:{self._settings.grpc_port}")
        return self._server


class LargeBodiesOneByOne:
    """ASGI middleware: of the requests with large bodies, one at a time is read, parsed and answered.

    Parsing blocks the event loop in proportion to the body, and its lists need ten times the body's memory. One after
    the other, small requests and health checks wait for one large body at most, and memory is bounded. A body that
    waits is not read, so it stays with the gateway.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one with a large body when it is its turn."""
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        length = headers.get(b"content-length", b"")
        # An encoded body may be large once it is decompressed, however small it was sent.
        may_be_large = b"content-encoding" in headers or (length.isdigit() and int(length) >= LARGE_BODY_BYTES)
        async with self._turn if may_be_large else nullcontext():
            await self._app(scope, receive, send)


class PlaneServer(MLServer):
    """MLServer that renames requests, loads models before it listens, and survives one that cannot be loaded."""

    def _create_servers(self) -> None:
        super()._create_servers()
        self._grpc_server = _GRPCServer(self._settings, self._data_plane, self._model_repository_handlers)
        application: FastAPI = self._rest_server._app  # pyright: ignore[reportPrivateUsage] # no other way to it
        application.add_exception_handler(RequestValidationError, _refuse_malformed)
        rest_requests.install(application)
        application.add_middleware(LargeBodiesOneByOne)

    async def start(self, models_settings: list[ModelSettings] | None = None) -> None:
        """Load every model, then open the ports and serve until told to stop."""
        for settings in models_settings or []:
            try:
                await self._model_registry.load(settings)
            except Exception:
                logger.exception("model %s cannot be loaded; the others are served", settings.name)
        await super().start([])


async def _refuse_malformed(request: Request, error: Exception) -> Response:
    """Name the faults of a body that is not a V2 request, without echoing the body."""
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        + (f" ({reason})" if (reason := problem.get("ctx", {}).get("error")) else "")
        for problem in error.errors()[:5]
    ]
    return Response(status_code=422, content={"error": "not a V2 inference request: " + "; ".join(problems)})


class _ShortRefusals(logging.Filter):
    """One line instead of a traceback for each request that was refused."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, MLServerError) and error.status_code < 500:
            record.exc_info = None
        return True


async def _serve(settings_path: Path) -> None:
    settings = Settings(**json.loads(settings_path.read_text()))
    # Damaged files are restored from their artefacts: the supervisor restarts this server without any other process.
    try:
        lost = mend_models(Layout(settings_path.absolute().parents[2]))
    except FinancialAssetsError as error:  # the sound models are served; the doctor names the others
        lost = {"": str(error)}
    for reason in lost.values():
        logger.error(reason)
    server = PlaneServer(settings)
    grpc_logger.addFilter(_ShortRefusals())
    models = await ModelRepositoryFactory.resolve_model_repository(settings).list()
    await server.start(models)


def main() -> None:
    """Serve with the settings file named on the command line until SIGTERM."""
    install_uvloop_event_loop()
    asyncio.run(_serve(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
