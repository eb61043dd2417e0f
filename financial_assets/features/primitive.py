"""Window primitives as nodes of a graph: with tensors they compute, while tracing they are recorded whole."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import fx

P = ParamSpec("P")
R = TypeVar("R")
_ATTRIBUTE = "_financial_assets_primitive"


@dataclass(frozen=True)
class Primitive:
    """How calls of a primitive may be evaluated together.

    Attributes
    ----------
    series
        Leading arguments that are series; calls are stacked along the last axis but one.
    outputs
        Series that come out; more than one as a tuple.
    shape
        Of the other arguments: what must be equal for two calls to share one evaluation.
    varies
        Whether the first argument after the series may differ between stacked calls (it is then given as a tuple).
    """

    series: int
    outputs: int
    shape: Callable[..., Hashable]
    varies: bool


def primitive(
    *, series: int = 1, outputs: int = 1, shape: Callable[..., Hashable] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a window function a primitive.

    Parameters
    ----------
    series, outputs
        See ``Primitive``.
    shape
        Given when the first argument after the series may differ between stacked calls; see ``Primitive``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            first = args[0]
            if isinstance(first, fx.Proxy):
                recorded: Any = first.tracer.create_proxy("call_function", call, args, kwargs)
                return recorded
            return function(*args, **kwargs)

        setattr(call, _ATTRIBUTE, Primitive(series, outputs, shape or _all_equal, shape is not None))
        return call

    return decorate


def _all_equal(*static: Hashable, **named: Hashable) -> Hashable:
    return static, tuple(named.items())


def primitive_of(target: object) -> Primitive | None:
    """The declaration of a traced call's target, ``None`` when it is not a primitive."""
    return getattr(target, _ATTRIBUTE, None)
