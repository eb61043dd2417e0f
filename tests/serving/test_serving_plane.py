"""The real Envoy in front of the real MLServer, asked as a client asks."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy import stats

from financial_assets.errors import (
    GatewayUnavailableError,
    InferenceError,
    InferenceTimeoutError,
    RequestRejectedError,
    TargetError,
)
from financial_assets.serving.bar_rules import EARLIER_OUTPUTS, OUTPUTS
from financial_assets.serving.client.inference import Answer, InferenceClient
from financial_assets.serving.deployment import check_deployment
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import Layout, Ports, read_ports
from financial_assets.serving.manifests import EXPERIMENT_NAME
from financial_assets.serving.target import Endpoint
from tests.serving.conftest import start_plane

pytestmark = pytest.mark.integration
BASELINE, ENHANCED, SHADOW = "baseline-predictor-v1", "enhanced-predictor-v1", "lightweight-predictor-v1"
WAYS = ["infer", "infer_batch"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [BASELINE, ENHANCED, SHADOW])
def test_a_model_answers_for_itself_even_when_it_shares_its_endpoint(
    plane: Any, client: InferenceClient, bars_of: Any, answer_of: Any, way: str, model: str
) -> None:
    bars = bars_of(3)
    for _ in range(12):  # the default's endpoint is split 70/30: twelve answers by luck are rarer than 2 %
        answer: Answer = getattr(client, way)(model, bars, request_id="id-1")
        assert (answer.route, answer.route_version, answer.model_name) == (model, 1, f"{model}_1")
    expected = answer_of(bars, plane.logits[model])
    assert list(answer.outputs) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(answer.outputs[name], values, rtol=1e-6, err_msg=name)
    assert answer.request_id == "id-1"
    assert 0 < answer.latency_s < 5


def test_a_model_is_ready_by_its_own_word(plane: Any, client: InferenceClient) -> None:
    """Not by that of another arm, which answers for the default of a split; here it is known, and there learnt."""
    for model in (BASELINE, ENHANCED, SHADOW):
        client.check_ready(model)
    with pytest.raises(InferenceError, match=r"HTTP 404 at .*/nobody/ready"):
        client.check_ready("nobody")
    with InferenceClient(Endpoint(plane.endpoint.http_url, plane.endpoint.grpc_target)) as stranger:
        for _ in range(4):
            stranger.check_ready(BASELINE)


def test_two_thousand_requests_split_as_the_weights_say(client: InferenceClient, bars_of: Any) -> None:
    bars = bars_of(1)
    with ThreadPoolExecutor(4) as pool:
        routes = Counter(pool.map(lambda _: client.infer(EXPERIMENT_NAME, bars).route, range(2000)))
    assert set(routes) == {BASELINE, ENHANCED}
    test = stats.chisquare([routes[BASELINE], routes[ENHANCED]], [1400, 600])
    assert test.pvalue > 0.001, routes


@pytest.mark.parametrize("way", WAYS)
def test_a_sticky_client_stays_with_its_arm(client: InferenceClient, bars_of: Any, way: str) -> None:
    ask = getattr(client, way)
    for route in (f":{BASELINE}_1:", f":{ENHANCED}_1:"):
        answers = {ask(EXPERIMENT_NAME, bars_of(1), route=route).sticky for _ in range(12)}
        assert answers == {route}
    assert ask(EXPERIMENT_NAME, bars_of(1), route=ENHANCED).route == ENHANCED


@pytest.mark.parametrize("way", WAYS)
def test_a_stale_sticky_route_is_dropped_once(
    http: httpx.Client, client: InferenceClient, bars_of: Any, way: str
) -> None:
    answer = getattr(client, way)(EXPERIMENT_NAME, bars_of(1), route=":baseline-predictor-v0_1:")
    assert answer.route in {BASELINE, ENHANCED}
    # The gateway itself says 404, as the cluster's does.
    headers = {"seldon-model": f"{EXPERIMENT_NAME}.experiment", "x-seldon-route": ":baseline-predictor-v0_1:"}
    raw = http.post(f"{client.endpoint.http_url}/v2/models/{EXPERIMENT_NAME}/infer", headers=headers, json={})
    assert raw.status_code == 404


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_name_is_refused(client: InferenceClient, bars_of: Any, way: str) -> None:
    with pytest.raises(
        RequestRejectedError, match=r"no-such-model: (404: the gateway has no such|UNIMPLEMENTED)"
    ) as caught:
        getattr(client, way)("no-such-model", bars_of(1))
    assert caught.value.route is None


def test_the_mirror_gets_copies_and_answers_nobody(
    http: httpx.Client, plane: Any, client: InferenceClient, bars_of: Any
) -> None:
    time.sleep(0.2)  # copies of earlier tests' requests may still be under way
    before = served(http, plane, SHADOW)
    answers = [client.infer(EXPERIMENT_NAME, bars_of(1)) for _ in range(20)]
    answers += [client.infer_batch(EXPERIMENT_NAME, bars_of(1)) for _ in range(20)]
    assert {answer.route for answer in answers} <= {BASELINE, ENHANCED}
    for _ in range(100):
        if served(http, plane, SHADOW) >= before + 40:
            break
        time.sleep(0.05)
    assert served(http, plane, SHADOW) == before + 40
    # A client that stays with its arm is not copied, as in the cluster.
    assert client.infer(EXPERIMENT_NAME, bars_of(1), route=ENHANCED).route == ENHANCED
    time.sleep(0.2)
    assert served(http, plane, SHADOW) == before + 40


def served(http: httpx.Client, plane: Any, model: str) -> float:
    """Requests that MLServer answered for a model, by its own count."""
    ports = read_ports(Layout(plane.home).ports_file, Ports)
    assert ports is not None
    text = http.get(f"http://127.0.0.1:{ports.mlserver_metrics}/metrics").text
    found = re.findall(rf'model_infer_request_success_total{{model="{model}_1",version="[^"]*"}} (\S+)', text)
    return sum(float(value) for value in found)


@pytest.mark.parametrize("row", [0, 1])
def test_curl_needs_no_header_but_may_give_them(http: httpx.Client, plane: Any, bars_of: Any, row: int) -> None:
    body = {"inputs": [{"name": "bars", "shape": [1, 256, 7], "datatype": "FP32", "data": bars_of(1).ravel().tolist()}]}
    url = f"{plane.endpoint.http_url}/v2/models/{SHADOW}/infer"
    headers = [{}, {"seldon-model": SHADOW, "x-request-id": "mine-17"}][row]
    answer = http.post(url, json=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["model_name"] == f"{SHADOW}_1"
    assert answer.headers["x-seldon-route"] == f":{SHADOW}_1:"
    assert answer.headers["x-request-id"] == headers.get("x-request-id", answer.headers["x-request-id"]) != ""


def test_model_metadata_and_readiness_pass_but_the_repository_does_not(http: httpx.Client, plane: Any) -> None:
    base = plane.endpoint.http_url
    assert http.get(f"{base}/v2/models/{SHADOW}").json()["inputs"][0]["shape"] == [-1, 256, 7]
    assert http.get(f"{base}/v2/models/{SHADOW}/ready").status_code == 200
    for headers in ({}, {"seldon-model": SHADOW}):  # of the server as a whole
        assert http.get(f"{base}/v2/health/ready", headers=headers).status_code == 200
        assert http.get(f"{base}/v2", headers=headers).json()["name"] == "financial-assets-local"
    assert http.get(f"{base}/v2/models/{SHADOW}/versions/9/ready").status_code == 200  # the agent drops the version
    for path in (f"/v2/repository/models/{SHADOW}_1/unload", "/v2/repository/index"):
        assert http.post(f"{base}{path}", headers={"seldon-model": SHADOW}).status_code == 404
    assert http.get(f"{base}/v2/models/{SHADOW}/ready").status_code == 200


def test_the_clients_own_choice_of_internal_model_counts_for_nothing(http: httpx.Client, plane: Any) -> None:
    headers = {"seldon-internal-model": f"{BASELINE}_1", "seldon-model": SHADOW}
    answer = http.get(f"{plane.endpoint.http_url}/v2/models/{SHADOW}", headers=headers)
    assert answer.json()["name"] == f"{SHADOW}_1"


def test_an_independent_client_is_answered_over_both_protocols(plane: Any) -> None:
    """In a process of its own: tritonclient's messages and mlserver's cannot live in one."""
    code = """
