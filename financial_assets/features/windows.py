"""The state of a window of ``w`` bars, merged from windows of 1, 2, 4 ... bars: the engine of ``rolling``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Merge = Callable[[State, int, State, int], State]
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


def merged(leaves: State, window: int, merge: Merge) -> State:
    """The state of the last ``window`` bars, merged from power-of-two windows by the binary digits of ``window``."""
    if window < 1:
        raise ValueError(f"a window has at least one bar, not {window}")
    sessions = leaves[0].shape[-1]
    # ``block`` holds the state of ``size`` bars for every place where they can end; the extension gives the first
    # sessions a whole window, too. ``result`` collects, from the newest bar backwards, a block per digit of ``window``.
    block: State = tuple(extended(leaf, window - 1) for leaf in leaves)
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


def merge_sums(recent: State, _n: int, older: State, _m: int) -> State:
    """Sums."""
    return (recent[0] + older[0],)


def merge_means(recent: State, n: int, older: State, m: int) -> State:
    """Averages."""
    if n == m:  # halving is exact in binary, and one operation less
        return ((recent[0] + older[0]) * 0.5,)
    return (recent[0] + (older[0] - recent[0]) * (m / (n + m)),)


def merge_moments(recent: State, n: int, older: State, m: int) -> State:
    """Averages and sums of squared deviations."""
    delta = older[0] - recent[0]
    return recent[0] + delta * (m / (n + m)), _plus(delta * delta * (n * m / (n + m)), recent, older, 1)


def merge_product_moments(recent: State, n: int, older: State, m: int) -> State:
    """Averages of two series, and sums of squares and products of their deviations."""
    dx, dy = older[0] - recent[0], older[1] - recent[1]
    share, weight = m / (n + m), n * m / (n + m)
    return (
        recent[0] + dx * share,
        recent[1] + dy * share,
        _plus(dx * dx * weight, recent, older, 2),
        _plus(dy * dy * weight, recent, older, 3),
        _plus(dx * dy * weight, recent, older, 4),
    )


def merge_time_moments(recent: State, n: int, older: State, m: int) -> State:
    """Averages and sums of products of deviations from them and of time."""
    delta = recent[0] - older[0]
    # The centres of two adjacent windows lie (n + m) / 2 bars apart, so the cross term is n m / (n + m) * (n + m) / 2.
    return older[0] + delta * (n / (n + m)), _plus(delta * (n * m / 2), recent, older, 1)


def _plus(between: Tensor, recent: State, older: State, place: int) -> Tensor:
    """Add what two windows hold at ``place`` to what lies between them; single bars hold nothing."""
    for state in (recent, older):
        if len(state) > place:
            between = between + state[place]
    return between


def merge_ages(recent: State, n: int, older: State, _: int) -> State:
    """Maxima and their ages in bars."""
    beaten = older[0] > recent[0]  # strictly: of equal maxima the newer one counts
    return torch.where(beaten, older[0], recent[0]), torch.where(beaten, older[1] + float(n), recent[1])
