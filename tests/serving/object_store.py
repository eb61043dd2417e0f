"""A real S3 server of its own process (moto), and a proxy before it that can spoil what passes."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pytest

from tests.waiting import wait_on

BUCKET = "models"
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class ObjectStore:
    """Where it answers."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a client of it needs; none asks the network who it is."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self) -> Any:
        """Its files, for the environment of this moment."""
        return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)


@contextmanager
def object_store(log: Path) -> Iterator[ObjectStore]:
    """Runs one with an empty bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_on(process, "it listens", lambda: _listens(port), log=log.read_text, poll_s=0.05)
        store = ObjectStore(f"http://127.0.0.1:{port}")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in store.environment.items():
                patch.setenv(name, value)
            store.client().mkdir(BUCKET)
        yield store
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def spoiling_proxy(store: ObjectStore, spoil: Callable[[str, bytes], bytes], status: int = 0) -> Iterator[ObjectStore]:
    """Passes requests on to ``store`` with bodies through ``spoil(method, body)``; or answers ``status`` itself."""
    address = urlsplit(store.url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _pass(self) -> None:
            body = spoil(self.command, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            code, headers, data = status, [], b""
            if not status:
                upstream = http.client.HTTPConnection(str(address.hostname), address.port)
                kept = {k: v for k, v in self.headers.items() if k.lower() not in {"expect", "connection"}}
                upstream.request(self.command, self.path, body, kept)
                answer = upstream.getresponse()
                code, headers, data = answer.status, answer.getheaders(), answer.read()
                upstream.close()
            self.send_response(code)
            for key, value in headers:
                if key.lower() not in _HOP_BY_HOP:
                    self.send_header(key, value)
            length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(data)

    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._pass)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield ObjectStore(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
