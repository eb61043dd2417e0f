"""What a feature is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from financial_assets.errors import FeatureError
from financial_assets.features.bars import Bars

FAMILIES = (
    *("trend", "momentum", "volatility", "volume", "liquidity"),
    *("bar_shape", "cross_asset", "spectral", "calendar", "covariates"),
)


@dataclass(frozen=True)
class Feature:
    """A causal, scale-invariant function of the last ``lookback`` bars.

    Attributes
    ----------
    family
        One of ``FAMILIES``.
    name
        The field's usual term, with its windows.
    lookback
        Bars that the value depends on, the newest included.
    formula
        One line; ``x[-n]`` is the value n bars ago, ``scale`` the root mean square of the last 60 daily log returns.
    source
        Who defined it.
    function
        The formula: ``Bars`` to ``[..., session]``, not yet clipped to ``bounds``; each row of the leading axes alone.
    neutral
        The value where the formula is undefined or nothing moves (flat prices, no volume); ``None`` for a feature of
        the date alone, which is always defined.
    bounds
        Smallest and largest value; heavier tails are clipped to them.
    replaces
        Indicators of the original system whose scale-invariant counterpart this is.
    """

    family: str
    name: str
    lookback: int
    formula: str
    source: str
    function: Callable[[Bars], Tensor]
    neutral: float | None = 0.0
    bounds: tuple[float, float] = (-1.0, 1.0)
    replaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise FeatureError(f"feature {self.name!r} has family {self.family!r}, not one of {', '.join(FAMILIES)}")
        if self.lookback < 1:
            raise FeatureError(f"feature {self.name!r} has lookback {self.lookback}; a feature sees at least one bar")
        low, high = self.bounds
        if not low < high or (self.neutral is not None and not low <= self.neutral <= high):
            raise FeatureError(f"feature {self.name!r}: neutral {self.neutral} outside bounds {self.bounds}")

    def compute(self, bars: Bars) -> Tensor:
        """The value at every session, ``[..., session]``, within ``bounds``."""
        return torch.clamp(self.function(bars), *self.bounds)
