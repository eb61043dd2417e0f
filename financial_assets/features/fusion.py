"""One graph for many features: common expressions once, windows of the same shape together.

Each feature is a pure function of the bars. Traced one after the other they repeat each other (a return, a moving
average), and they ask for the same windows of many series. ``fuse`` traces them all, drops repetitions, and evaluates
calls of a window primitive that agree in shape and do not depend on each other as one call on stacked series. Stacking
changes no operation on any bar, so the result is bit for bit that of the separate functions, with several times fewer
and larger operations: that keeps the ONNX file small and quick to load. It belongs to the features and not to the
exporter, because the panel that models are trained on is computed by the fused graph as well.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from financial_assets.features.bars import BAR_CHANNELS, Bars
from financial_assets.features.primitive import primitive_of


# Kept, because a run needs the catalogue's graph in most of its steps, and each fusion takes a third of a second.
@lru_cache(maxsize=8)
def fuse(functions: tuple[Callable[[Bars], Tensor], ...], covariates: int = 0) -> fx.GraphModule:
    """A module from seven channels and covariates to the functions' values ``[..., function, session]``.

    Each channel is an argument of its own, ``[..., 1, session]``. The module has no state; equal functions share one.
    """
    outputs = trace_functions(functions, covariates)
    nodes = list(outputs[0].graph.nodes)
    originals = first_of_equal(nodes)
    kept = [node for node in nodes if originals[node] is node]
    # Primitives of one level do not depend on each other, so that those of equal shape can be stacked.
    levels = _levels(kept, originals)
    fused = _Fused(originals)
    for level in range(max(levels.values()) + 1):
        here = [node for node in kept if levels[node] == level]
        groups: dict[str, list[fx.Node]] = {}
        for node in here:
            if primitive_of(node.target) is not None:
                groups.setdefault(_group(node), []).append(node)
        for members in groups.values():
            fused.add_group(members)
        for node in here:
            if node not in fused.values:
                fused.add(node)
    return fused.module([originals[node] for node in outputs])


# Kept for the same reason: what a run makes of the catalogue (the fused graph, the program of a panel, the exported
# one) is made of one trace, which nobody changes.
@lru_cache(maxsize=8)
def trace_functions(functions: tuple[Callable[[Bars], Tensor], ...], covariates: int = 0) -> tuple[fx.Node, ...]:
    """The functions' values as nodes of one graph, window primitives recorded whole; channels are its arguments."""
    tracer = fx.Tracer()
    tracer.graph = fx.Graph()
    names = [*BAR_CHANNELS, *(f"covariate_{place}" for place in range(covariates))]
    channels: list[Any] = [tracer.create_proxy("placeholder", name, (), {}) for name in names]
    bars = Bars(*channels[: len(BAR_CHANNELS)], covariates=tuple(channels[len(BAR_CHANNELS) :]))
    results: list[Any] = [function(bars) for function in functions]
    return tuple(result.node for result in results)


def channels_read(functions: tuple[Callable[[Bars], Tensor], ...], covariates: int = 0) -> list[set[int]]:
    """For every function the places of the channels that its formula reads, covariates behind those of every bar."""
    outputs = trace_functions(functions, covariates)
    read: dict[fx.Node, set[int]] = {}
    places = 0
    for node in outputs[0].graph.nodes:  # what a node is made of stands before it
        if node.op == "placeholder":
            read[node], places = {places}, places + 1
        else:
            read[node] = set[int]().union(*(read[source] for source in node.all_input_nodes))
    return [read[node] for node in outputs]


def first_of_equal(nodes: Sequence[fx.Node]) -> dict[fx.Node, fx.Node]:
    """For every node the first one that computes the same."""
    first: dict[str, fx.Node] = {}
    originals: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        arguments = map_arg((node.args, node.kwargs), lambda argument: originals[argument])
        # repr tells 1 from 1.0 and True, which compare equal.
        key = repr((node.op, node.target, arguments))
        originals[node] = first.setdefault(key, node)
    return originals


def _levels(kept: Sequence[fx.Node], originals: dict[fx.Node, fx.Node]) -> dict[fx.Node, int]:
    """For every node the number of primitives that must be evaluated one after the other to get it."""
    levels: dict[fx.Node, int] = {}
    for node in kept:
        below = max((levels[originals[source]] for source in node.all_input_nodes), default=0)
        levels[node] = below + (primitive_of(node.target) is not None)
    return levels


def _group(node: fx.Node) -> str:
    declared = primitive_of(node.target)
    assert declared is not None
    return repr((node.target, declared.shape(*node.args[declared.series :], **node.kwargs)))


class _Fused:
    """The fused graph under construction: ``values`` maps traced nodes to nodes of the new graph."""

    def __init__(self, originals: dict[fx.Node, fx.Node]) -> None:
        self.graph = fx.Graph()
        self.originals = originals
        self.values: dict[fx.Node, fx.Node] = {}
        self._parts: dict[fx.Node, tuple[list[fx.Node], int, int]] = {}

    def _value(self, node: fx.Node) -> fx.Node:
        return self.values[self.originals[node]]

    def add(self, node: fx.Node) -> None:
        """Copy a node that is not a primitive."""
        source = self.originals[node.all_input_nodes[0]] if node.all_input_nodes else node
        if node.target is operator.getitem and source in self._parts:
            stacked, row, size = self._parts[source]
            self.values[node] = self._row(stacked[int(str(node.args[1]))], row, size)
        else:
            self.values[node] = self.graph.node_copy(node, self._value)

    def add_group(self, members: list[fx.Node]) -> None:
        """Evaluate calls of one primitive together."""
        declared, head = primitive_of(members[0].target), members[0]
        assert declared is not None
        if len(members) == 1:
            call = self.graph.node_copy(head, self._value)
        else:
            series = tuple(
                self.graph.call_function(torch.cat, ([self._value(_node(m.args[at])) for m in members], -2))
                for at in range(declared.series)
            )
            static = list(head.args[declared.series :])
            if declared.varies:
                static[0] = tuple(member.args[declared.series] for member in members)
            target: Any = head.target
            call = self.graph.call_function(target, (*series, *static), head.kwargs)
        stacked = [call]
        if declared.outputs > 1:
            stacked = [self.graph.call_function(operator.getitem, (call, at)) for at in range(declared.outputs)]
        for row, member in enumerate(members):
            if declared.outputs > 1:
                self._parts[member] = (stacked, row, len(members))
                self.values[member] = call
            else:
                self.values[member] = self._row(call, row, len(members))

    def _row(self, stacked: fx.Node, row: int, size: int) -> fx.Node:
        if size == 1:
            return stacked
        place: Any = (..., slice(row, row + 1), slice(None))
        return self.graph.call_function(operator.getitem, (stacked, place))

    def module(self, outputs: Sequence[fx.Node]) -> fx.GraphModule:
        """Finish the graph."""
        rows = [self._value(node) for node in outputs]
        self.graph.output(self.graph.call_function(torch.cat, (rows, -2)))
        self.graph.eliminate_dead_code()
        self.graph.lint()
        return fx.GraphModule(torch.nn.Module(), self.graph)


def _node(argument: object) -> fx.Node:
    assert isinstance(argument, fx.Node)
    return argument
