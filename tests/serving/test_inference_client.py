"""The client against a gateway that says whatever the test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import (
    GatewayUnavailableError,
    InferenceError,
    InferenceTimeoutError,
    RequestRejectedError,
)
from financial_assets.serving.client.inference import InferenceClient, parse_routes
from financial_assets.serving.client.protocol import (
    BINARY_HEADER,
    BINARY_SIZE,
    INFER_METHOD,
    ModelInferRequest,
    ModelInferResponse,
)
from financial_assets.serving.target import Endpoint

Reply = tuple[int, dict[str, str], bytes]
BARS = np.ones((1, 256, 7), dtype=np.float32)


VALUES = {
    "probability_up": [0.5],
    "return_quantiles": [0.0] * 5,
    "return_quantiles_5d": [1.0] * 5,
    "excess_return": [2.0],
}


def outputs_of(rows: int = 1) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": [rows, len(row)], "datatype": "FP32", "data": row * rows}
        for name, row in VALUES.items()
    ]


def good(route: str | None, rows: int = 1, outputs: list[dict[str, Any]] | None = None) -> Reply:
    headers = {} if route is None else {"x-seldon-route": route}
    document = {"model_name": "served", "outputs": outputs_of(rows) if outputs is None else outputs}
    return 200, headers, json.dumps(document).encode()


class Gateway:
    """Answers each request with what ``reply`` makes of its headers, and keeps the headers."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, str]], Reply] = lambda _: good(":a_1:")
        self.seen: list[dict[str, str]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                headers = {key.lower(): value for key, value in self.headers.items()} | {"path": self.path}
                gateway.seen.append(headers)
                status, extra, body = gateway.reply(headers)
                self.send_response(status)
                for key, value in (extra | {"content-length": str(len(body))}).items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def connect(gateway: Gateway, timeout_s: float = 5, **routes: str) -> InferenceClient:
    return InferenceClient(Endpoint(gateway.url, "127.0.0.1:1", routes), timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("header", "routes"),
    [
        (":iris_1:", [("iris", 1)]),
        (":baseline-predictor-v12_37:", [("baseline-predictor-v12", 37)]),
        ("[:add10_1: :pipeline-add10.pipeline:]", [("add10", 1)]),
        (":a_1: :b_2:", [("a", 1), ("b", 2)]),
        (":a_b_3:", [("a_b", 3)]),
        ("", []),
        ("iris_1", []),
        (":iris:", []),
        (":_1:", []),
        (":iris_x:", []),
    ],
)
def test_routes_are_read_from_the_header(header: str, routes: list[tuple[str, int]]) -> None:
    assert parse_routes(header) == routes


names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)


@given(st.lists(st.tuples(names, st.integers(0, 10**6)), max_size=4), st.sampled_from([" ", ", ", ""]))
def test_every_route_in_a_header_is_found(routes: list[tuple[str, int]], between: str) -> None:
    header = between.join(f":{name}_{number}:" for name, number in routes)
    assert parse_routes(header) == routes


def test_the_headers_are_those_of_the_cluster(gateway: Gateway) -> None:
    with connect(gateway) as client:
        client.infer("ab-experiment", BARS, request_id="r-1")
        client.infer("ab-experiment.experiment", BARS)
        client.infer("a", BARS, route=":a_1:")
    first, second, third = gateway.seen
    assert first["path"] == second["path"] == "/v2/models/ab-experiment/infer"
    assert first["seldon-model"] == second["seldon-model"] == "ab-experiment.experiment"
    assert first["x-request-id"] == "r-1"
    assert len(second["x-request-id"]) == 36
    assert (third["seldon-model"], third["x-seldon-route"]) == ("a", ":a_1:")
    assert "x-seldon-route" not in first


def test_an_answer_without_a_route_is_unattributed_not_an_error(gateway: Gateway) -> None:
    gateway.reply = lambda _: good(None)
    with connect(gateway) as client:
        answer = client.infer("a", BARS)
    assert (answer.route, answer.route_version, answer.sticky) == (None, None, None)
    assert answer.model_name == "served"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRejectedError),
        (404, RequestRejectedError),
        (413, RequestRejectedError),
        (422, RequestRejectedError),
        (301, GatewayUnavailableError),
        (500, GatewayUnavailableError),
        (503, GatewayUnavailableError),
    ],
)
def test_a_failure_carries_status_route_and_the_servers_words(
    gateway: Gateway, status: int, kind: type[InferenceError]
) -> None:
    gateway.reply = lambda _: (status, {"x-seldon-route": ":a_3:"}, b'{"error": "so it is"}')
    with connect(gateway) as client, pytest.raises(kind, match=f"ab-experiment: {status}: so it is") as caught:
        client.infer("ab-experiment", BARS)
    assert (caught.value.status, caught.value.route, caught.value.sticky) == (status, "a", ":a_3:")
    assert caught.value.answered is (status not in (404, 503))  # these two never come from a model
    assert len(gateway.seen) == 1, "the client itself repeats nothing"


