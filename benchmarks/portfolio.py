"""A large universe from scores to net returns, beside the same in pandas.

    python benchmarks/portfolio.py [--tickers 2000 --sessions 1500 --runs 5]

Quintiles of random scores without ties, with flat costs, spreads and square-root impact. The rival ranks and
differences frames; it knows neither halts, delistings and stops nor weights that drift, and its net returns must agree
with ours within 1e-12. Runs are interleaved; the fastest of each counts, in seconds of
the processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from financial_assets.portfolio.books import long_short
from financial_assets.portfolio.costs import Costs, SquareRootImpact
from financial_assets.portfolio.simulation import Rebalancing, simulate

CAPITAL, FLAT_BPS = 1e7, 2.0
Panels = dict[str, np.ndarray]


def panels(tickers: int, sessions: int) -> Panels:
    """Scores, returns and rates ``[ticker, session]``."""
    random = np.random.default_rng(0)
    shape = (tickers, sessions)
    return {
        "scores": random.standard_normal(shape),
        "returns": random.normal(0, 0.02, shape),
        "spread": random.uniform(1e-4, 5e-4, shape),
        "volatility": random.uniform(0.01, 0.03, shape),
        "volume": random.uniform(1e6, 1e8, shape),
    }


def ours(data: Panels, rebalancing: Rebalancing) -> np.ndarray:
    """Net returns by the package."""
    costs = Costs(FLAT_BPS, data["spread"], SquareRootImpact(1.0, data["volatility"], data["volume"]))
    weights = long_short(data["scores"])
    return simulate(weights, data["returns"], costs, capital=CAPITAL, rebalancing=rebalancing).net


def in_pandas(data: dict[str, pd.DataFrame]) -> np.ndarray:
    """Net returns by frames with a row per session."""
    ranks = data["scores"].rank(axis=1)
    names = len(ranks.columns)
    places = names // 5
    weights = ((ranks > names - places).astype(float) - (ranks <= places).astype(float)) / (2 * places)
    traded = weights.diff().fillna(weights).abs()
    left = weights.iloc[-1].abs()
    impact = data["volatility"] * (CAPITAL / data["volume"]) ** 0.5
    costs = ((traded * (data["spread"] + FLAT_BPS * 1e-4)) + impact * traded**1.5).sum(axis=1)
    costs.iloc[-1] += (left * (data["spread"].iloc[-1] + FLAT_BPS * 1e-4) + impact.iloc[-1] * left**1.5).sum()
    return ((weights * data["returns"]).sum(axis=1) - costs).to_numpy()


def seconds(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Processor time of one run, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    """Prints the seconds of each, and the ratio to the rival."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    data = panels(arguments.tickers, arguments.sessions)
    frames = {name: pd.DataFrame(np.ascontiguousarray(panel.T)) for name, panel in data.items()}
    works: dict[str, Callable[[], np.ndarray]] = {
        "pandas": lambda: in_pandas(frames),
        "free rebalancing": lambda: ours(data, "free"),
        "paid rebalancing": lambda: ours(data, "paid"),
    }
    best, net = dict.fromkeys(works, np.inf), dict[str, np.ndarray]()
    for _ in range(arguments.runs):
        for name, work in works.items():
            taken, net[name] = seconds(work)
            best[name] = min(best[name], taken)
    if not np.allclose(net["pandas"], net["free rebalancing"], rtol=0, atol=1e-12):
        raise SystemExit("pandas and this package do not agree on the net returns")
    for name, taken in best.items():
        print(f"{name:<18} {taken:7.2f} s   {taken / best['pandas']:5.2f} times pandas")


if __name__ == "__main__":
    main()
