"""The real server process: it says where it answers, answers what it has begun, and refuses what is not its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from financial_assets.api.keys import read_keys
from financial_assets.cli.main import main
from tests.waiting import PATIENCE_S

COMMAND = "from financial_assets.cli.main import main; main()"


@dataclass
class Served:
    """A server process and where it answers."""

    process: subprocess.Popen[str]
    url: str
    announced: str
    log: Path

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def serve(home: Path, tmp_path: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    log = tmp_path / "api.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "api", "--port", "0", *arguments],
            env={**os.environ, "FINANCIAL_ASSETS_HOME": str(home), **environment},
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    try:
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert announced, log.read_text()
        yield Served(process, announced.split()[0], announced, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def ask(url: str) -> httpx.Response:
    return httpx.get(url, timeout=PATIENCE_S, trust_env=False)


def test_it_answers_many_and_ends_well(home: Path, tmp_path: Path) -> None:
    with serve(home, tmp_path) as served:
        assert "this machine only" in served.announced
        assert served.announced.rstrip().endswith("/docs")
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: ask(f"{served.url}/v1/signals/AAA"), range(64)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        assert "server" not in answers[0].headers
        assert ask(f"{served.url}/docs").status_code == 200
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(PATIENCE_S) == 0
        with pytest.raises(httpx.ConnectError):
            ask(f"{served.url}/healthz")
        requests = [line for line in served.lines() if line["message"] == "request"]
        assert sum(line["path"] == "/v1/signals/AAA" for line in requests) == 64


def test_requests_in_flight_are_answered_before_it_ends(home: Path, tmp_path: Path) -> None:
    """A body is half sent when the server is told to end; the other half still gets its answer."""
    body = json.dumps({"positions": [{"ticker": "AAA", "value": 1000.0}]}).encode()
    with serve(home, tmp_path) as served:
        host, port = served.url.removeprefix("http://").split(":")
        assert ask(f"{served.url}/readyz").status_code == 200
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as begun:
            begun.sendall(
                f"POST /v1/risk HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body[:10]
            )
            # The half is with the server once it counts it among those in flight, beside the scrape itself.
            while "in_flight 2.0" not in ask(f"{served.url}/metrics").text:
                pass
            served.process.send_signal(signal.SIGTERM)
            # It has taken the signal when it takes no more connections.
            while True:
                try:
                    socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
                except OSError:
                    break
            begun.sendall(body[10:])
            answer = b""
            while chunk := begun.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        assert b'"var_99"' in answer
        assert served.process.wait(PATIENCE_S) == 0


def test_a_request_that_never_ends_does_not_hold_it_for_ever(home: Path, tmp_path: Path) -> None:
    with serve(home, tmp_path, API_DRAIN_SECONDS="1") as served:
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as begun:
            begun.sendall(b"POST /v1/risk HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            while "in_flight 2.0" not in ask(f"{served.url}/metrics").text:
                pass
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(PATIENCE_S) == 0


def test_a_key_that_is_made_opens_a_server_that_asks_for_keys(home: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    made = CliRunner().invoke(main, ["api-key", "pm", "--scope", "signals", "--file", str(keys)])
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    with serve(home, tmp_path, API_KEYS_FILE=str(keys)) as served:
        assert "callers with an API key" in served.announced
        assert ask(f"{served.url}/v1/signals").status_code == 401
        answer = httpx.get(
            f"{served.url}/v1/signals", headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S, trust_env=False
        )
        assert answer.status_code == 200
        served.process.send_signal(signal.SIGTERM)  # what it has logged is in the file once it has ended
        assert served.process.wait(PATIENCE_S) == 0
        assert key not in served.log.read_text()
        assert '"caller":"pm"' in served.log.read_text()


def test_the_command_that_makes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert "API_KEYS_FILE is not set" in runner.invoke(main, ["api-key", "pm"]).output
    monkeypatch.setenv("API_KEYS_FILE", str(tmp_path / "keys.json"))
    done = runner.invoke(main, ["api-key", "pm", "--expires", "2999-01-01", "--requests-per-minute", "7"])
    assert done.exit_code == 0, done.output
    assert "signals, risk, portfolio, records" in done.stderr
    (kept,) = read_keys(tmp_path / "keys.json")
    assert (kept.name, kept.requests_per_minute) == ("pm", 7)
    assert "cannot be the name of a key" in runner.invoke(main, ["api-key", "a b"]).output
    assert runner.invoke(main, ["api-key", "pm", "--scope", "all"]).exit_code == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_keys_no_other_address_is_listened_on(home: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(home))
    done = CliRunner().invoke(main, ["api", "--host", host, "--port", "0"])
    assert done.exit_code == 1
    assert "API_KEYS_FILE" in done.output


def test_a_port_that_is_taken_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(home))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ["api", "--port", str(port)])
    assert done.exit_code == 1
    assert str(port) in done.output
