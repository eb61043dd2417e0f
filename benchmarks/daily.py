"""The job ``daily`` on a simulated universe through the real local plane, beside one bare onnxruntime pass over it.

    python benchmarks/daily.py [--tickers 100 --days 3] [--scale] [--folder FOLDER]

A temporary state folder is made: models are trained on a few tickers (one pass over their rows: what they know does not
matter here), then the universe is widened and ``daily`` goes one session forward, several times. Training, the first
plane start and the widening are not part of the figure. Every asset's share is that of the median run; between the runs
the champion's ONNX file alone is run over the same windows, in this process and one thread. What Dagster itself takes
is that of a run of as many empty assets. With ``--scale`` the universe grows from 100 to 500 and 2,000 tickers, and the
exponents of cost are printed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from universe import simulated_prices

from financial_assets.automation.console import CONSOLE, console_logger
from financial_assets.installation import Installation, open_installation
from financial_assets.models.onnx.export import onnx_session, run_onnx
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.serving.local.control import stop
from financial_assets.serving.signals import BATCH_ROWS
from financial_assets.settings import load_settings

ROOT = Path(__file__).parents[1]
TRAINED_ON = 8
SCALE = (100, 500, 2000)
MOST_PASSES = 60
MOST_EXPONENT = 1.1
SCALED = {"replay": ("predictions",), "evaluation": ("ab_evaluation",), "daily": ()}
"""What the exponents are of: assets by name, or the whole run."""


@dataclass(frozen=True)
class Day:
    """Seconds of one run of ``daily``: as a whole, until the signals are written, and by asset."""

    total: float
    to_signals: float
    assets: dict[str, float]


@dataclass(frozen=True)
class Figures:
    """Of one universe: the median day, one bare pass, and what Dagster takes for a step that does nothing."""

    tickers: int
    day: Day
    bare: float
    dagster: float

    def print(self) -> None:
        """One line per asset, then the ratio."""
        print(f"{self.tickers:,} tickers: daily {self.day.total:.2f} s, one bare pass {self.bare:.3f} s", flush=True)
        for name, seconds in sorted(self.day.assets.items(), key=lambda item: -item[1]):
            print(f"  {name:<20}{seconds:7.2f} s {seconds / self.day.total:6.0%}{seconds / self.bare:8.1f} passes")
        between = self.day.total - sum(self.day.assets.values())
        print(f"  {'between the assets':<20}{between:7.2f} s {between / self.day.total:6.0%}{between / self.bare:8.1f}")
        steps = len(self.day.assets)
        print(f"  {'Dagster alone':<20}{self.dagster:7.2f} s for {steps} empty assets, part of the lines above")
        signals, whole = self.day.to_signals / self.bare, self.day.total / self.bare
        limit = f"at most {MOST_PASSES} at {SCALE[-1]:,} tickers"
        print(f"  start to signals {signals:.0f} bare passes ({limit}), to the end {whole:.0f}", flush=True)


class World:
    """A state folder, its Dagster instance, and prices of a whole universe, of which ``TICKERS`` uses a part."""

    def __init__(self, root: Path, tickers: int, sessions: int) -> None:
        self.root, self.home = root, root / "state"
        shutil.copy(ROOT / "dagster.yaml", root / "dagster.yaml")
        prices = simulated_prices(tickers, sessions)
        self.tickers = sorted(prices["ticker"].unique())
        prices.to_parquet(root / "prices.parquet", index=False)
        os.chdir(root)  # where Dagster keeps its files
        os.environ.update(
            FINANCIAL_ASSETS_HOME=str(self.home),
            DAGSTER_HOME=str(root),
            PRICE_SOURCE="files",
            PRICE_FILES=str(root / "prices.parquet"),
            MAX_EPOCHS="1",
            REPLAY_SESSIONS="2",
            PROGRESS="false",
        )
        for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("DO_NOT_TRACK", "true"), ("OMP_NUM_THREADS", "1")):
            os.environ.setdefault(name, value)

    def run(self, job: str, tickers: int) -> Day:
        """Execute a job with the first ``tickers`` of the universe; a failure ends the benchmark."""
        os.environ["TICKERS"] = ",".join(self.tickers[:tickers])
        sys.modules.pop("financial_assets.definitions", None)
        definitions = importlib.import_module("financial_assets.definitions").defs
        return self._execute(definitions.resolve_job_def(job))

    def _execute(self, job: Any) -> Day:
        with dg.DagsterInstance.from_config(str(self.root)) as instance:
            began = time.perf_counter()
            result = job.execute_in_process(instance=instance, raise_on_error=True)
            total = time.perf_counter() - began
            starts, assets, ends = dict[str, float](), dict[str, float](), dict[str, float]()
            first = 0.0
            for record in instance.all_logs(result.run_id):
                event = record.dagster_event
                first = first or record.timestamp
                if event is not None and event.is_step_start:
                    starts[str(event.step_key)] = record.timestamp
                elif event is not None and event.is_step_success:
                    assets[str(event.step_key)] = record.timestamp - starts[str(event.step_key)]
                    ends[str(event.step_key)] = record.timestamp
        return Day(total, ends.get("daily_signals", first) - first, assets)

    def empty_run(self, assets: int) -> float:
        """Seconds of a run of as many assets that do nothing, one after the other."""
        made: list[Any] = []
        for number in range(assets):

            @dg.asset(name=f"empty_{number}", deps=made[-1:])
            def empty() -> None:
                return None

            made.append(empty)
        config = {"execution": {"config": {"in_process": {}}}, "loggers": CONSOLE}
        job = dg.define_asset_job("empty", config=config)
        resolved = dg.Definitions(assets=made, jobs=[job], loggers={"console": console_logger}).resolve_job_def("empty")
        return min(self._execute(resolved).total for _ in range(2))

    def installation(self) -> Installation:
        """The parts of the state folder, with the settings of now."""
        return open_installation(load_settings())

    def bare_pass(self, tickers: int) -> float:
        """Seconds of the champion's ONNX file over the last windows of the universe, in one thread."""
        os.environ["TICKERS"] = ",".join(self.tickers[:tickers])
        parts = self.installation()
        with parts.ab_test.log() as log:
            champion = parts.ab_test.current_epoch(log).champion
        session = onnx_session(parts.models.lifecycle().artifact_of(champion.version).onnx_path)
        panel = parts.market.load_panel()
        names, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
        if len(names) != tickers:
            raise SystemExit(f"only {len(names)} of {tickers} tickers have a window")
        times: list[float] = []
        for _ in range(3):
            began = time.perf_counter()
            for first in range(0, len(bars), BATCH_ROWS):
                run_onnx(session, bars[first : first + BATCH_ROWS])
            times.append(time.perf_counter() - began)
        return min(times)


