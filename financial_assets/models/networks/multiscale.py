"""LSTMs that read the same window at three time scales, joined by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.models.heads import HeadOutputs, Heads

__all__ = ["ATTENTION_HEADS", "STRIDES", "MultiScaleLstmNetwork", "every"]

STRIDES = (1, 2, 4)
"""Sessions between two steps of each scale. Every scale reads the same number of steps and ends at the last one."""

ATTENTION_HEADS = 4


class MultiScaleLstmNetwork(nn.Module):
    """One LSTM per time scale; the state of the shortest asks those of all scales what matters to it.

    A window of 48 steps gives each scale 12: the last 12 sessions, every second of the last 24, every fourth of all.
    Steps that lie months back then are few recurrences away, as in the clockwork RNN (Koutnik et al. 2014).

    Parameters
    ----------
    features
        Width of the input.
    hidden
        Units of each LSTM, a multiple of ``ATTENTION_HEADS``.
    dropout
        As in ``Variant``.

    Raises
    ------
    TrainingError
        If ``hidden`` cannot be shared among the heads of the attention.
    """

    def __init__(self, features: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        if hidden % ATTENTION_HEADS:
            raise TrainingError(f"hidden={hidden} must be a multiple of the attention's {ATTENTION_HEADS} heads")
        self.scales = nn.ModuleList(nn.LSTM(features, hidden, batch_first=True) for _ in STRIDES)
        self.attention = nn.MultiheadAttention(hidden, ATTENTION_HEADS, batch_first=True)
        self.normalisation = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.heads = Heads(hidden)

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        """See ``LstmNetwork.forward``."""
        last = [lstm(every(inputs, stride))[0][:, -1] for lstm, stride in zip(self.scales, STRIDES, strict=True)]
        states = self.dropout(torch.stack(last, dim=1))
        daily = states[:, :1]
        read = self.attention(daily, states, states, need_weights=False)[0]
        return self.heads(self.dropout(self.normalisation(daily + read)[:, 0]))


def every(inputs: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th step up to the last one, as many for each stride."""
    steps = inputs.shape[1]
    count = max(steps // max(STRIDES), 1)
    return inputs[:, steps - 1 - stride * (count - 1) :: stride]
