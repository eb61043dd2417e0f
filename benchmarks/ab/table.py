"""The table of the A/B engine's goals: rows, intervals, and the command line that its parts share."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
CONFIDENCE = 0.99
NEVER = 10**9
SEED = 20240607


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    goal: str
    what: str
    target: str
    measured: str
    control: str
    met: str


Goal = Callable[[np.random.Generator], Iterator[Row]]


def share(hits: Array | Bools) -> tuple[float, float, float]:
    """Share with its Clopper-Pearson interval."""
    k, n = int(np.sum(hits)), int(np.size(hits))
    tail = (1 - CONFIDENCE) / 2
    low = float(special.betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return k / n, low, high


def said(value: tuple[float, float, float]) -> str:
    """A share in per cent."""
    return f"{100 * value[0]:.2f} % [{100 * value[1]:.2f}, {100 * value[2]:.2f}]"


def mean(values: Sequence[float] | Array) -> tuple[float, float, float]:
    """Mean over runs with 1.96 standard errors."""
    data = np.asarray(values, np.float64)
    half = 1.96 * float(data.std(ddof=1)) / math.sqrt(data.size)
    return float(data.mean()), float(data.mean()) - half, float(data.mean()) + half


def shown(value: tuple[float, float, float], digits: int = 2) -> str:
    """A mean with its interval."""
    return f"{value[0]:.{digits}f} [{value[1]:.{digits}f}, {value[2]:.{digits}f}]"


def median(values: Sequence[float] | NDArray[np.int64]) -> tuple[float, float, float]:
    """Median with its interval by order statistics."""
    data = np.sort(np.asarray(values))
    rank = 2.576 * math.sqrt(len(data)) / 2
    low, high = (int(np.clip(round(len(data) / 2 + side * rank), 0, len(data) - 1)) for side in (-1, 1))
    return float(np.median(data)), float(data[low]), float(data[high])


def verdict(met: bool) -> str:
    """The last column."""
    return "met" if met else "NOT MET"


def ever(crossed: Bools) -> Bools:
    """Whether each path crosses at some look."""
    return np.asarray(crossed.any(axis=-1), dtype=np.bool_)


def first(crossed: Bools) -> NDArray[np.int64]:
    """Number of looks until the first crossing, ``NEVER`` without one."""
    return np.where(crossed.any(axis=-1), crossed.argmax(axis=-1) + 1, NEVER)


def running_z(days: Array) -> Array:
    """Student's t after each day; 0 on the first day."""
    n = np.arange(1, days.shape[-1] + 1)
    average = np.cumsum(days, axis=-1) / n
    variance = np.maximum(np.cumsum(days**2, axis=-1) - n * average**2, 1e-12) / np.maximum(n - 1, 1)
    return np.where(n > 1, average / np.sqrt(variance / n), 0.0)


def rows_of(goal: Goal, name: str, seed: int) -> list[Row]:
    """One goal's rows; its random numbers depend on seed and name only, not on what else is run."""
    return list(goal(np.random.default_rng([seed, *name.encode()])))


def main(goals: Mapping[str, Goal], about: str | None, *, alone: Sequence[str] = ()) -> int:
    """Command line of one part of the table, or of all; how many rows miss their goal.

    Parameters
    ----------
    goals
        By name, in the order of the table.
    about
        First line of the help.
    alone
        Goals that measure time: run one after the other, before the others.
    """
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=list(goals), default=list(goals), help="goals (default: all)")
    parser.add_argument("--seed", type=int, default=SEED, help="of all random numbers (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    chosen = parser.parse_args()
    names = [name for name in goals if name in chosen.only]
    began = time.perf_counter()
    print("| goal | what | target | measured | naive control | |\n| --- | --- | --- | --- | --- | --- |")
    missed = 0
    with ProcessPoolExecutor(max(1, chosen.workers)) as pool:
        done = {name: rows_of(goals[name], name, chosen.seed) for name in names if name in alone}
        running = {name: pool.submit(rows_of, goals[name], name, chosen.seed) for name in names if name not in alone}
        for name in names:
            for row in done[name] if name in done else running[name].result():
                cells = (row.goal, row.what, row.target, row.measured, row.control, row.met)
                print("| " + " | ".join(cells) + " |", flush=True)
                missed += row.met == verdict(False)
    took = time.perf_counter() - began
    print(
        f"\n{took:.0f} s with {chosen.workers} processes, seed {chosen.seed}; {missed} rows miss their goal unexplained"
    )
    return missed
