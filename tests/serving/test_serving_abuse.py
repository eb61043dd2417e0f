"""Long bodies, slow senders and old protocols: each has its limit, and whoever asks properly is answered meanwhile."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import orjson
import psutil
import pytest

from financial_assets.errors import RequestRejectedError
from financial_assets.models.request_shape import CHANNEL_COUNT, SERVED_LOOKBACK
from financial_assets.serving import runtime, signals
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.local import limits
from financial_assets.serving.local.control import running_ports
from financial_assets.serving.local.loopback import fetch

MODEL = "lightweight-predictor-v1"
INFER = f"/v2/models/{MODEL}/infer"
JSON = {"content-type": "application/json"}
HEAD = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def test_the_limits_are_those_of_the_largest_batch() -> None:
    values = SERVED_LOOKBACK * CHANNEL_COUNT
    assert runtime._DEFAULTS["max_batch"] == limits.MAX_ROWS >= signals.BATCH_ROWS
    sample = np.random.default_rng(1).lognormal(5, 3, values * 8).astype(np.float32)  # cents to millions
    text = orjson.dumps(sample, option=orjson.OPT_SERIALIZE_NUMPY)
    assert 0.7 * limits.REST_BODY_BYTES < len(text) / 8 * limits.MAX_ROWS < limits.REST_BODY_BYTES
    assert 4 * limits.MAX_ROWS * values < limits.GRPC_MESSAGE_BYTES


@pytest.fixture
def unharmed(plane: Any) -> Iterator[None]:
    """The same processes run afterwards, and hold little more memory than before."""

    def processes() -> dict[str, psutil.Process]:
        return {process.name: psutil.Process(process.pid) for process in plane.target.status().processes}

    before = {name: (process.pid, process.memory_info().rss) for name, process in processes().items()}
    yield
    for name, process in processes().items():
        pid, memory = before[name]
        assert process.pid == pid
        assert process.memory_info().rss < memory + 250 * 2**20, name


@pytest.mark.integration
@pytest.mark.usefixtures("unharmed")
def test_a_body_beyond_the_limit_is_refused_with_the_limit(
    http: httpx.Client, plane: Any, client: InferenceClient, bars_of: Any
) -> None:
    url = plane.endpoint.http_url + INFER
    for content in (b" " * (60 * 10**6), (b" " * 2**16 for _ in range(40)), b" " * (limits.REST_BODY_BYTES + 1)):
        answer = http.post(url, content=content, headers=JSON, timeout=60)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/json")
        assert f"the body exceeds {limits.REST_BODY_BYTES} bytes" in answer.json()["error"]
    full = limits.MAX_ROWS
    assert len(client.infer_batch(MODEL, bars_of(full)).probability_up) == full
    with pytest.raises(RequestRejectedError, match=rf"RESOURCE_EXHAUSTED.*max .*{limits.GRPC_MESSAGE_BYTES}"):
        client.infer_batch(MODEL, bars_of(2 * full))


def inside(plane: Any) -> int:
    """Requests with large bodies that the gateway has handed to the server."""
    ports = running_ports(plane.home)
    assert ports is not None
    answer = fetch(f"http://127.0.0.1:{ports.admin}/stats", params={"filter": "_large.upstream_rq_active$"})
    return sum(int(line.rpartition(" ")[2]) for line in answer.text.splitlines())


@pytest.mark.integration
@pytest.mark.usefixtures("unharmed")
def test_slow_senders_are_cut_off_and_hold_up_nobody(plane: Any, client: InferenceClient, bars_of: Any) -> None:
    with ExitStack() as stack:

        def connect(text: str) -> socket.socket:
            opened = stack.enter_context(raw(plane))
            opened.sendall(text.encode())
            return opened

        began = time.monotonic()
        headers = [connect(HEAD) for _ in range(40)]
        for _ in range(40):
            connect(f"{HEAD}content-length: 20000\r\n\r\n{{")
            connect("")
        body = f"{HEAD}content-length: 2000000\r\n\r\n{{"
        large = [connect(body) for _ in range(limits.LARGE_INSIDE)]
        # While their connections to the server are being made, they take places of those that wait.
        while inside(plane) < limits.LARGE_INSIDE:
            assert time.monotonic() < began + 30
            time.sleep(0.02)
        large += [connect(body) for _ in range(limits.LARGE_WAITING + 1)]
        [one] = select.select(large, [], [], 30)[0]  # the first that is answered found no place
        answer = one.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'{"error":"overloaded: this gateway answers' in answer
        for ask in (client.infer, client.infer_batch) * 20:
            assert ask(MODEL, bars_of(1)).route == MODEL
        for one in headers:
            one.settimeout(limits.HEADERS_S + 30)
            answer = one.recv(4096)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b'{"error":"the request did not arrive in time: 5 s for its headers' in answer
        assert time.monotonic() - began > limits.HEADERS_S - 1
    rows = 100  # more than LARGE_BODY_BYTES: the places are free again
    assert len(client.infer(MODEL, bars_of(rows)).probability_up) == rows


@pytest.mark.integration
@pytest.mark.parametrize("keep", [False, True])
def test_http_1_0_is_answered_and_kept_open_only_when_asked(plane: Any, bars_of: Any, keep: bool) -> None:
    content = json.dumps(
        {"inputs": [{"name": "bars", "shape": [1, 256, 7], "datatype": "FP32", "data": bars_of(1).ravel().tolist()}]}
    )
    asked = f"POST {INFER} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
    asked += "connection: keep-alive\r\n" if keep else ""
    with raw(plane) as opened, opened.makefile("rb") as answers:
        for number in range(2 if keep else 1):
            opened.sendall(f"{asked}\r\n{content}".encode())
            assert answers.readline() == b"HTTP/1.0 200 OK\r\n", number
            headers = dict(line.decode().strip().split(": ", 1) for line in iter(answers.readline, b"\r\n"))
            assert headers["connection"] == ("keep-alive" if keep else "close")
            assert json.loads(answers.read(int(headers["content-length"])))["model_name"] == f"{MODEL}_1"
        if not keep:
            assert answers.read() == b"", "the connection is closed"


def raw(plane: Any) -> socket.socket:
    host, port = plane.endpoint.grpc_target.split(":")
    return socket.create_connection((host, int(port)), timeout=30)
