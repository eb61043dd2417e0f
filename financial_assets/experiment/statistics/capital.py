"""The capital of the gambler in :mod:`.betting`: stakes, one day's play, and many tests at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import ExperimentError

STAKES = (0.01, 0.014, 0.02, 0.028, 0.04, 0.056, 0.08, 0.11, 0.16, 0.22, 0.32, 0.45, 0.64, 0.9)
"""Fractions of the most that may be staked, each half as large again as the one before."""

_AROUND = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
_LEAST_STAKE, _MOST_STAKE = 0.001, 0.9
MOST_CAPITAL = 1e280
"""Capital above is given away: less capital is less evidence, and doubles end at 1.8e308."""

_FARTHEST = 0.999
"""Margins reach up to this part of the bound, which keeps one day's gain finite."""


def margin_grid(step: float = 0.001, reach: float = 0.2, bound: float = 1.0) -> NDArray[np.float64]:
    """Candidate means ``-reach ... 0 ... +reach`` in steps, ``[2 * reach / step + 1]``, in units of the difference."""
    if not 0 < step <= reach <= _FARTHEST * bound:
        raise ExperimentError(f"a margin grid needs 0 < step <= reach <= {_FARTHEST} * bound: {step}, {reach}, {bound}")
    count = round(reach / step)
    return np.array([round(k * step, 12) for k in range(-count, count + 1)])


def planned_stakes(effect: float, deviation: float, bound: float = 1.0) -> tuple[float, ...]:
    """Stakes about the growth-optimal one for a plan's effect, from a third of it to twice as much.

    Parameters
    ----------
    effect
        Mean daily difference that the plan hopes for, positive.
    deviation
        Its standard deviation from day to day, as assumed before the first day.
    bound
        Largest possible size of a difference.
    """
    if not (effect > 0 and deviation > 0 and bound > 0):
        raise ExperimentError(f"effect, deviation and bound must be positive: {effect}, {deviation}, {bound}")
    # Kelly's stake is mean over variance, in units of the bound; the effect is a hope and the deviation an estimate, so
    # the capital is spread over stakes around it.
    best = effect * bound / (deviation * deviation)
    return tuple(sorted({min(max(best * part, _LEAST_STAKE), _MOST_STAKE) for part in _AROUND}))


def log_e_process(
    differences: ArrayLike,
    margin: float = 0.0,
    *,
    bound: float = 1.0,
    stakes: Sequence[float] = STAKES,
) -> NDArray[np.float64]:
    """Logarithm of the e-process against "the mean is at most ``margin``" after each day.

    Evidence that the mean falls short of ``margin`` is that of minus the differences against minus the margin.

    Parameters
    ----------
    differences
        ``[..., days]``, each in ``[-bound, bound]``; leading axes are separate tests.
    margin
        The mean under the null hypothesis.
    bound
        Largest possible size of a difference.
    stakes
        Fractions of the most that may be staked, each in (0, 1).

    Returns
    -------
    ndarray
        ``[..., days]``. Reject at level alpha as soon as it reaches ``log(1 / alpha)``.

    Raises
    ------
    ExperimentError
        For differences beyond the bound, a margin too near to it, or stakes outside (0, 1).
    """
    days = checked_days(differences, bound)
    mean = checked_margins(np.array([margin]), bound)[0]
    parts = checked_stakes(stakes)
    capital, out = np.ones((len(parts), *days.shape[:-1])), np.empty(days.shape)
    for day in range(days.shape[-1]):
        capital = play(capital, parts, (days[..., day] - mean) / (bound + mean))
        out[..., day] = np.log(mixed(capital))
    return out


def play(capital: NDArray[np.float64], stakes: tuple[float, ...], odds: ArrayLike) -> NDArray[np.float64]:
    """Capital ``[stake, ...]`` after a day on which each unit staked gained ``odds`` (at least -1)."""
    parts = np.array(stakes).reshape((-1,) + (1,) * (capital.ndim - 1))
    return np.minimum(capital * (1.0 + parts * np.asarray(odds)), MOST_CAPITAL)


def mixed(capital: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over stakes, added in one order: ``numpy.sum`` may choose another one for other shapes."""
    total = capital[0].copy()
    for part in capital[1:]:
        total += part
    return total / len(capital)


def checked_days(differences: ArrayLike, bound: float) -> NDArray[np.float64]:
    """Daily differences ``[..., days]`` within the bound; ``ExperimentError`` otherwise."""
    days = np.asarray(differences, dtype=np.float64)
    if days.ndim == 0:
        raise ExperimentError("differences need an axis of days")
    if not np.all(np.abs(days) <= bound):  # false for NaN too
        raise ExperimentError(
            f"daily differences must lie within +-{bound:g}; clip them as the plan says before they are bet on"
        )
    return days


def checked_margins(margins: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Rising means that lie far enough inside the bound; ``ExperimentError`` otherwise."""
    if not bound > 0 or not math.isfinite(bound):
        raise ExperimentError(f"the bound of a difference must be positive and finite, not {bound}")
    if margins.ndim != 1 or not margins.size or not np.all(np.abs(margins) <= _FARTHEST * bound):
        raise ExperimentError(f"margins must be a list of means within +-{_FARTHEST} times the bound {bound:g}")
    if np.any(np.diff(margins) <= 0):
        raise ExperimentError("margins must rise")
    return margins


def checked_stakes(stakes: Sequence[float]) -> tuple[float, ...]:
    """Fractions in (0, 1); ``ExperimentError`` otherwise."""
    if not stakes or not all(0 < stake < 1 for stake in stakes):
        raise ExperimentError(f"stakes must lie strictly between 0 and 1, not {list(stakes)}")
    return tuple(map(float, stakes))
