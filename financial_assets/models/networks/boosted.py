"""Gradient-boosted trees on the decision session's features, one sum of trees per number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from financial_assets.models.heads import HeadOutputs
from financial_assets.models.onnx.trees import TreeEnsemble
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

__all__ = ["BoostedNetwork"]


class BoostedNetwork(nn.Module):
    """Trees for the logit, for each quantile of each horizon and for the score; no other step than the last is read.

    A new one has no trees and answers zeros. Trees come from ``fitting.boosted``, or with a stored state.

    Parameters
    ----------
    features
        Width of the input.
    """

    def __init__(self, features: int) -> None:
        super().__init__()

        def sums(count: int) -> nn.ModuleList:
            return nn.ModuleList(TreeEnsemble([], np.zeros(1), features) for _ in range(count))

        self.direction = sums(1)
        self.quantiles = sums(len(QUANTILE_LEVELS))
        self.quantiles_5d = sums(len(QUANTILE_LEVELS))
        self.score = sums(1)

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        """See ``LstmNetwork.forward``."""
        last = inputs[:, -1]
        heads = (self.direction, self.quantiles, self.quantiles_5d, self.score)
        return HeadOutputs(*(torch.cat([trees(last) for trees in head], dim=1) for head in heads))
