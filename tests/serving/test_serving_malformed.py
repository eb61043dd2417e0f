"""Requests that no well-meaning client sends: always a 4xx in words, never a dead server."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from financial_assets.serving.protocol import INFER_METHOD, ModelInferRequest, ModelInferResponse

pytestmark = pytest.mark.integration
MODEL = "lightweight-predictor-v1"
GOOD = [100.0] * 1792


def tensor(**change: Any) -> dict[str, Any]:
    return {"name": "bars", "shape": [1, 256, 7], "datatype": "FP32", "data": GOOD, **change}


def body(**change: Any) -> bytes:
    return json.dumps({"inputs": [tensor(**change)]}).encode()


def at(index: int, value: Any) -> list[Any]:
    return [*GOOD[:index], value, *GOOD[index + 1 :]]


@pytest.fixture(autouse=True)
def still_alive(http: httpx.Client, plane: Any) -> Iterator[None]:
    """After each test the same two processes answer a good request."""
    before = [(process.name, process.pid, process.restarts) for process in plane.target.status().processes]
    yield
    assert http.post(f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer", content=body()).status_code == 200
    assert [(process.name, process.pid, process.restarts) for process in plane.target.status().processes] == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (body(shape=[1, 10, 7]), "has shape [1, 10, 7]; expected [batch >= 1, 256, 7]"),
        (body(shape=[256, 7]), "has shape"),
        (body(shape=[0, 256, 7], data=[]), "batch >= 1"),
        (body(shape=[-1, 256, 7]), "batch >= 1"),
        (body(shape=[10**30, 256, 7]), "shape.0: Unable to parse"),
        (body(shape=[2**62, 256, 7]), "at most 2048"),
        (body(shape=[2049, 256, 7]), "at most 2048"),
        (body(shape=[2, 256, 7]), "1792 elements"),
        (body(shape=["1", "a"]), "shape"),
        (body(datatype="FP64"), "datatype FP64; expected FP32"),
        (body(datatype="FP31"), "datatype"),
        (body(datatype="BYTES"), "datatype BYTES"),
        (body(name="prices"), "input named bars"),
        (body(data=at(3, 0.0)), "bars[0, 0, close] is not positive"),
        (body(data=at(8, -1.0)), "bars[0, 1, high] is not positive"),
        (body(data=at(4, -1.0)), "volume] is negative"),
        (body(data=at(5, None)), "index 5 ('None') is not a number"),
        (body(data=at(5, "NaN")), "index 5 ('NaN') is not a number"),
        (body(data=at(5, 1e39)), "market] is not finite"),
        (body(data=at(5, float("nan"))), "not a V2 inference request"),
        (body(data=at(5, float("inf"))), "not a V2 inference request"),
        (body().replace(b"100.0,", b"1e400,", 1), "not a V2 inference request"),
        (body(data=[GOOD[:7]] * 256), "elements of shape"),
        (body(data=[[1.0], [2.0, 3.0]]), "ragged"),
        (body(data={}), "not a number"),
        (b'{"inputs": []}', "exactly one input named bars, got none"),
        (json.dumps({"inputs": [tensor(), tensor()]}).encode(), "exactly one input"),
        (json.dumps({"inputs": [tensor()], "outputs": [{"name": "x"}]}).encode(), "unknown output x"),
        (b"{}", "inputs: Field required"),
        (b"[]", "not a V2 inference request"),
        (b"null", "not a V2 inference request"),
        (b"", "not a V2 inference request"),
        (b"bars=1", "not a V2 inference request"),
        (b"\xff\xfe\x00", "not a V2 inference request"),
        (b"[" * 200_000, "not a V2 inference request"),
        (b'{"inputs":' + b"[" * 900 + b"]" * 900 + b"}", "not a V2 inference request"),
    ],
)
def test_rest(http: httpx.Client, plane: Any, content: bytes, message: str) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    answer = http.post(url, content=content, headers={"content-type": "application/json"}, timeout=5)
    assert 400 <= answer.status_code < 500
    assert message in answer.json()["error"]
    assert len(answer.content) < 1500, "the body must not be echoed"


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"content-type": "text/plain"}, b"\xff\xfe\xfd"),
        ({"content-type": "application/octet-stream"}, b"\xff" * 100),
        ({"content-type": "application/json", "content-encoding": "gzip"}, b"no gzip"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, gzip.compress(body())[:100]),
        ({"content-type": "application/json", "inference-header-content-length": "10"}, b"\x00" * 50),
        ({"content-type": "application/json; charset=utf-16"}, json.dumps({"a": "é"}).encode("utf-16")),
    ],
    ids=["text", "octets", "no gzip", "half gzip", "binary extension", "utf-16"],
)
def test_other_content(http: httpx.Client, plane: Any, headers: dict[str, str], content: bytes) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    answer = http.post(url, content=content, headers=headers, timeout=5)
    assert 400 <= answer.status_code < 500, answer.text


def test_gzip_is_understood(http: httpx.Client, plane: Any) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert http.post(url, content=gzip.compress(body()), headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods(http: httpx.Client, plane: Any, method: str) -> None:
    answer = http.request(method, f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer")
    assert answer.status_code == 405


@pytest.mark.parametrize(
    "path", [f"/v2/models/{MODEL}.experiment/infer", "/v2/models//infer", "/v2/models/a%2Fb/infer", "/"]
)
def test_other_paths(http: httpx.Client, plane: Any, path: str) -> None:
    assert http.post(f"{plane.endpoint.http_url}{path}", content=body()).status_code == 404


def call(plane: Any, request: Any) -> Any:
    with grpc.insecure_channel(plane.endpoint.grpc_target) as channel:
        infer = channel.unary_unary(
            INFER_METHOD,
            request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=ModelInferResponse.FromString,
        )
        return infer(request, metadata=(("seldon-model", MODEL),), timeout=10)


def raw(values: np.ndarray, shape: list[int], datatype: str = "FP32", name: str = "bars") -> Any:
    request = ModelInferRequest(model_name=MODEL)
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    request.raw_input_contents.append(values.tobytes())
    return request


ONES = np.full(1792, 100, np.float32)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            raw(np.where(np.arange(1792) == 3, np.nan, ONES).astype(np.float32), [1, 256, 7]),
            "bars[0, 0, close] is not finite",
        ),
        (raw(np.where(np.arange(1792) == 3, -1, ONES).astype(np.float32), [1, 256, 7]), "is not positive"),
        (raw(ONES[:-1], [1, 256, 7]), "7164 raw bytes, but FP32 [1, 256, 7] needs 7168"),
        (raw(ONES, [1, 256, 7], "FP64"), "7168 raw bytes, but FP64"),
        (raw(ONES.astype(np.float64), [1, 256, 7], "FP64"), "datatype FP64; expected FP32"),
        (raw(ONES, [1, 256, 7], "BYTES"), "raw datatype 'BYTES'"),
        (raw(ONES, [1, 256, 7], ""), "raw datatype ''"),
        (raw(ONES, [-1, -256, 7]), "needs"),
        (raw(ONES, [2**62, 2**62, 7]), "needs"),
        (raw(ONES[:0], [0, 256, 7]), "batch >= 1"),
        (raw(ONES, [1, 256, 7], name="prices"), "input named bars"),
        (raw(np.tile(ONES, 2049), [2049, 256, 7]), "at most 2048"),
        (ModelInferRequest(model_name=MODEL), "exactly one input named bars, got none"),
    ],
)
def test_grpc(plane: Any, request_: Any, message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(plane, request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    assert message in caught.value.details()


def test_grpc_with_more_raw_contents_than_inputs_or_fewer(plane: Any) -> None:
    request = raw(ONES, [1, 256, 7])
    request.raw_input_contents.append(b"more")
    with pytest.raises(grpc.RpcError) as caught:
        call(plane, request)
    assert "1 inputs, but 2 raw contents" in caught.value.details()
    request = raw(ONES, [1, 256, 7])
    request.inputs.add(name="bars", datatype="FP32", shape=[1, 256, 7])
    with pytest.raises(grpc.RpcError) as caught:
        call(plane, request)
    assert "2 inputs, but 1 raw contents" in caught.value.details()


def test_grpc_bytes_that_are_no_message(plane: Any) -> None:
    with grpc.insecure_channel(plane.endpoint.grpc_target) as channel:
        infer = channel.unary_unary(INFER_METHOD, request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as caught:
            infer(b"\xff" * 64, metadata=(("seldon-model", MODEL),), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_repository_calls_do_not_pass(plane: Any) -> None:
    with grpc.insecure_channel(plane.endpoint.grpc_target) as channel:
        for method in ("RepositoryModelUnload", "RepositoryIndex", "ServerMetadata"):
            unload = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                unload(b"", metadata=(("seldon-model", MODEL),), timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(alphabet='{}[]":,inputsdata01 \\"', max_size=200).map(str.encode))
def test_no_body_at_all_is_the_servers_fault(http: httpx.Client, plane: Any, content: bytes) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    answer = http.post(url, content=content, headers={"content-type": "application/json"}, timeout=5)
    assert 400 <= answer.status_code < 500, (content, answer.text)
