"""The file that keeps the evidence of a plan: what each session said, and the state of its confidence sequence."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_write_bytes

STATE_ARRAYS = ("up", "down", "peak_up", "peak_down")
"""Arrays of a ``BettingSequence`` that change from day to day."""


@dataclass(frozen=True)
class KeptDay:
    """What one session said, and what it depended on; ``figures`` is a row of ``EvidenceDays.table``."""

    outcomes: str
    token: str
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class KeptEvidence:
    """Everything that is kept of a plan's evidence, but for the arrays of the confidence sequence.

    ``last``, ``count`` and ``begun`` say how far the log was read; ``pending`` are sessions to be read again, with open
    intents or later than the session of the decision.
    """

    depends_on: str = ""
    last: int = 0
    count: int = 0
    begun: str = ""
    pending: tuple[str, ...] = ()
    first: Mapping[str, str] = field(default_factory=dict)
    days: Mapping[str, KeptDay] = field(default_factory=dict)
    longest: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    watched: int = 0
    watched_digest: str = ""
    total: float = 0.0


_FORMAT = TypeAdapter(KeptEvidence)


def load_evidence(path: Path) -> tuple[KeptEvidence, Mapping[str, np.ndarray]]:
    """What is kept; nothing for a file that is missing or damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            state = _FORMAT.validate_json(held["state"].tobytes())
            return state, {name: held[name] for name in STATE_ARRAYS if name in held}
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ValidationError):
        return KeptEvidence(), {}


def save_evidence(path: Path, state: KeptEvidence, arrays: Mapping[str, np.ndarray]) -> None:
    """Write state and arrays, atomically."""
    stream, held = io.BytesIO(), {"state": np.frombuffer(_FORMAT.dump_json(state), dtype=np.uint8), **arrays}
    np.savez(stream, allow_pickle=False, **held)
    atomic_write_bytes(path, stream.getvalue())
