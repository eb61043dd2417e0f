"""The boards on the terminal, over a Prometheus that answers as it is told; the full pipeline asks the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.cli.main import main
from financial_assets.errors import PrometheusError
from financial_assets.monitoring.boards import BOARDS
from financial_assets.monitoring.boards.terminal import BARS, WIDTH, sparkline
from financial_assets.monitoring.prometheus import PrometheusClient

NOW = 1_700_000_000.0


class Prometheus:
    """Answers every question alike, and remembers them."""

    def __init__(self) -> None:
        self.status, self.answer, self.asked = 200, b"", list[dict[str, list[str]]]()
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parameters = parse_qs(urlsplit(self.path).query)
                double.asked.append(parameters)
                body = double.answer or double.series(float(parameters["end"][0]))
                self.send_response(double.status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def series(self, end: float) -> bytes:
        values = [[end - 60, "1"], [end - 30, "NaN"], [end, "3"]]
        found = [{"metric": {"model_name": "some-model", "question": "risk", "status": "ok"}, "values": values}]
        return self.say({"status": "success", "data": {"resultType": "matrix", "result": found}})

    @staticmethod
    def say(answer: Any) -> bytes:
        return json.dumps(answer).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    server = Prometheus()
    yield server
    server.close()


def command(home: Path, *arguments: str, **environment: str) -> Result:
    settings = {"FINANCIAL_ASSETS_HOME": str(home), "COLUMNS": "140", **environment}
    return CliRunner().invoke(main, ["dashboard", *arguments], env=settings)


def test_a_pipe_gets_all_boards_once(tmp_path: Path, prometheus: Prometheus) -> None:
    done = command(tmp_path, PROMETHEUS_URL=prometheus.url)
    assert done.exit_code == 0, done.output
    for board in BOARDS:
        assert board.question in " ".join(done.output.split())
    assert done.output.count("▁█") > 50  # from 1 to 3; a missing value is no value
    asked = [parameters["query"][0] for parameters in prometheus.asked]
    assert asked == [query.promql for board in BOARDS for panel in board.panels for query in panel.queries]


def test_one_board_and_its_span(tmp_path: Path, prometheus: Prometheus) -> None:
    done = command(tmp_path, "--board", "ab-test", "--once", "--span", "120", PROMETHEUS_URL=prometheus.url)
    assert done.exit_code == 0, done.output
    assert "risk: some-model" in done.output
    assert BOARDS[1].title not in done.output
    asked = prometheus.asked[0]
    assert float(asked["end"][0]) - float(asked["start"][0]) == pytest.approx(7200)
    assert float(asked["step"][0]) == 7200 / WIDTH


def test_without_data_it_says_so_and_what_must_run(tmp_path: Path, prometheus: Prometheus) -> None:
    prometheus.answer = prometheus.say({"status": "success", "data": {"resultType": "matrix", "result": []}})
    done = command(tmp_path, "--board", "serving", PROMETHEUS_URL=prometheus.url)
    assert done.exit_code == 0, done.output
    assert "no data" in done.output
    assert "needs envoy" in done.output


def test_without_a_prometheus_it_says_what_starts_one(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert done.exit_code == 1
    assert "financial-assets serve --with-monitoring" in done.output
    assert "PROMETHEUS_URL" in done.output


def test_one_that_does_not_answer_is_named_without_its_password(tmp_path: Path, prometheus: Prometheus) -> None:
    url = prometheus.url.replace("http://", "http://someone:hush-5151@")
    prometheus.status, prometheus.answer = 502, b"<html>"
    done = command(tmp_path, PROMETHEUS_URL=url)
    assert done.exit_code == 1
    assert "502 Bad Gateway" in done.output
    assert "Check PROMETHEUS_URL" in done.output
    assert "hush-5151" not in done.output
    prometheus.close()
    gone = command(tmp_path, PROMETHEUS_URL=url)
    assert gone.exit_code == 1
    assert "refused" in gone.output
    assert "hush-5151" not in gone.output
    prometheus.__init__()  # closed again by the fixture


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": "error", "error": "parse error: unexpected end"}, "refuses up.*parse error"),
        ({"status": "success", "data": {"resultType": "scalar", "result": [0, "1"]}}, "a scalar, not a matrix"),
        (["something else"], "nothing that Prometheus would say"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(prometheus: Prometheus, answer: Any, said: str) -> None:
    prometheus.answer = prometheus.say(answer)
    with pytest.raises(PrometheusError, match=said):
        PrometheusClient(prometheus.url).over("up", NOW - 60, NOW, 15)


@given(st.lists(st.floats(), max_size=200))
def test_a_sparkline_spans_from_the_lowest_to_the_highest(values: list[float]) -> None:
    drawn, finite = sparkline(values), [value for value in values if abs(value) < float("inf")]
    assert len(drawn) == min(len(finite), WIDTH)
    assert set(drawn) <= set(BARS)
    if len(finite) <= WIDTH and len(set(finite)) > 1:
        assert drawn[finite.index(max(finite))] == BARS[-1]
        assert drawn[finite.index(min(finite))] == BARS[0]


def test_the_latest_value_is_the_last_bar() -> None:
    assert sparkline([*range(1000), 0.0])[-1] == BARS[0]
    assert sparkline([5.0, 5.0]) == BARS[3] * 2
