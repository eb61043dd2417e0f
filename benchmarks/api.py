"""The HTTP interface beside a bare FastAPI route, and under load.

    python benchmarks/api.py [--minutes 1 --in-flight 50 --requests 4000]

makes a small state folder, starts ``financial-assets api`` and a FastAPI application whose only route returns a
constant, each in a process of its own under uvicorn, and prints:

* cached: latency of one request after the other over one connection, to either in turns. Goal: the 99th percentile of
  a cached signal, with key, limit, metrics and a line in the log, is at most three times that of the constant.
* load: ``--in-flight`` requests at once for ``--minutes``: signals, and every fiftieth a question about risk, every
  hundredth one about a portfolio. Goals: no error, and resident memory that grows by at most 2 % after a warm-up of a
  fifth; from ten minutes on, the 95 % interval of its slope (``serving/trend.py``) must not lie above 0.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from desk.caller import BOOK, TICKERS, Caller, question
from desk.home import make_home
from serving.trend import trend

BARE = """
import sys, fastapi, uvicorn
app = fastapi.FastAPI()
@app.get("/constant")
async def constant():
    return {"status": "constant"}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)
"""
API = "from financial_assets.cli.main import main; main()"
BLOCK = 200
GOAL = 3.0
GROWTH, LONG = 0.02, 10.0  # share of the memory; minutes from which a slope's interval can be trusted


@dataclass(frozen=True)
class Server:
    """Where it answers, and its process."""

    port: int
    process: psutil.Process

    @property
    def used_s(self) -> float:
        """Processor time so far: what a request needs of it is the same on a busy machine."""
        return sum(self.process.cpu_times()[:2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.5, help="length of the load")
    parser.add_argument("--in-flight", type=int, default=50, help="requests at once")
    parser.add_argument("--requests", type=int, default=4000, help="requests to each server, one after the other")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as (ours, bare, key):
        ratio = asyncio.run(cached(ours, bare, key, given.requests))
        failed, is_flat = asyncio.run(load(ours, key, given.minutes, given.in_flight))
    if not (ratio <= GOAL and not failed and is_flat):
        print("a goal is missed")
        return 1
    return 0


async def cached(api: Server, bare: Server, key: str, count: int) -> float:
    """Ratio of the 99th percentiles."""
    ours, theirs = Caller(api.port, key), Caller(bare.port)
    assert await ours.ask("/v1/portfolio", BOOK) == 200  # behind it, the server has imported all that it ever will
    asked = (("cached signal", ours, "/v1/signals/AAA"), ("constant", theirs, "/constant"))
    found: dict[str, list[float]] = {name: [] for name, _, _ in asked}
    for _ in range(2 * BLOCK):  # imports, connections, branch prediction
        for _, caller, path in asked:
            assert await caller.ask(path) == 200
    used = {"cached signal": -api.used_s, "constant": -bare.used_s}
    # In turns of short blocks: what else the machine does then falls on both alike.
    for _ in range(max(count // BLOCK, 1)):
        for name, caller, path in asked:
            for _ in range(BLOCK):
                began = time.perf_counter()
                status = await caller.ask(path)
                found[name].append(time.perf_counter() - began)
                assert status == 200
    used = {"cached signal": used["cached signal"] + api.used_s, "constant": used["constant"] + bare.used_s}
    print(f"{'one after the other':24}{'requests':>10}{'p50 ms':>10}{'p99 ms':>10}{'processor ms':>14}")
    for name, seconds in found.items():
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        print(f"{name:24}{len(seconds):10}{p50:10.3f}{p99:10.3f}{1e3 * used[name] / len(seconds):14.3f}")
    median, ratio = (
        float(np.percentile(found["cached signal"], q) / np.percentile(found["constant"], q)) for q in (50, 99)
    )
    print(
        f"cached signal : constant = {median:.2f} (p50), {ratio:.2f} (p99; goal at most {GOAL:g}), "
        f"{used['cached signal'] / used['constant']:.2f} (processor)"
    )
    return ratio


async def load(server: Server, key: str, minutes: float, in_flight: int) -> tuple[int, bool]:
    """Errors, and whether the memory stayed where it was."""
    statuses: Counter[int | str] = Counter()
    latencies: dict[str, list[float]] = {"cached": [], "computed": []}
    ends = time.monotonic() + 60 * minutes
    numbers = iter(range(sys.maxsize))

    async def caller() -> None:
        connection = Caller(server.port, key)
        while time.monotonic() < ends:
            number = next(numbers)
            path, body = question(number)
            began = time.perf_counter()
            try:
                statuses[await connection.ask(path, body)] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                statuses[type(error).__name__] += 1
                connection = Caller(server.port, key)
            latencies["computed" if body else "cached"].append(time.perf_counter() - began)
        connection.close()

    memory: list[float] = []
    step = 60 * minutes / 120

    async def watch() -> None:
        while time.monotonic() < ends:
            memory.append(server.process.memory_info().rss / 2**20)
            await asyncio.sleep(step)

    used = -server.used_s
    await asyncio.gather(watch(), *(caller() for _ in range(in_flight)))
    used += server.used_s
    failed = sum(count for status, count in statuses.items() if status != 200)
    steady = np.array(memory[len(memory) // 5 :])
    slope = trend(steady)
    per_hour = 3600 / step
    asked = sum(len(seconds) for seconds in latencies.values())
    print(
        f"{in_flight} in flight: {asked} requests, {failed} errors, {asked / (60 * minutes):.0f} a second; "
        f"{1e3 * used / asked:.2f} ms of processor time each, {used / (60 * minutes):.0%} of one core"
    )
    for name, seconds in latencies.items():
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        print(f"{name:24}{len(seconds):10}{p50:10.1f}{p99:10.1f}")
    print(f"answers: {dict(statuses)}")
    # Between first and last half minute, as a share: what a short run can say.
    grown = steady[-1] / steady[0] - 1
    print(
        f"memory after the warm-up: grown by {grown:+.1%}; slope {slope.slope * per_hour:+.0f} MiB an hour, "
        f"95 % interval {slope.low * per_hour:+.0f} to {slope.high * per_hour:+.0f}"
    )
    return failed, bool(grown <= GROWTH and (minutes < LONG or slope.low <= 0))


@contextmanager
def _servers(folder: Path) -> Generator[tuple[Server, Server, str]]:
    """Both servers; ends them."""
    home = folder / "home"
    make_home(home, TICKERS)
    keys = folder / "keys.json"
    environment = {
        **os.environ,
        "FINANCIAL_ASSETS_HOME": str(home),
        "API_KEYS_FILE": str(keys),
        "API_REQUESTS_PER_MINUTE": "1000000",
        "API_BURST": "100000",
        "OMP_NUM_THREADS": "1",
    }
    made = _cli(environment, "api-key", "benchmark")
    with (folder / "api.log").open("w") as log, (folder / "bare.log").open("w") as other:
        api = subprocess.Popen(
            [sys.executable, "-c", API, "api", "--port", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        port = _free_port()
        bare = subprocess.Popen([sys.executable, "-c", BARE, str(port)], stdout=other, stderr=other)
        try:
            assert api.stdout is not None
            address = api.stdout.readline().split()[0]
            _wait(port)
            ours = Server(int(address.rpartition(":")[2]), psutil.Process(api.pid))
            yield ours, Server(port, psutil.Process(bare.pid)), made
        finally:
            for process in (api, bare):
                process.terminate()
            for process in (api, bare):
                process.wait(60)


def _cli(environment: Mapping[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", API, *arguments], env=dict(environment), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int) -> None:
    import socket

    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing answers on {port}")


if __name__ == "__main__":
    sys.exit(main())
