"""LSTM layers whose states are pooled over the steps by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from financial_assets.models.heads import HeadOutputs
from financial_assets.models.networks.lstm import LstmNetwork

__all__ = ["AttentionPooling", "AttentiveLstmNetwork"]


class AttentionPooling(nn.Module):
    """Mean of the steps with weights that their states give (additive attention, Bahdanau, Cho & Bengio 2015).

    Parameters
    ----------
    hidden
        Width of a state.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, hidden)
        self.relevance = nn.Linear(hidden, 1)

    def forward(self, states: Tensor) -> Tensor:
        """``[batch, step, hidden]`` to ``[batch, hidden]``."""
        # As a matrix of steps, for which a linear layer is one product; the states of an LSTM have the steps first.
        states = states.contiguous()
        shares = torch.softmax(self.relevance(torch.tanh(self.project(states))), dim=1)
        return (shares * states).sum(dim=1)


class AttentiveLstmNetwork(LstmNetwork):
    """Stacked LSTM layers, read out at the last step and at an attention-weighted mean of all steps.

    The last state of a deep LSTM keeps little of the first steps; the pooling reads every step directly. Its mean is
    added to the last state: before attention has learned what matters, all steps weigh alike, and the last one would
    drown among them.

    Parameters
    ----------
    features
        Width of the input.
    hidden, layers, dropout
        As in ``Variant``.
    """

    def __init__(self, features: int, *, hidden: int, layers: int, dropout: float) -> None:
        super().__init__(features, hidden=hidden, layers=layers, dropout=dropout)
        self.pooling = AttentionPooling(hidden)

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        """See ``LstmNetwork.forward``."""
        states = self.states(inputs)
        return self.heads(states[:, -1] + self.pooling(states))
