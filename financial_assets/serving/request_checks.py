"""Checks of a V2 request before its values are read: one tensor of numbers, and nothing that would be ignored.

The module is copied into the bare MLServer image beside ``runtime.py``, so it imports numpy and mlserver only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
from mlserver.errors import InferenceError
from mlserver.types import Datatype, InferenceRequest, RequestInput

from financial_assets.serving.bar_rules import INPUT

_LONGEST_ID = 512
_LONGEST_SHOWN = 100
# Parameters without an effect here. MLServer adds ``headers``; its clients send ``content_type`` np; Triton's clients
# ask for binary outputs by default and read JSON ones as well.
_SUPPORTED = {
    "request": {"headers", "content_type", "binary_data_output"},
    "input": {"content_type"},
    "output": {"content_type", "binary_data"},
}


def check_request(
    payload: InferenceRequest, row: tuple[int, ...], max_batch: int, outputs: tuple[str, ...]
) -> tuple[tuple[str, ...], int]:
    """Check everything but the values.

    Parameters
    ----------
    payload
        The request.
    row
        Shape of one row of ``bars``.
    max_batch
        Most rows in one request.
    outputs
        What the model answers, in this order.

    Returns
    -------
    tuple
        Names of the outputs to send, and the number of rows.

    Raises
    ------
    InferenceError
        The request is wrong (400); the text says where, and what is allowed.
    """
    _check_id(payload.id)
    _check_parameters(payload)
    return _requested_outputs(payload, outputs), _declared_rows(payload, row, max_batch)


def decode_bars(tensor: RequestInput) -> np.ndarray:
    """The values of ``bars`` as float32 of the declared shape.

    Raises
    ------
    InferenceError
        An element is not a number, or there are more or fewer than the shape needs.
    """
    content = getattr(tensor.data, "root", tensor.data)
    shape = tuple(tensor.shape)
    if not isinstance(content, np.ndarray):
        _refuse_non_numbers(content)
    try:
        values = np.asarray(content, dtype=None if isinstance(content, np.ndarray) else np.float64)
    except ValueError as error:
        raise InferenceError(f"input {INPUT}: data is ragged: {error}") from error
    except OverflowError as error:
        raise InferenceError(
            f"input {INPUT}: data has a whole number that is too large for FP32, not finite"
        ) from error
    if values.dtype.kind not in "fiu":
        raise InferenceError(f"input {INPUT}: data of type {values.dtype} is not a number")
    if values.size != math.prod(shape) or (values.ndim > 1 and values.shape != shape):
        raise InferenceError(
            f"input {INPUT}: data has {values.size} elements of shape {list(values.shape)}, "
            f"but shape {list(shape)} needs {math.prod(shape)}"
        )
    with np.errstate(over="ignore"):  # too large for FP32 becomes inf, which check_bars reports
        return np.ascontiguousarray(values.reshape(shape), dtype=np.float32)


def _refuse_non_numbers(content: object) -> None:
    """Check the type of every element: numpy converts a Boolean among numbers to a number."""
    flat: list[Any] = content if isinstance(content, list) else [content]
    try:
        while flat and isinstance(flat[0], list):
            flat = list(chain.from_iterable(flat))
    except TypeError as error:
        raise InferenceError(f"input {INPUT}: data is ragged: {error}") from error
    if set(map(type, flat)) <= {float, int}:
        return
    index = next(position for position, value in enumerate(flat) if type(value) not in (float, int))
    if isinstance(flat[index], list):
        raise InferenceError(f"input {INPUT}: data is ragged: a list stands at index {index} among numbers")
    kind = type(flat[index]).__name__
    # Only scalars are shown: the text of a deeply nested value may exceed the interpreter's stack.
    shown = f"{str(flat[index])[:40]!r}" if isinstance(flat[index], str | bool | None) else f"a {kind}"
    boolean = "the Boolean " if kind == "bool" else ""
    raise InferenceError(
        f"input {INPUT}: data at index {index} ({boolean}{shown}) is not a number (NaN cannot be sent in JSON)"
    )


def _check_id(identity: str | None) -> None:
    """MLServer returns an id in headers as well, which fail where it is long or not plain text."""
    if identity and (len(identity) > _LONGEST_ID or not (identity.isascii() and identity.isprintable())):
        raise InferenceError(
            f"id has {len(identity)} characters; at most {_LONGEST_ID} printable ASCII ones are allowed, such as a UUID"
        )


def _check_parameters(payload: InferenceRequest) -> None:
    """Refuse parameters that ask for something this model does not do: silence would look like consent."""
    places: list[tuple[str, Iterable[Any]]] = [
        ("request", (payload,)),
        ("input", payload.inputs or ()),
        ("output", payload.outputs or ()),
    ]
    for place, owners in places:
        for owner in owners:
            parameters = getattr(owner, "parameters", None)
            given = {name: value for name, value in parameters or () if value is not None}
            unknown = sorted(set(given) - _SUPPORTED[place])
            if unknown:
                allowed = ", ".join(sorted(_SUPPORTED[place] - {"headers"}))
                raise InferenceError(
                    f"unknown parameter of the {place}: {_short(', '.join(unknown))}; understood: {allowed}"
                )
            if given.get("content_type", "np") != "np":
                raise InferenceError(
                    f"parameter content_type of the {place} is {_short(given['content_type'])}; "
                    "tensors of numbers have np"
                )


def _requested_outputs(payload: InferenceRequest, outputs: tuple[str, ...]) -> tuple[str, ...]:
    if not payload.outputs:
        return outputs
    wanted = tuple(output.name for output in payload.outputs)
    unknown = [name for name in wanted if name not in outputs]
    if unknown:
        raise InferenceError(f"unknown output {_short(', '.join(unknown))}; this model gives {', '.join(outputs)}")
    if len(set(wanted)) < len(wanted):
        raise InferenceError(f"outputs name {max(wanted, key=wanted.count)} more than once")
    return wanted


def _declared_rows(payload: InferenceRequest, row: tuple[int, ...], max_batch: int) -> int:
    names = [tensor.name for tensor in payload.inputs]
    if names != [INPUT]:
        received = _short(", ".join(map(repr, names))) or "none"
        raise InferenceError(f"expected exactly one input named {INPUT}, got {received}")
    tensor = payload.inputs[0]
    datatype = getattr(tensor.datatype, "value", tensor.datatype)
    if datatype != Datatype.FP32.value:
        raise InferenceError(f"input {INPUT} has datatype {_short(datatype)}; expected FP32")
    shape = tuple(tensor.shape)
    if len(shape) != len(row) + 1 or shape[1:] != row or shape[0] < 1:
        raise InferenceError(
            f"input {INPUT} has shape {_short(list(shape))}; expected [batch >= 1, {', '.join(map(str, row))}]"
        )
    if shape[0] > max_batch:
        raise InferenceError(f"input {INPUT} has a batch of {shape[0]}; at most {max_batch} are allowed in one request")
    return shape[0]


def _short(value: object) -> str:
    """The text of a client's value, cut so that a refusal stays small whatever was sent."""
    text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " ..."
