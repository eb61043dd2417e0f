"""Stacked LSTM layers, read out at the last step."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from financial_assets.models.heads import HeadOutputs, Heads

__all__ = ["LstmNetwork"]


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
        return self.heads(self.states(inputs)[:, -1, :])

    def states(self, inputs: Tensor) -> Tensor:
        """States of the last layer ``[batch, step, hidden]``."""
        states = inputs
        for layer in self.recurrent:
            states = self.dropout(layer(states)[0])
        return states
