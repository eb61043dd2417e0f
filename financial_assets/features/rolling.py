"""Window primitives in log-steps: what the features are made of.

A window of ``w`` bars is merged from windows of 1, 2, 4 ... bars, so that each primitive costs O(log w) slices and
additions, is accurate in float32 (no running total that drifts) and exports to ONNX as plain slices, concatenations and
arithmetic.

Shapes: every function maps ``[..., session]`` to ``[..., session]``. Before the first bar the series is continued with
its first value; outputs mean something from the window's length onwards.

Every output bar is computed by the same operations in the same order at every position, and only with operations that
IEEE 754 rounds exactly (+ - * / sqrt, comparisons) besides ``log`` and ``sin``: a panel and a window therefore agree
bit for bit; ``features.panels`` records the same formulas for whole panels. That rules out ``lerp``, ``addcmul`` and
``add(alpha=...)`` but for powers of two, whose vectorised and scalar paths may round differently. Averages are formed
from distances that are exactly 0 in a constant series (``windows``): its average is exactly the constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from financial_assets.features import windows
from financial_assets.features.primitive import primitive
from financial_assets.features.series import Tail
from financial_assets.features.windows import extended, total, unfolded

EMA_TAIL = 0.01
"""An EMA is cut where the weight of everything older falls below this share."""


@primitive()
def lag(x: Tensor, bars: int) -> Tensor:
    """The value ``bars`` sessions ago."""
    return extended(x, bars)[..., : x.shape[-1]]


def diff(x: Tensor, bars: int = 1) -> Tensor:
    """The change over ``bars`` sessions."""
    return x - lag(x, bars)


@primitive(series=2)
def ratio(numerator: Tensor, denominator: Tensor, neutral: float = 0.0) -> Tensor:
    """``numerator / denominator`` where the denominator is positive, else ``neutral``.

    No epsilon is added: it would have a unit, and the result would change with the scale of prices.
    """
    defined = denominator > 0
    if neutral == 0.0:
        # A number over infinity is exactly 0, so no second ``where`` is needed, and 0 / 0 never arises.
        return numerator / torch.where(defined, denominator, math.inf)
    return torch.where(defined, numerator / denominator, neutral)


def relative_difference(a: Tensor, b: Tensor) -> Tensor:
    """``(a - b) / (a + b)`` of two non-negative series: in [-1, 1], 0 where both are 0."""
    return ratio(a - b, a + b)


def signed(change: Tensor, size: Tensor | float = 1.0) -> Tensor:
    """``size`` with the sign of ``change``; 0 where nothing changed."""
    return torch.where(change > 0, size, torch.where(change < 0, -size, 0.0))


@primitive(series=2)
def log_ratio(a: Tensor, b: Tensor) -> Tensor:
    """``log(a / b)`` of two positive series, 0 where either is not positive.

    The quotient is formed first: it does not change when both are multiplied by a power of two, ``log a - log b`` does.
    """
    # Contiguous: the strided path of a transcendental function may round differently.
    logarithm = torch.log((a / b).contiguous())
    return torch.where(logarithm.abs() < math.inf, logarithm, 0.0)


@primitive()
def sum_(x: Tensor, window: int) -> Tensor:
    """Sum of the last ``window`` bars."""
    return windows.sum_(_tail(x, window), window).newest(x.shape[-1])


@primitive()
def mean(x: Tensor, window: int) -> Tensor:
    """Average of the last ``window`` bars; exactly the constant of a constant series."""
    return windows.mean(_tail(x, window), window).newest(x.shape[-1])


@primitive(outputs=2)
def moments(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Average and sum of squared deviations of the last ``window`` bars (Chan, Golub and LeVeque 1983)."""
    if window == 1:  # a single bar holds no deviations, as in ``windows``
        return x, torch.zeros_like(x)
    average, squares = windows.moments(_tail(x, window), window)
    return average.newest(x.shape[-1]), squares.newest(x.shape[-1])


def std(x: Tensor, window: int) -> Tensor:
    """Population standard deviation of the last ``window`` bars; exactly 0 for a constant series."""
    return torch.sqrt(moments(x, window)[1] / window)


@primitive()
def mean_absolute_deviation(x: Tensor, window: int) -> Tensor:
    """Average distance of the last ``window`` bars from their average; exactly 0 for a constant series."""
    return total((unfolded(x, window) - mean(x, window)[..., None]).abs()) / window


@primitive(series=4)
def profile_position(level: Tensor, low: Tensor, high: Tensor, weight: Tensor, window: int) -> Tensor:
    """Where ``level`` stands in the profile of the last ``window`` bars.

    Each bar's weight is spread evenly from its low to its high.

    Returns
    -------
    Tensor
        (weight below the level - weight above it) / weight, ``[..., session]`` in [-1, 1]; 0 without any weight.
    """
    # A bar without range has its weight at one price: the tiny width turns its distance into -1, 0 or 1.
    width = torch.where(high > low, high - low, high * 2.0**-20)
    middle_doubled, widths, weights = (unfolded(series, window) for series in (high + low, width, weight))
    side = torch.clamp((2.0 * level[..., None] - middle_doubled) / widths, -1.0, 1.0)
    return ratio(total(side * weights), total(weights))


