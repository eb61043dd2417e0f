"""The four heads of a network, and the four answers of a served graph."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from financial_assets.scoring.quantiles import QUANTILE_LEVELS

__all__ = ["HORIZONS", "QUANTILE_LEVELS", "HeadOutputs", "Heads", "ServedAnswer"]

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
