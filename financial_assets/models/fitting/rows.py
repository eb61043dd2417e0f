"""Windows as plain rows: the features of the decision session and the labels of every head."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from financial_assets.models.dataset import WindowDataset

__all__ = ["Rows", "decision_rows", "sample"]


class Rows(NamedTuple):
    """Decisions, one a row.

    Attributes
    ----------
    inputs
        float32 ``[n, feature]``: scaled features of the decision session.
    up
        bool ``[n]``: the next close was higher.
    scaled_return, scaled_return_5d
        float64 ``[n]``: log returns over the next session and over five, in units of the volatility forecast for them.
    excess
        float64 ``[n]``: next session's log return minus the market's, in units of the stock's causal volatility.
    """

    inputs: np.ndarray
    up: np.ndarray
    scaled_return: np.ndarray
    scaled_return_5d: np.ndarray
    excess: np.ndarray


def decision_rows(windows: WindowDataset, most: int, seed: int) -> Rows:
    """All windows as rows, or ``most`` of them drawn at random; chronological."""
    chosen = sample(len(windows), most, seed)
    labels = windows.labels
    outcome, outcome_5d, excess = (
        label[chosen, 0].double().numpy() for label in (labels.outcome, labels.outcome_5d, labels.excess)
    )
    volatility = labels.volatility[chosen].double().numpy()
    return Rows(
        inputs=windows.last_step[chosen].numpy(),
        up=outcome > 0,
        scaled_return=outcome / volatility[:, 0],
        scaled_return_5d=outcome_5d / volatility[:, 1],
        excess=excess,
    )


def sample(count: int, most: int, seed: int) -> Tensor:
    """All of ``count`` positions, or ``most`` of them drawn at random; in order."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values
