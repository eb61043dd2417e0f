"""Seeded training with early stopping; the best epoch is restored and calibrated."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.answers import Answers, answer_windows
from financial_assets.models.calibration.direction import PlattScaling
from financial_assets.models.calibration.layer import Calibration, FittedCalibration
from financial_assets.models.devices import reproducible, resolve_device
from financial_assets.models.fitting.gradient import Epoch, fit_by_gradient
from financial_assets.models.fitting.registry import FITTERS, look_at
from financial_assets.models.heads import HeadOutputs, ServedAnswer
from financial_assets.models.networks.build import build_network
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant
from financial_assets.models.volatility import HarVolatility

__all__ = ["Epoch", "Training", "train"]


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
        Every epoch trained; the number of the one that was restored. What takes no gradient steps has one epoch.
    held_out
        The *uncalibrated* answers on the calibrate block, which the network never saw.
    device, seconds
        Where and how long.
    details
        What a fit without gradient steps has chosen: regularisation, rounds of boosting, weights of members.
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
    details: Mapping[str, float] = field(default_factory=dict[str, float])

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
    members: Sequence[Training] = (),
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
    members
        For an ensemble: trainings of its members, with the same cut-off and sequence length.

    Raises
    ------
    TrainingError
        If there are too few windows, the device is missing, the loss is no longer finite, or a member is missing or was
        trained on other blocks.
    """
    started = time.perf_counter()
    data = TrainingData.until(cutoff, features, panel, sequence_length=sequence_length)
    with _epoch_bar(variant, progress) as advance:
        fitted = fit_network(
            variant, data, seed=seed, device=device, threads=threads, on_epoch=advance, members=members
        )
    data, network = fitted.data, fitted.network
    with reproducible(seed, torch.device("cpu"), threads):
        held_out = answer_windows(network, data, data.calibrate)
    return Training(
        variant=variant,
        seed=seed,
        sequence_length=sequence_length,
        feature_names=data.feature_names,
        tickers=data.tickers,
        network=network,
        scaler=fitted.scaler,
        volatility=data.har.eval(),
        fitted_calibration=FittedCalibration.fit(held_out),
        spans=_spans(data),
        cutoff=data.cutoff,
        windows={name: len(getattr(data, name)) for name in ("fit", "stop", "calibrate")},
        history=fitted.history,
        best_epoch=fitted.best_epoch,
        held_out=held_out,
        device=fitted.device,
        seconds=time.perf_counter() - started,
        details=fitted.details,
    )


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted network, not yet calibrated: what the fit and the stop block alone decide.

    Attributes
    ----------
    network
        On the CPU, in evaluation mode, with the weights of the best epoch.
    scaler
        Of the fit block.
    data
        What it was fitted on, with scaled features.
    history, best_epoch
        Every epoch trained; the number of the one that was restored.
    details
        What the fit has chosen by itself, by name.
    scored
        First and last decision session whose loss chose the epoch.
    device
        Where it was trained.
    """

    network: nn.Module
    scaler: RobustScaler
    data: TrainingData
    history: tuple[Epoch, ...]
    best_epoch: int
    details: Mapping[str, float]
    scored: tuple[pd.Timestamp, pd.Timestamp]
    device: str

    @property
    def stop_loss(self) -> float:
        """Loss of the restored epoch on the stop block."""
        return self.history[self.best_epoch - 1].stop_loss


def fit_network(
    variant: Variant,
    data: TrainingData,
    *,
    seed: int,
    device: str = "auto",
    threads: int = 1,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    members: Sequence[Training] = (),
) -> Fit:
    """Fit scaler and network on the fit block of ``data``; the stop block chooses the epoch. No other block is read.

    Parameters
    ----------
    variant, seed, device, threads, members
        As for ``train``.
    data
        Unscaled features, outcomes and blocks.
    on_epoch
        Told of every epoch; what it raises ends the fit.

    Raises
    ------
    TrainingError
        If the device is missing, or a member of an ensemble is, or was trained on other data.
    DivergenceError
        If the loss is no longer finite.
    """
    target = resolve_device(device)
    with reproducible(seed, target, threads) as generator:
        scaler = RobustScaler.fit(data.fit.last_step)
        data = data.scaled(scaler)
        network = build_network(variant, len(data.feature_names))
        _adopt(network, variant, members, scaler, data)
        history, best, details = _fit(variant, network, data, target, generator, on_epoch)
        network = network.cpu().eval()
    decided = data.sessions[data.stop.sessions]
    scored = decided.min(), decided.max()
    return Fit(network, scaler, data, tuple(history), best, details, scored, target.type)


def _fit(
    variant: Variant,
    network: nn.Module,
    data: TrainingData,
    device: torch.device,
    generator: torch.Generator,
    advance: Callable[[Epoch], None],
) -> tuple[list[Epoch], int, Mapping[str, float]]:
    """Fit in place, as the network's kind is fitted; the epochs, the number of the best one, and what was chosen."""
    fit_directly = FITTERS.get(variant.network)
    if fit_directly is None:
        return *fit_by_gradient(variant, network.to(device), data, device, generator, advance), {}
    started = time.perf_counter()
    details = fit_directly(network, variant, data, generator.initial_seed())
    epoch = look_at(network, variant, data, generator.initial_seed(), started)
    advance(epoch)
    return [epoch], epoch.number, details


def _adopt(
    network: nn.Module, variant: Variant, members: Sequence[Training], scaler: RobustScaler, data: TrainingData
) -> None:
    """Put the weights of trained members into an ensemble.

    They read the ensemble's scaled features, and its stop and calibrate blocks must be theirs: so their scaler and
    their first and last sessions must be the same.
    """
    trained = {member.variant.name: member for member in members}
    for member in variant.members:
        if member.name not in trained:
            raise TrainingError(f"variant {variant.name!r} combines {member.name!r}, which was not trained")
        training = trained[member.name]
        scales = ((training.scaler.center, scaler.center), (training.scaler.scale, scaler.scale))
        is_same = training.spans == _spans(data) and all(torch.equal(*pair) for pair in scales)
        if training.variant != member or not is_same:
            raise TrainingError(
                f"variant {variant.name!r}: its member {member.name!r} was trained on other data or with other "
                "settings: train it again"
            )
        network.get_submodule(f"members.{member.name}").load_state_dict(training.network.state_dict())


def _spans(data: TrainingData) -> dict[str, tuple[pd.Timestamp, pd.Timestamp]]:
    """First and last decision session of each block."""
    blocks = {"fit": data.blocks.fit, "stop": data.blocks.stop, "calibrate": data.blocks.calibrate}
    return {name: (data.sessions[span.start], data.sessions[span.stop - 1]) for name, span in blocks.items()}


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
