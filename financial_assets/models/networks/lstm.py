"""The networks: a window of scaled features in, one logit and five volatility multiples out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.models.variants import Variant
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

__all__ = ["NETWORKS", "QUANTILE_LEVELS", "LstmNetwork", "build_network"]

_NORMAL_QUANTILES = (-2.3263, -1.6449, 0.0, 1.6449, 2.3263)
"""Standard normal quantiles at ``QUANTILE_LEVELS``: a sane answer before the first gradient step."""


class LstmNetwork(nn.Module):
    """Stacked LSTM layers (Hochreiter & Schmidhuber 1997), read out at the last step.

    ``nn.LSTM`` applies its own dropout only *between* its layers, so with one layer it does nothing. Here every layer
    is followed by an explicit one.

    Parameters
    ----------
    features
        Width of the input.
    hidden, layers, dropout
        As in ``Variant``.
    """

    def __init__(self, features: int, *, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        widths = [features, *[hidden] * layers]
        self.recurrent = nn.ModuleList(
            nn.LSTM(before, after, batch_first=True) for before, after in itertools.pairwise(widths)
        )
        self.dropout = nn.Dropout(dropout)
        self.direction = nn.Linear(hidden, 1)
        self.quantiles = nn.Linear(hidden, len(QUANTILE_LEVELS))
        with torch.no_grad():
            self.quantiles.bias.copy_(torch.tensor(_NORMAL_QUANTILES))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for scaled windows.

        Parameters
        ----------
        inputs
            ``[batch, step, feature]``, oldest step first.

        Returns
        -------
        tuple of Tensor
            Logit of "up" ``[batch, 1]`` (no sigmoid: the loss and the exported graph apply it, once each), and the
            quantiles of the next log return as multiples of today's volatility ``[batch, 5]``, not yet ordered.
        """
        state = inputs
        for layer in self.recurrent:
            state = self.dropout(layer(state)[0])
        last = state[:, -1, :]
        return self.direction(last), self.quantiles(last)


def _lstm(variant: Variant, features: int) -> nn.Module:
    return LstmNetwork(features, hidden=variant.hidden, layers=variant.layers, dropout=variant.dropout)


NETWORKS: Mapping[str, Callable[[Variant, int], nn.Module]] = MappingProxyType({"lstm": _lstm})
"""Network constructors by the name that a ``Variant`` gives.

To add an architecture: write a module with the inputs and outputs of ``LstmNetwork.forward``, name its
constructor here, and add a line to ``variants.VARIANTS`` that names it in ``network``. Nothing else changes: assets,
checks, export and serving follow from the line.
"""


def build_network(variant: Variant, features: int) -> nn.Module:
    """A freshly initialised network (from torch's current random state).

    Raises
    ------
    TrainingError
        If the variant names a network that does not exist.
    """
    try:
        constructor = NETWORKS[variant.network]
    except KeyError:
        raise TrainingError(
            f"variant {variant.name!r} names the network {variant.network!r}; there are {', '.join(NETWORKS)}"
        ) from None
    return constructor(variant, features)
