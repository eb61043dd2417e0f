"""The catalogue's program on disk: to trace it takes longer than to compute a session with it, in every process anew.

It is text (JSON) in a checksummed file, which is named after the code that it was recorded from: a file of other code,
or one that a disk has damaged, is recorded anew (see ``kept``). Reading it executes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from financial_assets.features.panels.program import Program, Step
from financial_assets.kept import kept

_SOURCE = Path(__file__).parents[1]


def kept_program(folder: Path, covariates: int, record: Callable[[], Program]) -> Program:
    """The catalogue's program with so many covariates, from ``folder`` or recorded and put there.

    Raises
    ------
    StorageError
        The disk refuses.
    FeatureError
        See ``read_program``.
    """
    held = kept(folder, f"program_{covariates}", f"{_code()} {covariates}", lambda: _written(record()))
    return _read(held)


@cache
def _code() -> str:
    """Names the code of features and programs, as it is when this process first asks, and the version of torch."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(_SOURCE.rglob("*.py")):
        digest.update(f"\0{path.relative_to(_SOURCE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _written(program: Program) -> np.ndarray:
    """A program as bytes; a series among the operands is the place of its step, and bars ago."""
    place = {step: at for at, step in enumerate(program.steps)}
    steps = [
        (step.operation, [_operand(each, place) for each in step.operands], step.before, step.number)
        for step in program.steps
    ]
    outputs = [(place[step], lag) for step, lag in program.outputs]
    return np.frombuffer(json.dumps((steps, outputs)).encode(), dtype=np.uint8)


def _operand(operand: float | tuple[Step, int], place: dict[Step, int]) -> float | tuple[int, int]:
    return (place[operand[0]], operand[1]) if isinstance(operand, tuple) else operand


def _read(content: np.ndarray) -> Program:
    """What ``_written`` wrote."""
    written, outputs = json.loads(content.tobytes())
    steps: list[Step] = []
    for operation, operands, before, number in written:
        # Operands come before their step, as they are computed before it.
        read = [(steps[each[0]], each[1]) if type(each) is list else each for each in operands]
        steps.append(Step(operation, tuple(read), before, number))
    return Program(tuple(steps), tuple((steps[at], lag) for at, lag in outputs))