@primitive(series=2, outputs=3)
def product_moments(x: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of squared deviations of ``x`` and of ``y`` and of their products, over the last ``window`` bars."""
    if window == 1:
        zero = torch.zeros_like(x)
        return zero, zero, zero
    xx, yy, xy = windows.product_moments(_tail(x, window), _tail(y, window), window)
    return xx.newest(x.shape[-1]), yy.newest(x.shape[-1]), xy.newest(x.shape[-1])


def correlation(x: Tensor, y: Tensor, window: int) -> Tensor:
    """Pearson correlation over the last ``window`` bars, 0 where either is constant."""
    xx, yy, xy = product_moments(x, y, window)
    return ratio(xy, torch.sqrt(xx) * torch.sqrt(yy))


@primitive(outputs=2)
def time_moment(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Average, and sum of products of deviations of ``x`` and of time (in bars), over the last ``window`` bars."""
    if window == 1:
        return x, torch.zeros_like(x)
    average, product = windows.time_moment(_tail(x, window), window)
    return average.newest(x.shape[-1]), product.newest(x.shape[-1])


@primitive()
def max_(x: Tensor, window: int) -> Tensor:
    """Maximum of the last ``window`` bars."""
    return windows.max_(_tail(x, window), window).newest(x.shape[-1])


def min_(x: Tensor, window: int) -> Tensor:
    """Minimum of the last ``window`` bars."""
    return -max_(-x, window)


@primitive()
def age_of_max(x: Tensor, window: int) -> Tensor:
    """Bars since the maximum of the last ``window`` bars; the newest of equal maxima counts."""
    if window == 1:
        return torch.zeros_like(x)
    return windows.age_of_max(_tail(x, window), window).newest(x.shape[-1])


@primitive(shape=lambda decay, tail=EMA_TAIL: (ema_bars(decay, tail), tail))
def ema(x: Tensor, decay: float | tuple[float, ...], tail: float = EMA_TAIL) -> Tensor:
    """Exponentially weighted average, cut after ``ema_bars(decay, tail)`` bars and normalised to weight one.

    Parameters
    ----------
    x
        Series ``[..., session]``.
    decay
        Weight of a bar relative to the one after it, in (0, 1); if a tuple one for each entry of the last axis
        but one, all of the same ``ema_bars``.
    tail
        Largest share of weight that may be cut off.

    Raises
    ------
    ValueError
        If the decays differ in ``ema_bars``.
    """
    lengths = {ema_bars(each, tail) for each in (decay if isinstance(decay, tuple) else (decay,))}
    if len(lengths) != 1:
        raise ValueError(f"averages that are cut after {sorted(lengths)} bars cannot be computed together")
    bars = lengths.pop()

    def share(n: int) -> float | Tensor:
        return _constant(decay, lambda each: ema_share(each, n), x)

    return windows.ema(_tail(x, bars), bars, share).newest(x.shape[-1])


def ema_share(decay: float, bars: int) -> float:
    """Weight of the older half of ``2 * bars`` bars in their exponentially weighted average."""
    return decay**bars / (1.0 + decay**bars)


def ema_bars(decay: float, tail: float = EMA_TAIL) -> int:
    """Bars that an EMA looks at: the smallest power of two that leaves less than ``tail`` of the weight outside."""
    return 2 ** math.ceil(math.log2(math.log(tail) / math.log(decay)))


def span_decay(span: int) -> float:
    """Decay of an EMA of ``span`` bars in the usual sense: alpha = 2 / (span + 1)."""
    return 1.0 - 2.0 / (span + 1)


def wilder_decay(period: int) -> float:
    """Decay of Wilder's smoothing: alpha = 1 / period."""
    return 1.0 - 1.0 / period


@primitive(outputs=2, shape=lambda period, window: window)
def fourier(x: Tensor, period: float | tuple[float, ...], window: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine sums of the last ``window`` bars at a period, phases counted back from the newest bar.

    ``period`` is one number, or one for each entry of the last axis but one.
    """
    if window == 1:
        return x, torch.zeros_like(x)
    real, imaginary = windows.fourier(
        _tail(x, window),
        window,
        lambda n: _constant(period, lambda bars: math.cos(2.0 * math.pi * n / bars), x),
        lambda n: _constant(period, lambda bars: math.sin(2.0 * math.pi * n / bars), x),
    )
    return real.newest(x.shape[-1]), imaginary.newest(x.shape[-1])


def _tail(x: Tensor, window: int) -> Tail:
    """The series, and before it what the windows of its first bars need."""
    return Tail(extended(x, window - 1))


def _constant(values: float | tuple[float, ...], function: Callable[[float], float], like: Tensor) -> float | Tensor:
    """``function`` of one number, or of one for each entry of the last axis but one."""
    if not isinstance(values, tuple):
        return function(values)
    computed = torch.tensor([function(value) for value in values], dtype=like.dtype, device=like.device)
    return computed.reshape(-1, 1)
