"""Regimes: what kind of market a session begins in. Everything here is known before its first bar.

A regime is a set of named values, such as volatility ``high`` and trend ``up`` (``scoring.regimes``), sector and time
of day, which need no bar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from financial_assets.errors import ExperimentError
from financial_assets.scoring.regimes import TERCILES, TRENDS

Dimension = Literal["volatility", "trend", "sector", "time"]
DIMENSIONS: tuple[Dimension, ...] = ("volatility", "trend", "sector", "time")
"""What a regime may be made of, in the order of its name."""

_VALUE = re.compile(r"[a-z0-9]+")

VALUES: Mapping[Dimension, tuple[str, ...]] = MappingProxyType(
    {"volatility": TERCILES, "trend": TRENDS, "time": ("opening", "midday", "closing", "closed")}
)
"""Values of the dimensions whose values are not the user's."""

_SUFFIX = "-experiment"
_LONGEST = 63


@dataclass(frozen=True, slots=True, order=True)
class Regime:
    """One kind of market.

    Attributes
    ----------
    values
        ``(dimension, value)`` in the order of :data:`DIMENSIONS`; values are lower-case letters and digits.
    """

    values: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.values]
        if not names or names != [name for name in DIMENSIONS if name in names]:
            raise ExperimentError(
                f"a regime has some of the dimensions {', '.join(DIMENSIONS)}, in this order, once each; not {names}"
            )
        for name, value in self.values:
            if not _VALUE.fullmatch(value):
                raise ExperimentError(f"regime {name} is {value!r}; allowed: lower-case letters and digits")

    @classmethod
    def of(cls, **values: str) -> Regime:
        """``Regime.of(volatility="high", trend="up")``, dimensions in any order."""
        unknown = sorted(set(values) - set(DIMENSIONS))
        if unknown:
            raise ExperimentError(f"unknown regime dimension {', '.join(unknown)}; known: {', '.join(DIMENSIONS)}")
        return cls(tuple((name, values[name]) for name in DIMENSIONS if name in values))

    @property
    def label(self) -> str:
        """``high-up``: part of names."""
        return "-".join(value for _, value in self.values)


def regime_experiment(experiment: str, regime: str | None) -> str:
    """Name of the experiment that takes the requests of a regime; of an unknown one, ``experiment`` itself.

    ``financial-ab-test-experiment`` in the regime ``high-up`` is ``financial-ab-test-high-up-experiment``.

    Raises
    ------
    ExperimentError
        If ``experiment`` does not end in ``-experiment``, or the name gets longer than Kubernetes allows.
    """
    if regime is None:
        return experiment
    if not experiment.endswith(_SUFFIX):
        raise ExperimentError(f"experiment {experiment!r} must end in {_SUFFIX}")
    name = f"{experiment.removesuffix(_SUFFIX)}-{regime}{_SUFFIX}"
    if len(name) > _LONGEST:
        raise ExperimentError(f"the experiment name {name} is longer than {_LONGEST}: use a shorter experiment name")
    return name
