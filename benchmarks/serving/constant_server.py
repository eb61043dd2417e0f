"""A server that answers every V2 request with the same bytes.

    python constant_server.py <http port> <grpc port> <model.onnx>

It speaks HTTP through uvicorn and gRPC through ``grpc.aio``, as MLServer does, and nothing stands behind them. Asked
for the model ``graph`` it runs the ONNX file on bars of its own before it answers, which fills the processor's caches.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import uvicorn
import uvloop
from constant_runtime import graph_run
from starlette.types import Receive, Scope, Send

from financial_assets.serving.bar_rules import OUTPUTS
from financial_assets.serving.client.protocol import (
    BINARY_EXTENSION,
    BINARY_HEADER,
    BINARY_SIZE,
    ModelInferRequest,
    ModelInferResponse,
)

GRAPH = "graph"
SHAPES = dict(zip(OUTPUTS, ([1, 1], [1, 5], [1, 5], [1, 1]), strict=True))
METADATA = orjson.dumps({"name": "constant", "version": "1", "extensions": [BINARY_EXTENSION]})


def rest_answer() -> tuple[bytes, int]:
    """A body with raw tensors, as our client asks for, and the length of its JSON."""
    outputs = [
        {"name": name, "shape": shape, "datatype": "FP32", "parameters": {BINARY_SIZE: 4 * shape[1]}}
        for name, shape in SHAPES.items()
    ]
    head = orjson.dumps({"model_name": "constant", "id": "benchmark", "outputs": outputs})
    return head + bytes(sum(4 * shape[1] for shape in SHAPES.values())), len(head)


def grpc_answer() -> bytes:
    response = ModelInferResponse(model_name="constant", id="benchmark")
    for name, shape in SHAPES.items():
        response.outputs.add(name=name, datatype="FP32", shape=shape)
        response.raw_output_contents.append(np.zeros(shape, np.float32).tobytes())
    return response.SerializeToString()


BODY, JSON_LENGTH = rest_answer()


async def application(run: Callable[[], object], scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == f"/v2/models/{GRAPH}/infer":
        run()
    body, headers = (METADATA, []) if scope["path"] == "/v2" else (BODY, [(BINARY_HEADER, str(JSON_LENGTH))])
    named = [*headers, ("content-type", "application/octet-stream"), ("content-length", str(len(body)))]
    lines = [(name.encode(), value.encode()) for name, value in named]
    await send({"type": "http.response.start", "status": 200, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def serve(http_port: int, grpc_port: int, onnx: Path) -> None:
    answer, run = grpc_answer(), graph_run(onnx)
    asks_graph = ModelInferRequest(model_name=GRAPH).SerializeToString()  # the name is a message's first field

    async def infer(request: bytes, context: Any) -> bytes:
        if request.startswith(asks_graph):
            run()
        return answer

    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    config = uvicorn.Config(partial(application, run), host="127.0.0.1", port=http_port, log_level="warning")
    config.access_log, config.interface, config.lifespan = False, "asgi3", "off"
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
