"""The mean of dependent days: how far its standard error exceeds that of independent ones, and a test that knows it.

Two estimators of the long-run variance, chosen by what is registered before the first day. *Without overlap* (``lags``
0) that of a first-order autoregression whose coefficient is corrected for its bias in short series (Andrews 1991,
Econometrica 59, plug-in; Kendall 1954, Biometrika 41, bias), never below the variance of independent days: what little
autocorrelation daily differences have dies out within days. *With overlap* (outcomes over several sessions) the
equal-weighted cosine estimator, whose ratio has a t law of few degrees of freedom however slowly the correlation dies
(Lazarus, Lewis, Stock and Watson 2018, JBES 36).

Rare large losses make Student's t too large: few days that have none of them have a small deviation, too. Hall's
transformation (1992, JRSS-B 54, after Johnson 1978, JASA 73) takes that out of t where the skewness of the days speaks
for what is claimed; where it speaks against it, t is cautious as it is.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.experiment.statistics.group_sequential import z_of_t

UNEVEN = 1.5
"""Skewness beyond which t of a year's days is not nearly normal: one day in ten that undoes all gains has 2.7."""
TOO_UNEVEN = 3.0
"""Skewness beyond which t is not nearly normal even when it is corrected: one such day in twenty has 4.1."""
AUTOCORRELATED = 1.645
"""First autocorrelation, in its standard errors, from which days are taken to be dependent (one-sided 5 %)."""

_MOST = 0.97  # of an autoregression: beyond, a year says nothing about the mean
LARGEST_Z = 38.0  # beyond, the normal tail underflows a double, and infinity has no place in a record
_ROUNDING = 1e-12  # days that differ by less are equal: a deviation of rounding errors would make any mean significant


def long_run_deviation(days: ArrayLike, lags: int = 0) -> tuple[NDArray[np.float64], int]:
    """Square root of the long-run variance of a day, and the degrees of freedom of its estimate.

    Parameters
    ----------
    days
        ``[..., days]``, at least 2; leading axes are separate series.
    lags
        Lags up to which outcomes overlap; 0: they do not.
    """
    values = np.asarray(days, np.float64)
    count = values.shape[-1]
    if lags:
        basis = _cosines(count, cosines(count))
        return np.sqrt(np.mean((values @ basis) ** 2, axis=-1)), basis.shape[1]
    centred = values - values.mean(axis=-1, keepdims=True)
    square = np.sum(centred**2, axis=-1)
    product = np.sum(centred[..., 1:] * centred[..., :-1], axis=-1)
    return np.sqrt(square / (count - 1) * _inflation(product, square, count)), count - 1


