"""Operating characteristics of the drift check on features, beside rivals on the same worlds.

    OMP_NUM_THREADS=1 python benchmarks/drift [--worlds 100 --plants 50 --markets 40 --tickers 2 10 --seed 1]

First years with a false alarm, by kind of world, with the upper end of the exact 95 % interval. Then what is planted
into one of twenty features: share found within 60 sessions and median delay. Worlds whose alarm comes before the change
count as not found. Rules that break the budget are fast because they always alarm.
"""

from __future__ import annotations

import argparse

import numpy as np
from plants import AT, PLANTS
from rules import NEVER, RULES
from scipy.stats import beta
from worlds import KINDS, REFERENCE, YEAR, Draw

_TOGETHER = 25
_PLANTED = ("iid", "AR(.2), GARCH-t5", "AR(.98) and noise", "panel of 10")


def batches(draw: Draw, seed: int, worlds: int) -> list[tuple[list[np.random.Generator], list[np.ndarray]]]:
    """Worlds and their generators, in batches that are judged at once."""
    found = []
    for start in range(0, worlds, _TOGETHER):
        rngs = [np.random.default_rng([seed, world]) for world in range(start, min(worlds, start + _TOGETHER))]
        found.append((rngs, [draw(rng) for rng in rngs]))
    return found


def judged(rule: str, worlds: list[np.ndarray]) -> np.ndarray:
    values = np.concatenate(worlds)
    return RULES[rule](values[:, :REFERENCE], values[:, REFERENCE:], len(worlds))


def share(alarms: np.ndarray) -> str:
    """Percent, and the upper end of the exact two-sided 95 % interval (Clopper and Pearson 1934)."""
    count, total = int(alarms.sum()), len(alarms)
    high = 1.0 if count == total else float(beta.ppf(0.975, count + 1, total - count))
    return f"{100 * count / total:.0f} (<= {100 * high:.0f})"


def false_alarms(worlds: int, seed: int) -> None:
    """Table: kind of world by rule."""
    print(f"Years with a false alarm of any of 20 features, %, {worlds} years each,")
    print("upper end of the 95 % interval in brackets; the budget is 9.5 %")
    for kind, draw in KINDS.items():
        cells, drawn = list[str](), batches(draw, seed, worlds)
        for rule in RULES:
            alarms = np.concatenate([judged(rule, values) <= YEAR for _, values in drawn])
            cells.append(f"{rule}: {share(alarms)}")
        print(f"{kind:<20}" + "; ".join(cells), flush=True)


def planted(worlds: int, seed: int) -> None:
    """Table: kind of world and change by rule."""
    print(f"Planted into one of 20 features after {AT} sessions: found within 60 sessions, % / median delay")
    for kind in _PLANTED:
        for name, plant in PLANTS.items():
            drawn = batches(KINDS[kind], seed + 1, worlds)
            changed = [[plant(x, rng) for rng, x in zip(rngs, values, strict=True)] for rngs, values in drawn]
            cells = []
            for rule in RULES:
                found = np.concatenate([judged(rule, values) for values in changed]) - AT
                right = (found > 0) & (found <= 60)
                waited = np.where(found > 0, found, NEVER)
                middle = float(np.median(waited))
                delay = f"{middle:.0f}" if middle < YEAR else "never"
                cells.append(f"{rule}: {100 * right.mean():.0f} / {delay}")
            print(f"{kind:<20}{name:<16}" + "; ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=100, help="years of each kind of stream; 0: none")
    parser.add_argument("--plants", type=int, default=50, help="years of each planted change; 0: none")
    parser.add_argument("--markets", type=int, default=40, help="years of simulated prices; 0: none")
    parser.add_argument("--tickers", type=int, nargs="+", default=[2, 10], help="of the simulated prices")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.worlds:
        false_alarms(arguments.worlds, arguments.seed)
    if arguments.plants:
        planted(arguments.plants, arguments.seed)
    if arguments.markets:
        from markets import own_false_alarms

        for tickers in arguments.tickers:
            alarms = own_false_alarms(arguments.markets, tickers, arguments.seed)
            print(f"own features, {tickers} tickers: {share(alarms)}", flush=True)


if __name__ == "__main__":
    main()
