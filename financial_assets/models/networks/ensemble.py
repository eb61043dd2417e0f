"""Several networks as one: a convex combination of their outputs that depends on the forecast volatility."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from financial_assets.models.heads import HeadOutputs

__all__ = ["TERCILES", "EnsembleNetwork"]

TERCILES = 3
"""Levels of volatility with weights of their own: calm, usual and wild sessions."""

_HEADS = len(HeadOutputs._fields)


class EnsembleNetwork(nn.Module):
    """Weighted means of the members' outputs; the weights add up to one and change continuously with the volatility.

    Logits and scores are averaged as they are, which for probabilities is a logarithmic pool (Genest & Zidek 1986), and
    quantiles level by level (Vincentisation, which Lichtendahl, Grushka-Cockayne & Winkler 2013 find better than
    averaging distributions). Each head has its own weights. A new ensemble weighs all members alike.

    Parameters
    ----------
    members
        Networks by name; they read the same scaled windows.
    """

    weights: Tensor
    centres: Tensor

    def __init__(self, members: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleDict(dict(members))
        equal = torch.full((_HEADS, TERCILES, len(self.members)), 1.0 / len(self.members))
        self.register_buffer("weights", equal)
        self.register_buffer("centres", torch.arange(TERCILES, dtype=torch.float32))

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        """See ``LstmNetwork.forward``."""
        return self.combine(self.outputs(inputs, volatility), volatility, self.weights)

    def outputs(self, inputs: Tensor, volatility: Tensor) -> list[HeadOutputs]:
        """What each member answers."""
        return [member(inputs, volatility) for member in self.members.values()]

    def combine(self, outputs: list[HeadOutputs], volatility: Tensor, weights: Tensor) -> HeadOutputs:
        """The members' outputs, weighted by ``weights`` ``[head, tercile, member]``."""
        levels = self.levels(volatility)
        return HeadOutputs(
            *(
                (torch.stack(answers, dim=2) * (levels @ of_head).unsqueeze(1)).sum(dim=2)
                for answers, of_head in zip(zip(*outputs, strict=True), weights, strict=True)
            )
        )

    def levels(self, volatility: Tensor) -> Tensor:
        """How much each tercile counts ``[batch, tercile]``: shares that add up to one.

        A session at the centre of a tercile belongs to it alone, one between two centres to both in proportion to the
        logarithm of its volatility; beyond the outer centres nothing changes any more.
        """
        place = torch.log(volatility[:, :1])
        low, middle, high = self.centres
        rising = torch.clamp((place - low) / (middle - low), 0.0, 1.0)
        rising_on = torch.clamp((place - middle) / (high - middle), 0.0, 1.0)
        return torch.cat([1.0 - rising, rising - rising_on, rising_on], dim=1)
