"""A feature graph as steps on whole series: what is common is computed once, whatever window it is part of.

A step computes a series bar by bar from others, each looked at some bars ago. The formulas of ``windows`` are recorded
step by step, so that averages over 5, 20 and 60 bars share the sums of 2, 4, 8 ... bars that they are made of. Values
mean something from a step's ``before`` on, which is where a panel begins to be known; no series is extended.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self, final

import torch
from torch import Tensor, fx

from financial_assets.errors import FeatureError
from financial_assets.features import rolling, windows
from financial_assets.features.bars import Bars
from financial_assets.features.fusion import trace_functions
from financial_assets.features.series import Series


@dataclass(frozen=True, eq=False)
class Step:
    """``operation`` of ``operands``: numbers, and series as (step, bars ago).

    ``before`` bars stand before its first; ``number`` counts steps as they were recorded. An input has the operation
    ``channel`` and its number as the only operand. ``plus_scaled`` is ``a + power * b``; ``positive`` is infinite where
    its operand is not positive; ``log`` is 0 where it is not finite.
    """

    operation: str
    operands: tuple[float | tuple[Step, int], ...]
    before: int
    number: int

    @cached_property
    def sources(self) -> tuple[tuple[Step, int], ...]:
        """The series among the operands."""
        return tuple([operand for operand in self.operands if isinstance(operand, tuple)])


def channel_of(step: Step) -> int:
    """The number of the input that a step is."""
    (number,) = step.operands
    assert step.operation == "channel"
    assert isinstance(number, float | int)
    return int(number)


@dataclass(frozen=True)
class Program:
    """The steps in the order in which they are computed, and the series that come out: (step, bars ago)."""

    steps: tuple[Step, ...]
    outputs: tuple[tuple[Step, int], ...]


_NAMES: Mapping[Any, str] = {
    operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.truediv: "div", operator.neg: "neg",
    operator.gt: "gt", operator.lt: "lt", operator.ge: "ge", operator.le: "le", operator.eq: "eq", operator.ne: "ne",
    operator.and_: "and", operator.or_: "or",
    torch.add: "add", torch.sub: "sub", torch.mul: "mul", torch.div: "div", torch.gt: "gt",
    torch.minimum: "minimum", torch.maximum: "maximum", torch.where: "where",
    torch.sqrt: "sqrt", torch.sin: "sin", torch.cos: "cos", torch.floor: "floor", torch.abs: "abs",
    "abs": "abs", "floor": "floor", "sqrt": "sqrt",
}  # fmt: skip
_COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum"})


class Recorder:
    """Collects steps; equal ones are kept once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Step] = {}

    def channel(self, number: int) -> Recorded:
        """An input."""
        return Recorded(self, Step("channel", (number,), 0, -1 - number), 0)

    def step(self, operation: str, *operands: Recorded | float) -> Recorded:
        """The step, and by how many bars its result is late."""
        last = operands[-1]
        # Thousands of steps are recorded at the start of every process, and to ask an abstract class whether a number
        # is one of its instances takes longer than all the rest: hence ``type``.
        if operation == "sub" and type(last) is Recorded and last.step.operation == "neg":
            ((negated, lag),) = last.step.sources
            return self.step("add", *operands[:-1], Recorded(self, negated, lag + last.lag))
        late = min([operand.lag for operand in operands if type(operand) is Recorded])
        placed: list[float | tuple[Step, int]] = [
            (operand.step, operand.lag - late) if type(operand) is Recorded else float(operand) for operand in operands
        ]
        if operation in _COMMUTATIVE:
            placed.sort(key=_rank)
        # A step is equal to itself alone, and never to a number.
        key = (operation, *placed)
        step = self._known.get(key)
        if step is None:
            before = max([operand[0].before + operand[1] for operand in placed if isinstance(operand, tuple)])
            step = self._known[key] = Step(operation, tuple(placed), before, len(self._known))
        return Recorded(self, step, late)


def _rank(operand: float | tuple[Step, int]) -> tuple[int, int, int]:
    """Series before numbers, in the order in which they were recorded."""
    return (0, operand[0].number, operand[1]) if isinstance(operand, tuple) else (1, 0, 0)


@final
@dataclass(frozen=True)
class Recorded(Series):
    """A series of the program, ``lag`` bars ago."""

    recorder: Recorder
    step: Step
    lag: int

    def lagged(self, bars: int) -> Self:
        """See ``Series``."""
        return type(self)(self.recorder, self.step, self.lag + bars)

    def apply(self, function: Callable[..., Tensor], *others: Any) -> Self:
        """See ``Series``."""
        return self._of(_NAMES[function], self, *(_operand(other) for other in others))

    def plus(self, other: Any, power: float) -> Self:
        """See ``Series``."""
        if abs(power) == 1.0:
            return self + other if power > 0 else self - other
        return self._of("plus_scaled", self, other, power)

    def _of(self, operation: str, *operands: Any) -> Self:
        result = self.recorder.step(operation, *operands)
        return type(self)(self.recorder, result.step, result.lag)


