"""An Alertmanager that answers what a test says, also what a real one never would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FaultyAlertmanager(ThreadingHTTPServer):
    """Answers what a test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.body = b"[]"
        self.asked: list[str] = []
        self.logins: list[str | None] = []
        self.drips = self.says_nothing = False
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, rows: Any) -> None:
        self.body = json.dumps(rows).encode()


class Handler(BaseHTTPRequestHandler):
    server: FaultyAlertmanager

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.logins.append(self.headers["authorization"])
        if self.server.says_nothing:
            self.server.released.wait(30)
            self.close_connection = True
            return
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        if not self.server.drips:
            self.wfile.write(self.server.body)
            return
        for byte in self.server.body:  # each one in time, all of them never
            if self.server.released.wait(0.05):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextmanager
def faulty_alertmanager() -> Iterator[FaultyAlertmanager]:
    """A running one."""
    with FaultyAlertmanager() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    """One alert as version 0.25 writes it."""
    return {
        "annotations": {"summary": "worse than the majority class"},
        "endsAt": "2026-11-21T02:00:54.123456789Z",
        "fingerprint": f"{number:016x}",
        "receivers": [{"name": "default"}],
        "startsAt": "2026-11-19T01:56:54.123456789Z",
        "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": "2026-11-21T01:56:54.123Z",
        "generatorURL": "http://prometheus:9090/graph",
        "labels": {
            "alertname": "ModelAccuracyDegraded",
            "experiment": "ab",
            "model_name": "baseline-predictor-v1",
            "severity": "warning",
        },
        **changes,
    }