def test_a_server_that_still_loads_has_not_answered_and_nobody_has_without_a_connection(gateway: Gateway) -> None:
    gateway.reply = lambda _: (400, {}, b'{"error": "Model a_1 is not ready yet."}')
    with connect(gateway) as client, pytest.raises(RequestRejectedError) as caught:
        client.infer("ab-experiment", BARS)
    assert not caught.value.answered
    with InferenceClient(Endpoint("http://127.0.0.1:1", "127.0.0.1:1")) as client:
        for ask in (client.infer, client.infer_batch):
            with pytest.raises(GatewayUnavailableError) as refused:
                ask("ab-experiment", BARS)
            assert not refused.value.answered


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b"null",
        b'{"model_name": "m", "outputs": []}',
        b'{"model_name": "m", "outputs": [{"name": "probability_up", "shape": [2, 1], "data": [0.5]}]}',
        good(None, rows=2)[2],
        good(None)[2].replace(b"0.5", b'"x"'),
        good(None)[2].replace(b'"model_name"', b'"name"'),
    ],
)
def test_a_success_that_is_no_answer_is_the_gateways_failure(gateway: Gateway, body: bytes) -> None:
    gateway.reply = lambda _: (200, {"x-seldon-route": ":a_1:"}, body)
    with connect(gateway) as client, pytest.raises(GatewayUnavailableError, match="not a V2 answer") as caught:
        client.infer("a", BARS)
    assert caught.value.route == "a"


def changed(which: str, **change: Any) -> list[dict[str, Any]]:
    return [output | (change if output["name"] == which else {}) for output in outputs_of()]


FAULTS = {
    "no score": (outputs_of()[:3], "outputs probability_up, return_quantiles, return_quantiles_5d; expected"),
    "no five sessions": ([*outputs_of()[:2], outputs_of()[3]], "outputs excess_return, probability_up, return_quant"),
    "no one session": (
        [outputs_of()[0], *outputs_of()[2:]],
        "or only probability_up and return_quantiles from a model",
    ),
    "no probability": (outputs_of()[1:], "outputs excess_return, return_quantiles, return_quantiles_5d; expected"),
    "one more": ([*outputs_of(), outputs_of()[3] | {"name": "price"}], "outputs excess_return, price, probability_up"),
    "twice": ([*outputs_of(), outputs_of()[3]], "output excess_return comes more than once"),
    "instead": (
        changed("return_quantiles_5d", name="return_quantiles"),
        "output return_quantiles comes more than once",
    ),
    "four quantiles": (changed("return_quantiles_5d", shape=[1, 4], data=[0.0] * 4), "1 rows asked, but outputs of"),
    "flat quantiles": (changed("return_quantiles_5d", shape=[5]), "1 rows asked, but outputs of shape"),
    "two rows": (changed("return_quantiles_5d", shape=[2, 5], data=[0.0] * 10), "1 rows asked, but outputs of shape"),
    "flat score": (changed("excess_return", shape=[1]), "1 rows asked, but outputs of shape"),
    "wide score": (changed("excess_return", shape=[1, 2], data=[0.0] * 2), "1 rows asked, but outputs of shape"),
    "no rows": (changed("excess_return", shape=[0, 1], data=[]), "1 rows asked, but outputs of shape"),
    "other numbers": (
        changed("excess_return", datatype="FP64"),
        "output excess_return has datatype FP64; expected FP32",
    ),
    "whole numbers": (changed("return_quantiles_5d", datatype="INT64"), "has datatype INT64; expected FP32"),
}
"""Outputs that are no model's, and what is said of them; over REST in JSON and over gRPC as bytes."""


