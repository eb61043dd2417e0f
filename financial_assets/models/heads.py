"""The four heads of a network, what they are trained on, and the four answers of a served graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from financial_assets.scoring.quantiles import QUANTILE_LEVELS

if TYPE_CHECKING:
    from financial_assets.models.dataset import Batch

__all__ = [
    "HEADS",
    "HORIZONS",
    "QUANTILE_LEVELS",
    "HeadOutputs",
    "Heads",
    "ServedAnswer",
    "head_losses",
    "training_loss",
]

HEADS = ("direction", "quantiles", "quantiles_5d", "score")
"""Names of the heads, in the order of ``HeadOutputs``."""

HORIZONS = (1, 5)
"""Sessions ahead for which quantiles are answered: the next one, and a week of trading."""

_NORMAL_QUANTILES = (-2.3263, -1.6449, 0.0, 1.6449, 2.3263)
"""Standard normal quantiles at ``QUANTILE_LEVELS``: a sane answer before the first gradient step."""


class HeadOutputs(NamedTuple):
    """What a network answers, before calibration.

    Attributes
    ----------
    logit
        Logit of "up" ``[batch, 1]``; no sigmoid: the loss and the calibration apply it, once each.
    multiples, multiples_5d
        Quantiles of the log return over the next session and over five ``[batch, 5]``, as multiples of the volatility
        that is forecast for that horizon; not yet ordered.
    score
        The next session's log return minus the market's, in units of the stock's causal volatility ``[batch, 1]``.
    """

    logit: Tensor
    multiples: Tensor
    multiples_5d: Tensor
    score: Tensor


class ServedAnswer(NamedTuple):
    """What a predictor answers: the outputs of the served graph, in their order.

    Attributes
    ----------
    probability_up
        Calibrated probability that the next session's adjusted close is higher ``[batch, 1]``.
    return_quantiles, return_quantiles_5d
        Ordered quantiles of the log return over the next session and over five ``[batch, 5]``.
    excess_return
        Expected log return of the next session minus that of the market channel, in units of the stock's causal
        volatility ``[batch, 1]``: the score that ranks a universe.
    """

    probability_up: Tensor
    return_quantiles: Tensor
    return_quantiles_5d: Tensor
    excess_return: Tensor


_WIDTHS = (1, len(QUANTILE_LEVELS), len(QUANTILE_LEVELS), 1)


class Heads(nn.Module):
    """The linear read-outs in which every network that is trained by gradients ends.

    They are one matrix: as quick to compute as one read-out, and no different from four.

    Parameters
    ----------
    hidden
        Width of what is read.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, sum(_WIDTHS))
        with torch.no_grad():
            quantiles = torch.tensor(_NORMAL_QUANTILES)
            for bias in self.linear.bias.split(_WIDTHS)[1:3]:
                bias.copy_(quantiles)

    def forward(self, last: Tensor) -> HeadOutputs:
        """Outputs for hidden states ``[batch, hidden]``."""
        return HeadOutputs(*self.linear(last).split(_WIDTHS, dim=-1))


def training_loss(outputs: HeadOutputs, batch: Batch) -> Tensor:
    """The sum of ``head_losses``: what is minimised, and what decides when to stop."""
    return torch.stack(head_losses(outputs, batch)).sum()


def head_losses(outputs: HeadOutputs, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean loss of each head, in the order of ``HEADS``.

    Cross-entropy of the direction (nats); pinball losses of the returns over one session and over five in units of
    their forecast volatility, means of the levels (Koenker & Bassett 1978); Huber's loss of the score, in units of the
    causal volatility (Huber 1964), so that one wild day decides nothing.
    """
    return (
        binary_cross_entropy_with_logits(outputs.logit, batch.up),
        _pinball(outputs.multiples, batch.scaled_return),
        _pinball(outputs.multiples_5d, batch.scaled_return_5d),
        huber_loss(outputs.score, batch.excess),
    )


def _pinball(multiples: Tensor, scaled_return: Tensor) -> Tensor:
    error = scaled_return - multiples
    levels = torch.tensor(QUANTILE_LEVELS, dtype=error.dtype, device=error.device)
    return torch.maximum(levels * error, (levels - 1.0) * error).mean()