def running_deviation(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """:func:`long_run_deviation` without overlap after each day ``[..., days]``; 0 on the first."""
    count = np.arange(1, days.shape[-1] + 1, dtype=np.float64)
    total, square = np.cumsum(days, axis=-1), np.cumsum(days**2, axis=-1)
    later = np.concatenate([np.zeros_like(days[..., :1]), days[..., 1:] * days[..., :-1]], axis=-1)
    mean = total / count
    around = np.maximum(square - total * mean, 0.0)
    ends = 2 * total - days - days[..., :1]  # each sum of products lacks one end
    product = np.cumsum(later, axis=-1) - mean * ends + (count - 1) * mean**2
    return np.sqrt(around / np.maximum(count - 1, 1) * _inflation(product, around, count))


def _inflation(product: ArrayLike, square: ArrayLike, count: ArrayLike) -> NDArray[np.float64]:
    """Long-run variance over that of independent days, at least 1."""
    sums = np.asarray(square, np.float64)
    rho = np.divide(product, sums, out=np.zeros_like(sums), where=sums > 0)
    rho = np.clip(rho + (1 + 4 * rho) / np.asarray(count, np.float64), -_MOST, _MOST)
    return np.maximum(1.0, (1 + rho) / (1 - rho))


def cosines(count: int) -> int:
    """Cosines that the overlapping estimator averages over: ``0.41 n^(2/3)``, at least 2 (ibid., section 4)."""
    return max(2, int(0.41 * count ** (2 / 3)))


@cache
def _cosines(count: int, number: int) -> NDArray[np.float64]:
    middle = (np.arange(count) + 0.5) / count
    return math.sqrt(2 / count) * np.cos(math.pi * np.outer(middle, np.arange(1, number + 1)))


def skew_corrected(t: ArrayLike, skew: ArrayLike, count: ArrayLike) -> NDArray[np.float64]:
    """Student's t without what skewness adds to its size: Hall's transformation, which never makes it larger.

    Parameters
    ----------
    t, skew
        Of the same days; both may be arrays.
    count
        Independent days that say as much of their mean as these days do.
    """
    size = np.abs(np.asarray(t, np.float64))
    part = np.minimum(np.sign(t) * np.asarray(skew, np.float64), 0.0) / np.sqrt(count)
    # The cubic is level at -3 / part and rises again beyond: more than that, days of such skewness cannot show.
    most = np.divide(-3.0, part, out=np.full_like(size + part, np.inf), where=part < -_ROUNDING)
    within = np.minimum(size, most)
    fixed = within + part * within**2 / 3 + part**2 * within**3 / 27 + part / 6
    return np.copysign(np.maximum(fixed, 0.0), t)


def skew_required(t: float, skew: float, count: float) -> float:
    """The t, above 0, that :func:`skew_corrected` makes ``t``; infinite where days of such skewness cannot show it."""
    part = min(skew, 0.0) / math.sqrt(count)
    if abs(part) < _ROUNDING or t <= 0:
        return t
    less = part * (t - part / 6)  # what the cube of the cubic's root is below 1
    return 3 / part * math.expm1(math.log1p(less) / 3) if less > -1 else math.inf


def effective_count(deviation: ArrayLike, days: ArrayLike, lags: int = 0) -> NDArray[np.float64]:
    """Independent days that say as much of their mean as ``[..., days]`` with this long-run deviation ``[...]`` do."""
    values = np.asarray(days, np.float64)
    count, plain = values.shape[-1], values.std(axis=-1, ddof=1)
    ratio = np.divide(deviation, plain, out=np.ones_like(plain), where=plain > _ROUNDING)
    return count / np.maximum(ratio**2, 1.0 + lags)


def robust_z(
    days: ArrayLike, margin: float = 0.0, lags: int = 0, *, still: float = 0.0, corrected: bool = False
) -> float:
    """Standardised mean of dependent days minus ``margin``: the normal deviate with the p-value of Student's t.

    Parameters
    ----------
    days
        ``[days]``.
    margin, lags
        What the mean is compared with; see :func:`long_run_deviation`.
    still
        Size of the answer where days do not vary: 0 where that proves nothing; it has the sign of mean minus margin.
    corrected
        Whether t is :func:`skew_corrected`.
    """
    values = np.asarray(days, np.float64)
    if values.size < 2:
        return 0.0
    mean = float(values.mean()) - margin
    if float(np.ptp(values)) <= _ROUNDING:
        return math.copysign(still, mean) if abs(mean) > _ROUNDING else 0.0
    deviation, freedom = long_run_deviation(values, lags)
    t = mean / (deviation / math.sqrt(values.size))
    if corrected:
        t = skew_corrected(t, skewness(values), effective_count(deviation, values, lags))
    return float(np.clip(z_of_t(t, freedom), -LARGEST_Z, LARGEST_Z))


def robust_zs(days: ArrayLike, margins: ArrayLike, lags: int = 0, *, still: float = 0.0) -> NDArray[np.float64]:
    """:func:`robust_z` of several series of as many days at once, to the bit ``[series]``.

    Parameters
    ----------
    days, margins
        ``[series, days]``, and what the mean of each is compared with ``[series]``.
    lags, still
        See :func:`robust_z`.
    """
    values, least = np.asarray(days, np.float64), np.asarray(margins, np.float64)
    if lags or values.shape[-1] < 2:  # products of matrices add up in another order than those of one series
        return np.array([robust_z(own, margin, lags, still=still) for own, margin in zip(values, least, strict=True)])
    mean, same = values.mean(axis=-1) - least, np.ptp(values, axis=-1) <= _ROUNDING
    deviation, freedom = long_run_deviation(values)
    t = np.divide(mean, deviation / math.sqrt(values.shape[-1]), out=np.zeros_like(mean), where=~same)
    of_same = np.where(np.abs(mean) > _ROUNDING, np.copysign(still, mean), 0.0)
    return np.where(same, of_same, np.clip(z_of_t(t, freedom), -LARGEST_Z, LARGEST_Z))


def skewness(days: ArrayLike) -> NDArray[np.float64]:
    """Third standardised moment ``[...]`` of days ``[..., days]``; 0 where they do not vary."""
    values = np.asarray(days, np.float64)
    centred = values - values.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.mean(centred**2, axis=-1))
    cube = np.mean(centred**3, axis=-1)
    return np.divide(cube, deviation**3, out=np.zeros_like(cube), where=deviation > _ROUNDING)


def autocorrelation(days: ArrayLike) -> NDArray[np.float64]:
    """First autocorrelation in its standard errors ``[...]`` of days ``[..., days]``; 0 where they do not vary."""
    values = np.asarray(days, np.float64)
    centred = values - values.mean(axis=-1, keepdims=True)
    square = np.sum(centred**2, axis=-1)
    product = np.sum(centred[..., 1:] * centred[..., :-1], axis=-1)
    still = square <= _ROUNDING**2
    return np.divide(product, square, out=np.zeros_like(square), where=~still) * math.sqrt(values.shape[-1])
