"""A whole plane under steady load for long: errors, latency, and whether the memory of any process grows.

    python benchmarks/soak.py [--minutes 30 --predictions 28 --questions 10 --scrapes 5]

makes a small state folder, starts Envoy, MLServer and the HTTP interface beside them as ``financial-assets serve
--with-api`` does, and the exporter, and asks all of them at once, each in an open loop that does not wait for answers:

* ``--predictions`` requests a second through the gateway, half of them over REST and half over gRPC (28 are 100,000
  an hour); every answer must be that of its request and name its route;
* ``--questions`` a second to the HTTP interface: signals, one in fifty about risk or a portfolio;
* everything that Prometheus would scrape (exporter, interface, Envoy, MLServer) each ``--scrapes`` seconds.

Printed are requests, errors and latency from the scheduled instant, and of each process the resident memory after a
warm-up of a fifth: the slope of a line with its standard error (``serving/trend.py`` on means of half a minute; under
ten minutes it is too sure). Goals: no error, no process that was started again, and from ten minutes on no memory that
is shown to grow (95 % interval above 0) by more than 1 % an hour. Ctrl-C ends everything and removes the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
from desk.caller import TICKERS, Desk
from desk.home import make_home
from serving.pace import HEADING, Asking, Growth, Load, growth, paced
from serving.senders import GrpcSender, RestSender
from serving_latency import MODELS, random_bars, small_graph

from financial_assets.api.local import beside_the_plane
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import LOOPBACK, ApiPort, Layout, Ports, read_ports
from financial_assets.serving.local.processes.process import SupervisorState
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest
from financial_assets.settings import load_settings

EXPORTER = "from financial_assets.cli.main import main; main(['exporter', '--port', '0'])"
LONG = 10.0  # minutes from which a slope's interval can be trusted
MOST = 0.01  # of the memory, an hour
STATUS_S = 300.0


@dataclass(frozen=True)
class Plane:
    """What is asked and watched."""

    target: LocalTarget
    ports: Ports
    api: int
    exporter: str
    processes: Mapping[str, psutil.Process]

    @property
    def scraped(self) -> Mapping[str, str]:
        """Name -> URL of everything that Prometheus would scrape."""
        return {
            "exporter": self.exporter,
            "api": f"http://{LOOPBACK}:{self.api}/metrics",
            "envoy": f"http://{LOOPBACK}:{self.ports.admin}/stats/prometheus?usedonly",
            "mlserver": f"http://{LOOPBACK}:{self.ports.mlserver_metrics}/metrics",
        }


class Scraper:
    """Reads what one process exports."""

    def __init__(self, url: str) -> None:
        self._url = url
        # MLServer closes a connection that has been idle for five seconds, just when the next scrape may come. Where
        # Prometheus meets that, it asks again.
        limits = httpx.Limits(keepalive_expiry=2.0)
        self._http = httpx.AsyncClient(timeout=30.0, trust_env=False, limits=limits)

    async def send(self, number: int) -> None:
        """Scrape once."""
        answer = await self._http.get(self._url)
        if answer.status_code != 200 or "# TYPE" not in answer.text:
            raise OSError(f"scrape {number}: {answer.status_code} {answer.text[:100]}")

    async def close(self) -> None:
        """End the connection."""
        await self._http.aclose()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="length of the load")
    parser.add_argument("--predictions", type=float, default=100_000 / 3600, help="requests a second to the gateway")
    parser.add_argument("--questions", type=float, default=10.0, help="requests a second to the HTTP interface")
    parser.add_argument("--scrapes", type=float, default=5.0, help="seconds between two scrapes of each process")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with tempfile.TemporaryDirectory() as folder, running_plane(Path(folder)) as plane:
            return asyncio.run(soak(plane, options))
    except KeyboardInterrupt:
        print("\ninterrupted; everything is stopped and its folder removed", file=sys.stderr)
        return 130


async def soak(plane: Plane, options: argparse.Namespace) -> int:
    """Exit code: 1 when a goal is missed."""
    bars, headers = random_bars(64)[:, None], {"seldon-model": f"{EXPERIMENT_NAME}.experiment"}
    endpoint, desk = plane.target.endpoint(), Desk(plane.api)
    rest = RestSender(endpoint.http_url, EXPERIMENT_NAME, bars, headers)
    grpc = GrpcSender(endpoint.grpc_target, EXPERIMENT_NAME, bars, headers)
    scrapers = {name: Scraper(url) for name, url in plane.scraped.items()}
    seconds = 60 * options.minutes
    loads: list[tuple[str, Sequence[Asking], float]] = [
        ("predictions through the gateway", (rest, grpc), options.predictions),
        ("questions to the interface", (desk,), options.questions),
        *((f"scrapes: {name}", (scraper,), 1 / options.scrapes) for name, scraper in scrapers.items()),
    ]
    memory: dict[str, list[float]] = {name: [] for name in plane.processes}
    began = time.monotonic()
    watching = asyncio.create_task(_watch(plane.processes, memory, seconds))
    found = await asyncio.gather(*(paced(senders, rate, max(round(rate * seconds), 1)) for _, senders, rate in loads))
    await watching
    for sender in (rest, grpc, desk, *scrapers.values()):
        await sender.close()
    _print_loads(time.monotonic() - began, {name: load for (name, _, _), load in zip(loads, found, strict=True)})
    grown = {name: growth(np.array(values[len(values) // 5 :])) for name, values in memory.items()}
    print("resident memory after the first fifth")
    for name, one in grown.items():
        print(f"  {name:11}{one}")
    return _verdict(plane, options.minutes, sum(load.errors.total() for load in found), grown)


async def _watch(processes: Mapping[str, psutil.Process], memory: dict[str, list[float]], seconds: float) -> None:
    """Note the memory of each process every second; a process that has ended adds nothing."""
    began = told = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        for name, process in processes.items():
            if process.is_running():
                memory[name].append(process.memory_info().rss / 2**20)
        if now - told > STATUS_S:
            told = now
            latest = ", ".join(f"{name} {values[-1]:.0f}" for name, values in memory.items())
            print(f"after {(now - began) / 60:.0f} minutes: MiB {latest}", flush=True)
        await asyncio.sleep(1 - (time.monotonic() - now))


def _print_loads(seconds: float, loads: Mapping[str, Load]) -> None:
    print(f"{seconds / 60:.1f} minutes; milliseconds from the schedule")
    print(f"{'':32}{HEADING}")
    for name, load in loads.items():
        print(load.line(name))
        load.report_errors()


def _verdict(plane: Plane, minutes: float, errors: int, grown: Mapping[str, Growth]) -> int:
    missed = [f"{errors} errors"] if errors else []
    state = SupervisorState.read(Layout(plane.target.home).supervisor_state)
    children = state.children if state is not None else ()
    missed += [f"{child.name} was started again: {child.last_exit}" for child in children if child.restarts]
    missed += [f"{name} has ended" for name, process in plane.processes.items() if not process.is_running()]
    if minutes >= LONG:
        growing = [name for name, one in grown.items() if one.low > 0 and one.slope > MOST * one.mean]
        missed += [f"the memory of {name} grows" for name in growing]
    print(f"a goal is missed: {'; '.join(missed)}" if missed else "no error, no process was started again")
    return 1 if missed else 0


@contextmanager
def running_plane(root: Path) -> Generator[Plane]:
    """Plane, interface and exporter of a new state folder; ends them."""
    home = root / "home"
    make_home(home, TICKERS)
    os.environ |= {
        "FINANCIAL_ASSETS_HOME": str(home),
        "API_PORT": "0",
        "API_REQUESTS_PER_MINUTE": "1000000",
        "API_BURST": "100000",
        "OMP_NUM_THREADS": "1",
    }
    for name in MODELS:
        (root / name).mkdir()
        (root / name / "model.onnx").write_bytes(small_graph())
    target = LocalTarget(home)
    exporter = subprocess.Popen([sys.executable, "-c", EXPORTER], stdout=subprocess.PIPE, text=True)
    try:
        ports = control.start(home, beside=beside_the_plane(load_settings()))
        manifests = [model_manifest(name, str(root / name)) for name in MODELS]
        target.apply([*manifests, experiment_manifest(default=MODELS[0], weights={MODELS[0]: 70, MODELS[1]: 30})])
        api = read_ports(Layout(home).api_port_file, ApiPort)
        assert api is not None
        assert exporter.stdout is not None
        url = exporter.stdout.readline().split()[-1]
        processes = {one.name: psutil.Process(one.pid) for one in target.status().processes if one.pid is not None}
        yield Plane(target, ports, api.api, url, {**processes, "exporter": psutil.Process(exporter.pid)})
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        control.stop(home)
        exporter.terminate()
        exporter.wait(60)


if __name__ == "__main__":
    sys.exit(main())
