"""One fit, whatever kind of network it is of: from unscaled blocks to a network with the weights of its best epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import nn

from financial_assets.errors import TrainingError
from financial_assets.models.devices import reproducible, resolve_device
from financial_assets.models.fitting.gradient import Epoch, fit_by_gradient
from financial_assets.models.fitting.registry import FITTERS, look_at
from financial_assets.models.networks.build import build_network
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant

if TYPE_CHECKING:
    from financial_assets.models.training import Training


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
    scored
        First and last decision session whose loss chose the epoch.
    device
        Where it was trained.
    details
        What a fit without gradient steps has chosen, by name.
    """

    network: nn.Module
    scaler: RobustScaler
    data: TrainingData
    history: tuple[Epoch, ...]
    best_epoch: int
    scored: tuple[pd.Timestamp, pd.Timestamp]
    device: str
    details: Mapping[str, float] = field(default_factory=dict[str, float])

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
        _take_over(network, variant, members, scaler, data)
        history, best, details = _fit(variant, network, data, target, generator, on_epoch)
        network = network.cpu().eval()
    decided = data.sessions[data.stop.sessions]
    scored = decided.min(), decided.max()
    return Fit(network, scaler, data, tuple(history), best, scored, target.type, details)


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


def _take_over(
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
        is_same = training.spans == data.spans and all(torch.equal(*pair) for pair in scales)
        if training.variant != member or not is_same:
            raise TrainingError(
                f"variant {variant.name!r}: its member {member.name!r} was trained on other data or with other "
                "settings: train it again"
            )
        network.get_submodule(f"members.{member.name}").load_state_dict(training.network.state_dict())
