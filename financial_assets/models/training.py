"""Seeded training with early stopping; the best epoch is restored and calibrated."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.answers import Answers, answer_windows
from financial_assets.models.calibration.direction import PlattScaling
from financial_assets.models.calibration.layer import Calibration, FittedCalibration
from financial_assets.models.dataset import Batch, WindowDataset, shuffled
from financial_assets.models.devices import has_room, reproducible, resolve_device
from financial_assets.models.heads import HEADS, HeadOutputs, ServedAnswer, head_losses, training_loss
from financial_assets.models.networks import build_network
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import STOP_WINDOWS, Variant
from financial_assets.models.volatility import HarVolatility

__all__ = ["Epoch", "MeanLosses", "Training", "evaluate", "train", "train_epoch", "training_loss"]

_GRADIENT_NORM = 1.0
_EVALUATION_BATCH = 2048


@dataclass(frozen=True)
class Epoch:
    """One epoch, as ``Variant.schedule`` sizes it; losses are means per window.

    Attributes
    ----------
    number
        From 1.
    fit_loss, stop_loss
        ``training_loss`` on the fit and the stop block; the second decides when to stop.
    stop_accuracy
        Share of the stop block whose direction was right.
    seconds
        How long it took.
    fit_losses, stop_losses
        The two losses by head, named as in ``HEADS``; empty where an earlier version trained.
    """

    number: int
    fit_loss: float
    stop_loss: float
    stop_accuracy: float
    seconds: float
    fit_losses: Mapping[str, float] = field(default_factory=dict[str, float])
    stop_losses: Mapping[str, float] = field(default_factory=dict[str, float])


class MeanLosses(NamedTuple):
    """Mean losses of many windows: their sum, and by head."""

    total: float
    by_head: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Training:
    """A trained, calibrated model and how it came about.

    Attributes
    ----------
    variant, seed, sequence_length, feature_names, tickers
        What it was made from.
    network, scaler, volatility
        Modules on the CPU, in evaluation mode; the last is the forecaster of the volatility.
    fitted_calibration
        What was fitted on the calibrate block; ``calibration`` is the layer made of it.
    spans
        First and last decision session of each block.
    cutoff
        Last session used for fitting, stopping or calibration.
    windows
        Number of windows in each block.
    history, best_epoch
        Every epoch trained; the number of the one that was restored.
    held_out
        The *uncalibrated* answers on the calibrate block, which the network never saw.
    device, seconds
        Where and how long.
    """

    variant: Variant
    seed: int
    sequence_length: int
    feature_names: tuple[str, ...]
    tickers: tuple[str, ...]
    network: nn.Module
    scaler: RobustScaler
    volatility: HarVolatility
    fitted_calibration: FittedCalibration
    spans: dict[str, tuple[pd.Timestamp, pd.Timestamp]]
    cutoff: pd.Timestamp
    windows: dict[str, int]
    history: tuple[Epoch, ...]
    best_epoch: int
    held_out: Answers
    device: str
    seconds: float

    @property
    def platt(self) -> PlattScaling:
        """The calibration of the probability, with its unconstrained scale."""
        return self.fitted_calibration.platt

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration as a layer, in evaluation mode."""
        return self.fitted_calibration.layer()

    @torch.no_grad()
    def calibrated(self, answers: Answers) -> ServedAnswer:
        """What is served for these uncalibrated answers of the network."""
        columns = (answers.logit[:, None], answers.multiples, answers.multiples_5d, answers.score[:, None])
        *outputs, volatility = (
            torch.from_numpy(np.asarray(column, np.float32)) for column in (*columns, answers.volatility)
        )
        return self.calibration(HeadOutputs(*outputs), volatility)


def train(
    variant: Variant,
    features: FeaturePanel,
    panel: PricePanel,
    *,
    cutoff: pd.Timestamp,
    sequence_length: int,
    seed: int,
    device: str = "auto",
    progress: bool = False,
    threads: int = 1,
) -> Training:
    """Train and calibrate ``variant`` on what is known at ``cutoff``.

    Two calls with the same arguments on the same machine give bit-identical models. Nothing is written: an interrupted
    training leaves no trace.

    Parameters
    ----------
    variant
        What to train.
    features, panel
        Features and prices on the same tickers and sessions; what lies after ``cutoff`` is not read.
    cutoff
        Last session that may be used.
    sequence_length
        Feature vectors in a window.
    seed
        Of initialisation, shuffling and dropout.
    device
        ``auto``, ``cuda``, ``mps`` or ``cpu``.
    progress
        Whether to draw a progress bar.
    threads
        CPU threads of one operation; networks of this size gain little from more than one.

    Raises
    ------
    TrainingError
        If there are too few windows, the device is missing, or the loss is no longer finite.
    """
    started = time.perf_counter()
    data = TrainingData.until(cutoff, features, panel, sequence_length=sequence_length)
    target = resolve_device(device)
    with reproducible(seed, target, threads) as generator:
        scaler = RobustScaler.fit(data.fit.last_step)
        data = data.scaled(scaler)
        network = build_network(variant, len(data.feature_names)).to(target)
        with _epoch_bar(variant, progress) as advance:
            history, best = _fit(variant, network, data, target, generator, advance)
        network = network.cpu().eval()
        held_out = answer_windows(network, data, data.calibrate)
    blocks = {"fit": data.blocks.fit, "stop": data.blocks.stop, "calibrate": data.blocks.calibrate}
    return Training(
        variant=variant,
        seed=seed,
        sequence_length=sequence_length,
        feature_names=data.feature_names,
        tickers=data.tickers,
        network=network,
        scaler=scaler,
        volatility=data.har.eval(),
        fitted_calibration=FittedCalibration.fit(held_out),
        spans={name: (data.sessions[span.start], data.sessions[span.stop - 1]) for name, span in blocks.items()},
        cutoff=data.cutoff,
        windows={name: len(getattr(data, name)) for name in blocks},
        history=tuple(history),
        best_epoch=best,
        held_out=held_out,
        device=target.type,
        seconds=time.perf_counter() - started,
    )


