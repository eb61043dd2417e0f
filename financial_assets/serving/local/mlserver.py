"""MLServer as the plane runs it: ``python -m financial_assets.serving.local.mlserver <settings.json>``.

In the cluster an agent beside MLServer renames requests to the model version that Envoy chose; here the server does it
itself. Three more differences from ``mlserver start``: models are loaded *before* the ports open, so that a restart
never answers "model not found", and one that cannot be loaded keeps the others serving; raw tensors, which REST carries
too, reach the runtime as arrays instead of lists of Python floats; and inference requests take a short way.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from contextlib import nullcontext
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from grpc import aio
from mlserver.errors import MLServerError
from mlserver.grpc import server as grpc_server
from mlserver.grpc.logging import logger as grpc_logger
from mlserver.logging import logger
from mlserver.repository.factory import ModelRepositoryFactory
from mlserver.rest.responses import Response
from mlserver.server import MLServer
from mlserver.settings import ModelSettings, Settings
from mlserver.utils import install_uvloop_event_loop
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from financial_assets.errors import FinancialAssetsError
from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.limits import LARGE_BODY_BYTES
from financial_assets.serving.local.restoring import mend_models
from financial_assets.serving.local.server import rest_requests
from financial_assets.serving.local.server.grpc_inference import AgentInterceptor, RawTensorServicer
from financial_assets.serving.local.server.rest_inference import ChosenModel, DirectInference


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
        # The last one stands nearest to the routes: MLServer's own middlewares see every request.
        application.user_middleware.append(Middleware(DirectInference, self._data_plane))
        application.add_middleware(LargeBodiesOneByOne)
        application.add_middleware(ChosenModel)

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
    # What the imports made stays for good. Collections that need not walk through it are short and come often, so that
    # the garbage of requests does not pile up; the models, which may be unloaded, come later.
    gc.collect()
    gc.freeze()
    models = await ModelRepositoryFactory.resolve_model_repository(settings).list()
    await server.start(models)


def main() -> None:
    """Serve with the settings file named on the command line until SIGTERM."""
    install_uvloop_event_loop()
    asyncio.run(_serve(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
