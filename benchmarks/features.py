"""Feature cells per second (tickers x sessions x features) beside TA-Lib and pandas on the same work, one thread.

    python benchmarks/features.py [--tickers 64 --sessions 3300 --no-compiled]

Thirteen indicators first that all can compute: ours as the catalogue's features (in units of their own scale), theirs
as TA-Lib and pandas give them. Then the whole catalogue, and how its cost grows with the number of tickers. Programs
take turns, and each one's time is the best of ``--repeat`` turns on the process's CPU clock, so that other work on the
machine disturbs them little. Compilation is timed apart: into an empty folder, and from that folder in a new process's
stead.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import talib
import torch

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.panels.eager import EagerProgram
from financial_assets.features.panels.native import NativeProgram
from financial_assets.market.panel import PricePanel

COMPILED_TOLERANCE = 1e-4
"""Largest difference between compiled and eager features; some 2e-6 is usual, a tie may fall the other way."""

SAME_WORK = (
    "close_vs_sma_5",
    "close_vs_sma_20",
    "close_vs_sma_100",
    "close_vs_ema_26",
    "momentum_10",
    "momentum_60",
    "rsi_14",
    "volatility_20",
    "average_true_range_14",
    "bollinger_position_20",
    "donchian_position_20",
    "volume_vs_sma_20",
    "market_correlation_20",
)


def simulated_panel(tickers: int, sessions: int, seed: int) -> PricePanel:
    """Random walks as a panel."""
    rng = np.random.default_rng(seed)
    shape = (tickers, sessions)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, shape), axis=1))
    open_ = close * np.exp(rng.normal(0, 0.01, shape))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.005, shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.005, shape)))
    volume = 1e6 * np.exp(rng.normal(0, 0.3, shape))
    market = np.broadcast_to(100 * np.exp(np.cumsum(rng.normal(0, 0.01, sessions))), shape)
    dates = pd.bdate_range("2000-01-03", periods=sessions)
    day = np.broadcast_to((dates - pd.Timestamp("1970-01-01")).days, shape)
    values = np.stack([open_, high, low, close, volume, market, day], axis=1).astype(np.float32)
    names = tuple(f"T{number:04d}" for number in range(tickers))
    return PricePanel(names, dates, np.ascontiguousarray(values), np.ones(shape, dtype=bool))


def with_talib(bars: np.ndarray) -> None:
    """The thirteen indicators of one ticker by TA-Lib's C loops (float64, as it wants them)."""
    _, high, low, close, volume, market, _ = bars
    for window in (5, 20, 100):
        _ = close / talib.SMA(close, window)
    _ = close / talib.EMA(close, 26)
    talib.ROCR(close, 10)
    talib.ROCR(close, 60)
    talib.RSI(close, 14)
    returns, benchmark = talib.ROCP(close, 1), talib.ROCP(market, 1)
    talib.STDDEV(returns, 20)
    talib.NATR(high, low, close, 14)
    _ = (close - talib.SMA(close, 20)) / talib.STDDEV(close, 20)
    top, bottom = talib.MAX(high, 20), talib.MIN(low, 20)
    _ = (close - bottom) / (top - bottom)
    _ = volume / talib.SMA(volume, 20)
    talib.CORREL(returns, benchmark, 20)


def with_pandas(bars: np.ndarray) -> None:
    """The thirteen indicators of one ticker by pandas."""
    _, high, low, close, volume, market, _ = (pd.Series(channel) for channel in bars)
    for window in (5, 20, 100):
        _ = close / close.rolling(window).mean()
    _ = close / close.ewm(span=26, adjust=False).mean()
    _ = close / close.shift(10), close / close.shift(60)
    change = close.diff()
    gain, loss = (side.ewm(alpha=1 / 14, adjust=False).mean() for side in (change.clip(lower=0), -change.clip(upper=0)))
    _ = gain / (gain + loss)
    returns, benchmark = close.pct_change(), market.pct_change()
    returns.rolling(20).std()
    previous = close.shift()
    true_range = pd.Series(np.maximum(high, previous) - np.minimum(low, previous))
    _ = true_range.ewm(alpha=1 / 14, adjust=False).mean() / close
    _ = (close - close.rolling(20).mean()) / close.rolling(20).std()
    top, bottom = high.rolling(20).max(), low.rolling(20).min()
    _ = (close - bottom) / (top - bottom)
    _ = volume / volume.rolling(20).mean()
    returns.rolling(20).corr(benchmark)