def _fit(
    variant: Variant,
    network: nn.Module,
    data: TrainingData,
    device: torch.device,
    generator: torch.Generator,
    advance: Callable[[Epoch], None],
) -> tuple[list[Epoch], int]:
    """Train in place until the stop loss has not improved for ``patience`` epochs; leave the best weights in it."""
    if has_room(device, data.features.nbytes):
        data = data.to(device)
    fit, stop = data.windows(data.blocks.fit, device), data.windows(data.blocks.stop, device)
    schedule = variant.schedule(len(fit))
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=variant.weight_decay)
    history: list[Epoch] = []
    best_epoch, best_loss, best_state = 0, math.inf, deepcopy(network.state_dict())
    draws = shuffled(len(fit), schedule.epoch_windows, generator)
    looked_at = _sample(len(stop), STOP_WINDOWS, generator.initial_seed())
    for number, order in zip(range(1, variant.epochs + 1), draws, strict=False):
        started = time.perf_counter()
        fit_loss = train_epoch(network, optimizer, fit.batches(schedule.batch_size, order))
        stop_loss, accuracy = evaluate(network, stop, looked_at)
        if not (math.isfinite(fit_loss.total) and math.isfinite(stop_loss.total)):
            raise TrainingError(
                f"variant {variant.name!r}: the loss is not finite in epoch {number} (fit {fit_loss.total}, stop "
                f"{stop_loss.total}): lower its learning_rate or look for absurd prices"
            )
        seconds = time.perf_counter() - started
        history.append(
            Epoch(number, fit_loss.total, stop_loss.total, accuracy, seconds, fit_loss.by_head, stop_loss.by_head)
        )
        advance(history[-1])
        # Strictly better: of equal epochs the earlier one, which has fitted less.
        if stop_loss.total < best_loss:
            best_epoch, best_loss, best_state = number, stop_loss.total, deepcopy(network.state_dict())
        elif number - best_epoch >= variant.patience:
            break
    network.load_state_dict(best_state)
    return history, best_epoch


def train_epoch(network: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Batch]) -> MeanLosses:
    """One gradient step per batch; the mean losses per window, with dropout and before the step."""
    network.train()
    losses: list[Tensor] = []
    counts: list[int] = []
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        by_head = torch.stack(head_losses(network(batch.inputs, batch.volatility), batch))
        by_head.sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_NORM)
        optimizer.step()
        # Read after the loop: reading a number waits until the device has computed it.
        losses.append(by_head.detach())
        counts.append(len(batch.up))
    return _weighted_mean(losses, counts)


@torch.no_grad()
def evaluate(network: nn.Module, windows: WindowDataset, order: Tensor) -> tuple[MeanLosses, float]:
    """Mean losses and accuracy on the windows at ``order``, without dropout."""
    network.eval()
    losses: list[Tensor] = []
    right: list[Tensor] = []
    counts: list[int] = []
    for batch in windows.batches(_EVALUATION_BATCH, order):
        outputs = network(batch.inputs, batch.volatility)
        losses.append(torch.stack(head_losses(outputs, batch)))
        right.append(((outputs.logit > 0) == (batch.up > 0)).sum())
        counts.append(len(batch.up))
    return _weighted_mean(losses, counts), int(torch.stack(right).sum()) / len(order)


def _sample(count: int, most: int, seed: int) -> Tensor:
    """All of ``count`` positions, or ``most`` of them drawn at random; in order."""
    if count <= most:
        return torch.arange(count)
    # A generator of its own, so that the draws of the fit block do not depend on the size of the stop block.
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def _weighted_mean(means: list[Tensor], counts: list[int]) -> MeanLosses:
    """Means over all windows of the means of batches ``[head]``."""
    batches = torch.stack(means).tolist()
    heads = [
        sum(value * count for value, count in zip(head, counts, strict=True)) / sum(counts)
        for head in zip(*batches, strict=True)
    ]
    return MeanLosses(sum(heads), dict(zip(HEADS, heads, strict=True)))


@contextmanager
def _epoch_bar(variant: Variant, shown: bool) -> Generator[Callable[[Epoch], None], None, None]:
    """A progress bar that advances with each epoch, or nothing."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, disable=not shown) as bar:
        task = bar.add_task(f"training {variant.name}", total=variant.epochs, losses="")

        def advance(epoch: Epoch) -> None:
            bar.update(task, advance=1, losses=f"fit {epoch.fit_loss:.4f}  stop {epoch.stop_loss:.4f}")

        yield advance
