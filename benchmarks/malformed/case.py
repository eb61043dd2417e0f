"""What a malformed request is, and the windows of bars that all kinds start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from serving_latency import random_bars

from malformed.bars import BROKEN

__all__ = ["Case", "Headers", "Maker", "broken_window", "window"]

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Case:
    """One request: over gRPC if ``grpc_method`` is set, else over REST."""

    kind: str
    content: bytes
    headers: Headers = ()
    method: str = "POST"
    path: str = ""
    grpc_method: str = ""


Maker = Callable[[Generator], Case]


def window(rng: Generator) -> np.ndarray:
    rows = int(rng.integers(1, 4))
    return random_bars(rows)


def broken_window(kind: str, rng: Generator) -> np.ndarray:
    bars = window(rng).astype(np.float64)
    BROKEN[kind](bars[rng.integers(len(bars))], rng)
    return bars
