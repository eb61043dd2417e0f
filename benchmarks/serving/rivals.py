"""What the plane is measured against: servers and a runtime that answer a constant, and Envoy without our routes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from financial_assets.serving.client.protocol import BINARY_EXTENSION
from financial_assets.serving.local.configuration import envoy_binary
from financial_assets.serving.local.layout import free_ports
from financial_assets.serving.local.loopback import fetch
from financial_assets.serving.local.processes.process import package_path

MODEL, GRAPH = "constant", "graph"
_HERE = Path(__file__).parent
_TYPES = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True)
class Address:
    """Ports on the loopback interface."""

    http: int
    grpc: int


@dataclass(frozen=True)
class Rivals:
    """Where they listen.

    Attributes
    ----------
    server
        A server that answers a constant.
    envoy, envoy_pid
        Envoy in front of it: one listener, one route and one cluster per protocol; and its process id.
    runtime
        The plane's MLServer with a runtime that answers a constant.
    stock
        MLServer as it comes with the same runtime.
    """

    server: Address
    envoy: Address
    envoy_pid: int
    runtime: Address
    stock: Address


@contextmanager
def running_rivals(root: Path, onnx: Path) -> Generator[Rivals]:
    """Start them all; they end with the context. The model ``GRAPH`` runs ``onnx`` before it answers."""
    free = free_ports(os.getpid())
    server, runtime, stock = (Address(next(free), next(free)) for _ in range(3))
    port = next(free)
    (root / "rivals").mkdir()
    with ExitStack() as stack:

        def run(command: Sequence[str | Path]) -> int:
            log = stack.enter_context((root / "rivals" / "log").open("ab"))
            environment = {**os.environ, "PYTHONPATH": f"{package_path()}:{_HERE.parent}", "OMP_NUM_THREADS": "1"}
            # Linux shares processor time out among sessions first, and the plane is not in this one either: on a busy
            # machine a rival in the client's session would be woken sooner.
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=root,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(_end, process)
            return process.pid

        run([sys.executable, _HERE / "constant_server.py", str(server.http), str(server.grpc), onnx])
        settings = _mlserver_files(root / "rivals" / "ours", runtime, next(free), onnx, extensions=[BINARY_EXTENSION])
        run([sys.executable, "-P", "-m", "financial_assets.serving.local.mlserver", settings])
        settings = _mlserver_files(root / "rivals" / "stock", stock, next(free), onnx, extensions=[])
        run([Path(sysconfig.get_path("scripts")) / "mlserver", "start", settings.parent])
        configuration = root / "rivals" / "envoy.json"
        configuration.write_text(json.dumps(_plain_envoy(port, server)))
        envoy = run(
            [envoy_binary(), "-c", configuration, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        )
        ready = f"v2/models/{GRAPH}/ready"
        for path in (f"{server.http}/v2", f"{port}/v2", f"{runtime.http}/{ready}", f"{stock.http}/{ready}"):
            _wait(f"http://127.0.0.1:{path}", root / "rivals" / "log")
        yield Rivals(server, Address(port, port), envoy, runtime, stock)


def _mlserver_files(folder: Path, address: Address, metrics_port: int, onnx: Path, *, extensions: list[str]) -> Path:
    """``settings.json`` beside two models, at the depth of those of a plane, whose server reads its layout from it."""
    home = folder / "serving" / "mlserver"
    implementation = "serving.constant_runtime.ConstantRuntime"
    for name, parameters in ((MODEL, {}), (GRAPH, {"parameters": {"uri": str(onnx)}})):
        (home / name).mkdir(parents=True)
        document = {"name": name, "implementation": implementation, **parameters}
        (home / name / "model-settings.json").write_text(json.dumps(document))
    settings: dict[str, Any] = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": address.http,
        "grpc_port": address.grpc,
        "metrics_port": metrics_port,
        "metrics_dir": str(home / "metrics"),
        "environments_dir": str(home / "environments"),
        "model_repository_root": str(home),
        "parallel_workers": 0,
        "gzip_enabled": False,
        "extensions": extensions,
    }
    path = home / "settings.json"
    path.write_text(json.dumps(settings))
    return path


def _plain_envoy(port: int, server: Address) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "plain",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/inference"}, "route": {"cluster": "grpc", "timeout": "0s"}},
                        {"match": {"prefix": "/"}, "route": {"cluster": "http", "timeout": "0s"}},
                    ],
                }
            ]
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "plain", "address": _address(port), "filter_chains": [{"filters": filters}]}
    clusters = [_cluster("http", server.http, "http_protocol_options")]
    clusters.append(_cluster("grpc", server.grpc, "http2_protocol_options"))
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _cluster(name: str, port: int, protocol: str) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "typed_extension_protocol_options": {
            options: {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {protocol: {}}}
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _wait(url: str, log: Path) -> None:
    for _ in range(600):
        try:
            if fetch(url).status_code == 200:
                return
        except httpx.TransportError:
            pass  # it is starting
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer; the log ends: {log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
