"""Window primitives in log-steps: what the features are made of.

A window of ``w`` bars is merged from windows of 1, 2, 4 ... bars, so that each primitive costs O(log w) slices and
additions, is accurate in float32 (no running total that drifts) and exports to ONNX as plain slices, concatenations and
arithmetic.

Shapes: every function maps ``[..., session]`` to ``[..., session]``. Before the first bar the series is continued with
its first value; outputs mean something from the window's length onwards.

Every output bar is computed by the same operations in the same order at every position, and only with operations that
IEEE 754 rounds exactly (+ - * / sqrt, comparisons) besides ``log`` and ``sin``: a panel and a window therefore agree
bit for bit. That rules out ``lerp``, ``addcmul`` and ``add(alpha=...)``, whose vectorised and scalar paths round
differently. Averages are merged as ``a + (b - a) * share``: the average of a constant is exactly that constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from financial_assets.features.primitive import primitive

__all__ = [
    "age_of_max",
    "correlation",
    "diff",
    "ema",
    "ema_bars",
    "fourier",
    "lag",
    "log_ratio",
    "max_",
    "mean",
    "min_",
    "moments",
    "product_moments",
    "ratio",
    "relative_difference",
    "signed",
    "span_decay",
    "std",
    "sum_",
    "time_moment",
    "wilder_decay",
]

State = tuple[Tensor, ...]
Merge = Callable[[State, int, State, int], State]
"""``merge(recent, bars in recent, older, bars in older)``: the state of two adjacent windows taken together."""

EMA_TAIL = 0.01
"""An EMA is cut where the weight of everything older falls below this share."""


@primitive()
def lag(x: Tensor, bars: int) -> Tensor:
    """The value ``bars`` sessions ago."""
    return _extended(x, bars)[..., : x.shape[-1]]


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
    return _merged((x,), window, _merge_sums)[0]


@primitive()
def mean(x: Tensor, window: int) -> Tensor:
    """Average of the last ``window`` bars; exactly the constant of a constant series."""
    return _merged((x,), window, _merge_means)[0]


@primitive(outputs=2)
def moments(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Average and sum of squared deviations of the last ``window`` bars (Chan, Golub and LeVeque 1983)."""
    if window == 1:  # a single bar holds no deviations, see ``_plus``
        return x, torch.zeros_like(x)
    average, squares = _merged((x,), window, _merge_moments)
    return average, squares


def std(x: Tensor, window: int) -> Tensor:
    """Population standard deviation of the last ``window`` bars; exactly 0 for a constant series."""
    return torch.sqrt(moments(x, window)[1] / window)


