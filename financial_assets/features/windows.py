"""What a window of ``w`` bars holds, merged from windows of 1, 2, 4 ... bars: the formulas of ``rolling``.

Sums of power-of-two windows are exact multiples of a constant series, so that averages are formed from the distances of
such sums and a constant is exactly its own average.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from financial_assets.features.series import Series

S = TypeVar("S", bound=Series)
Merge = Callable[[tuple[S, ...], int, tuple[S, ...], int], tuple[S, ...]]
"""``merge(recent, bars in recent, older, bars in older)``: the state of two adjacent windows taken together."""


def extended(x: Tensor, bars: int) -> Tensor:
    """The series with ``bars`` copies of its first value before it."""
    if bars == 0:
        return x
    first = x[..., :1].expand(*(-1 for _ in x.shape[:-1]), bars)
    return torch.cat((first, x), dim=-1)


def unfolded(x: Tensor, window: int) -> Tensor:
    """The bars of every window along a last axis, oldest first: ``[..., session]`` to ``[..., session, window]``.

    For what cannot be merged from halves because every bar is compared with the newest or with the window's average.
    """
    if window < 1:
        raise ValueError(f"a window has at least one bar, not {window}")
    first_bars = torch.arange(x.shape[-1], device=x.device)
    return extended(x, window - 1)[..., first_bars[:, None] + torch.arange(window, device=x.device)]


def total(x: Tensor) -> Tensor:
    """Sum over the last axis by halves: the same order at every position, which ``Tensor.sum`` does not keep."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        halves = x[..., :half] + x[..., half : 2 * half]
        x = torch.cat((halves, x[..., 2 * half :]), dim=-1) if x.shape[-1] % 2 else halves
    return x[..., 0]


def blocks(window: int) -> list[tuple[int, int]]:
    """Power-of-two windows that make up ``window``, from the newest, by its binary digits: bars and lag of each."""
    if window < 1:
        raise ValueError(f"a window has at least one bar, not {window}")
    found: list[tuple[int, int]] = []
    lag = 0
    for digit in range(window.bit_length()):
        if window >> digit & 1:
            found.append((1 << digit, lag))
            lag += 1 << digit
    return found


def block_sums(x: S, window: int) -> dict[int, S]:
    """Sums of 1, 2, 4 ... bars, up to ``window``."""
    sums, size = {1: x}, 1
    while size * 2 <= window:
        sums[size * 2] = sums[size] + sums[size].lagged(size)
        size *= 2
    return sums


def sum_(x: S, window: int) -> S:
    """See ``rolling``."""
    (newest, _), *older = blocks(window)
    sums = block_sums(x, window)
    result = sums[newest]
    for size, lag in older:
        result = result + sums[size].lagged(lag)
    return result


def mean(x: S, window: int) -> S:
    """See ``rolling``."""
    return _mean(block_sums(x, window), window)


def _mean(sums: dict[int, S], window: int) -> S:
    (newest, _), *older = blocks(window)
    base = sums[newest]
    excess: S | None = None
    for size, lag in older:
        # By how much the block exceeds as many bars of the newest block's average: exactly 0 where all are equal.
        more = sums[size].lagged(lag).plus(base, -size / newest)
        excess = more if excess is None else excess + more
    if excess is None:
        return base if newest == 1 else base * (1.0 / newest)
    return (excess * (1.0 / window)).plus(base, 1.0 / newest)


@dataclass(frozen=True)
class Deviations(Generic[S]):
    """How far apart the averages are of the windows that are merged, from which sums of products are merged.

    Attributes
    ----------
    halves
        By number of bars n: the sum of the older n bars minus that of the n newer ones.
    parts
        Per block behind the newest: the distance of its average from that of all newer bars, in units of which
        ``weights`` are the inverse squares.
    weights
        What the product of two such distances weighs in the sum of products of deviations.
    """

    halves: dict[int, S]
    parts: list[S]
    weights: list[float]


def deviations(x: S, window: int) -> tuple[Deviations[S], dict[int, S]]:
    """Distances within the windows of ``window`` bars, and the sums that they were formed from."""
    sums = block_sums(x, window)
    halves = {size: sums[size].lagged(size) - sums[size] for size in sums if size * 2 <= window}
    (newest, _), *older = blocks(window)
    parts: list[S] = []
    weights: list[float] = []
    done, average = newest, sums[newest]
    for place, (size, lag) in enumerate(older):
        if place == 0:
            part, unit = sums[size].lagged(lag).plus(average, -size / newest), size
        else:
            part, unit = sums[size].lagged(lag) * (1.0 / size) - average, 1
        parts.append(part)
        weights.append(size * done / (size + done) / (unit * unit))
        if place + 1 < len(older):
            step = part * (size / (unit * (size + done)))
            average = step.plus(average, 1.0 / newest) if place == 0 else average + step
        done += size
    return Deviations(halves, parts, weights), sums


