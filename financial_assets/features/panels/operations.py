"""The operations of a program's steps as calls of numpy and torch.

Arithmetic is done by numpy, whose calls cost a third of torch's and round alike, since IEEE 754 leaves no choice;
logarithms, sines and cosines are torch's own, as in the graph that is exported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from financial_assets.features.panels.program import Step

Call = tuple[Callable[..., object], tuple[Any, ...], Mapping[str, Any]]
"""A function with its arguments."""

_PREDICATES: Mapping[str, Callable[..., object]] = {
    "gt": np.greater, "lt": np.less, "ge": np.greater_equal, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.logical_and, "or": np.logical_or,
}  # fmt: skip
_BY_NUMPY: Mapping[str, Callable[..., object]] = {
    **_PREDICATES, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "abs": np.absolute, "floor": np.floor, "minimum": np.minimum, "maximum": np.maximum,
}  # fmt: skip
_BY_TORCH: Mapping[str, Callable[..., object]] = {
    "sqrt": torch.sqrt, "sin": torch.sin, "cos": torch.cos, "clamp": torch.clamp, "where": torch.where,
}  # fmt: skip


def type_of(step: Step) -> type[np.generic]:
    """Of a step's values."""
    return np.bool_ if step.operation in _PREDICATES else np.float32


def calls_of(step: Step, operands: Sequence[np.ndarray | float], out: np.ndarray) -> list[Call]:
    """What computes a step, one call after the other.

    Parameters
    ----------
    operands
        Of the step: its numbers as they are, its series as arrays of one shape. They are read whenever the calls are
        made.
    out
        Where the values go: of the same shape and of ``type_of`` the step. Logarithms want it and their operand
        contiguous: the strided path of a transcendental function may round differently.
    """
    views = [each if isinstance(each, np.ndarray) else np.float32(each) for each in operands]
    if step.operation in _BY_NUMPY:
        return [(_BY_NUMPY[step.operation], tuple(views), {"out": out})]
    tensors: list[Any] = [torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in views]
    named: dict[str, Any] = {"out": torch.from_numpy(out)}
    if step.operation == "plus_scaled":
        a, b, power = tensors
        return [(torch.add, (a, b), {"alpha": float(power), **named})]
    if step.operation == "positive":
        # A number over infinity is exactly 0. Not a number is not positive, either.
        replaced = {"nan": math.inf, "posinf": math.inf, "neginf": math.inf}
        return [
            (torch.threshold, (*tensors, 0.0, math.inf), named),
            (torch.nan_to_num, (named["out"],), {**replaced, **named}),
        ]
    if step.operation == "log":
        finite = (torch.nan_to_num, (named["out"],), {"nan": 0.0, "posinf": 0.0, "neginf": 0.0, **named})
        return [(torch.log, tuple(tensors), named), finite]
    if step.operation == "where":
        tensors = [torch.as_tensor(each) for each in tensors]
    elif step.operation == "clamp":
        tensors[1:] = map(float, tensors[1:])
    return [(_BY_TORCH[step.operation], tuple(tensors), named)]
