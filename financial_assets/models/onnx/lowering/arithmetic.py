"""Arithmetic on values: forms of one series stay forms, and factors are applied last where nothing is compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from financial_assets.errors import ExportError
from financial_assets.models.onnx.lowering.program import Form, Operand, Program, Step


def _add(program: Program, a: Form | float, b: Form | float) -> Form:
    return _combined(program, "Add", a, b, 1.0)


def _subtract(program: Program, a: Form | float, b: Form | float) -> Form:
    return _combined(program, "Sub", a, b, -1.0)


def _combined(program: Program, name: str, a: Form | float, b: Form | float, sign: float) -> Form:
    """A sum or difference: one form if a window of the same series is among the two, else the very operation."""
    if not isinstance(a, Form):
        return program.apply(name, a, b)
    if not isinstance(b, Form):
        return program.apply("Add", a, sign * b)  # subtracting a number is adding its negative, to the last bit
    if a.series == b.series and (a.lag is None or b.lag is None):
        return a.plus(b, sign)
    a, b = a.summed(), b.summed()
    factor = a.factor
    if factor == 1.0:
        return _sum_of_many(program, a, b) if name == "Add" else program.apply(name, a, b)
    return program.apply(name, a.unit, b.scaled(1.0 / factor)).scaled(factor)


def _sum_of_many(program: Program, a: Form, b: Form) -> Form:
    step = _step(program, a)
    if step and step.name in ("Add", "Sum") and program.is_approximate[a.series]:
        operands = [*step.operands, program.operand(b)]
        if all(isinstance(operand, Operand) for operand in operands):
            return program.apply("Sum", *map(_form, operands))
    return program.apply("Add", a, b)


def _multiply(program: Program, a: Form, b: Form | float) -> Form:
    if not isinstance(b, Form):
        return a.scaled(b) if _is_free(program, a) else program.apply("Mul", a, b)
    return program.apply("Mul", a.unit, b.unit).scaled(a.factor * b.factor)


def _divide(program: Program, a: Form | float, b: Form | float) -> Form:
    if not isinstance(a, Form):
        return program.apply("Div", a, b)
    if not isinstance(b, Form):
        return a.scaled(1.0 / b) if _is_free(program, a) else program.apply("Div", a, b)
    return program.apply("Div", a.unit, b.unit).scaled(a.factor / b.factor)


def _is_free(program: Program, a: Form) -> bool:
    """Whether a factor of a value may be applied later."""
    return a.lag is None or program.is_approximate[a.series]


def _root(program: Program, a: Form) -> Form:
    a = a.summed()
    if a.factor > 0.0:
        return program.apply("Sqrt", a.unit).scaled(math.sqrt(a.factor))
    return program.apply("Sqrt", a)


def _size(program: Program, a: Form) -> Form:
    return program.apply("Abs", a.unit).scaled(abs(a.factor))


def _negate(program: Program, a: Form) -> Form:
    return _multiply(program, a, -1.0)


def _minimum(program: Program, a: Form, b: Form | float) -> Form:
    """The smallest of two or, as the operation has any number of inputs, of more."""
    step = _step(program, a)
    if isinstance(b, Form) and step and step.name == "Min" and all(isinstance(each, Operand) for each in step.operands):
        return program.apply("Min", *map(_form, step.operands), b)
    return program.apply("Min", a, b)


REWRITTEN: Mapping[str, Callable[..., Form]] = {
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Neg": _negate,
    "Sqrt": _root,
    "Abs": _size,
    "Min": _minimum,
}


def where(program: Program, condition: Form, chosen: Form | float, other: Form | float) -> Form:
    """A choice; that of ``rolling.signed`` is one multiplication by a sign."""
    outer, inner = _step(program, condition), _step(program, other)
    if outer and inner and inner.name == "Where" and outer.name == "Greater" and outer.operands[1] == 0:
        below, opposite, nothing = inner.operands
        least = _step(program, below)
        if least and least.name == "Less" and least.operands == outer.operands and nothing == 0:
            change = _form(outer.operands[0])
            if chosen == 1.0 and opposite == -1.0:
                return program.apply("Sign", change)
            negated = _step(program, opposite)
            if isinstance(chosen, Form) and negated and negated.operands == (program.operand(chosen), -1.0):
                return program.apply("Mul", program.apply("Sign", change), chosen)
    return program.apply("Where", condition, chosen, other)


def _step(program: Program, value: Form | Operand | float) -> Step | None:
    """The step that computes a series as it is, not some sessions ago."""
    if isinstance(value, Form):
        return program.steps[value.series] if value.lag == 0 else None
    return program.steps[value.series] if isinstance(value, Operand) and value.lag == 0 else None


def _form(operand: Operand | float) -> Form:
    assert isinstance(operand, Operand)
    return Form(operand.series).lagged(operand.lag)


def clamp(program: Program, x: Form, min: float | None = None, max: float | None = None) -> Form:
    """A value within bounds."""
    if min is not None and max is not None:
        return program.apply("Clamp", x, min, max)
    if min == 0.0 and x.factor > 0.0:
        return program.apply("Max", x.unit, 0.0).scaled(x.factor)
    return program.apply("Max", x, min) if min is not None else program.apply("Min", x, _given(max))


def _given(bound: float | None) -> float:
    if bound is None:
        raise ExportError("a clamp without bounds")
    return bound


def ratio(program: Program, numerator: Form, denominator: Form, neutral: float = 0.0) -> Form:
    """As ``rolling.ratio``; of the denominator only the sign and the size matter, not what differs from it."""
    if denominator.factor <= 0.0:
        denominator = Form(program.operand(denominator).series)
    denominator = denominator.summed()
    factor = numerator.factor / denominator.factor
    return program.apply("Ratio", numerator.unit, denominator.unit, neutral / factor).scaled(factor)