def sum_of_products(x: Deviations[S], y: Deviations[S], window: int) -> S:
    """Sum of the products of two series' deviations from their averages (Chan, Golub and LeVeque 1983)."""
    sums: dict[int, S] = {}
    for size in x.halves:
        between = x.halves[size] * y.halves[size]
        # n bars each, whose sums differ by d: n / 2 * (d / n)^2.
        within = sums[size] + sums[size].lagged(size) if size > 1 else None
        sums[size * 2] = between * 0.5 if within is None else within.plus(between, 0.5 / size)
    (newest, _), *older = blocks(window)
    result = sums.get(newest)
    for (size, lag), of_x, of_y, weight in zip(older, x.parts, y.parts, x.weights, strict=True):
        between = of_x * of_y * weight
        within = sums[size].lagged(lag)
        result = between + (within if result is None else result + within)
    assert result is not None
    return result


def moments(x: S, window: int) -> tuple[S, S]:
    """See ``rolling``."""
    distances, sums = deviations(x, window)
    return _mean(sums, window), sum_of_products(distances, distances, window)


def product_moments(x: S, y: S, window: int) -> tuple[S, S, S]:
    """See ``rolling``."""
    (of_x, _), (of_y, _) = deviations(x, window), deviations(y, window)
    return (
        sum_of_products(of_x, of_x, window),
        sum_of_products(of_y, of_y, window),
        sum_of_products(of_x, of_y, window),
    )


def max_(x: S, window: int) -> S:
    """See ``rolling``."""
    block, size = x, 1
    # Two power-of-two blocks cover the window and overlap: a maximum may count a bar twice, a sum may not.
    while size * 2 <= window:
        block, size = block.apply(torch.maximum, block.lagged(size)), size * 2
    return block if size == window else block.apply(torch.maximum, block.lagged(window - size))


def ema(x: S, bars: int, share: Callable[[int], float | Tensor]) -> S:
    """Exponentially weighted average over ``bars``, a power of two.

    ``share(n)`` is what the older n of 2n bars weigh; the average of 2n bars lies between those of the newer and the
    older n. It is normalised in each step, so that a constant stays exactly itself.
    """
    block, size = x, 1
    while size < bars:
        block = (block.lagged(size) - block) * share(size) + block
        size *= 2
    return block


def merged(leaves: tuple[S, ...], window: int, merge: Merge[S]) -> tuple[S, ...]:
    """The state of the last ``window`` bars; ``leaves`` is that of a single bar."""
    if window < 2:
        raise ValueError(f"at least two bars are merged, not {window}")
    result: tuple[S, ...] | None = None
    done = 0
    for size, block in _doubled(leaves, window, merge):
        if window & size:
            part = tuple(series.lagged(done) for series in block)
            result = part if result is None else merge(result, done, part, size)
            done += size
    assert result is not None
    return result


def _doubled(leaves: tuple[S, ...], window: int, merge: Merge[S]) -> Iterator[tuple[int, tuple[S, ...]]]:
    block, size = leaves, 1
    while size <= window:
        yield size, block
        if size * 2 <= window:
            block = merge(block, size, tuple(series.lagged(size) for series in block), size)
        size *= 2


def time_moment(x: S, window: int) -> tuple[S, S]:
    """See ``rolling``."""
    average, product = merged((x,), window, _merge_time_moments)
    return average, product


def _merge_time_moments(recent: tuple[S, ...], n: int, older: tuple[S, ...], m: int) -> tuple[S, ...]:
    """Averages and sums of products of deviations from them and of time; single bars hold nothing of the latter."""
    delta = recent[0] - older[0]
    # The centres of two adjacent windows lie (n + m) / 2 bars apart, so the cross term is n m / (n + m) * (n + m) / 2.
    product = delta * (n * m / 2)
    for state in (recent, older):
        if len(state) > 1:
            product = product + state[1]
    return older[0] + delta * (n / (n + m)), product


def age_of_max(x: S, window: int) -> S:
    """See ``rolling``."""
    return merged((x,), window, _merge_ages)[1]


def _merge_ages(recent: tuple[S, ...], n: int, older: tuple[S, ...], _: int) -> tuple[S, ...]:
    """Maxima and their ages in bars."""
    beaten = older[0].apply(torch.gt, recent[0])  # strictly: of equal maxima the newer one counts
    ages: list[S | float] = [state[1] if len(state) > 1 else 0.0 for state in (recent, older)]
    age = beaten.apply(torch.where, ages[1] + float(n), ages[0])
    return beaten.apply(torch.where, older[0], recent[0]), age


def fourier(
    x: S, window: int, cosine: Callable[[int], float | Tensor], sine: Callable[[int], float | Tensor]
) -> tuple[S, S]:
    """Sums of the last ``window`` bars, turned by ``n`` bars' angle of the period: ``cosine(n)`` and ``sine(n)``."""

    def merge(recent: tuple[S, ...], n: int, older: tuple[S, ...], _: int) -> tuple[S, ...]:
        real, imaginary = older[0] * cosine(n), older[0] * sine(n)
        for other in older[1:]:  # single bars have no imaginary part
            real, imaginary = real - other * sine(n), imaginary + other * cosine(n)
        for other in recent[1:]:
            imaginary = other + imaginary
        return recent[0] + real, imaginary

    real, imaginary = merged((x,), window, merge)
    return real, imaginary