def measure(world: World, tickers: int, days: int) -> Figures:
    """Widen the universe, then go ``days`` sessions forward with a bare pass after each."""
    world.run("daily", tickers)  # prices, features and pairs of the new tickers' past
    runs, passes = list[Day](), list[float]()
    for _ in range(days):
        runs.append(world.run("daily", tickers))
        passes.append(world.bare_pass(tickers))
    median = sorted(runs, key=lambda run: run.total)[(len(runs) - 1) // 2]
    return Figures(tickers, median, statistics.median(passes), world.empty_run(len(median.assets)))


def exponents(found: Sequence[Figures]) -> None:
    """Least-squares slope of log cost over log tickers."""
    sizes = np.log([one.tickers for one in found])
    for name, assets in SCALED.items():
        cost = [sum(one.day.assets[asset] for asset in assets) if assets else one.day.total for one in found]
        slope = float(np.polyfit(sizes, np.log(cost), 1)[0])
        print(
            f"exponent of {name} over {', '.join(f'{one.tickers:,}' for one in found)} tickers: {slope:.2f} "
            f"(at most {MOST_EXPONENT})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=100)
    parser.add_argument(
        "--sessions",
        type=int,
        default=520,
        help="length of the price histories; from 482 on all questions can be asked",
    )
    parser.add_argument("--days", type=int, default=3, help="runs of daily that are measured")
    parser.add_argument("--folder", type=Path, help="an existing folder to keep the state in, and to use it again")
    parser.add_argument("--scale", action="store_true", help=f"{', '.join(map(str, SCALE))} tickers instead")
    arguments = parser.parse_args()
    sizes = SCALE if arguments.scale else (arguments.tickers,)
    with tempfile.TemporaryDirectory() if arguments.folder is None else nullcontext(arguments.folder) as place:
        world = World(Path(place).resolve(), max(*sizes, TRAINED_ON), arguments.sessions)
        try:
            if not world.home.exists():
                world.run("full_pipeline", TRAINED_ON)
            found = [measure(world, size, arguments.days) for size in sizes]
        finally:
            stop(world.home)
            os.chdir(ROOT)
    for figures in found:
        figures.print()
    if len(found) > 1:
        exponents(found)


if __name__ == "__main__":
    main()
