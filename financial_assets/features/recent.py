"""The features of the last sessions alone: of every series in the graph only as much as they ask for.

A feature looks back over up to ``lookback`` bars, but most of what it is made of does not: for the newest session, a
mean of twenty returns needs twenty of them. Followed from the features back to the bars, that leaves a small part of
the work. No operation on any bar is another one, so the values are those of the whole graph, bit for bit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
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
        self.fused = _narrowed(_unstacked(graph.fused.graph), sessions, self.depth)

    def forward(self, bars: Tensor) -> Tensor:
        """The same values that the whole graph has there."""
        contiguous = bars[..., -self.depth :].contiguous()
        channels = (contiguous[..., place : place + 1, :] for place in range(contiguous.shape[-2]))
        return torch.minimum(torch.maximum(self.fused(*channels), self.low), self.high)


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
    complete = panel.listed_bars()[:, None, -sessions:] >= graph.lookback
    require_finite(graph.names, panel.tickers, panel.sessions[-sessions:], values, complete)
    np.copyto(values, np.float32(np.nan), where=~complete)
    return values


def _unstacked(whole: fx.Graph) -> fx.Graph:
    """The same graph with a call for each series of a stacked one: then each can be as short as it may be."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    members: dict[fx.Node, list[fx.Node]] = {}
    for node in whole.nodes:
        declared, source = primitive_of(node.target), node.all_input_nodes[0] if node.all_input_nodes else node
        if declared is not None and source.target is torch.cat:
            stacks = [cast("list[fx.Node]", stack.args[0]) for stack in node.all_input_nodes]
            members[node] = []
            for row in range(len(stacks[0])):
                static = list(node.args[declared.series :])
                if declared.varies:
                    static[0] = cast("tuple[Any, ...]", static[0])[row]
                series = (copies[stack[row]] for stack in stacks)
                call: Any = node.target
                members[node].append(graph.call_function(call, (*series, *static), node.kwargs))
        elif source in members and isinstance(node.args[1], int):  # one of several outputs
            place = (node.args[1],)
            members[node] = [graph.call_function(operator.getitem, (call, *place)) for call in members[source]]
        elif source in members:
            copies[node] = members[source][cast("tuple[Any, slice]", node.args[1])[1].start]
        else:
            copies[node] = graph.node_copy(node, lambda argument: copies[argument])
    graph.eliminate_dead_code()
    return graph


def _narrowed(whole: fx.Graph, sessions: int, depth: int) -> fx.GraphModule:
    """The same graph, each series cut to the last sessions that are asked of it."""
    asked = _asked(whole, sessions, depth)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    cuts: dict[tuple[fx.Node, int, int | None], fx.Node] = {}

    def cut(series: fx.Node, length: int, end: int | None = None) -> fx.Node:
        if (series, length, end) not in cuts:
            place: Any = (..., slice(-length, end))
            cuts[series, length, end] = graph.call_function(operator.getitem, (series, place))
        return cuts[series, length, end]

    def argument(source: fx.Node, length: int) -> fx.Node:
        is_one = _outputs(source) == 1
        return cut(copies[source], length) if is_one and asked[source] != length else copies[source]

    for node in whole.nodes:
        if node.op == "output":
            graph.node_copy(node, copies.__getitem__)
        elif node.op == "placeholder":
            copies[node] = graph.node_copy(node)
            copies[node] = cut(copies[node], asked[node]) if node in asked else copies[node]
        elif node not in asked:
            continue
        elif node.target is rolling.lag and asked[node] + node.args[1] <= depth:
            bars = int(str(node.args[1]))
            copies[node] = cut(argument(node.all_input_nodes[0], asked[node] + bars), asked[node] + bars, -bars)
        else:
            # Where stacked calls ask for more than there is, the whole window is enough for each of them.
            length = min(depth, asked[node] + _reach(node))
            copy = graph.node_copy(node, partial(argument, length=length))
            is_longer = length != asked[node] or _outputs(*node.all_input_nodes[:1]) > 1
            copies[node] = cut(copy, asked[node]) if is_longer and _outputs(node) == 1 else copy
    return fx.GraphModule(nn.Module(), graph)


def _asked(graph: fx.Graph, sessions: int, depth: int) -> dict[fx.Node, int]:
    """For every node that the output depends on: how many of its last sessions are needed."""
    asked: dict[fx.Node, int] = {}
    for node in reversed(graph.nodes):
        needed = sessions if node.op == "output" else min(depth, asked.get(node, 0) + _reach(node))
        for source in node.all_input_nodes:
            asked[source] = max(asked.get(source, 0), needed)
    return asked


def _outputs(*nodes: fx.Node) -> int:
    """How many series a node gives: more than one as a tuple."""
    declared = primitive_of(nodes[0].target) if nodes else None
    return 1 if declared is None else declared.outputs


def _reach(node: fx.Node) -> int:
    declared = primitive_of(node.target)
    if declared is None:
        return 0
    if node.target not in REACH:
        raise FeatureError(f"how far back {node.target} looks is not said in REACH: add it there")
    return REACH[node.target](*node.args[declared.series :], **node.kwargs)
