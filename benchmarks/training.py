"""Training on a universe beside the two bundled tickers, and beside a bare loop of gradient steps.

    python benchmarks/training.py [--tickers 500 --sessions 1500 --sizes 100 500 2000 --signal 0.04 --rounds 9]
    python benchmarks/training.py --compare 5 [--tickers 100 --variants baseline lightweight enhanced]

The first form prints the time of ``train`` for ``--variants`` on simulated prices, as a multiple of the same on the
bundled prices; the speed of an epoch against a loop over batches that were gathered beforehand, at the same batch size,
the two in turn; and how the cost of an epoch, of a pass over all windows, and of what happens once per training, grows
with the number of tickers. ``--signal`` is the strength of the simulated signal: 0.04 gives a direction that can be
predicted 52 % of the time.

The second form says whether large batches and short epochs cost any quality. Each variant is trained with several seeds
as ``Variant.schedule`` has it, the same with five times the epochs and patience, and in full passes with its own batch
size and learning rate; two controls, which leave the learning rate as it is or raise it far too much, show what the
comparison can see. Losses are of the whole stop
block and of the calibrate block, which no training has seen; the difference to full passes comes with its standard
error over seeds.

Times are of the CPU clock, on one thread.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn

from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources.sample import SamplePrices
from financial_assets.market.sources.simulated import Signal, SimulatedMarket, SimulatedPrices
from financial_assets.models.answers import Answers, answer_windows
from financial_assets.models.dataset import Batch
from financial_assets.models.fitting.gradient import evaluate, train_epoch
from financial_assets.models.heads import HeadOutputs, training_loss
from financial_assets.models.networks.build import build_network
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training import Training, train
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import STOP_WINDOWS, VARIANTS, Schedule, Variant

BUNDLED = ("AAPL", "MSFT")
BUNDLED_CUTOFF = pd.Timestamp("2010-07-26")
SEQUENCE_LENGTH = 10
GRADIENT_NORM = 1.0
TURN_STEPS = 12  # gradient steps of a turn; an epoch on a universe has 48
USUAL = ("baseline", "enhanced", "lightweight")
"""Variants that are trained unless others are asked for."""


@dataclass(frozen=True)
class Universe:
    """Prices and features of some tickers, and the last session that training may use."""

    panel: PricePanel
    features: FeaturePanel
    cutoff: pd.Timestamp

    @classmethod
    def of(cls, panel: PricePanel, cutoff: pd.Timestamp | None = None) -> Universe:
        """The universe of a panel; default cut-off: its last session."""
        return cls(panel, compute_panel(panel, FeatureGraph()), panel.sessions[-1] if cutoff is None else cutoff)

    @classmethod
    def simulated(cls, tickers: int, sessions: int, strength: float, signal: Signal, seed: int = 7) -> Universe:
        """Simulated prices; see ``SimulatedMarket``."""
        market = SimulatedMarket(sessions=sessions, seed=seed, signal_strength=strength, signal=signal)
        names = [f"T{number:04d}" for number in range(tickers)]
        return cls.of(build_panel(SimulatedPrices(market).fetch(names).prices))

    def data(self) -> TrainingData:
        """What ``train`` makes of it, unscaled."""
        return TrainingData.until(self.cutoff, self.features, self.panel, sequence_length=SEQUENCE_LENGTH)

    def train(self, variant: Variant, seed: int) -> Training:
        """As the asset ``models/<variant>`` trains."""
        return train(
            variant,
            self.features,
            self.panel,
            cutoff=self.cutoff,
            sequence_length=SEQUENCE_LENGTH,
            seed=seed,
            device="cpu",
        )


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def train_all(universe: Universe, variants: Sequence[Variant], title: str) -> float:
    """Seconds of some variants, one after the other."""
    total = 0.0
    print(title)
    for variant in variants:
        start = time.process_time()
        training = universe.train(variant, 42)
        seconds = time.process_time() - start
        schedule = variant.schedule(training.windows["fit"])
        print(
            f"  {variant.name:<12}{seconds:8.1f} s  {len(training.history):2} epochs of {schedule.epoch_windows:,} "
            f"windows in batches of {schedule.batch_size}, best {training.best_epoch}",
            flush=True,
        )
        total += seconds
    return total


class Epochs:
    """Epochs of one variant on one universe, as ``train`` runs them and as a bare loop."""

    def __init__(self, universe: Universe, variant: Variant) -> None:
        data = universe.data()
        data = data.scaled(RobustScaler.fit(data.fit.last_step))
        self.fit, self.stop = data.fit, data.stop
        self.schedule = variant.schedule(len(self.fit))
        generator = torch.Generator().manual_seed(0)
        self.order = torch.randperm(len(self.fit), generator=generator)[: self.schedule.epoch_windows]
        torch.manual_seed(0)
        self.network = build_network(variant, len(data.feature_names))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.schedule.learning_rate)

    def ours(self, order: torch.Tensor | None = None) -> None:
        """One epoch of gradient steps, or those on the windows at ``order``."""
        order = self.order if order is None else order
        train_epoch(self.network, self.optimizer, self.fit.batches(self.schedule.batch_size, order))

    def look(self) -> None:
        """The look at the stop block after an epoch."""
        evaluate(self.network, self.stop, torch.randperm(len(self.stop))[:STOP_WINDOWS])

    def bare(self, batches: Sequence[Batch]) -> None:
        """The same steps on batches that were gathered beforehand."""
        self.network.train()
        for batch in batches:
            self.optimizer.zero_grad(set_to_none=True)
            training_loss(self.network(batch.inputs, batch.volatility), batch).backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.optimizer.step()

    def take_turns(self, rounds: int) -> list[tuple[float, float]]:
        """Seconds of an epoch of each round, as a bare loop and as ``train`` runs it.

        A turn is a quarter of an epoch, and each goes first half of the time: a busy moment of the machine hits both.
        """
        pieces = self.order.split(self.schedule.batch_size * TURN_STEPS)
        gathered = [list(self.fit.batches(self.schedule.batch_size, piece)) for piece in pieces]
        taken: list[tuple[float, float]] = []
        for _ in range(rounds):
            loop, own = 0.0, 0.0
            for number, (piece, batches) in enumerate(zip(pieces, gathered, strict=True)):
                ways = partial(self.bare, batches), partial(self.ours, piece)
                if number % 2:
                    loop, own = loop + timed(ways[0]), own + timed(ways[1])
                else:
                    own, loop = own + timed(ways[1]), loop + timed(ways[0])
            taken.append((loop, own))
        return taken


def compare_with_bare_loop(universe: Universe, variants: Sequence[Variant], rounds: int) -> None:
    print("speed of an epoch, as a share of a bare loop over batches gathered beforehand")
    for variant in variants:
        epochs = Epochs(universe, variant)
        pairs = epochs.take_turns(rounds)
        shares = [loop / own for loop, own in pairs]
        low, typical, high = np.percentile(shares, [25, 50, 75])
        fastest = min(loop for loop, _ in pairs) / min(own for _, own in pairs)
        print(
            f"  {variant.name:<12} median of {rounds} rounds {typical:.3f} (quartiles {low:.3f}, {high:.3f}), fastest "
            f"{fastest:.3f}   (batches of {epochs.schedule.batch_size})",
            flush=True,
        )


def compare_sizes(sizes: Sequence[int], sessions: int, strength: float, rounds: int) -> None:
    """How costs grow with the number of tickers, for one variant."""
    variant = VARIANTS["baseline"]
    rows: list[tuple[int, float, float, float]] = []
    for tickers in sizes:
        universe = Universe.simulated(tickers, sessions, strength, "momentum")
        epochs = Epochs(universe, variant)
        steps, look = (min(timed(work) for _ in range(rounds)) for work in (epochs.ours, epochs.look))
        epoch, whole = steps + look, steps * len(epochs.fit) / epochs.schedule.epoch_windows
        del epochs

        def once(universe: Universe = universe) -> None:
            data = universe.data()
            data = data.scaled(RobustScaler.fit(data.fit.last_step))
            answer_windows(build_network(variant, len(data.feature_names)), data, data.calibrate)

        rows.append((tickers, epoch, whole, min(timed(once) for _ in range(2))))
        print(
            f"  {tickers:5,} tickers: epoch {epoch:6.2f} s, pass over all windows {whole:6.2f} s, once per training "
            f"{rows[-1][3]:6.2f} s",
            flush=True,
        )
        del universe
    tickers = np.log([row[0] for row in rows])
    for column, name in enumerate(("an epoch", "a pass over all windows", "what happens once per training"), start=1):
        slope = np.polyfit(tickers, np.log([row[column] for row in rows]), 1)[0]
        print(f"  exponent of the cost of {name}: {slope:.2f}")


@dataclass(frozen=True)
class Fixed(Variant):
    """A variant with a schedule of its own: times its batch and its learning rate, and the windows of an epoch."""

    batch_growth: int = 1
    rate_growth: float = 1.0
    epoch_windows: int | None = None

    def schedule(self, windows: int) -> Schedule:
        """See ``Variant.schedule``."""
        drawn = windows if self.epoch_windows is None else min(windows, self.epoch_windows)
        return Schedule(self.batch_size * self.batch_growth, self.learning_rate * self.rate_growth, drawn)


def loss_of(answers: Answers) -> float:
    columns = (answers.logit, answers.multiples, answers.multiples_5d, answers.score)
    targets = (answers.up, answers.scaled_return, answers.scaled_return_5d, answers.excess)
    outputs, known = (
        [torch.from_numpy(np.asarray(column, np.float64).reshape(len(answers), -1)) for column in group]
        for group in (columns, targets)
    )
    batch = Batch(torch.empty(0), *known, volatility=torch.from_numpy(answers.volatility))
    return float(training_loss(HeadOutputs(*outputs), batch))


def compare_quality(universe: Universe, names: Sequence[str], seeds: int) -> None:
    scaled = universe.data()
    scaled = scaled.scaled(RobustScaler.fit(scaled.fit.last_step))
    for variant in (VARIANTS[name] for name in names):
        own = vars(variant)
        chosen = variant.schedule(len(scaled.fit))
        growth, epoch = chosen.batch_size // variant.batch_size, chosen.epoch_windows
        ways = {
            "full passes, small batches": Fixed(**own),
            "as scheduled": variant,
            "as scheduled, 5 times as long": replace(variant, epochs=5 * variant.epochs, patience=5 * variant.patience),
            "control: rate not raised": Fixed(**own, batch_growth=growth, epoch_windows=epoch),
            "control: rate raised 16 times": Fixed(**own, batch_growth=growth, rate_growth=16.0, epoch_windows=epoch),
        }
        losses: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        windows: dict[str, list[int]] = {way: [] for way in ways}
        for seed in range(seeds):
            for way, used in ways.items():
                training = universe.train(used, seed)
                stop = loss_of(answer_windows(training.network, scaled, scaled.stop))
                losses[way].append((stop, loss_of(training.held_out)))
                windows[way].append(len(training.history) * used.schedule(len(scaled.fit)).epoch_windows)
        reference = np.array(losses["full passes, small batches"])
        print(f"{variant.name}: batches of {variant.batch_size}, as scheduled of {chosen.batch_size}")
        for way, values in losses.items():
            found = np.array(values)
            difference = found - reference
            error = difference.std(axis=0, ddof=1) / math.sqrt(seeds)
            print(
                f"  {way:<30} stop {found[:, 0].mean():.5f} ({difference[:, 0].mean():+.5f} +- {error[0]:.5f}), "
                f"calibrate {found[:, 1].mean():.5f} ({difference[:, 1].mean():+.5f} +- {error[1]:.5f}), "
                f"{np.mean(windows[way]):,.0f} windows",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=1500)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 500, 2000])
    parser.add_argument("--signal", type=float, default=0.04)
    parser.add_argument("--rule", choices=["momentum", "volume_reversal", "parity"], default="momentum")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compare", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(USUAL))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    universe = Universe.simulated(arguments.tickers, arguments.sessions, arguments.signal, arguments.rule)
    if arguments.compare:
        compare_quality(universe, arguments.variants, arguments.compare)
        return
    bundled = Universe.of(build_panel(SamplePrices().fetch(BUNDLED).prices), BUNDLED_CUTOFF)
    bundled.train(VARIANTS["baseline"], 0)  # what torch loads on first use
    variants = [VARIANTS[name] for name in arguments.variants]
    small = train_all(bundled, variants, "the two bundled tickers")
    large = train_all(universe, variants, f"{arguments.tickers:,} tickers x {arguments.sessions:,} sessions")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(variants)} variants: {large / small:.1f} times the two bundled tickers; peak {peak:.1f} GiB")
    compare_with_bare_loop(universe, variants, arguments.rounds)
    del universe
    if len(arguments.sizes) > 1:
        compare_sizes(arguments.sizes, arguments.sessions, arguments.signal, max(2, arguments.rounds // 3))


if __name__ == "__main__":
    main()
