"""Gradient steps with early stopping: how networks are trained that no closed form gives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from financial_assets.errors import DivergenceError
from financial_assets.models.dataset import Batch, WindowDataset, shuffled
from financial_assets.models.devices import has_room
from financial_assets.models.fitting.rows import sample
from financial_assets.models.heads import HEADS, head_losses
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import STOP_WINDOWS, Variant

__all__ = ["Epoch", "MeanLosses", "evaluate", "fit_by_gradient", "train_epoch"]

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


def fit_by_gradient(
    variant: Variant,
    network: nn.Module,
    data: TrainingData,
    device: torch.device,
    generator: torch.Generator,
    advance: Callable[[Epoch], None],
) -> tuple[list[Epoch], int]:
    """Train in place until the stop loss has not improved for ``patience`` epochs; leave the best weights in it.

    Parameters
    ----------
    variant
        Its optimiser settings.
    network
        On ``device``.
    data
        With scaled features.
    device
        Where to train.
    generator
        Of the order of the windows.
    advance
        Called after each epoch.

    Returns
    -------
    tuple
        Every epoch trained, and the number of the one whose weights the network has.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    if has_room(device, data.features.nbytes):
        data = data.to(device)
    fit, stop = data.windows(data.blocks.fit, device), data.windows(data.blocks.stop, device)
    schedule = variant.schedule(len(fit))
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=variant.weight_decay)
    history: list[Epoch] = []
    best_epoch, best_loss, best_state = 0, math.inf, deepcopy(network.state_dict())
    draws = shuffled(len(fit), schedule.epoch_windows, generator)
    looked_at = sample(len(stop), STOP_WINDOWS, generator.initial_seed())
    for number, order in zip(range(1, variant.epochs + 1), draws, strict=False):
        started = time.perf_counter()
        fit_loss = train_epoch(network, optimizer, fit.batches(schedule.batch_size, order))
        stop_loss, accuracy = evaluate(network, stop, looked_at)
        if not (math.isfinite(fit_loss.total) and math.isfinite(stop_loss.total)):
            raise DivergenceError(
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
    # Walking over the modules takes as long as some of the operations of a small network's step.
    parameters = list(network.parameters())
    losses: list[Tensor] = []
    counts: list[int] = []
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        by_head = torch.stack(head_losses(network(batch.inputs, batch.volatility), batch))
        by_head.sum().backward()
        nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
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


def _weighted_mean(means: list[Tensor], counts: list[int]) -> MeanLosses:
    """Means over all windows of the means of batches ``[head]``."""
    batches = torch.stack(means).tolist()
    heads = [
        sum(value * count for value, count in zip(head, counts, strict=True)) / sum(counts)
        for head in zip(*batches, strict=True)
    ]
    return MeanLosses(sum(heads), dict(zip(HEADS, heads, strict=True)))
