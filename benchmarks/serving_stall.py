"""What a stall of the gateway looks like to a closed and to an open loop, through the local plane.

``python benchmarks/serving_stall.py [--rate 40 --seconds 6 --stall 1.5]`` starts a plane in a temporary folder, sends
the same requests in both ways, without and with a stall (the gateway's process is stopped and goes on: nothing is
lost, everything waits), and prints service time (from sending, as the prediction log has it) beside latency (from the
scheduled instant). A closed loop has no schedule: all that it can tell is the service time.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import numpy_helper
from serving_latency import MODELS, random_bars, small_graph

from financial_assets.experiment.arms import Arm
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.counts import ReplayReport
from financial_assets.experiment.replay.open_loop import OpenLoop, Timing, percentiles
from financial_assets.experiment.replay.replay import replay
from financial_assets.experiment.replay.request import ReplayHooks, ReplayRequest
from financial_assets.market.calendar import sessions as trading_sessions
from financial_assets.market.panel import PricePanel
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.local.control import start, stop
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest

TICKERS = 10
LOOKBACK = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second of the open loop")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the open loop (at most 30)")
    parser.add_argument("--stall", type=float, default=1.5, help="seconds for which the gateway stands still")
    parser.add_argument("--workers", type=int, default=4, help="requests in flight at most, in both ways")
    options = parser.parse_args()
    sessions = max(2, round(options.rate * min(options.seconds, 30.0) / TICKERS))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        content = flat_graph()
        for name in MODELS:
            (root / name).mkdir()
            (root / name / "model.onnx").write_bytes(content)
        try:
            measure(root, sessions, options)
        finally:
            stop(root / "home")
    return 0


def measure(root: Path, sessions: int, options: argparse.Namespace) -> None:
    target = LocalTarget(root / "home")
    weights = {MODELS[0]: 70, MODELS[1]: 30}
    manifests = [model_manifest(name, str(root / name)) for name in MODELS]
    target.apply([*manifests, experiment_manifest(default=MODELS[0], weights=weights)])
    start(root / "home")
    (envoy,) = [process.pid for process in LocalTarget(root / "home").status().processes if process.name == "envoy"]
    assert envoy is not None
    prices = walk(sessions)
    print(
        f"{sessions * TICKERS} requests, at most {options.workers} in flight; open loop: {options.rate:g} a second "
        f"(Poisson); stall of {options.stall:g} s after 1 s"
    )
    print(f"\n{'milliseconds':44}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}")
    with InferenceClient(target.endpoint()) as client:  # first answers are slow
        for _ in range(20):
            client.infer(EXPERIMENT_NAME, random_bars(1))
    ratios: dict[str, float] = {}
    for stalled in (False, True):
        for loop in (None, OpenLoop(options.rate, seed=7)):
            name = f"{'open' if loop else 'closed'} loop, {'stall' if stalled else 'no stall'}"
            url = f"sqlite:///{root / name.replace(', ', '-').replace(' ', '-')}.db"
            stall = threading.Timer(1.0 if loop else 0.2, freeze, (envoy, options.stall)) if stalled else None
            if stall is not None:
                stall.start()
            report, timings, service = send(url, target, prices, loop, options.workers)
            if stall is not None:
                stall.join()
            print_line(f"{name}: service time", service)
            if report.load is not None:
                latency = dict(report.load.from_schedule)
                print_line(f"{name}: from the schedule", latency)
                ratios["stall" if stalled else "no stall"] = latency["p95"] / service["p95"]
                print(f"  {report.load.late} of {len(timings)} sent late, {report.most_in_flight} in flight at most")
    for name, ratio in ratios.items():
        print(f"open loop, {name}: p95 from the schedule is {ratio:.1f} times that of the service time")


def send(
    url: str, target: LocalTarget, prices: PricePanel, loop: OpenLoop | None, workers: int
) -> tuple[ReplayReport, list[Timing], dict[str, float]]:
    """One replay in a log of its own; its service times are those of the log."""
    cutoff = prices.sessions[LOOKBACK - 1]
    arms = (
        Arm(MODELS[0], "first", 1, "champion", 70, cutoff),
        Arm(MODELS[1], "second", 2, "challenger", 30, cutoff),
    )
    timings: list[Timing] = []
    with PredictionLog(url) as log:
        epoch = log.open_epoch(EXPERIMENT_NAME, arms, "benchmark", after=0)
        sessions = prices.sessions[LOOKBACK:-1]
        request = ReplayRequest(epoch, sessions, LOOKBACK, workers=workers, mode="split", load=loop)
        report = replay(
            request,
            log,
            prices,
            lambda: InferenceClient(target.endpoint(), timeout_s=30.0),
            ReplayHooks(timings=timings),
        )
        service = percentiles(log.routed()["latency_s"].dropna().tolist())
    assert report.ok == report.sent > 0, report
    return report, timings, service


def freeze(pid: int, seconds: float) -> None:
    """Let a process stand still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        threading.Event().wait(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def print_line(name: str, values: dict[str, float]) -> None:
    print(f"{name:44}" + "".join(f"{1e3 * values[key]:9.1f}" for key in ("p50", "p95", "p99", "max")))


def flat_graph() -> bytes:
    """The small graph with quantiles of 0: in order, as an answer's have to be."""
    model = onnx.load_model_from_string(small_graph())
    (weights,) = [one for one in model.graph.initializer if one.name == "weights"]
    values = numpy_helper.to_array(weights).copy()
    values[:, 1:] = 0
    weights.CopyFrom(numpy_helper.from_array(values, "weights"))
    return model.SerializeToString()


def walk(count: int) -> PricePanel:
    """Seeded random walks: ``count`` sessions to send after the first window."""
    days = trading_sessions("2010-01-04", pd.Timestamp("2010-01-04") + pd.Timedelta(days=2 * (LOOKBACK + count + 2)))
    days = days[: LOOKBACK + count + 1]
    bars = random_bars(TICKERS)
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal((TICKERS, len(days))), axis=1))
    volume = np.full_like(close, float(bars[0, 0, 4]))
    market = np.broadcast_to(close.mean(axis=0), close.shape)
    day = np.broadcast_to(days.to_numpy().astype("datetime64[D]").astype(np.int64), close.shape)
    values = np.stack([close, close * 1.001, close * 0.999, close, volume, market, day], axis=1).astype(np.float32)
    names = tuple(f"T{number:02d}" for number in range(TICKERS))
    return PricePanel(names, days, values, np.ones(close.shape, dtype=bool))


if __name__ == "__main__":
    sys.exit(main())