import json, sys
import numpy as np
address, model = sys.argv[1:]
bars = np.full((2, 256, 7), 100, np.float32)
bars[..., 6] = np.arange(256)
found = {}
for module in ("http", "grpc"):
    client = __import__(f"tritonclient.{module}", fromlist=["x"])
    with client.InferenceServerClient(address) as server:
        tensor = client.InferInput("bars", list(bars.shape), "FP32")
        ways = [{"binary_data": False}, {"binary_data": True}, {}] if module == "http" else [{}]
        for number, way in enumerate(ways):
            tensor.set_data_from_numpy(bars, **way)
            outputs = [client.InferRequestedOutput("probability_up", **way)]
            answer = server.infer(model, [tensor], outputs=outputs, headers={"seldon-model": model})
            ready = server.is_model_ready(model, headers={"seldon-model": model})
            found[f"{module}, {number}"] = [answer.as_numpy("probability_up").ravel().tolist(), ready]
print(json.dumps(found))
"""
    command = [sys.executable, "-c", code, plane.endpoint.grpc_target, SHADOW]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    expected = 1 / (1 + np.exp(-plane.logits[SHADOW]))
    for values, ready in json.loads(finished.stdout).values():
        np.testing.assert_allclose(values, [expected, expected], rtol=1e-6)
        assert ready


def test_the_deployment_check_distinguishes_a_model_from_another(
    plane: Any, client: InferenceClient, bars_of: Any, answer_of: Any
) -> None:
    bars = bars_of(4)
    expected = answer_of(bars, plane.logits[BASELINE])
    assert check_deployment(client, BASELINE, bars, expected) < 1e-5
    with pytest.raises(TargetError, match="returns different predictions from its ONNX file"):
        check_deployment(client, SHADOW, bars, expected)
    with pytest.raises(TargetError, match="largest difference nan"):
        check_deployment(client, BASELINE, bars, expected | {"probability_up": expected["probability_up"] * np.nan})
    for name, values in expected.items():
        with pytest.raises(TargetError, match=f"largest difference 0.125 in {name}; allowed"):
            check_deployment(client, BASELINE, bars, expected | {name: values + 0.125})
        with pytest.raises(TargetError, match=f"largest difference nan in {name}; allowed"):
            check_deployment(client, BASELINE, bars, expected | {name: values * np.nan})
        # Only the last row, which goes over gRPC alone.
        last = 0.125 * (np.arange(len(bars))[:, None] == len(bars) - 1)
        with pytest.raises(TargetError, match=f"largest difference 0.125 in {name}; allowed"):
            check_deployment(client, BASELINE, bars, expected | {name: values + last})
        with pytest.raises(TargetError, match="answers with shapes"):
            check_deployment(client, BASELINE, bars, {other: expected[other] for other in expected if other != name})
    with pytest.raises(TargetError, match="answers with shapes"):
        check_deployment(client, BASELINE, bars, expected | {"return_quantiles": expected["return_quantiles"][:, :3]})


def test_a_model_of_an_earlier_version_keeps_serving_beside_a_new_one(
    tmp_path: Path, bars_of: Any, answer_of: Any
) -> None:
    """Both ways, in one experiment, and the deployment check compares what its file has."""
    mixed, bars = start_plane(tmp_path, mirror=None, earlier=(BASELINE,)), bars_of(3)
    try:
        with InferenceClient(mixed.endpoint) as client:
            for way in WAYS:
                old, new = (getattr(client, way)(model, bars) for model in (BASELINE, ENHANCED))
                assert list(old.outputs) == list(EARLIER_OUTPUTS)
                assert (old.return_quantiles_5d, old.excess_return) == (None, None)
                assert list(new.outputs) == list(OUTPUTS)
            whole = answer_of(bars, mixed.logits[BASELINE])
            assert check_deployment(client, BASELINE, bars, {name: whole[name] for name in EARLIER_OUTPUTS}) < 1e-5
            with pytest.raises(TargetError, match="answers with shapes"):
                check_deployment(client, BASELINE, bars, whole)
            drawn = {(one := client.infer(EXPERIMENT_NAME, bars)).route: len(one.outputs) for _ in range(40)}
            assert drawn == {BASELINE: 2, ENHANCED: 4}
    finally:
        control.stop(mixed.home)


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_of_two_thousand_passes(
    plane: Any, client: InferenceClient, bars_of: Any, answer_of: Any, way: str
) -> None:
    bars = bars_of(2000)
    answer = getattr(client, way)(ENHANCED, bars)
    np.testing.assert_allclose(answer.return_quantiles, answer_of(bars, 1.0)["return_quantiles"], rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_the_deadline_is_the_clients(plane: Any, bars_of: Any, way: str) -> None:
    """Against a gateway that takes connections and says nothing: a real one may answer before a busy client looks."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            InferenceClient(type(plane.endpoint)(f"http://{where}", where), timeout_s=0.2) as hasty,
            pytest.raises(InferenceTimeoutError, match=r"0\.2"),
        ):
            getattr(hasty, way)(ENHANCED, bars_of(1))


