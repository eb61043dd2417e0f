"""Feature cells per second (tickers x sessions x features) beside TA-Lib and pandas on the same work, one thread.

    python benchmarks/features.py [--tickers 64 --sessions 3300 --no-compiled]

The whole catalogue is timed first. Then thirteen indicators that all three can compute: ours as the catalogue's
features (in units of their own scale), theirs as TA-Lib and pandas give them. Times are of the process's CPU clock, the
best of ``--repeat`` runs, so that other work on the machine disturbs them little. ``--compiled`` adds
``torch.compile``, whose compilation is timed apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import talib
import torch

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, compute_panel
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


def best_time(work: Callable[[], object], repeat: int) -> float:
    """CPU seconds of the quickest of ``repeat`` runs, after one that is not counted."""
    work()
    times: list[float] = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def report(name: str, cells: float, seconds: float, reference: float | None = None) -> float:
    speed = cells / seconds / 1e6
    beside = "" if reference is None else f"   {speed / reference:6.2f} x TA-Lib"
    print(f"  {name:<34}{speed:9.1f} M cells/s{beside}")
    return speed


def graph_time(graph: FeatureGraph, panel: PricePanel, chunk: int, repeat: int) -> float:
    bars = torch.from_numpy(panel.values)

    def work() -> None:
        with torch.inference_mode():
            for start in range(0, len(bars), chunk):
                graph(bars[start : start + chunk])

    return best_time(work, repeat)


def compare(panel: PricePanel, chunk: int, repeat: int) -> tuple[FeatureGraph, float]:
    """Print the comparison of the same work; returns the graph and TA-Lib's speed."""
    same = FeatureGraph([feature for feature in CATALOGUE if feature.name in SAME_WORK])
    cells = float(len(panel.tickers) * len(panel.sessions) * len(SAME_WORK))
    wide = panel.values.astype(np.float64)
    print(f"The same work: {len(SAME_WORK)} indicators")
    talib_speed = report("TA-Lib", cells, best_time(lambda: [with_talib(bars) for bars in wide], repeat))
    few = wide[: max(1, len(wide) // 8)]
    pandas_cells = cells * len(few) / len(wide)
    report("pandas", pandas_cells, best_time(lambda: [with_pandas(bars) for bars in few], repeat), talib_speed)
    report("feature graph, eager", cells, graph_time(same, panel, chunk, repeat), talib_speed)
    return same, talib_speed


def compile_and_report(
    graph: FeatureGraph, panel: PricePanel, chunk: int, repeat: int, reference: float | None
) -> None:
    """Time ``torch.compile`` of a graph, and measure how far it is from eager."""
    compiled = torch.compile(graph, dynamic=False)
    bars = torch.from_numpy(panel.values)[: len(panel.tickers) // chunk * chunk].split(chunk)

    def work() -> None:
        with torch.inference_mode():
            for part in bars:
                compiled(part)

    start = time.perf_counter()
    work()
    print(f"  compiled in {time.perf_counter() - start:.0f} s (first call)")
    cells = float(sum(len(part) for part in bars) * len(panel.sessions) * len(graph.names))
    report("feature graph, compiled", cells, best_time(work, repeat), reference)
    known = graph.lookback - 1
    with torch.inference_mode():
        difference = (compiled(bars[0]) - graph(bars[0])).abs()[..., known:]
    print(f"  largest difference from eager {float(difference.max()):.1e}")
    if not bool((difference <= COMPILED_TOLERANCE).all()):
        raise SystemExit(f"compiled and eager features differ by more than {COMPILED_TOLERANCE:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=64)
    parser.add_argument("--sessions", type=int, default=3300)
    parser.add_argument("--chunk", type=int, default=16, help="tickers computed together")
    parser.add_argument("--compiled-chunk", type=int, default=2, help="the same for the compiled graph")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compiled",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also torch.compile (once a minute or more, then cached; needs a C++ compiler)",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    panel = simulated_panel(arguments.tickers, arguments.sessions, arguments.seed)
    graph = FeatureGraph()
    cells = float(arguments.tickers * arguments.sessions * len(graph.names))
    print(
        f"{arguments.tickers} tickers x {arguments.sessions} sessions, one thread, chunks of {arguments.chunk} tickers"
    )
    print(f"The whole catalogue: {len(graph.names)} features")
    report("feature graph, eager", cells, graph_time(graph, panel, arguments.chunk, arguments.repeat))
    report("panel with mask and checks", cells, best_time(lambda: compute_panel(panel, graph), arguments.repeat))
    same, talib_speed = compare(panel, arguments.chunk, arguments.repeat)
    if arguments.compiled:
        compile_and_report(same, panel, arguments.compiled_chunk, arguments.repeat, talib_speed)
        print("The whole catalogue, compiled")
        compile_and_report(graph, panel, arguments.compiled_chunk, arguments.repeat, None)


if __name__ == "__main__":
    main()
