"""The plane under load: an hour's pace for minutes, a thousand requests in flight at once, and its highest rate.

    python benchmarks/serving_load.py [--minutes 30 --rate 28 --at-once 1000 --onnx model.onnx]

starts a plane in a temporary folder and prints, half of the requests over REST and half over gRPC:

* at once: ``--at-once`` requests sent at the same instant. Goal: no error. They come first: buffers grow with the
  number of requests in flight, so what follows finds them at their largest.
* steady: an open loop of ``--rate`` requests a second (28 are 100,000 an hour). Errors, latency from the scheduled
  instant, and the slope of the resident memory of Envoy and MLServer, after a warm-up of a fifth, with its 95 %
  interval (``serving/trend.py`` on means of half a minute, as neighbouring samples are alike; under ten minutes it is
  too sure). Goals: no error, an interval for both together that contains 0.
* rate: the highest rate over gRPC at which the 99th percentile stays below ``--limit-ms``, beside MLServer alone. Both
  take turns; of four rounds the best counts, because other work on the machine only ever adds.

Every answer is checked: its id is that of the request, and it names its route. Ctrl-C ends the plane, too, and removes
its folder.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from rich.progress import Progress
from serving.pace import HEADING, Load, growth, paced
from serving.senders import GrpcSender, RestSender, Sender
from serving_latency import MODELS, random_bars, small_graph

from financial_assets.serving.local.control import start, stop
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest

PARTS = ("at-once", "steady", "rate")
WARM_UP = 400
ROUNDS, ROUND_S, LOWEST, STEP = 4, 2.0, 25.0, 1.3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", type=Path, help="artefact to serve (default: a small generated graph)")
    parser.add_argument("--minutes", type=float, default=1.0, help="length of the steady load")
    parser.add_argument("--rate", type=float, default=100_000 / 3600, help="requests a second of the steady load")
    parser.add_argument("--at-once", type=int, default=1000, help="requests in flight at once")
    parser.add_argument("--limit-ms", type=float, default=50.0, help="99th percentile up to which a rate counts")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with tempfile.TemporaryDirectory() as folder, running_plane(Path(folder), options.onnx) as target:
            errors = asyncio.run(measure(target, options))
    except KeyboardInterrupt:
        print("\ninterrupted; the plane is stopped and its folder removed", file=sys.stderr)
        return 130
    return 1 if errors else 0


@contextmanager
def running_plane(root: Path, onnx: Path | None) -> Generator[LocalTarget]:
    """Two models that share the requests; ends with the context, however often somebody presses Ctrl-C."""
    content = onnx.read_bytes() if onnx else small_graph()
    for name in MODELS:
        (root / name).mkdir()
        (root / name / "model.onnx").write_bytes(content)
    target = LocalTarget(root / "home")
    manifests = [model_manifest(name, str(root / name)) for name in MODELS]
    try:
        target.apply([*manifests, experiment_manifest(default=MODELS[0], weights={MODELS[0]: 70, MODELS[1]: 30})])
        yield target
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        stop(root / "home")


async def measure(target: LocalTarget, options: argparse.Namespace) -> int:
    """Returns the number of errors."""
    endpoint, ports = target.endpoint(), start(target.home)
    bars = random_bars(64)[:, None]
    headers = {"seldon-model": f"{EXPERIMENT_NAME}.experiment"}
    gateway: list[Sender] = [
        RestSender(endpoint.http_url, EXPERIMENT_NAME, bars, headers),
        GrpcSender(endpoint.grpc_target, EXPERIMENT_NAME, bars, headers),
    ]
    direct = GrpcSender(f"127.0.0.1:{ports.mlserver_grpc}", endpoint.routes[MODELS[0]], bars, {})
    pids = {process.name: process.pid for process in target.status().processes if process.pid is not None}
    print(f"model: {options.onnx or 'small generated graph'}")
    errors = 0
    try:
        await paced(gateway, 40.0, WARM_UP)
        print(f"\n{'milliseconds from the schedule':32}{HEADING}", flush=True)
        if "at-once" in options.parts:
            errors += await at_once(gateway, options.at_once)
        if "steady" in options.parts:
            errors += await steady(gateway, options, pids)
        if "rate" in options.parts:
            await highest_rates({"gateway": gateway[1:], "MLServer alone": [direct]}, options.limit_ms)
        return errors
    finally:
        for sender in (*gateway, direct):
            await sender.close()


async def steady(senders: Sequence[Sender], options: argparse.Namespace, pids: Mapping[str, int]) -> int:
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}
    count = max(round(options.minutes * 60 * options.rate), 100)
    memory: dict[str, list[float]] = {name: [] for name in processes}
    with Progress() as progress:
        task = progress.add_task("steady load", total=count)

        def sample(sent: int) -> None:
            for name, process in processes.items():
                memory[name].append(process.memory_info().rss / 2**20)
            progress.update(task, completed=sent)

        load = await paced(senders, options.rate, count, sample)
        progress.update(task, completed=count)
    print(load.line(f"steady, {options.rate:.1f} a second"))
    load.report_errors()
    samples = {name: np.array(values) for name, values in memory.items()}
    print("resident memory after the first fifth")
    for name, values in {**samples, "together": sum(samples.values(), np.zeros(1))}.items():
        print(f"  {name:9} {growth(values[len(values) // 5 :])}")
    tenths = " ".join(f"{part.mean():.1f}" for part in np.array_split(sum(samples.values(), np.zeros(1)), 10))
    print(f"  together, tenth by tenth of the whole time: {tenths} MiB", flush=True)
    return load.errors.total()


async def at_once(senders: Sequence[Sender], count: int) -> int:
    total = 0
    for _ in range(ROUNDS):
        load, now = Load(), time.perf_counter()
        await asyncio.gather(*(load.ask(senders[number % len(senders)], number, now) for number in range(count)))
        print(load.line(f"{count} at once"), flush=True)
        load.report_errors()
        total += load.errors.total()
    return total


async def highest_rates(ways: dict[str, Sequence[Sender]], limit_ms: float) -> None:
    best, misses, rate = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0), LOWEST
    # A busy moment of the machine may spoil a rate, but hardly two that follow each other.
    while climbing := [name for name in ways if misses[name] < 2]:
        p99 = dict.fromkeys(climbing, float("inf"))
        for _ in range(ROUNDS):
            for name in climbing:
                if p99[name] > limit_ms:
                    load = await paced(ways[name], rate, round(rate * ROUND_S))
                    if not load.errors:
                        p99[name] = min(p99[name], 1e3 * float(np.percentile(load.latencies, 99)))
        print("; ".join(f"{name}, {rate:.0f} a second: p99 {p99[name]:.1f} ms" for name in climbing), flush=True)
        for name in climbing:
            misses[name] = 0 if p99[name] <= limit_ms else misses[name] + 1
            best[name] = best[name] if misses[name] else rate
        rate *= STEP
    found = ", ".join(f"{name} {best[name]:.0f}" for name in ways)
    ratio = best["gateway"] / best["MLServer alone"] if best["MLServer alone"] else float("nan")
    print(f"highest rate a second with a p99 below {limit_ms:g} ms: {found}; ratio {ratio:.2f}")


if __name__ == "__main__":
    sys.exit(main())
