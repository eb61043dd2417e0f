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

from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.answers import Answers, answer_windows
from financial_assets.models.calibration.direction import PlattScaling
from financial_assets.models.calibration.layer import Calibration, FittedCalibration
from financial_assets.models.calibration.shrinkage import constant_multiples
from financial_assets.models.devices import reproducible
from financial_assets.models.fitting.gradient import Epoch
from financial_assets.models.fitting.network import fit_network
from financial_assets.models.heads import HeadOutputs, ServedAnswer
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
        fitted_calibration=FittedCalibration.fit(held_out, constant_multiples(data.fit)),
        spans=data.spans,
        cutoff=data.cutoff,
        windows={name: len(getattr(data, name)) for name in ("fit", "stop", "calibrate")},
        history=fitted.history,
        best_epoch=fitted.best_epoch,
        held_out=held_out,
        device=fitted.device,
        seconds=time.perf_counter() - started,
        details=fitted.details,
    )


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
