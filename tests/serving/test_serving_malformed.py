"""Requests that no well-meaning client sends: always a 4xx in words, never a dead server."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from financial_assets.serving.bar_rules import neutral_bars
from financial_assets.serving.client.protocol import INFER_METHOD, ModelInferRequest, ModelInferResponse
from financial_assets.serving.local.limits import REST_BODY_BYTES
from financial_assets.serving.manifests import EXPERIMENT_NAME

pytestmark = pytest.mark.integration
MODEL = "lightweight-predictor-v1"
ONES = neutral_bars(1, 256).ravel()
GOOD = ONES.tolist()


def tensor(**change: Any) -> dict[str, Any]:
    return {"name": "bars", "shape": [1, 256, 7], "datatype": "FP32", "data": GOOD, **change}


def body(**change: Any) -> bytes:
    return json.dumps({"inputs": [tensor(**change)]}).encode()


def document(**change: Any) -> bytes:
    return json.dumps({"inputs": [tensor()], **change}).encode()


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
        (body(shape=["1", "256", "7"]), "inputs[0].shape has a size that is not a whole number"),
        (body(shape=[True, 256, 7]), "inputs[0].shape has a size that is not a whole number"),
        (body(datatype="FP64"), "datatype FP64; expected FP32"),
        (body(datatype="FP31"), "datatype"),
        (body(datatype="BYTES"), "datatype BYTES"),
        (body(name="prices"), "input named bars"),
        (body(data=at(3, 0.0)), "bars[0, 0, close] is not positive"),
        (body(data=at(8, -1.0)), "bars[0, 1, high] is not positive"),
        (body(data=at(4, -1.0)), "volume] is negative"),
        (body(data=at(5, True)), "index 5 (the Boolean 'True') is not a number"),
        (body(data=at(13, 0)), "bars[0, 1, day] is not later than the day of the bar before"),
        (
            body(data=at(7 * 100 + 1, 0.5)),
            "bars[0, 100, high] high is below low (0.5 against 1); the bar is of 1970-04",
        ),
        (body(data=at(5, 10**400)), "not a V2 inference request"),
        (body(data=at(5, None)), "index 5 ('None') is not a number"),
        (body(data=at(5, "NaN")), "index 5 ('NaN') is not a number"),
        (body(data=at(5, 1e39)), "market] is not finite"),
        (body(data=at(5, float("nan"))), "not a V2 inference request"),
        (body(data=at(5, float("inf"))), "not a V2 inference request"),
        (body().replace(b"1.0,", b"1e400,", 1), "not a V2 inference request"),
        (body(data=[GOOD[:7]] * 256), "elements of shape"),
        (body(data=[[1.0], [2.0, 3.0]]), "ragged"),
        (body(data={}), "not a number"),
        (b'{"inputs": []}', "exactly one input named bars, got none"),
        (json.dumps({"inputs": [tensor(), tensor()]}).encode(), "exactly one input"),
        (json.dumps({"inputs": [tensor()], "outputs": [{"name": "x"}]}).encode(), "unknown output x"),
        (document(outputs=[{"name": "probability_up"}] * 2), "outputs name probability_up more than once"),
        (document(outputs=[{"name": "x" * 9000}]), "unknown output xxx"),
        (document(output=[]), "the request has unknown members: output"),
        (body(layout="x"), "inputs[0] has unknown members: layout"),
        (document(parameters={"priority": 1}), "unknown parameter of the request: priority"),
        (body(parameters={"content_type": "pd"}), "parameter content_type of the input is pd"),
        (document(id="x" * 9000), "id has 9000 characters; at most 512"),
        (document(id="日本"), "printable ASCII"),
        (document(id="a\nb"), "printable ASCII"),
        (body().replace(b'"name": "bars"', b'"name": "x", "name": "bars"'), "key 'name' occurs more than once"),
        (body().replace(b'"name": "bars"', b'"n\\u0061me": ":", "name": "bars"'), "key 'name' occurs more than once"),
        (body() + b"}", "not a V2 inference request"),
        (b"\xef\xbb\xbf" + body(), "not a V2 inference request"),
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


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "content", "status", "message"),
    [
        ({"content-type": "text/plain"}, body(), 415, "send the header content-type: application/json"),
        ({"content-type": "application/octet-stream"}, b"\xff" * 100, 415, "application/json"),
        ({**JSON, "content-encoding": "gzip"}, b"no gzip", 400, "the body is not gzip"),
        ({**JSON, "content-encoding": "gzip"}, gzip.compress(body(), mtime=0)[:100], 400, "ends early"),
        ({**JSON, "content-encoding": "gzip"}, gzip.compress(body(), mtime=0) + b"x", 400, "goes on after its end"),
        ({**JSON, "content-encoding": "gzip, gzip"}, b"", 415, "compressed once with gzip"),
        ({**JSON, "content-encoding": "br"}, b"x", 415, "content-encoding 'br' is not supported"),
        ({**JSON, "inference-header-content-length": "10"}, b"\x00" * 50, 422, "not a V2 inference request"),
        ({"content-type": "application/json; charset=utf-16"}, body(), 415, "charset 'utf-16'"),
    ],
    ids=["text", "octets", "no gzip", "half gzip", "more gzip", "gzip twice", "brotli", "binary extension", "utf-16"],
)
def test_other_content(
    http: httpx.Client, plane: Any, headers: dict[str, str], content: bytes, status: int, message: str
) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    answer = http.post(url, content=content, headers=headers, timeout=5)
    assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text


def test_equivalent_ways_to_send_the_same_body_are_understood(http: httpx.Client, plane: Any) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    for headers, content in (
        ({**JSON, "content-encoding": "gzip"}, gzip.compress(body())),
        ({**JSON, "content-encoding": "identity"}, body()),
        ({"content-type": "application/x-www-form-urlencoded"}, body()),  # that of curl -d
        ({"content-type": 'application/json; charset="UTF-8"'}, body()),
        ({}, body()),
        (JSON, iter([body()[:99], body()[99:]])),  # chunked
        (JSON, document(id="mine: 1", parameters={"binary_data_output": True})),
        (JSON, body(parameters={"content_type": "np"})),
        (JSON, body(data=[np.reshape(GOOD, (256, 7)).tolist()])),
    ):
        assert http.post(url, content=content, headers=headers).status_code == 200, headers
    address = ("127.0.0.1", httpx.URL(url).port)
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(f"{head}content-length: {len(body())}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body())
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(http: httpx.Client, plane: Any, method: str) -> None:
    answer = http.request(method, f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer")
    assert answer.status_code == 405
    assert answer.json() == {"error": f"{method} is not allowed here; allowed: POST"}


@pytest.mark.parametrize(
    ("path", "headers", "message"),
    [
        ("/v2/models/no-such-model/infer", {}, "no such model or experiment: name one in the header seldon-model"),
        (f"/v2/models/{MODEL}/infer", {"seldon-model": "no-such-model"}, "no such model or experiment"),
        (f"/v2/models/{EXPERIMENT_NAME}/infer", {}, f"{EXPERIMENT_NAME}.experiment, {MODEL}"),
        (f"/v2/models/{MODEL}/infer", {"x-seldon-route": ":x_1:"}, "leave x-seldon-route out"),
        (f"/v2/models/{MODEL}.experiment/infer", {}, "no such model or experiment"),
        ("/v2/models//infer", {}, "no such model or experiment"),
        ("/v2/models/a%2Fb/infer", {}, "no such model or experiment"),
        ("/", {}, "there is nothing at this address"),
        ("/v1/models/x:predict", {}, "POST /v2/models/<name>/infer"),
        (f"/v2/models/{MODEL}/infer_stream", {}, "the gateway passes POST /v2/models/<name>/infer"),
        (f"/v2/models/{EXPERIMENT_NAME}.experiment/infer", {}, "not found"),  # as in the cluster: the header only
    ],
)
def test_other_addresses(http: httpx.Client, plane: Any, path: str, headers: dict[str, str], message: str) -> None:
    answer = http.post(f"{plane.endpoint.http_url}{path}", content=body(), headers=headers)
    assert (answer.status_code, message in answer.json()["error"]) == (404, True), answer.text


def test_a_small_body_that_decompresses_beyond_the_bound_is_refused(http: httpx.Client, plane: Any) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    part = zlib.compressobj(1, wbits=31)
    content = part.compress(b" " * (REST_BODY_BYTES + 1)) + part.flush()
    answer = http.post(url, content=content, headers={**JSON, "content-encoding": "gzip"}, timeout=30)
    assert len(content) < REST_BODY_BYTES / 100
    assert (answer.status_code, "decompressed body" in answer.json()["error"]) == (413, True)


def test_a_header_beyond_the_bound_is_refused_in_the_same_shape(http: httpx.Client, plane: Any) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    answer = http.post(url, content=body(), headers={"x-long": "x" * 70_000})
    assert answer.status_code == 431
    assert answer.json()["error"]


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


def test_grpc_contents_in_another_field_or_in_two_are_refused(plane: Any) -> None:
    from mlserver.grpc import dataplane_pb2 as pb

    request = pb.ModelInferRequest.FromString(raw(ONES, [1, 256, 7]).SerializeToString())
    request.inputs[0].contents.fp32_contents.extend(GOOD)
    with pytest.raises(grpc.RpcError) as caught:
        call(plane, request)
    assert "fp32_contents beside raw_input_contents" in caught.value.details()
    del request.raw_input_contents[:]
    call(plane, request)
    request.inputs[0].contents.int_contents.extend([1])
    with pytest.raises(grpc.RpcError) as caught:
        call(plane, request)
    assert "FP32 has fp32_contents" in caught.value.details()
    request.parameters["headers"].int64_param = 1
    del request.inputs[0].contents.int_contents[:]
    with pytest.raises(grpc.RpcError) as caught:
        call(plane, request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_questions_about_the_server_pass_and_all_else_says_what_does(plane: Any) -> None:
    headers = (("seldon-model", MODEL),)
    with grpc.insecure_channel(plane.endpoint.grpc_target) as channel:

        def ask(method: str, metadata: Any = headers) -> None:
            channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(b"", metadata=metadata, timeout=10)

        for method in ("ServerReady", "ServerLive", "ServerMetadata"):
            ask(method, ())
        for method, metadata, said in (
            ("RepositoryModelUnload", headers, "the gateway passes"),
            ("RepositoryIndex", (), "there is nothing at this address"),
            ("ModelInfer", (), "no such model or experiment: name one in the header seldon-model"),
            ("ModelInfer", (("seldon-model", "x"),), MODEL),
            ("ModelInfer", (*headers, ("x-seldon-route", ":x_1:")), "leave x-seldon-route out"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                ask(method, metadata)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert said in caught.value.details()
            assert not caught.value.details().startswith("{")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(alphabet='{}[]":,inputsdata01 \\"', max_size=200).map(str.encode))
def test_no_body_at_all_is_the_servers_fault(http: httpx.Client, plane: Any, content: bytes) -> None:
    url = f"{plane.endpoint.http_url}/v2/models/{MODEL}/infer"
    answer = http.post(url, content=content, headers={"content-type": "application/json"}, timeout=5)
    assert 400 <= answer.status_code < 500, (content, answer.text)