@primitive(series=2, outputs=3)
def product_moments(x: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of squared deviations of ``x`` and of ``y`` and of their products, over the last ``window`` bars."""
    if window == 1:
        zero = torch.zeros_like(x)
        return zero, zero, zero
    _, _, xx, yy, xy = _merged((x, y), window, _merge_product_moments)
    return xx, yy, xy


def correlation(x: Tensor, y: Tensor, window: int) -> Tensor:
    """Pearson correlation over the last ``window`` bars, 0 where either is constant."""
    xx, yy, xy = product_moments(x, y, window)
    return ratio(xy, torch.sqrt(xx) * torch.sqrt(yy))


@primitive(outputs=2)
def time_moment(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Average, and sum of products of deviations of ``x`` and of time (in bars), over the last ``window`` bars."""
    if window == 1:
        return x, torch.zeros_like(x)
    average, product = _merged((x,), window, _merge_time_moments)
    return average, product


@primitive()
def max_(x: Tensor, window: int) -> Tensor:
    """Maximum of the last ``window`` bars, from two overlapping power-of-two maxima."""
    sessions = x.shape[-1]
    block, size = _extended(x, window - 1), 1
    # Two power-of-two blocks cover the window and overlap: a maximum may count a bar twice, a sum may not.
    while size * 2 <= window:
        block, size = torch.maximum(block[..., size:], block[..., :-size]), size * 2
    return torch.maximum(block[..., :sessions], block[..., window - size :])


def min_(x: Tensor, window: int) -> Tensor:
    """Minimum of the last ``window`` bars."""
    return -max_(-x, window)


@primitive()
def age_of_max(x: Tensor, window: int) -> Tensor:
    """Bars since the maximum of the last ``window`` bars; the newest of equal maxima counts."""
    return _merged((x, torch.zeros_like(x)), window, _merge_ages)[1]


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
    bars, sessions = lengths.pop(), x.shape[-1]
    block, size = _extended(x, bars - 1), 1
    while size < bars:
        # The average of 2n bars lies between those of the newer and the older n. The share is normalised in each step,
        # so that the weights add up to one and a constant stays exactly itself.
        share = _constant(decay, lambda d, n=size: d**n / (1.0 + d**n), x)
        recent = block[..., size:]
        block = recent + (block[..., :-size] - recent) * share
        size *= 2
    return block[..., :sessions]


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

    def merge(recent: State, n: int, older: State, _: int) -> State:
        cosine = _constant(period, lambda bars: math.cos(2.0 * math.pi * n / bars), x)
        sine = _constant(period, lambda bars: math.sin(2.0 * math.pi * n / bars), x)
        real, imaginary = older
        return recent[0] + (real * cosine - imaginary * sine), recent[1] + (real * sine + imaginary * cosine)

    real, imaginary = _merged((x, torch.zeros_like(x)), window, merge)
    return real, imaginary


def _constant(values: float | tuple[float, ...], function: Callable[[float], float], like: Tensor) -> float | Tensor:
    """``function`` of one number, or of one for each entry of the last axis but one."""
    if not isinstance(values, tuple):
        return function(values)
    computed = torch.tensor([function(value) for value in values], dtype=like.dtype, device=like.device)
    return computed.reshape(-1, 1)


def _extended(x: Tensor, bars: int) -> Tensor:
    if bars == 0:
        return x
    first = x[..., :1].expand(*(-1 for _ in x.shape[:-1]), bars)
    return torch.cat((first, x), dim=-1)


def _merged(leaves: State, window: int, merge: Merge) -> State:
    """The state of the last ``window`` bars, merged from power-of-two windows by the binary digits of ``window``."""
    if window < 1:
        raise ValueError(f"a window has at least one bar, not {window}")
    sessions = leaves[0].shape[-1]
    # ``block`` holds the state of ``size`` bars for every place where they can end; the extension gives the first
    # sessions a whole window, too. ``result`` collects, from the newest bar backwards, a block per digit of ``window``.
    block: State = tuple(_extended(leaf, window - 1) for leaf in leaves)
    result: State | None = None
    size, done = 1, 0
    while True:
        if window & size:
            start = window - done - size
            part: State = tuple(series[..., start : start + sessions] for series in block)
            result = part if result is None else merge(result, done, part, size)
            done += size
        if done == window and result is not None:
            return result
        newer: State = tuple(series[..., size:] for series in block)
        older: State = tuple(series[..., :-size] for series in block)
        block, size = merge(newer, size, older, size), size * 2


def _merge_sums(recent: State, _n: int, older: State, _m: int) -> State:
    return (recent[0] + older[0],)


def _merge_means(recent: State, n: int, older: State, m: int) -> State:
    if n == m:  # halving is exact in binary, and one operation less
        return ((recent[0] + older[0]) * 0.5,)
    return (recent[0] + (older[0] - recent[0]) * (m / (n + m)),)


def _merge_moments(recent: State, n: int, older: State, m: int) -> State:
    delta = older[0] - recent[0]
    return recent[0] + delta * (m / (n + m)), _plus(delta * delta * (n * m / (n + m)), recent, older, 1)


def _merge_product_moments(recent: State, n: int, older: State, m: int) -> State:
    dx, dy = older[0] - recent[0], older[1] - recent[1]
    share, weight = m / (n + m), n * m / (n + m)
    return (
        recent[0] + dx * share,
        recent[1] + dy * share,
        _plus(dx * dx * weight, recent, older, 2),
        _plus(dy * dy * weight, recent, older, 3),
        _plus(dx * dy * weight, recent, older, 4),
    )


def _merge_time_moments(recent: State, n: int, older: State, m: int) -> State:
    delta = recent[0] - older[0]
    # The centres of two adjacent windows lie (n + m) / 2 bars apart, so the cross term is n m / (n + m) * (n + m) / 2.
    return older[0] + delta * (n / (n + m)), _plus(delta * (n * m / 2), recent, older, 1)


def _plus(between: Tensor, recent: State, older: State, place: int) -> Tensor:
    """Add what two windows hold at ``place`` to what lies between them; single bars hold nothing."""
    for state in (recent, older):
        if len(state) > place:
            between = between + state[place]
    return between


def _merge_ages(recent: State, n: int, older: State, _: int) -> State:
    beaten = older[0] > recent[0]  # strictly: of equal maxima the newer one counts
    return torch.where(beaten, older[0], recent[0]), torch.where(beaten, older[1] + float(n), recent[1])
