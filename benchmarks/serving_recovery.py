"""How soon a killed server or gateway is back, and what an attack costs, each beside its own measure in the same run.

``python benchmarks/serving_recovery.py [--kills 3]`` starts a plane in a temporary folder. It kills MLServer and Envoy
several times in a row and prints the time until the gateway answers again over the time that the same command takes to
start alone. Then it sends bodies of 60 MB at once and opens slow connections, and prints memory and latency of valid
requests over those without an attack.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import numpy as np
import psutil
from serving_latency import MODELS, random_bars, small_graph

from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.local.configuration import plane_specs, server_settings
from financial_assets.serving.local.control import start, stop
from financial_assets.serving.local.layout import Layout, Ports, free_ports
from financial_assets.serving.local.processes.process import ProcessSpec, answers, end_process, has_ended
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import model_manifest

BODIES, BODY_BYTES, SLOW = 6, 60 * 10**6, 100
SECONDS = 4.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3, help="of each process, one soon after the other")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in MODELS:
            (root / name).mkdir()
            (root / name / "model.onnx").write_bytes(small_graph())
        target = LocalTarget(root / "home")
        try:
            target.apply([model_manifest(name, str(root / name)) for name in MODELS])
            recover(target, options.kills)
            endure(target)
        finally:
            stop(root / "home")
    return 0


def recover(target: LocalTarget, kills: int) -> None:
    layout, ports = Layout(target.home), start(target.home)
    envoy, server = plane_specs(layout, ports)
    beside = Ports(*(port for port, _ in zip(free_ports(1), asdict(ports), strict=False)))
    settings = target.home / "alone.json"
    settings.write_text(json.dumps(server_settings(layout, beside)))
    alone = ProcessSpec(
        "mlserver",
        (*server.command[:-1], str(settings)),
        server.cwd,
        f"http://127.0.0.1:{beside.mlserver_http}/v2/models/{target.endpoint().routes[MODELS[0]]}/ready",
        server.environment,
    )
    url = target.endpoint().http_url
    for name, spec, asked in (
        ("mlserver", alone, f"{url}/v2/models/{MODELS[0]}/ready"),
        ("envoy", replace(envoy, health_url=f"{url}/-/revision"), f"{url}/-/revision"),
    ):
        longest = max(kill(pid(target, name), asked) for _ in range(kills))
        if name == "envoy":  # its ports are those of its configuration: alone, it starts when the plane is stopped
            stop(target.home)
        own = max(own_start(spec) for _ in range(kills))
        start(target.home)
        print(f"{name}: kill to ready {longest:.2f} s at most, own start {own:.2f} s: ratio {longest / own:.2f}")


def own_start(spec: ProcessSpec) -> float:
    environment = {**os.environ, **spec.environment}
    environment = {name: value for name, value in environment.items() if value != ""}
    began = time.perf_counter()
    process = subprocess.Popen(
        spec.command, cwd=spec.cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait(lambda: answers(spec.health_url, 5))
        return time.perf_counter() - began
    finally:
        end_process(process, 1)


def kill(process: int, url: str) -> float:
    began = time.perf_counter()
    os.kill(process, signal.SIGKILL)
    wait(lambda: has_ended(psutil.Process(process)) if psutil.pid_exists(process) else True)
    wait(lambda: answers(url, 0.5))  # not longer: the gateway holds a request back while it tries again
    return time.perf_counter() - began


def endure(target: LocalTarget) -> None:
    usual, memory = latencies(target), resident(target)
    url = f"{target.endpoint().http_url}/v2/models/{MODELS[0]}/infer"
    with attack(url):
        under_bodies, peak = latencies(target), resident(target)
    with ExitStack() as stack:
        host, port = target.endpoint().grpc_target.split(":")
        for _ in range(SLOW):
            opened = stack.enter_context(socket.create_connection((host, int(port))))
            opened.sendall(f"POST /v2/models/{MODELS[0]}/infer HTTP/1.1\r\nhost: x\r\n".encode())
        under_slow = latencies(target)
    for name, value in memory.items():
        print(f"{name}: memory under bodies of 60 MB over that before: ratio {peak[name] / value:.2f}")
    for name, value in (("bodies of 60 MB", under_bodies), (f"{SLOW} slow connections", under_slow)):
        print(f"valid requests, p99 under {name} over the usual one: ratio {value / usual:.2f}")


@contextmanager
def attack(url: str) -> Generator[None]:
    """Bodies of 60 MB, several at once, again and again."""
    ending = threading.Event()
    body = b" " * BODY_BYTES

    def shoot() -> None:
        while not ending.is_set():
            refused = httpx.post(url, content=body, timeout=60, trust_env=False, verify=False)
            assert refused.status_code in (413, 503), refused.text

    threads = [threading.Thread(target=shoot) for _ in range(BODIES)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def latencies(target: LocalTarget) -> float:
    """The 99th percentile of valid requests, in seconds."""
    bars, taken, until = random_bars(1), list[float](), time.perf_counter() + SECONDS
    with InferenceClient(target.endpoint()) as client:
        while time.perf_counter() < until:
            taken.append(client.infer(MODELS[0], bars).latency_s)
    return float(np.percentile(taken, 99))


def resident(target: LocalTarget) -> dict[str, int]:
    return {name: psutil.Process(pid(target, name)).memory_info().rss for name in ("mlserver", "envoy")}


def pid(target: LocalTarget, name: str) -> int:
    (found,) = [process.pid for process in LocalTarget(target.home).status().processes if process.name == name]
    return found or 0


def wait(done: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
