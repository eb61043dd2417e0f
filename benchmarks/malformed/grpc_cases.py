"""Malformed requests over gRPC."""

from __future__ import annotations

from typing import Any

import numpy as np
from mlserver.grpc import dataplane_pb2 as pb
from numpy.random import Generator
from serving_latency import random_bars

from malformed.bars import BROKEN
from malformed.case import Case, Headers, Maker, broken_window

__all__ = ["grpc_makers"]

_INFER = "/inference.GRPCInferenceService/ModelInfer"


def grpc_makers(model: str) -> list[tuple[str, Maker]]:
    headers = (("seldon-model", model),)

    def case(request: Any, method: str = _INFER, metadata: Headers = headers) -> Case:
        content = request if isinstance(request, bytes) else request.SerializeToString()
        return Case("", content, metadata, grpc_method=method)

    def request(bars: np.ndarray, **change: Any) -> Any:
        found = pb.ModelInferRequest(model_name=model)
        found.inputs.add(**{"name": "bars", "datatype": "FP32", "shape": bars.shape, **change})
        with np.errstate(over="ignore"):
            found.raw_input_contents.append(bars.astype(np.float32).tobytes())
        return found

    def typed(rng: Generator) -> Case:
        found = request(random_bars(1))
        field = ["fp64_contents", "int_contents", "bool_contents", "bytes_contents", "fp32_contents"][rng.integers(5)]
        values = [b"1" if field == "bytes_contents" else field != "bool_contents" or True] * 1792
        getattr(found.inputs[0].contents, field).extend(values)
        if field != "fp32_contents":  # these stand beside the raw ones
            del found.raw_input_contents[:]
        return case(found)

    def sizes(rng: Generator) -> Case:
        bars = random_bars(1)
        shapes = [[1, 7, 256], [256, 7], [-1, -256, 7], [2**62, 2**62, 7], [0, 256, 7], [], [2, 256, 7]]
        found = request(bars, shape=shapes[rng.integers(len(shapes))])
        if rng.random() < 0.3:
            found.raw_input_contents.append(b"more")
        return case(found)

    def parts(rng: Generator) -> Case:
        found = request(random_bars(1))
        change = rng.integers(7)
        if change == 0:
            found.inputs.add(name="bars", datatype="FP32", shape=[1, 256, 7])
        elif change == 1:
            del found.inputs[:]
        elif change == 2:
            found.outputs.add(name="price")
        elif change == 3:
            found.id = "x" * 10_000
        elif change == 4:
            found.parameters["priority"].int64_param = 1
        elif change == 5:
            found.parameters["headers"].int64_param = 1
        else:
            found.inputs[0].parameters["content_type"].bool_param = True
        return case(found)

    def address(rng: Generator) -> Case:
        good, service = request(random_bars(1)), "/inference.GRPCInferenceService"
        return [
            case(good, metadata=(("seldon-model", "no-such-model"),)),
            case(good, metadata=()),
            case(good, metadata=(*headers, ("x-seldon-route", ":no-such-model_1:"))),
            case(good, f"{service}/RepositoryModelUnload"),
            case(good, f"{service}/NoSuchMethod"),
            case(good, "/no.such.Service/ModelInfer"),
        ][rng.integers(6)]

    def names(rng: Generator) -> Case:
        return case(request(random_bars(1), **{str(rng.choice(["name", "datatype"])): "FP64"}))

    return [
        *((kind, lambda rng, kind=kind: case(request(broken_window(kind, rng)))) for kind in BROKEN),
        ("not a number", lambda rng: case(request(random_bars(1) * rng.choice([np.nan, np.inf])))),
        ("typed contents", typed),
        ("sizes", sizes),
        ("parts", parts),
        ("names", names),
        ("address", address),
        ("not a message", lambda rng: case(b"\xff" + rng.bytes(int(rng.integers(1, 300))))),
    ]