@pytest.mark.parametrize("way", WAYS)
def test_no_gateway_is_said_as_such(plane: Any, bars_of: Any, way: str, unused_port: int) -> None:
    nowhere = type(plane.endpoint)(f"http://127.0.0.1:{unused_port}", f"127.0.0.1:{unused_port}")
    with InferenceClient(nowhere, timeout_s=5) as client, pytest.raises(GatewayUnavailableError) as caught:
        getattr(client, way)(ENHANCED, bars_of(1))
    assert caught.value.route is None


def test_status_shows_a_whole_plane(plane: Any) -> None:
    status = plane.target.status()
    assert status.ready
    assert status.problems == ()
    assert {model.name: (model.route, model.ready) for model in status.models} == {
        name: (f"{name}_1", True) for name in (BASELINE, ENHANCED, SHADOW)
    }
    [experiment] = status.experiments
    assert (experiment.default, dict(experiment.weights), experiment.mirror) == (
        BASELINE,
        {BASELINE: 70, ENHANCED: 30},
        (SHADOW, 100),
    )
    assert [process.state for process in status.processes] == ["running", "running"]


def test_nothing_listens_beyond_this_machine(plane: Any) -> None:
    import psutil

    for process in plane.target.status().processes:
        listening = [c.laddr.ip for c in psutil.Process(process.pid).net_connections("inet") if c.status == "LISTEN"]
        assert listening
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
