"""Malformed requests over REST: bodies, encodings and addresses."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from serving_latency import random_bars

from malformed.bars import BROKEN
from malformed.case import Case, Headers, Maker, broken_window, window

__all__ = ["address_makers", "body_makers", "transfer_makers"]


def _tensor(bars: np.ndarray, **change: Any) -> dict[str, Any]:
    return {"name": "bars", "shape": list(bars.shape), "datatype": "FP32", "data": bars.ravel().tolist(), **change}


def _document(rng: Generator, **change: Any) -> dict[str, Any]:
    return {"inputs": [_tensor(window(rng))], **change}


def body_makers(model: str) -> list[tuple[str, Maker]]:
    path = f"/v2/models/{model}/infer"
    json_type = (("content-type", "application/json"),)

    def case(content: bytes | str | Any) -> Case:
        text = content if isinstance(content, bytes | str) else json.dumps(content)
        return Case("", text if isinstance(text, bytes) else text.encode(), json_type, path=path)

    def element(value: Any) -> Maker:
        def make(rng: Generator) -> Case:
            tensor = _tensor(window(rng))
            tensor["data"][rng.integers(len(tensor["data"]))] = value
            return case({"inputs": [tensor]})

        return make

    def literal(text: str) -> Maker:
        def make(rng: Generator) -> Case:
            tensor = _tensor(window(rng))
            tensor["data"][rng.integers(len(tensor["data"]))] = "@"
            return case(json.dumps({"inputs": [tensor]}).replace('"@"', text))

        return make

    def changed(change: Callable[[Generator], dict[str, Any]]) -> Maker:
        return lambda rng: case({"inputs": [_tensor(window(rng), **change(rng))]})

    def document(change: Callable[[Generator], dict[str, Any]]) -> Maker:
        return lambda rng: case(_document(rng, **change(rng)))

    def text(change: Callable[[Generator, str], str | bytes]) -> Maker:
        return lambda rng: case(change(rng, json.dumps(_document(rng))))

    def random_shape(rng: Generator) -> dict[str, Any]:
        shapes: list[list[Any]] = [
            [1, 7, 256],
            [256, 7],
            [0, 256, 7],
            [-1, 256, 7],
            [True, 256, 7],
            ["1", "256", "7"],
            [1.5, 256, 7],
            [2**62, 256, 7],
            [10**30, 256, 7],
            [5000, 256, 7],
            [1, 255, 7],
            [],
            [1] * 5000,
        ]
        return {"shape": shapes[rng.integers(len(shapes))]}

    def random_data(rng: Generator) -> dict[str, Any]:
        flat = random_bars(1).ravel().tolist()
        choices: list[Any] = [
            flat[:-1],
            [*flat, 1.0],
            [],
            {},
            None,
            "1,2,3",
            7,
            [flat],
            [[value] for value in flat],
            [1.0, [2.0]],
            [[1.0], 2.0],
            [{"a": 1}],
            _nested(int(rng.integers(2, 900))),
        ]
        return {"data": choices[rng.integers(len(choices))], "shape": [1, 256, 7]}

    def outputs(rng: Generator) -> dict[str, Any]:
        one = {"name": "probability_up"}
        choices: list[Any] = [
            [{"name": "price"}],
            [one, one],
            [{}],
            [one | {"datatype": "FP64"}],
            [one | {"parameters": {"classification": 3}}],
            "probability_up",
            [{"name": "x" * 5000}],
        ]
        return {"outputs": choices[rng.integers(len(choices))]}

    def parameters(rng: Generator) -> dict[str, Any]:
        choices: list[Any] = [{"priority": 1}, {"sequence_id": 7}, {"headers": 5}, [], "none", {"content_type": "pd"}]
        return {"parameters": choices[rng.integers(len(choices))]}

    def identity(rng: Generator) -> dict[str, Any]:
        choices: list[Any] = [5, "x" * 100_000, "a\nb", "\x00", "日本", ["id"], True]
        return {"id": choices[rng.integers(len(choices))]}

    def inputs(rng: Generator) -> dict[str, Any]:
        tensor = _tensor(random_bars(1))
        choices: list[Any] = [[], [tensor, tensor], [tensor, tensor | {"name": "x"}], {}, None, tensor, [[]], [5]]
        return {"inputs": choices[rng.integers(len(choices))]}

    def doubled_key(rng: Generator, good: str) -> str:
        return [
            good.replace('{"inputs"', '{"inputs": [], "inputs"'),
            good.replace('"name": "bars"', '"name": "bars", "name": "bars"'),
            good.replace('"name": "bars"', '"n\\u0061me": "x:y", "name": "bars"'),
        ][rng.integers(3)]

    def garbage(rng: Generator, good: str) -> bytes:
        choices = [
            rng.bytes(int(rng.integers(1, 500))),
            good.encode()[: int(rng.integers(1, len(good) - 1))],
            good.encode() + [b"}", b"\x00", b"{}", good.encode()][rng.integers(4)],
            b"\xef\xbb\xbf" + good.encode(),
            good.encode("utf-16"),
            good.replace("bars", "b\u00e4rs").encode("latin-1"),
            b"[" * int(rng.integers(1, 100_000)),
            [b"", b"null", b"[]", b"5", b'"bars"', b"bars=1&x=2"][rng.integers(6)],
        ]
        return choices[rng.integers(len(choices))]

    def broken(kind: str) -> Maker:
        return lambda rng: case({"inputs": [_tensor(broken_window(kind, rng))]})

    return [
        *((kind, broken(kind)) for kind in BROKEN),
        *((f"{value!r} among numbers", element(value)) for value in (True, False, None, "100.0", {}, [1.0])),
        ("10**400", element(10**400)),
        *((f"literal {value}", literal(value)) for value in ("1e400", "NaN", "-Infinity", "1e39", "0x10", "01", "+1")),
        ("shape", changed(random_shape)),
        ("data", changed(random_data)),
        (
            "datatype",
            changed(lambda rng: {"datatype": str(rng.choice(["FP64", "BYTES", "FP31", "", "fp32"]))}),
        ),
        ("name", changed(lambda rng: {"name": str(rng.choice(["prices", "", "Bars", "bars ", "x" * 10_000]))})),
        ("tensor's parameters", changed(parameters)),
        ("unknown member of a tensor", changed(lambda rng: {"layout": "NCW"})),
        ("unknown member", document(lambda rng: {"output": []})),
        ("inputs", document(inputs)),
        ("outputs", document(outputs)),
        ("parameters", document(parameters)),
        ("id", document(identity)),
        ("doubled key", text(doubled_key)),
        ("not JSON", text(garbage)),
    ]


def _nested(depth: int) -> Any:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    return value


def _named(headers: dict[str, str]) -> Headers:
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return tuple(named.items())


def transfer_makers(model: str) -> list[tuple[str, Maker]]:
    """Good bodies, wrongly encoded or labelled."""
    path = f"/v2/models/{model}/infer"

    def case(content: bytes, **headers: str) -> Case:
        return Case("", content, _named(headers), path=path)

    def content_encoding(rng: Generator) -> Case:
        good = json.dumps(_document(rng)).encode()
        packed = gzip.compress(good)
        return [
            case(good, content_encoding="gzip"),
            case(packed[: len(packed) // 2], content_encoding="gzip"),
            case(packed + b"more", content_encoding="gzip"),
            case(gzip.compress(packed), content_encoding="gzip, gzip"),
            case(zlib.compress(good), content_encoding="deflate"),
            case(packed, content_encoding=str(rng.choice(["br", "zstd", "compress", "aes128gcm", "x" * 500]))),
            case(gzip.compress(b" " * 80_000_000, 1), content_encoding="gzip"),
        ][rng.integers(7)]

    def content_type(rng: Generator) -> Case:
        good = json.dumps(_document(rng)).encode()
        kinds = [
            "text/plain",
            "application/octet-stream",
            "multipart/form-data; boundary=x",
            "application/xml",
            "x" * 900,
        ]
        return case(good, content_type=str(rng.choice(kinds)))

    def charset(rng: Generator) -> Case:
        name = str(rng.choice(["utf-16", "utf-32"]))
        return case(json.dumps(_document(rng)).encode(name), content_type=f"application/json; charset={name}")

    def binary_extension(rng: Generator) -> Case:
        raw = random_bars(1).tobytes()
        sizes: list[Any] = [None, 7164, 7172, -1, "7168", True, 2**70]
        tensor: dict[str, Any] = {"name": "bars", "shape": [1, 256, 7], "datatype": "FP32"}
        tensor["parameters"] = {"binary_data_size": sizes[rng.integers(len(sizes))]}
        head = json.dumps({"inputs": [tensor]}).encode()
        tensor["parameters"]["binary_data_size"] = len(raw)
        good = json.dumps({"inputs": [tensor]}).encode()
        return [
            case(head + raw, inference_header_content_length=str(len(head))),
            case(good + raw[:-4], inference_header_content_length=str(len(good))),
            case(good + raw + b"more", inference_header_content_length=str(len(good))),
            case(good + raw, inference_header_content_length=str(rng.choice(["0", "-1", "x", "99999999", "7"]))),
            case(good + raw),
        ][rng.integers(5)]

    return [
        ("content-encoding", content_encoding),
        ("content-type", content_type),
        ("charset", charset),
        ("binary extension", binary_extension),
    ]


def address_makers(model: str, experiment: str) -> list[tuple[str, Maker]]:
    """Good bodies, sent to where nothing answers them."""
    infer = f"/v2/models/{model}/infer"

    def case(rng: Generator, path: str, method: str = "POST", **headers: str) -> Case:
        return Case("", json.dumps(_document(rng)).encode(), _named(headers), method, path)

    def path(rng: Generator) -> Case:
        paths = [
            "/",
            "/v1/models/x:predict",
            "/v2/",
            "/v2/models",
            "/v2/models/",
            "/v2/models//infer",
            f"/v2/models/{model}/infer/",
            f"/v2/models/{model}/infer_stream",
            f"/v2/models/{model}/generate",
            f"/v2/models/{model}/explain",
            f"/v2/models/{model}.experiment/infer",
            f"/v2/models/{model}/../x/infer",
            f"/v2/models/a%2F{model}/infer",
            "/v2/repository/index",
            f"/v2/repository/models/{model}/unload",
            "/metrics",
            "/v2/models/" + "x" * 3000 + "/infer",
        ]
        return case(rng, paths[rng.integers(len(paths))])

    def name(rng: Generator) -> Case:
        ours = f"/v2/models/{experiment}/infer"
        return [
            case(rng, "/v2/models/no-such-model/infer"),
            case(rng, infer, seldon_model="no-such-model"),
            case(rng, infer, seldon_model=""),
            case(rng, infer, seldon_model="x" * 5000),
            case(rng, ours),
            case(rng, ours, seldon_model=experiment),
            case(rng, infer, x_seldon_route=":no-such-model_1:"),
            case(rng, ours, seldon_model=f"{experiment}.experiment", x_seldon_route=":a_1:"),
        ][rng.integers(8)]

    return [
        ("path", path),
        ("method", lambda rng: case(rng, infer, str(rng.choice(["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])))),
        ("model's name", name),
        ("long header", lambda rng: case(rng, infer, x_long="x" * 70_000)),
    ]