@pytest.mark.parametrize(("outputs", "said"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("way", ["json", "binary", "grpc"])
def test_an_answer_with_other_outputs_is_refused_in_words(
    gateway: Gateway, raw_gateway: Any, way: str, outputs: list[dict[str, Any]], said: str
) -> None:
    gateway.reply = lambda _: good(":a_1:", outputs=outputs) if way == "json" else framed(":a_1:", outputs)
    raw_gateway.behave = lambda request, context: raw_outputs(outputs)
    client = raw_connect(raw_gateway) if way == "grpc" else connect(gateway)
    with client, pytest.raises(GatewayUnavailableError, match="not a V2 answer") as caught:
        client.infer_batch("a", BARS) if way == "grpc" else client.infer("a", BARS)
    assert said in str(caught.value)
    assert caught.value.answered, "the model has answered: its failure, not the gateway's"


@pytest.mark.parametrize("way", ["json", "binary", "grpc"])
@pytest.mark.parametrize(
    ("outputs", "heads"), [(outputs_of(), 4), (outputs_of()[::-1], 4), (outputs_of()[:2], 2), (outputs_of()[1::-1], 2)]
)
def test_outputs_are_read_by_name_and_an_earlier_model_has_two(
    gateway: Gateway, raw_gateway: Any, way: str, outputs: list[dict[str, Any]], heads: int
) -> None:
    gateway.reply = lambda _: good(":a_1:", outputs=outputs) if way == "json" else framed(":a_1:", outputs)
    raw_gateway.behave = lambda request, context: raw_outputs(outputs)
    with raw_connect(raw_gateway) if way == "grpc" else connect(gateway) as client:
        answer = client.infer_batch("a", BARS) if way == "grpc" else client.infer("a", BARS)
    found = {name: values[0].tolist() for name, values in answer.outputs.items()}
    assert found == dict(list(VALUES.items())[:heads])
    assert (answer.return_quantiles_5d is None, answer.excess_return is None) == (heads == 2, heads == 2)


@pytest.mark.parametrize("more", [b"1234", b""])
def test_bytes_that_no_output_claims_are_refused(gateway: Gateway, more: bytes) -> None:
    status, headers, body = framed(":a_1:", outputs_of())
    gateway.reply = lambda _: (status, headers, body + more if more else body[:-4])
    with connect(gateway) as client, pytest.raises(GatewayUnavailableError, match="not a V2 answer"):
        client.infer("a", BARS)


def test_a_stale_route_is_dropped_once_and_only_on_404(gateway: Gateway) -> None:
    gateway.reply = lambda headers: (404, {}, b"") if "x-seldon-route" in headers else good(":a_2:")
    with connect(gateway) as client:
        assert client.infer("ab-experiment", BARS, route=":a_1:").sticky == ":a_2:"
        assert [("x-seldon-route" in headers) for headers in gateway.seen] == [True, False]
        gateway.reply = lambda _: (404, {}, b"")
        with pytest.raises(RequestRejectedError, match="the gateway has no such model, experiment or route"):
            client.infer("ab-experiment", BARS, route=":a_1:")
        assert len(gateway.seen) == 4
        gateway.reply = lambda _: (400, {}, b"no")
        with pytest.raises(RequestRejectedError, match="400: no"):
            client.infer("ab-experiment", BARS, route=":a_1:")
        assert len(gateway.seen) == 5


def test_a_default_model_is_asked_by_its_sticky_route_once_that_is_needed(gateway: Gateway) -> None:
    gateway.reply = lambda headers: good(headers.get("x-seldon-route", ":b_1:"))
    with connect(gateway, a="a_4") as client:
        assert client.infer("a", BARS).route_version == 4
        assert [headers.get("x-seldon-route") for headers in gateway.seen] == [None, ":a_4:"]
        client.infer("a", BARS)
        assert gateway.seen[-1]["x-seldon-route"] == ":a_4:"
        assert len(gateway.seen) == 3, "the second time it is asked that way at once"


def test_another_models_answer_is_never_passed_off(gateway: Gateway) -> None:
    gateway.reply = lambda _: good(":b_1:")
    with connect(gateway) as client, pytest.raises(InferenceError, match="the route of a is not known"):
        client.infer("a", BARS)
    with (
        connect(gateway, a="a_1") as client,
        pytest.raises(InferenceError, match="a was asked, but b answered: the known route :a_1: is stale"),
    ):
        client.infer("a", BARS)
    with connect(gateway) as client, pytest.raises(InferenceError, match="the route of c is not known"):
        client.infer("ab-experiment", BARS, route="c")


def test_no_answer_in_time_is_a_timeout(gateway: Gateway) -> None:
    def late(_: dict[str, str]) -> Reply:
        time.sleep(0.3)
        return good(":a_1:")

    gateway.reply = late
    with connect(gateway, timeout_s=0.1) as client, pytest.raises(InferenceTimeoutError, match=r"within 0\.1 s"):
        client.infer("a", BARS)


def raw_answer(**change: Any) -> Any:
    response = raw_outputs(outputs_of())
    content = change.pop("content", None)
    if content is not None:
        response.raw_output_contents[0] = content
    for name, value in change.items():
        response.outputs[0].ClearField(name)
        getattr(response.outputs[0], name).extend(value) if name == "shape" else setattr(
            response.outputs[0], name, value
        )
    return response


def raw_outputs(outputs: list[dict[str, Any]]) -> Any:
    response = ModelInferResponse(model_name="served", id="r")
    for output in outputs:
        response.outputs.add(**{name: output[name] for name in ("name", "datatype", "shape")})
        response.raw_output_contents.append(content_of(output))
    return response


def content_of(output: dict[str, Any]) -> bytes:
    kind = {"FP64": "<f8", "INT64": "<i8"}.get(output["datatype"], "<f4")
    return np.array(output["data"], kind).tobytes()


def framed(route: str, outputs: list[dict[str, Any]]) -> Reply:
    """JSON, and behind it the outputs as bytes."""
    contents = [content_of(output) for output in outputs]
    described = [
        {name: output[name] for name in ("name", "datatype", "shape")} | {"parameters": {BINARY_SIZE: len(content)}}
        for output, content in zip(outputs, contents, strict=True)
    ]
    head = json.dumps({"model_name": "served", "outputs": described}).encode()
    return 200, {"x-seldon-route": route, BINARY_HEADER: str(len(head))}, b"".join([head, *contents])


@pytest.fixture
def raw_gateway() -> Iterator[Any]:
    """A gRPC server whose behaviour is the attribute ``behave``."""

    class Made:
        behave: Callable[[Any, Any], Any] = staticmethod(lambda request, context: raw_answer())

    made = Made()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, context: made.behave(request, context),
        request_deserializer=ModelInferRequest.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    service, _, method = INFER_METHOD[1:].partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    made.port = server.add_insecure_port("127.0.0.1:0")  # type: ignore[attr-defined]
    server.start()
    yield made
    server.stop(0).wait()


def test_a_proxy_of_the_environment_does_not_come_between(
    gateway: Gateway, raw_gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with connect(gateway) as client:
        assert client.infer("a", BARS).route == "a"
    with raw_connect(raw_gateway) as client:
        assert client.infer_batch("a", BARS).model_name == "served"


def raw_connect(raw_gateway: Any, timeout_s: float = 5) -> InferenceClient:
    return InferenceClient(Endpoint("http://127.0.0.1:1", f"127.0.0.1:{raw_gateway.port}"), timeout_s=timeout_s)


def test_grpc_sends_raw_bars_and_reads_the_route_from_the_metadata(raw_gateway: Any) -> None:
    seen: list[Any] = []

    def behave(request: Any, context: Any) -> Any:
        seen.append((request, dict(context.invocation_metadata())))
        context.send_initial_metadata((("x-seldon-route", ":a_6:"),))
        return raw_answer()

    raw_gateway.behave = behave
    with raw_connect(raw_gateway) as client:
        answer = client.infer_batch("ab-experiment", BARS, request_id="r-2")
    [(request, metadata)] = seen
    assert (answer.route, answer.route_version, answer.request_id) == ("a", 6, "r-2")
    assert request.raw_input_contents[0] == BARS.tobytes()
    assert list(request.inputs[0].shape) == [1, 256, 7]
    assert (metadata["seldon-model"], metadata["x-request-id"]) == ("ab-experiment.experiment", "r-2")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, RequestRejectedError),
        (grpc.StatusCode.NOT_FOUND, RequestRejectedError),
        (grpc.StatusCode.UNAVAILABLE, GatewayUnavailableError),
        (grpc.StatusCode.INTERNAL, GatewayUnavailableError),
        (grpc.StatusCode.UNKNOWN, GatewayUnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, InferenceTimeoutError),
    ],
)
def test_grpc_failures_are_the_same_three(raw_gateway: Any, code: grpc.StatusCode, kind: type[InferenceError]) -> None:
    def behave(request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("x-seldon-route", ":a_1:"),))
        context.abort(code, "so it is")

    raw_gateway.behave = behave
    with raw_connect(raw_gateway) as client, pytest.raises(kind) as caught:
        client.infer_batch("ab-experiment", BARS)
    assert (caught.value.status, caught.value.route) == (code.name, "a")
    assert caught.value.answered is (code not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE))


@pytest.mark.parametrize(
    "change", [{"datatype": "FP64"}, {"shape": [3, 1]}, {"content": b"abc"}, {"content": b""}, {"datatype": ""}]
)
def test_grpc_success_that_is_no_answer_is_the_gateways_failure(raw_gateway: Any, change: dict[str, Any]) -> None:
    raw_gateway.behave = lambda request, context: raw_answer(**change)
    with raw_connect(raw_gateway) as client, pytest.raises(GatewayUnavailableError, match="not a V2 answer"):
        client.infer_batch("ab-experiment", BARS)


def test_grpc_has_a_deadline(raw_gateway: Any) -> None:
    raw_gateway.behave = lambda request, context: time.sleep(0.4) or raw_answer()
    with raw_connect(raw_gateway, timeout_s=0.1) as client, pytest.raises(InferenceTimeoutError, match=r"0\.1"):
        client.infer_batch("a", BARS)
