"""Where nothing can be known, a walk-forward must find nothing; where a little can, as often as theory says.

    python benchmarks/walk_forward_canaries.py            # 50 markets of each kind, some minutes
    python benchmarks/walk_forward_canaries.py --seeds 5

It can be interrupted: markets that are done are reused (``--folder``), and those done so far are counted.

Two kinds of market hold no signal: a random walk, and one with momentum whose sessions are drawn at random.
Each is gone through in one fold by a network and by all baselines. Counted are the 95 % intervals that exclude what
ignorance scores: about one in twenty should.

A third kind is a table of scores whose true rank correlation with the excess return is 0.03, on 50 tickers and 150
sessions. The standard error of the mean is ``1 / sqrt((tickers - 1) sessions)``, which gives the power.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import CHANNELS, PricePanel, build_panel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.models.variants import Variant
from financial_assets.models.walk_forward.folds import FoldPlan
from financial_assets.models.walk_forward.run import WalkForward
from financial_assets.models.walk_forward.scores import ranking_scores, score_table

IGNORANCE = {"timing": 0.0, "auc": 0.5, "rank_ic": 0.0, "ic": 0.0}
"""What a score is where nothing is known."""

TICKERS = tuple(f"T{number:02d}" for number in range(12))
SESSIONS, TEST = 700, 60
QUICK = Variant("quick", layers=1, hidden=8, dropout=0.1, epochs=2, learning_rate=1e-2, batch_size=256)


def simulated(seed: int, strength: float) -> PricePanel:
    """A market whose directions follow the last one as often as ``strength`` says."""
    market = SimulatedMarket(sessions=SESSIONS, seed=seed, signal_strength=strength)
    return build_panel(SimulatedPrices(market).fetch(TICKERS).prices)


def resampled(panel: PricePanel, seed: int) -> PricePanel:
    """Bars drawn from each ticker's own, with replacement, less its mean move: ranges stay, what is ahead is chance.

    Moves in another order would add up to what they added up to before: who rose early would have to fall later, and
    a model that knows each ticker's mean would rank by it, wrongly.
    """
    rng = np.random.default_rng(seed)
    values = panel.values.astype(np.float64)
    close, market = values[:, CHANNELS.index("close")], CHANNELS.index("market")
    shape = np.log(values[:, :4, 1:]) - np.log(close[:, None, :-1])
    for row in range(len(values)):
        drawn = rng.integers(0, shape.shape[-1], shape.shape[-1])
        own, volume = shape[row][:, drawn] - shape[row][3].mean(), values[row, 4, 1:][drawn]
        level = np.log(close[row, 0]) + np.concatenate([[0.0], np.cumsum(own[3])])
        values[row, :4, 1:] = np.exp(own + level[:-1])
        values[row, 4, 1:] = volume
    moves = np.diff(np.log(values[:, CHANNELS.index("close")]), axis=1).mean(axis=0)
    values[:, market, 1:] = values[:, market, :1] * np.exp(np.cumsum(moves))
    return replace(panel, values=values.astype(np.float32))


def scores_of(panel: PricePanel, seed: int, folder: Path) -> pd.DataFrame:
    """Scores of a network and of all baselines in one fold."""
    walk = WalkForward(
        folder=folder,
        panel=panel,
        features=compute_panel(panel, FeatureGraph()),
        plan=FoldPlan(splits=1, test_sessions=TEST),
        sequence_length=3,
        seed=seed,
        device="cpu",
        variants={"quick": QUICK},
        bayes_accuracy=0.5,
    )
    tables = [walk.run(models, walk.folds[0]).forecasts for models in walk.models]
    table = score_table(pd.concat(tables))
    return table[(table["fold"] == "all") & table["score"].isin(IGNORANCE)].dropna()


MARKETS: Mapping[str, Callable[[int], PricePanel]] = {
    "random walk": lambda seed: simulated(seed, 0.0),
    "resampled": lambda seed: resampled(simulated(seed, 0.3), seed),
}
"""Kinds of market that hold no signal, each made from a seed."""


def canaries(seeds: int, folder: Path) -> None:
    """Print how many intervals exclude ignorance, by kind of market and score; Ctrl-C: of the markets done so far.

    Parameters
    ----------
    seeds
        Markets of each kind.
    folder
        Where the forecasts of each market are kept: those that are there, from the same prices and code, are reused.
    """
    excluded, counted, markets = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[str]()
    try:
        # Seed by seed, so that an interrupted run has as many markets of one kind as of the other.
        for seed in range(seeds):
            for kind, market in MARKETS.items():
                table = scores_of(market(seed), seed, folder / kind.replace(" ", "-") / f"{seed:03d}")
                known = table["score"].map(IGNORANCE)
                outside = (known < table["low"]) | (known > table["high"])
                counted.update((kind, score) for score in table["score"])
                excluded.update((kind, score) for score in table.loc[outside, "score"])
                markets[kind] += 1
            print(f"market {seed + 1} of {seeds}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped; the same command goes on after these markets", file=sys.stderr)
    for (kind, score), count in sorted(counted.items()):
        found = excluded[kind, score]
        print(
            f"{kind:16} {score:8} {found:4d} of {count:5d} intervals exclude ignorance ({found / count:.1%}; "
            f"{markets[kind]} markets)"
        )


def planted(seeds: int, *, true: float = 0.03, tickers: int = 50, sessions: int = 150) -> tuple[float, float, float]:
    """Mean rank correlation that was found, share of intervals above zero, and the power that theory predicts."""
    linear = 2 * np.sin(np.pi * true / 6)  # Pearson's correlation of normal variables with this rank correlation
    days = np.repeat(pd.bdate_range("2004-01-05", periods=sessions), tickers)
    found: list[float] = []
    above = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        score, noise = rng.normal(size=(2, sessions * tickers))
        excess = 0.01 * (linear * score + np.sqrt(1 - linear**2) * noise)
        names = np.tile(np.arange(tickers), sessions)
        rows = pd.DataFrame({"date": days, "ticker": names, "score": score, "excess": excess, "volatility": 0.01})
        interval = ranking_scores(rows)["rank_ic"]
        found.append(interval.estimate)
        above += interval.low > 0
    error = 1 / np.sqrt((tickers - 1) * sessions)
    # Student's t of the cosine estimator has few degrees of freedom: its quantile is what costs power.
    degrees = max(int(0.4 * sessions ** (2 / 3)), 1)
    critical = float(stats.t.ppf(0.975, degrees))
    return float(np.mean(found)), above / seeds, float(stats.nct.sf(critical, degrees, true / error))


def main() -> None:
    """Run all canaries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=50, help="markets of each kind")
    parser.add_argument("--folder", type=Path, default=Path(".try-canaries"), help="where finished markets are kept")
    options = parser.parse_args()
    mean, power, theory = planted(20 * options.seeds)
    print(f"planted rank correlation 0.03: found {mean:.4f}, significant in {power:.1%}; theory {theory:.1%}")
    canaries(options.seeds, options.folder)


if __name__ == "__main__":
    main()
