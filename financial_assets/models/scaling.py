"""The feature scaler: robust location and scale of the fit block, then a clip; part of the exported graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from financial_assets.errors import TrainingError

CLIP = 5.0
"""Scaled features are clipped here, in robust standard deviations."""

_LEAST_SPREAD = 1e-4
"""Features are of size one, in float32: what varies less is constant up to rounding, which must not be magnified."""

_NORMAL_IQR = 1.349
"""Interquartile range of the standard normal distribution."""


class RobustScaler(nn.Module):
    """``clip((x - median) / robust standard deviation)`` for each feature.

    Parameters
    ----------
    center, scale
        ``[feature]``; ``scale`` positive.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, center: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, rows: Tensor) -> RobustScaler:
        """Median and interquartile range (as a standard deviation) of ``rows`` ``[n, feature]``.

        A feature whose quartiles coincide (a flag) takes its standard deviation; a constant one is only centred.

        Raises
        ------
        TrainingError
            If a row is not finite.
        """
        # The extremes of values of which one is NaN are NaN.
        if not bool(torch.isfinite(torch.stack(rows.aminmax())).all()):
            raise TrainingError("features of the fit block are not finite: rebuild the `features` asset")
        # torch.quantile refuses large inputs. Three ranks need no sorted column: partitioning is as exact, and a sixth
        # of the work for a universe.
        ranks = [int(share * (len(rows) - 1)) for share in (0.25, 0.50, 0.75)]
        quartiles = [np.partition(column, ranks)[ranks] for column in rows.T.numpy(force=True)]
        low, center, high = torch.from_numpy(np.stack(quartiles, axis=1)).to(rows.device)
        spread = (high - low) / _NORMAL_IQR
        scale = spread.clone()
        narrow = ~(spread > _LEAST_SPREAD)
        if bool(narrow.any()):
            deviation = rows[:, narrow].std(dim=0, correction=0)
            scale[narrow] = torch.where(deviation > _LEAST_SPREAD, deviation, torch.ones_like(deviation))
        return cls(center.clone(), scale)

    @classmethod
    def from_values(cls, center: Sequence[float], scale: Sequence[float]) -> RobustScaler:
        """The scaler with these numbers."""
        return cls(torch.tensor(center, dtype=torch.float32), torch.tensor(scale, dtype=torch.float32))

    def forward(self, features: Tensor) -> Tensor:
        """Scale ``[..., feature]``."""
        return ((features - self.center) / self.scale).clamp(-CLIP, CLIP)
