"""Regimes: what kind of market a session begins in. Everything here is known before its first bar.

A regime is a set of named values, such as volatility ``high`` and trend ``up``. Volatility and trend of a session are
taken from bars strictly before it: changing the session's own bar, or a later one, changes nothing. Sector and time of
day need no bar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import ExperimentError

Dimension = Literal["volatility", "trend", "sector", "time"]
DIMENSIONS: tuple[Dimension, ...] = ("volatility", "trend", "sector", "time")
"""What a regime may be made of, in the order of its name."""

_VALUE = re.compile(r"[a-z0-9]+")
_TERCILES = ("low", "mid", "high")
_WINDOW, _HISTORY, _TREND = 20, 252, 60  # sessions

VALUES: Mapping[Dimension, tuple[str, ...]] = MappingProxyType(
    {"volatility": _TERCILES, "trend": ("down", "up"), "time": ("opening", "midday", "closing", "closed")}
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


def volatility_terciles(close: ArrayLike) -> list[str | None]:
    """``low``, ``mid`` or ``high`` for each session, by yesterday's volatility among those of the past year.

    Volatility is the standard deviation of 20 daily log returns; the tercile is that of its rank among the last 252
    values, its own included.

    Parameters
    ----------
    close
        Positive level ``[session]`` of a ticker or of the market.

    Returns
    -------
    list
        ``[session]``; ``None`` until there is enough history.
    """
    returns = np.diff(np.log(_positive(close)))
    out: list[str | None] = [None] * (returns.size + 1)
    if returns.size < _WINDOW + _HISTORY - 1:
        return out
    volatility = np.lib.stride_tricks.sliding_window_view(returns, _WINDOW).std(axis=1)
    past = np.lib.stride_tricks.sliding_window_view(volatility, _HISTORY)
    rank = np.mean(past[:, :-1] < past[:, -1:], axis=1)
    # The newest return of a rank is the one into the session before the one that it is for.
    for session, share in enumerate(rank[: len(out) - _WINDOW - _HISTORY], start=_WINDOW + _HISTORY):
        out[session] = _TERCILES[min(2, int(3 * share))]
    return out


def trend_directions(close: ArrayLike) -> list[str | None]:
    """``up`` or ``down`` for each session: whether yesterday's close exceeds the one 60 sessions before it.

    Parameters
    ----------
    close
        As for :func:`volatility_terciles`.
    """
    level = _positive(close)
    return [
        None if at <= _TREND else ("up" if level[at - 1] > level[at - 1 - _TREND] else "down")
        for at in range(level.size)
    ]


def _positive(close: ArrayLike) -> NDArray[np.float64]:
    level = np.asarray(close, dtype=np.float64)
    if level.ndim != 1 or not level.size or not np.all(np.isfinite(level) & (level > 0)):
        raise ExperimentError("a regime needs levels [session] that are positive and finite")
    return level
