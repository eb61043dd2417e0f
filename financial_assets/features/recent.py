"""The features of the last sessions alone: of every series in the graph only as much as they ask for.

A feature looks back over up to ``lookback`` bars, but most of what it is made of does not: for the newest session, a
mean of twenty returns needs twenty of them. Followed from the features back to the bars, that leaves a small part of
the work. No operation on any bar is another one, so the values are those of the whole graph, bit for bit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from financial_assets.errors import FeatureError
from financial_assets.features import rolling
from financial_assets.features.graph import FeatureGraph, require_finite
from financial_assets.features.primitive import primitive_of

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel

_CHUNK = 1024
"""Tickers computed together: with so few sessions each, more than for a whole panel."""


def _before(window: int) -> int:
    return window - 1


def _before_average(decay: float | tuple[float, ...], tail: float = rolling.EMA_TAIL) -> int:
    return rolling.ema_bars(decay[0] if isinstance(decay, tuple) else decay, tail) - 1


REACH: Mapping[Any, Callable[..., int]] = {
    **dict.fromkeys((rolling.sum_, rolling.mean, rolling.moments, rolling.mean_absolute_deviation), _before),
    **dict.fromkeys((rolling.product_moments, rolling.profile_position, rolling.time_moment), _before),
    **dict.fromkeys((rolling.max_, rolling.age_of_max), _before),
    rolling.ema: _before_average,
    rolling.fourier: lambda period, window: window - 1,
    rolling.lag: lambda bars: bars,
    rolling.ratio: lambda neutral=0.0: 0,
    rolling.log_ratio: lambda: 0,
}
"""Per window primitive, by its arguments after the series: on how many bars before a session its value there depends.
Everything else in a graph depends on the session itself only."""


class RecentFeatures(nn.Module):
    """Features of the last ``sessions`` sessions: bars ``[..., 7, session]`` to ``[..., feature, sessions]``.

    Parameters
    ----------
    graph
        The features.
    sessions
        How many, at least one. The bars must be ``depth`` or more: the graph's lookback, and one for each further
        session.

    Raises
    ------
    FeatureError
        A primitive of the graph is not in ``REACH``.
    """

    def __init__(self, graph: FeatureGraph, sessions: int) -> None:
        super().__init__()
        self.depth = graph.lookback + sessions - 1
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", graph.low, persistent=False)
        self.register_buffer("high", graph.high, persistent=False)
        self.narrowed = _narrowed(_unstacked(graph.fused.graph), sessions, self.depth)

    def forward(self, bars: Tensor) -> Tensor:
        """The same values that the whole graph has there."""
        contiguous = bars[..., -self.depth :].contiguous()
        channels = (contiguous[..., place : place + 1, :] for place in range(contiguous.shape[-2]))
        return torch.minimum(torch.maximum(_run(self.narrowed, channels), self.low), self.high)


def compute_recent(panel: PricePanel, graph: FeatureGraph, sessions: int) -> np.ndarray:
    """Features of the last sessions of a panel: float32 ``[ticker, feature, sessions]``.

    NaN where a ticker has fewer bars than the graph's lookback.

    Raises
    ------
    FeatureError
        The panel has too few sessions, or a value that should be known is not finite.
    """
    recent = RecentFeatures(graph, sessions)
    if len(panel.sessions) < recent.depth:
        raise FeatureError(f"{sessions} sessions of features need {recent.depth} bars, not {len(panel.sessions)}")
    values = np.empty((len(panel.tickers), len(graph.names), sessions), dtype=np.float32)
    windows = panel.recent(recent.depth)
    with torch.inference_mode():
        for first in range(0, len(values), _CHUNK):
            bars = torch.from_numpy(np.ascontiguousarray(windows[first : first + _CHUNK]))
            np.copyto(values[first : first + _CHUNK], recent(bars).numpy())
    complete = panel.has_bars(graph.lookback, sessions)[:, None]
    require_finite(graph.names, panel.tickers, panel.sessions[-sessions:], values, complete)
    np.copyto(values, np.float32(np.nan), where=~complete)
    return values


@dataclass(eq=False)
class _Step:
    """A call of the graph, or one of its channels.

    A graph of ``torch.fx`` says the same, but to build two of them and to compile the second takes several times as
    long as to compute a session.

    Attributes
    ----------
    target
        What is called: a function, the name of a method, or ``None`` for a channel.
    args, kwargs
        With steps in the places of series.
    done_with
        Steps whose values nobody asks for after this one.
    """

    target: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    done_with: tuple[_Step, ...] = ()

    @property
    def sources(self) -> tuple[_Step, ...]:
        """The steps that it is made of, each once, in the order of its arguments."""
        return tuple(dict.fromkeys(_steps_in((*self.args, *self.kwargs.values()))))


def _steps_in(arguments: Any) -> Iterator[_Step]:
    for argument in arguments:
        if isinstance(argument, _Step):
            yield argument
        elif isinstance(argument, (tuple, list)):
            yield from _steps_in(argument)


def _replaced(argument: Any, kind: type, by: Callable[[Any], Any]) -> Any:
    """An argument with ``by(one)`` for each one of a ``kind`` in it."""
    if isinstance(argument, kind):
        return by(argument)
    if isinstance(argument, (tuple, list)):
        return type(argument)([_replaced(member, kind, by) for member in cast("list[Any]", argument)])
    return argument


def _run(steps: Sequence[_Step], channels: Iterator[Tensor]) -> Tensor:
    """The value of the last step."""
    values: dict[_Step, Any] = {}
    for step in steps:
        if step.target is None:
            values[step] = next(channels)
            continue
        args = [_replaced(argument, _Step, values.__getitem__) for argument in step.args]
        call = getattr(args.pop(0), step.target) if isinstance(step.target, str) else step.target
        values[step] = call(*args, **step.kwargs)
        for finished in step.done_with:
            del values[finished]
    return values[steps[-1]]


def _unstacked(whole: fx.Graph) -> list[_Step]:
    """The same graph with a call for each series of a stacked one: then each can be as short as it may be."""
    steps: list[_Step] = []
    copies: dict[fx.Node, _Step] = {}
    members: dict[fx.Node, list[_Step]] = {}

    def added(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Step:
        steps.append(_Step(target, args, kwargs))
        return steps[-1]

    for node in whole.nodes:
        declared, sources = primitive_of(node.target), node.all_input_nodes
        source = sources[0] if sources else node
        if node.op == "output":
            # The features, one above the other, are the last call.
            assert copies[source] is steps[-1]
        elif declared is not None and source.target is torch.cat:
            stacks = [cast("list[fx.Node]", stack.args[0]) for stack in sources]
            members[node] = []
            for row in range(len(stacks[0])):
                static = list(node.args[declared.series :])
                if declared.varies:
                    static[0] = cast("tuple[Any, ...]", static[0])[row]
                series = (copies[stack[row]] for stack in stacks)
                members[node].append(added(node.target, (*series, *static), node.kwargs))
        elif source in members and isinstance(node.args[1], int):  # one of several outputs
            members[node] = [added(operator.getitem, (call, node.args[1]), {}) for call in members[source]]
        elif source in members:
            copies[node] = members[source][cast("tuple[Any, slice]", node.args[1])[1].start]
        elif node.op == "placeholder":
            copies[node] = added(None, (), {})
        else:
            args = _replaced(node.args, fx.Node, copies.__getitem__)
            copies[node] = added(node.target, args, node.kwargs)
    return steps


def _narrowed(whole: Sequence[_Step], sessions: int, depth: int) -> list[_Step]:
    """The same graph, each series cut to the last sessions that are asked of it."""
    asked = _asked(whole, sessions, depth)
    steps: list[_Step] = []
    copies: dict[_Step, _Step] = {}
    cuts: dict[tuple[_Step, int, int | None], _Step] = {}

    def cut(series: _Step, length: int, end: int | None = None) -> _Step:
        if (series, length, end) not in cuts:
            steps.append(_Step(operator.getitem, (series, (..., slice(-length, end)))))
            cuts[series, length, end] = steps[-1]
        return cuts[series, length, end]

    def argument(source: _Step, length: int) -> _Step:
        is_one = _outputs(source) == 1
        return cut(copies[source], length) if is_one and asked[source] != length else copies[source]

    for step in whole:
        if step.target is None:
            # All channels are given, whether they are asked for or not.
            steps.append(_Step(None))
            copies[step] = cut(steps[-1], asked[step]) if step in asked else steps[-1]
        elif step not in asked:
            continue
        elif step.target is rolling.lag and asked[step] + step.args[1] <= depth:
            bars = int(step.args[1])
            copies[step] = cut(argument(step.sources[0], asked[step] + bars), asked[step] + bars, -bars)
        else:
            # Where stacked calls ask for more than there is, the whole window is enough for each of them.
            length = min(depth, asked[step] + _reach(step))
            args = _replaced(step.args, _Step, lambda source, length=length: argument(source, length))
            copy = _Step(step.target, args, step.kwargs)
            steps.append(copy)
            is_longer = length != asked[step] or _outputs(*step.sources[:1]) > 1
            copies[step] = cut(copy, asked[step]) if is_longer and _outputs(step) == 1 else copy
    _release(steps)
    return steps


def _release(steps: Sequence[_Step]) -> None:
    """Say of every step whose values are not needed after it: all of them together take much memory."""
    needed: set[_Step] = set()
    for step in reversed(steps):
        step.done_with = tuple(source for source in step.sources if source not in needed)
        needed.update(step.done_with)


def _asked(whole: Sequence[_Step], sessions: int, depth: int) -> dict[_Step, int]:
    """For every step that the last one depends on: how many of its last sessions are needed."""
    asked = {whole[-1]: sessions}
    for step in reversed(whole):
        if step in asked:
            needed = min(depth, asked[step] + _reach(step))
            for source in step.sources:
                asked[source] = max(asked.get(source, 0), needed)
    return asked


def _outputs(*steps: _Step) -> int:
    """How many series a step gives: more than one as a tuple."""
    declared = primitive_of(steps[0].target) if steps else None
    return 1 if declared is None else declared.outputs


def _reach(step: _Step) -> int:
    declared = primitive_of(step.target)
    if declared is None:
        return 0
    if step.target not in REACH:
        raise FeatureError(f"how far back {step.target} looks is not said in REACH: add it there")
    return REACH[step.target](*step.args[declared.series :], **step.kwargs)