def best_times(works: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """CPU seconds of the quickest of ``repeat`` runs of each, in turns, after one that is not counted."""
    best = dict.fromkeys(works, float("inf"))
    for turn in range(repeat + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if turn:
                best[name] = min(best[name], time.process_time() - start)
    return best


def report(name: str, cells: float, seconds: float, reference: float, beside: str) -> None:
    print(f"  {name:<34}{cells / seconds / 1e6:9.1f} M cells/s   {reference / seconds:6.2f} x {beside}", flush=True)


def eager(graph: FeatureGraph, panel: PricePanel, chunk: int) -> Callable[[], object]:
    """The graph's features of the panel, some tickers at a time: ``compute_panel`` without masks and checks."""
    out = room(graph, panel, chunk)
    program = EagerProgram(graph.program(), graph.bounds, (chunk, len(panel.sessions), out.shape[-1]))
    return lambda: [program.run(bars, out) for bars in in_chunks(panel, chunk)]


def compiled(program: NativeProgram, panel: PricePanel, chunk: int) -> Callable[[], object]:
    """The same by compiled loops."""
    out = room(program.graph, panel, chunk)
    return lambda: [program.run(bars, out) for bars in in_chunks(panel, chunk)]


def room(graph: FeatureGraph, panel: PricePanel, chunk: int) -> np.ndarray:
    """Where the features of ``chunk`` tickers are written."""
    return np.empty((chunk, len(graph.names), len(panel.sessions) - graph.lookback + 1), dtype=np.float32)


def in_chunks(panel: PricePanel, chunk: int) -> list[np.ndarray]:
    """Bars of ``chunk`` tickers each; what is left over is left out."""
    return [panel.values[start : start + chunk] for start in range(0, len(panel.tickers) - chunk + 1, chunk)]


def compile_and_report(graph: FeatureGraph, panel: PricePanel, cache: Path) -> NativeProgram:
    """Compile a graph, find it compiled, and measure how far it is from eager."""
    for attempt in ("compiled", "found compiled"):
        start = time.perf_counter()
        program = NativeProgram(graph, cache)
        print(f"  {len(graph.names)} features {attempt} in {time.perf_counter() - start:.1f} s")
    few = panel.values[:8]
    with torch.inference_mode():
        exact = graph(torch.from_numpy(few)).numpy()[..., graph.lookback - 1 :]
    difference = np.abs(program.run(few) - exact)
    print(f"  largest difference from eager {float(difference.max()):.1e}")
    if not bool((difference <= COMPILED_TOLERANCE).all()):
        raise SystemExit(f"compiled and eager features differ by more than {COMPILED_TOLERANCE:g}")
    return program


def same_work(panel: PricePanel, chunks: tuple[int, int], repeat: int, cache: Path | None) -> None:
    """Print the comparison with TA-Lib and pandas."""
    graph = FeatureGraph([feature for feature in CATALOGUE if feature.name in SAME_WORK])
    wide = panel.values.astype(np.float64)
    few = wide[: max(1, len(wide) // 8)]
    print(f"The same work: {len(SAME_WORK)} indicators")
    works: dict[str, Callable[[], object]] = {
        "TA-Lib": lambda: [with_talib(bars) for bars in wide],
        "pandas": lambda: [with_pandas(bars) for bars in few],
        "eager": eager(graph, panel, chunks[0]),
    }
    if cache is not None:
        works["compiled"] = compiled(compile_and_report(graph, panel, cache), panel, chunks[1])
    times = best_times(works, repeat)
    times["pandas"] *= len(wide) / len(few)
    cells = float(len(panel.tickers) * len(panel.sessions) * len(SAME_WORK))
    for name, seconds in times.items():
        report(name, cells, seconds, times["TA-Lib"], "TA-Lib")


def whole_catalogue(panel: PricePanel, chunks: tuple[int, int], repeat: int, cache: Path | None) -> None:
    """Print the speed of all features."""
    graph = FeatureGraph()
    print(f"The whole catalogue: {len(graph.names)} features")
    works: dict[str, Callable[[], object]] = {
        "eager": eager(graph, panel, chunks[0]),
        "panel with mask and checks": lambda: compute_panel(panel, graph),
        "graph of torch operations": graph_work(graph, panel, chunks[0]),
    }
    if cache is not None:
        works["compiled"] = compiled(compile_and_report(graph, panel, cache), panel, chunks[1])
    times = best_times(works, repeat)
    cells = float(len(panel.tickers) * len(panel.sessions) * len(graph.names))
    for name, seconds in times.items():
        report(name, cells, seconds, times["eager"], "eager")


def graph_work(graph: FeatureGraph, panel: PricePanel, chunk: int) -> Callable[[], object]:
    """The same by the graph that is exported, whose windows are computed together."""

    def work() -> None:
        with torch.inference_mode():
            for bars in in_chunks(panel, chunk):
                graph(torch.from_numpy(bars))

    return work


def growth(sizes: tuple[int, ...], sessions: int, seed: int, cache: Path | None) -> None:
    """Print how the cost of the whole catalogue grows with the number of tickers."""
    graph = FeatureGraph()
    panels = {size: simulated_panel(size, sessions, seed) for size in sizes}
    works: dict[str, dict[str, Callable[[], object]]] = {
        "panel with mask and checks": {
            str(size): lambda p=panel: compute_panel(p, graph) for size, panel in panels.items()
        }
    }
    if cache is not None:
        program = NativeProgram(graph, cache)
        works["compiled"] = {str(size): lambda p=panel: program.run(p.values) for size, panel in panels.items()}
    print(f"Growth over {', '.join(f'{size:,}' for size in sizes)} tickers x {sessions:,} sessions: exponents")
    for name, by_size in works.items():
        times = list(best_times(by_size, 2).values())
        exponents = np.diff(np.log(times)) / np.diff(np.log(sizes))
        print(f"  {name:<34}{', '.join(f'{exponent:.2f}' for exponent in exponents)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=64)
    parser.add_argument("--sessions", type=int, default=3300)
    parser.add_argument("--chunk", type=int, default=16, help="tickers computed together")
    parser.add_argument("--compiled-chunk", type=int, default=8, help="the same for compiled loops")
    parser.add_argument("--repeat", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", type=int, nargs="*", default=(100, 500, 2000), help="numbers of tickers")
    parser.add_argument("--growth-sessions", type=int, default=500)
    parser.add_argument(
        "--compiled", action=argparse.BooleanOptionalAction, default=True, help="compiled, too: needs a C++ compiler"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    panel = simulated_panel(arguments.tickers, arguments.sessions, arguments.seed)
    print(
        f"{arguments.tickers} tickers x {arguments.sessions} sessions, one thread, chunks of {arguments.chunk} tickers"
    )
    with tempfile.TemporaryDirectory() as place:
        chunks = arguments.chunk, arguments.compiled_chunk
        cache = Path(place) if arguments.compiled else None
        same_work(panel, chunks, arguments.repeat, cache)
        whole_catalogue(panel, chunks, max(1, arguments.repeat // 5), cache)
        growth(tuple(arguments.growth), arguments.growth_sessions, arguments.seed, cache)


if __name__ == "__main__":
    main()
