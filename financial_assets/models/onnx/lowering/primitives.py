"""How the feature graph's operations become steps on series.

What is compared is computed by the operations of ``features.rolling`` in their order, so that comparisons fall as they
do there; windows are weighted sums, equal up to the order of summation.
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
from financial_assets.models.onnx.lowering.arithmetic import REWRITTEN, clamp, ratio, where
from financial_assets.models.onnx.lowering.program import Form, Program

_ELEMENTWISE: Mapping[Any, str] = {
    operator.add: "Add", operator.sub: "Sub", operator.mul: "Mul", operator.truediv: "Div", operator.neg: "Neg",
    operator.gt: "Greater", operator.lt: "Less", operator.ge: "GreaterOrEqual", operator.le: "LessOrEqual",
    operator.and_: "And", operator.or_: "Or", operator.ne: "NotEqual", operator.eq: "Equal",
    torch.sqrt: "Sqrt", torch.log: "Log", torch.abs: "Abs", torch.floor: "Floor", torch.sin: "Sin", torch.cos: "Cos",
    torch.where: "Where", torch.minimum: "Min", torch.maximum: "Max", "abs": "Abs", "floor": "Floor", "sqrt": "Sqrt",
}  # fmt: skip
_COMMUTATIVE = frozenset({"Add", "Mul"})
_MIRRORED = {"Greater": "Less", "GreaterOrEqual": "LessOrEqual"}


def read_program(
    functions: Sequence[Callable[[Bars], Tensor]], depth: int, channels: int
) -> tuple[Program, list[Form]]:
    """The steps of functions of bars, and their values.

    Raises
    ------
    ExportError
        If a function uses an operation that has no form on series here.
    """
    program, values = Program(depth, channels), dict[fx.Node, Any]()
    outputs = trace_functions(tuple(functions), channels - len(BAR_CHANNELS))
    nodes = list(outputs[0].graph.nodes)
    originals = first_of_equal(nodes)

    def value(argument: object) -> Any:
        return values[originals[argument]] if isinstance(argument, fx.Node) else argument

    for node in nodes:
        if node.op == "placeholder":
            values[node] = Form(len(values))
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
        return clamp(program, *arguments, **named)
    if target not in _ELEMENTWISE or named:
        raise ExportError(f"{target} with {named} has no form on series: build it from others, or add one")
    name = _ELEMENTWISE[target]
    if name in _COMMUTATIVE and not isinstance(arguments[0], Form):
        arguments = arguments[::-1]
    if name in REWRITTEN:
        return REWRITTEN[name](program, *arguments)
    if name in _MIRRORED and all(isinstance(argument, Form) for argument in arguments):
        name, arguments = _MIRRORED[name], arguments[::-1]
    if name == "Where":
        return where(program, *arguments)
    return program.apply(name, *arguments)


def _log_ratio(program: Program, a: Form, b: Form) -> Form:
    return program.apply("LogRatio", a, b)


def _lag(_: Program, x: Form, bars: int) -> Form:
    return x.lagged(bars)


def _sum(_: Program, x: Form, window: int) -> Form:
    return x.averaged(np.ones(window), is_centred=False)


def _mean(_: Program, x: Form, window: int) -> Form:
    return x.averaged(np.full(window, 1.0 / window), is_centred=True)


def _ema(_: Program, x: Form, decay: float, tail: float = rolling.EMA_TAIL) -> Form:
    weights = decay ** np.arange(rolling.ema_bars(decay, tail), dtype=np.float64)
    return x.averaged(weights / weights.sum(), is_centred=True)


def _fourier(_: Program, x: Form, period: float, window: int) -> tuple[Form, Form]:
    phase = 2.0 * math.pi * np.arange(window) / period
    return x.averaged(np.cos(phase), is_centred=False), x.averaged(np.sin(phase), is_centred=False)


def _moments(program: Program, x: Form, window: int) -> tuple[Form, Form]:
    return _mean(program, x, window), _squares(program, x, x, window)


def _squares(program: Program, x: Form, y: Form, window: int) -> Form:
    """Sum of products of deviations of two series."""
    return program.apply("co_moment", x, y, window=window)


def _product_moments(program: Program, x: Form, y: Form, window: int) -> tuple[Form, Form, Form]:
    return _squares(program, x, x, window), _squares(program, y, y, window), _squares(program, x, y, window)


def _time_moment(program: Program, x: Form, window: int) -> tuple[Form, Form]:
    time = (window - 1) / 2.0 - np.arange(window, dtype=np.float64)
    return _mean(program, x, window), x.averaged(time, is_centred=True)


def _mean_absolute_deviation(program: Program, x: Form, window: int) -> Form:
    return program.apply("mean_absolute_deviation", x, window=window)


def _max(program: Program, x: Form, window: int) -> Form:
    return program.apply("maximum", x, window=window)


def _age_of_max(program: Program, x: Form, window: int) -> Form:
    return program.apply("age_of_maximum", x, window=window)


def _profile_position(program: Program, level: Form, low: Form, high: Form, weight: Form, window: int) -> Form:
    # As in ``rolling``: a bar without range has its weight at one price.
    is_wide, tiny = program.apply("Less", low, high), program.apply("Mul", high, 2.0**-20)
    width = program.apply("Where", is_wide, program.apply("Sub", high, low), tiny)
    doubled = program.apply("Mul", level, 2.0), program.apply("Add", high, low)
    side = program.apply("profile", *doubled, width, weight, window=window)
    return ratio(program, side, _sum(program, weight, window))


_PRIMITIVES: Mapping[Any, Callable[..., Any]] = {
    rolling.lag: _lag,
    rolling.ratio: ratio,
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
