"""States of tests as text, exact to the last bit."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from financial_assets.errors import ExperimentError

__all__ = ["from_text", "pack", "to_text", "unpack"]


def pack(array: NDArray[np.float64]) -> dict[str, Any]:
    """Shape and little-endian doubles in base 64."""
    return {"shape": list(array.shape), "f8": base64.b64encode(array.astype("<f8").tobytes()).decode("ascii")}


def unpack(value: dict[str, Any]) -> NDArray[np.float64]:
    """The array that :func:`pack` wrote."""
    return np.frombuffer(base64.b64decode(value["f8"]), dtype="<f8").astype(np.float64).reshape(value["shape"])


def to_text(kind: str, body: dict[str, Any]) -> str:
    """A state with its kind; ``json`` writes doubles so that they read back equal."""
    return json.dumps({"kind": kind, **body}, sort_keys=True, allow_nan=False)


def from_text(kind: str, text: str) -> dict[str, Any]:
    """What :func:`to_text` wrote.

    Raises
    ------
    ExperimentError
        When it is not a state, or that of another kind of test.
    """
    try:
        body = json.loads(text)
        found = body["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExperimentError(f"this is no state of a {kind} test ({error}): replay the log to make it anew") from None
    if found != kind:
        raise ExperimentError(f"the stored state is of a {found} test, not of a {kind} test: replay the log")
    return body
