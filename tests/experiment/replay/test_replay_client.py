"""The replay with the real inference client, over sockets, against a small server that speaks the V2 protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
import pytest

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.market.panel import PricePanel
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.client.protocol import INFER_METHOD, ModelInferRequest, ModelInferResponse
from financial_assets.serving.target import Endpoint
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, SHADOW, FakeGateway, answer, play

ROUTER = FakeGateway()


class Rest(BaseHTTPRequestHandler):
    """``POST /v2/models/<name>/infer``: routes by the request id; the first attempt of T01's requests meets a 503."""

    protocol_version = "HTTP/1.1"
    seen: dict[str, int]
    headers_seen: list[dict[str, str]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request = self.headers["x-request-id"]
        self.headers_seen.append({"path": self.path, "seldon-model": self.headers["seldon-model"]})
        self.seen[request] = self.seen.get(request, 0) + 1
        if request.endswith("T01") and self.seen[request] == 1:
            self.reply(503, {"error": "no healthy upstream"}, {})
            return
        model = ROUTER.draw(request)
        (tensor,) = body["inputs"]
        forecast = answer(model, np.asarray(tensor["data"], dtype=np.float32).reshape(tensor["shape"]))
        outputs = [
            {"name": name, "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
            for name, values in (
                ("probability_up", forecast.probability_up[:, None]),
                ("return_quantiles", forecast.return_quantiles),
            )
        ]
        self.reply(200, {"model_name": model, "id": request, "outputs": outputs}, {"x-seldon-route": f":{model}_1:"})

    def do_GET(self) -> None:
        if self.path == "/v2":  # as a cluster's gateway: no such page, hence no raw tensors
            self.reply(404, {}, {})
            return
        model = self.headers["seldon-model"]
        assert self.path == f"/v2/models/{model}/ready"
        self.reply(200, {}, {"x-seldon-route": f":{model}_1:"})

    def reply(self, status: int, document: Any, headers: dict[str, str]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**headers, "content-type": "application/json", "content-length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def infer_batch(request: Any, context: grpc.ServicerContext) -> Any:
    bars = np.frombuffer(request.raw_input_contents[0], dtype=np.float32).reshape(tuple(request.inputs[0].shape))
    forecast = answer(request.model_name, bars)
    context.send_initial_metadata((("x-seldon-route", f":{request.model_name}_1:"),))
    response = ModelInferResponse(model_name=request.model_name, id=request.id)
    for name, values in (
        ("probability_up", forecast.probability_up[:, None]),
        ("return_quantiles", forecast.return_quantiles),
    ):
        response.outputs.add(name=name, datatype="FP32", shape=values.shape)
        response.raw_output_contents.append(values.astype(np.float32).tobytes())
    return response


def grpc_service() -> grpc.GenericRpcHandler:
    service, method = INFER_METHOD.strip("/").split("/")
    unary = grpc.unary_unary_rpc_method_handler(
        infer_batch,
        request_deserializer=ModelInferRequest.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    return grpc.method_handlers_generic_handler(service, {method: unary})


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    handler = type("Handler", (Rest,), {"seen": {}, "headers_seen": []})
    rest = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    rest.daemon_threads = True
    thread = threading.Thread(target=rest.serve_forever, daemon=True)
    thread.start()
    batches = grpc.server(ThreadPoolExecutor(2))
    batches.add_generic_rpc_handlers((grpc_service(),))
    port = batches.add_insecure_port("127.0.0.1:0")
    batches.start()
    try:
        yield Endpoint(f"http://127.0.0.1:{rest.server_port}", f"127.0.0.1:{port}")
        assert {tuple(h.values()) for h in handler.headers_seen} == {
            ("/v2/models/ab-experiment/infer", "ab-experiment.experiment")
        }
    finally:
        rest.shutdown()
        rest.server_close()
        thread.join(5)
        batches.stop(None).wait()


def test_a_replay_over_the_wire(log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, endpoint: Endpoint) -> None:
    sessions = prices.sessions[prices.sessions > CUTOFF][:5]
    report = play(log, epoch, prices, sessions, lambda: InferenceClient(endpoint, timeout_s=10))
    assert (report.sent, report.ok, report.repeated, report.direct) == (20, 20, 5, 60)
    routed, direct = log.routed(), log.direct()
    assert list(routed["model"]) == [ROUTER.draw(request) for request in routed["request_id"]]
    assert set(routed["model"]) == {CHAMPION, CHALLENGER}
    assert set(direct["model"]) == {CHAMPION, CHALLENGER, SHADOW}
    assert routed.loc[routed["ticker"] == "T01", "attempts"].ge(2).all()
    assert (report.unanswered, report.waits) == (5, 5)
    both = routed.merge(direct, on=["session", "ticker", "model"], suffixes=("", "_direct"))
    np.testing.assert_allclose(both["probability_up"], both["probability_up_direct"], atol=1e-7)  # REST and gRPC agree
    assert routed["latency_s"].between(1e-5, 5).all()
