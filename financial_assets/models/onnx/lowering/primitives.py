"""How the feature graph's operations become steps on slots.

The arithmetic is that of ``features.rolling`` up to the order of summation. A window is centred on its least bar before
it is averaged: the difference of bars of one sign is as accurate as the bars, and where all bars are equal, the average
is exactly the bar and every deviation exactly 0, so that comparisons and neutral values fall as they do there.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from financial_assets.errors import ExportError
from financial_assets.features import rolling
from financial_assets.features.bars import BAR_CHANNELS, Bars
from financial_assets.features.fusion import first_of_equal, trace_functions
from financial_assets.models.onnx.lowering.program import Program, Slots, padded

_ELEMENTWISE: Mapping[Any, str] = {
    operator.add: "Add", operator.sub: "Sub", operator.mul: "Mul", operator.truediv: "Div", operator.neg: "Neg",
    operator.gt: "Greater", operator.lt: "Less", operator.ge: "GreaterOrEqual", operator.le: "LessOrEqual",
    operator.and_: "And", operator.or_: "Or", operator.ne: "NotEqual", operator.eq: "Equal",
    torch.sqrt: "Sqrt", torch.log: "Log", torch.abs: "Abs", torch.floor: "Floor", torch.sin: "Sin", torch.cos: "Cos",
    torch.where: "Where", torch.minimum: "Min", torch.maximum: "Max", "abs": "Abs", "floor": "Floor", "sqrt": "Sqrt",
}  # fmt: skip
_COMMUTATIVE = frozenset({"Add", "Mul"})


def read_program(
    functions: Sequence[Callable[[Bars], Tensor]], depth: int, channels: int
) -> tuple[Program, list[Slots]]:
    """The steps of functions of bars, and the slots of their values ``[depth]``, one array per function.

    Raises
    ------
    ExportError
        If a function uses an operation that has no form on slots here.
    """
    program, values = Program(depth, channels), dict[fx.Node, Any]()
    outputs = trace_functions(functions, channels - len(BAR_CHANNELS))
    nodes = list(outputs[0].graph.nodes)
    originals = first_of_equal(nodes)

    def value(argument: object) -> Any:
        return values[originals[argument]] if isinstance(argument, fx.Node) else argument

    for node in nodes:
        if node.op == "placeholder":
            values[node] = program.channel(len(values))
        elif originals[node] is node:
            arguments = [value(argument) for argument in node.args]
            named = {name: value(argument) for name, argument in node.kwargs.items()}
            values[node] = _lower(program, node.target, arguments, named)
    return program, [values[originals[node]] for node in outputs]


def _lower(program: Program, target: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
    if target in _PRIMITIVES:
        return _PRIMITIVES[target](program, *arguments, **named)
    if target == "contiguous":
        return arguments[0]
    if target is operator.getitem:
        return arguments[0][arguments[1]]
    if target in (torch.clamp, "clamp"):
        return _clamp(program, *arguments, **named)
    if target not in _ELEMENTWISE or named:
        raise ExportError(f"{target} with {named} has no form on slots: build it from others, or add one")
    name = _ELEMENTWISE[target]
    if name in _COMMUTATIVE and not isinstance(arguments[0], np.ndarray):
        arguments = arguments[::-1]
    return program.apply(name, *arguments)


def _clamp(program: Program, x: Slots, min: float | None = None, max: float | None = None) -> Slots:
    if min is not None and max is not None:
        return program.apply("Clamp", x, min, max)
    return program.apply("Max", x, min) if min is not None else program.apply("Min", x, _given(max))


def _given(bound: float | None) -> float:
    if bound is None:
        raise ExportError("a clamp without bounds")
    return bound


def _ratio(program: Program, numerator: Slots, denominator: Slots, neutral: float = 0.0) -> Slots:
    if neutral == 0.0:
        return program.apply("Ratio", numerator, denominator)
    is_defined = program.apply("Greater", denominator, 0.0)
    return program.apply("Where", is_defined, program.apply("Div", numerator, denominator), neutral)


def _log_ratio(program: Program, a: Slots, b: Slots) -> Slots:
    return program.apply("LogRatio", a, b)


def _weighted_sum(program: Program, x: Slots, weights: Sequence[float] | np.ndarray) -> Slots:
    windows = program.windows(x, len(weights))
    return program.apply("weighted_sum", windows, program.weights(weights), window=padded(len(weights)))


def _weighted_average(program: Program, x: Slots, weights: np.ndarray) -> Slots:
    windows = program.windows(x, len(weights))
    shares = program.weights(weights / weights.sum())
    return program.apply("weighted_average", windows, shares, window=padded(len(weights)))


def _sum(program: Program, x: Slots, window: int) -> Slots:
    return x if window == 1 else _weighted_sum(program, x, np.ones(window))


def _mean(program: Program, x: Slots, window: int) -> Slots:
    return x if window == 1 else _weighted_average(program, x, np.ones(window))


def _ema(program: Program, x: Slots, decay: float, tail: float = rolling.EMA_TAIL) -> Slots:
    return _weighted_average(program, x, decay ** np.arange(rolling.ema_bars(decay, tail), dtype=np.float64))


def _fourier(program: Program, x: Slots, period: float, window: int) -> tuple[Slots, Slots]:
    phase = 2.0 * math.pi * np.arange(window) / period
    return _weighted_sum(program, x, np.cos(phase)), _weighted_sum(program, x, np.sin(phase))


def _deviations(program: Program, x: Slots, window: int) -> tuple[Slots, Slots]:
    """Average of every window, and its bars' deviations from it: the latter are slots of a whole row each."""
    weights, mask = program.weights(np.full(window, 1.0 / window)), program.weights(np.ones(window))
    average, rows = program.apply_parts(
        "deviations", program.windows(x, window), weights, mask, window=padded(window), outputs=2
    )
    return average, rows


