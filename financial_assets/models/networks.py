"""The networks: a window of scaled features in, the outputs of four heads out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.models.heads import QUANTILE_LEVELS, HeadOutputs, Heads
from financial_assets.models.variants import Variant

__all__ = ["NETWORKS", "QUANTILE_LEVELS", "LstmNetwork", "build_network"]


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
        self.heads = Heads(hidden)

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        """Outputs for scaled windows.

        Parameters
        ----------
        inputs
            ``[batch, step, feature]``, oldest step first.
        volatility
            ``[batch, 2]``: the forecast standard deviations of the log return over the next session and over five. This
            network does not look at them; its quantiles are multiples of them.
        """
        state = inputs
        for layer in self.recurrent:
            state = self.dropout(layer(state)[0])
        return self.heads(state[:, -1, :])


def _lstm(variant: Variant, features: int) -> nn.Module:
    return LstmNetwork(features, hidden=variant.hidden, layers=variant.layers, dropout=variant.dropout)


NETWORKS: Mapping[str, Callable[[Variant, int], nn.Module]] = MappingProxyType({"lstm": _lstm})
"""Network constructors by the name that a ``Variant`` gives.

To add an architecture: write a module with the inputs of ``LstmNetwork.forward`` that ends in ``Heads``, name its
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