# Kept for the same reason as fused graphs.
@lru_cache(maxsize=8)
def read_program(functions: tuple[Callable[[Bars], Tensor], ...], covariates: int = 0) -> Program:
    """The program of functions of bars; its inputs are the channels.

    Raises
    ------
    FeatureError
        If a function uses an operation that no step computes.
    """
    recorder = Recorder()
    outputs = trace_functions(functions, covariates)
    values: dict[fx.Node, Any] = {}
    for node in outputs[0].graph.nodes:
        if node.op == "placeholder":
            values[node] = recorder.channel(len(values))
        else:
            arguments = [values[each] if isinstance(each, fx.Node) else each for each in node.args]
            values[node] = _record(recorder, node.target, arguments, node.kwargs)
    results: list[Recorded] = [values[node] for node in outputs]
    ends = tuple((result.step, result.lag) for result in results)
    # Inputs first: a step must not write where one is still to be read.
    steps = sorted(_ordered([step for step, _ in ends]), key=lambda step: step.operation != "channel")
    return Program(tuple(steps), ends)


def _ordered(ends: Sequence[Step]) -> list[Step]:
    """What the ends are computed from, each step just before it is first used."""
    order: dict[Step, None] = {}
    pending = [(end, False) for end in reversed(ends)]
    while pending:
        step, is_ready = pending.pop()
        if is_ready:
            order[step] = None
        elif step not in order:
            pending.append((step, True))
            pending += [(source, False) for source, _ in reversed(step.sources) if source not in order]
    return list(order)


def _record(recorder: Recorder, target: Any, arguments: list[Any], named: Mapping[str, Any]) -> Any:
    if target in PRIMITIVES:
        return PRIMITIVES[target](*arguments, **named)
    if target is operator.getitem:
        return arguments[0][arguments[1]]
    if target == "contiguous":
        return arguments[0]
    if target in (torch.clamp, "clamp"):
        return _clamp(*arguments, **named)
    if target not in _NAMES or named:
        raise FeatureError(
            f"no step of a panel's program computes {getattr(target, '__name__', target)}"
            + (f" with {', '.join(named)}" if named else "")
        )
    return recorder.step(_NAMES[target], *arguments)


def _operand(other: Recorded | Tensor | float) -> Recorded | float:
    return other.item() if isinstance(other, Tensor) else other


def _clamp(x: Recorded, min: float = -math.inf, max: float = math.inf) -> Recorded:
    return x.recorder.step("clamp", x, min, max)


def _ratio(numerator: Recorded, denominator: Recorded, neutral: float = 0.0) -> Recorded:
    step = numerator.recorder.step
    if neutral == 0.0:
        return step("div", numerator, _positive(denominator))
    return step("where", step("gt", denominator, 0.0), step("div", numerator, denominator), neutral)


def _positive(denominator: Recorded) -> Recorded:
    """The denominator, infinite where it is not positive; one for all multiples of a series."""
    recorder, lag = denominator.recorder, denominator.lag
    match denominator.step:
        case Step(operation="mul", operands=((Step() as source, int(late)), float(factor))) if factor >= 1.0:
            return recorder.step("positive", Recorded(recorder, source, late + lag)) * factor
        case _:
            return recorder.step("positive", denominator)


def _log_ratio(a: Recorded, b: Recorded) -> Recorded:
    step = a.recorder.step
    return step("log", step("div", a, b))


def _ema(x: Recorded, decay: float, tail: float = rolling.EMA_TAIL) -> Recorded:
    return windows.ema(x, rolling.ema_bars(decay, tail), lambda bars: rolling.ema_share(decay, bars))


def _fourier(x: Recorded, period: float, window: int) -> tuple[Recorded, Recorded]:
    angle = 2.0 * math.pi / period
    return windows.fourier(x, window, lambda bars: math.cos(angle * bars), lambda bars: math.sin(angle * bars))


def _total(terms: Callable[[int], Recorded], window: int) -> Recorded:
    """Sum over the bars of a window, oldest first, in the order of ``windows.total``."""
    tree: list[Any] = list(range(window))
    while len(tree) > 1:
        half = len(tree) // 2
        tree = [*zip(tree[:half], tree[half : 2 * half], strict=True), *tree[2 * half :]]

    def evaluate(branch: Any) -> Recorded:
        return evaluate(branch[0]) + evaluate(branch[1]) if isinstance(branch, tuple) else terms(branch)

    return evaluate(tree[0])


def _mean_absolute_deviation(x: Recorded, window: int) -> Recorded:
    average = windows.mean(x, window)

    def distance(place: int) -> Recorded:
        return x.recorder.step("abs", x.lagged(window - 1 - place) - average)

    return x.recorder.step("div", _total(distance, window), window)


def _profile_position(level: Recorded, low: Recorded, high: Recorded, weight: Recorded, window: int) -> Recorded:
    step = level.recorder.step
    width = step("where", step("gt", high, low), high - low, high * 2.0**-20)
    middle, doubled = high + low, level * 2.0

    def side(place: int) -> Recorded:
        lag = window - 1 - place
        return _clamp(step("div", doubled - middle.lagged(lag), width.lagged(lag)), -1.0, 1.0) * weight.lagged(lag)

    return _ratio(_total(side, window), _total(lambda place: weight.lagged(window - 1 - place), window))


PRIMITIVES: Mapping[Any, Callable[..., Any]] = {
    rolling.lag: Recorded.lagged,
    rolling.ratio: _ratio,
    rolling.log_ratio: _log_ratio,
    rolling.sum_: windows.sum_,
    rolling.mean: windows.mean,
    rolling.ema: _ema,
    rolling.fourier: _fourier,
    rolling.moments: windows.moments,
    rolling.product_moments: windows.product_moments,
    rolling.time_moment: windows.time_moment,
    rolling.mean_absolute_deviation: _mean_absolute_deviation,
    rolling.max_: windows.max_,
    rolling.age_of_max: windows.age_of_max,
    rolling.profile_position: _profile_position,
}
"""Every window primitive on recorded series."""
