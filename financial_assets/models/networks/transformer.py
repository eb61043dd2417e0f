"""A transformer encoder over the steps of the window."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.models.heads import HeadOutputs, Heads
from financial_assets.models.request_shape import SERVED_LOOKBACK

__all__ = ["ATTENTION_HEADS", "TransformerNetwork", "sinusoids"]

ATTENTION_HEADS = 8

_WIDENING = 2
"""Width of the feed-forward layer in units of ``hidden``; the usual 4 is for far larger data."""

_FIRST_SCALE = 0.25
"""Standard deviation of the states that are read out before training; those of an LSTM are about as small."""

_LONGEST_WAVE = 1000.0
"""Of the positions; 10,000 in the source, whose sequences are tens of times longer than any window here."""


class TransformerNetwork(nn.Module):
    """Encoder layers with the norm before each block, read out at the last step.

    The norm comes first, because such layers train at once, without warming up the learning rate (Xiong et al. 2020,
    "On layer normalization in the transformer architecture"). Activations are GELU (Hendrycks & Gimpel 2016).

    Parameters
    ----------
    features
        Width of the input.
    hidden
        Width of a token, a multiple of ``ATTENTION_HEADS``.
    layers, dropout
        As in ``Variant``.

    Raises
    ------
    TrainingError
        If ``hidden`` cannot be shared among the heads of the attention.
    """

    positions: Tensor

    def __init__(self, features: int, *, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        if hidden % ATTENTION_HEADS:
            raise TrainingError(f"hidden={hidden} must be a multiple of the attention's {ATTENTION_HEADS} heads")
        self.embedding = nn.Linear(features, hidden)
        layer = nn.TransformerEncoderLayer(
            hidden, ATTENTION_HEADS, _WIDENING * hidden, dropout, "gelu", norm_first=True, batch_first=True
        )
        normalisation = nn.LayerNorm(hidden)
        # States of unit variance would drown the quantiles that the read-outs start from.
        nn.init.constant_(normalisation.weight, _FIRST_SCALE)
        self.encoder = nn.TransformerEncoder(layer, layers, normalisation, enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.heads = Heads(hidden)
        self.register_buffer("positions", sinusoids(SERVED_LOOKBACK, hidden), persistent=False)

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        """See ``LstmNetwork.forward``."""
        tokens = self.dropout(self.embedding(inputs) + self.positions[-inputs.shape[1] :])
        return self.heads(self.encoder(tokens)[:, -1])


def sinusoids(steps: int, hidden: int) -> Tensor:
    """Positions as sines and cosines ``[step, hidden]`` (Vaswani et al. 2017), counted back from the last step.

    Counted from the end, a session a week ago has the same position in windows of any length.
    """
    age = torch.arange(steps - 1, -1, -1, dtype=torch.float32).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, hidden, 2) * (-math.log(_LONGEST_WAVE) / hidden))
    return torch.stack([torch.sin(age * frequency), torch.cos(age * frequency)], dim=2).flatten(1)
