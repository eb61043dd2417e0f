"""Linear read-outs of the decision session's features."""

from __future__ import annotations

from torch import Tensor, nn

from financial_assets.models.heads import HeadOutputs, Heads

__all__ = ["LinearNetwork"]


class LinearNetwork(nn.Module):
    """Logistic, quantile and ridge regression on the features of the last step; no other step is read.

    Parameters
    ----------
    features
        Width of the input.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.heads = Heads(features)

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        """See ``LstmNetwork.forward``."""
        return self.heads(inputs[:, -1])