def _moments(program: Program, x: Slots, window: int) -> tuple[Slots, Slots]:
    average, rows = _deviations(program, x, window)
    return average, program.apply("sum_of_squares", rows, window=padded(window))


def _product_moments(program: Program, x: Slots, y: Slots, window: int) -> tuple[Slots, Slots, Slots]:
    (_, of_x), (_, of_y) = _deviations(program, x, window), _deviations(program, y, window)
    length = padded(window)
    xx, yy = (program.apply("sum_of_squares", rows, window=length) for rows in (of_x, of_y))
    return xx, yy, program.apply("sum_of_products", of_x, of_y, window=length)


def _time_moment(program: Program, x: Slots, window: int) -> tuple[Slots, Slots]:
    average, rows = _deviations(program, x, window)
    time = program.weights((window - 1) / 2.0 - np.arange(window))
    return average, program.apply("sum_of_products", rows, time, window=padded(window))


def _mean_absolute_deviation(program: Program, x: Slots, window: int) -> Slots:
    _, rows = _deviations(program, x, window)
    return program.apply("Div", program.apply("sum_of_sizes", rows, window=padded(window)), float(window))


def _max(program: Program, x: Slots, window: int) -> Slots:
    return program.apply("maximum", program.windows(x, window), window=padded(window))


def _age_of_max(program: Program, x: Slots, window: int) -> Slots:
    # Filled up with the oldest bar: of equal maxima the first counts, which is never the filling.
    return program.apply("age_of_maximum", program.windows(x, window, filler=window - 1), window=padded(window))


def _profile_position(program: Program, level: Slots, low: Slots, high: Slots, weight: Slots, window: int) -> Slots:
    # As in ``rolling``: a bar without range has its weight at one price.
    is_wide, tiny = program.apply("Greater", high, low), program.apply("Mul", high, 2.0**-20)
    width = program.apply("Where", is_wide, program.apply("Sub", high, low), tiny)
    doubled_middle, doubled_level = program.apply("Add", high, low), program.apply("Mul", level, 2.0)
    windows = [program.windows(series, window) for series in (doubled_middle, width, weight)]
    mask = program.weights(np.ones(window))
    side, total = program.apply_parts(
        "profile", doubled_level[:, None], *windows, mask, window=padded(window), outputs=2
    )
    return program.apply("Ratio", side, total)


_PRIMITIVES: Mapping[Any, Callable[..., Any]] = {
    rolling.lag: Program.lag,
    rolling.ratio: _ratio,
    rolling.log_ratio: _log_ratio,
    rolling.sum_: _sum,
    rolling.mean: _mean,
    rolling.ema: _ema,
    rolling.fourier: _fourier,
    rolling.moments: _moments,
    rolling.product_moments: _product_moments,
    rolling.time_moment: _time_moment,
    rolling.mean_absolute_deviation: _mean_absolute_deviation,
    rolling.max_: _max,
    rolling.age_of_max: _age_of_max,
    rolling.profile_position: _profile_position,
}
