"""The file that keeps the evidence of a plan: what each session said, and the state of its confidence sequence."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_write_bytes
from financial_assets.experiment.statistics.betting import BettingSequence

DIGEST_SIZE = 16
"""Bytes of the digest of a session's outcomes."""

_STATE = ("up", "down", "peak_up", "peak_down")  # arrays of a BettingSequence that change from day to day


@dataclass(frozen=True, slots=True, eq=False)
class KeptDays:
    """What sessions said, and what it depended on.

    Attributes
    ----------
    day
        datetime64[D], rising ``[session]``.
    outcomes
        Digests of their outcomes, uint8 ``[session, DIGEST_SIZE]``.
    figures
        float64 ``[session, figure]``, in the order of :func:`.evidence.figure_names`.
    tokens
        Those of the baselines' predictions, by session.
    """

    day: NDArray[np.datetime64]
    outcomes: NDArray[np.uint8]
    figures: NDArray[np.float64]
    tokens: tuple[str, ...]

    @classmethod
    def none(cls, figures: int) -> KeptDays:
        """No session yet, of which so many figures will be kept."""
        digests = np.empty((0, DIGEST_SIZE), np.uint8)
        return cls(np.empty(0, "datetime64[D]"), digests, np.empty((0, figures)), ())

    def with_days(self, gone: NDArray[np.datetime64], new: KeptDays) -> KeptDays:
        """Without the sessions ``gone`` and with those of ``new``, in order."""
        stay = ~np.isin(self.day, gone)
        day = np.concatenate([self.day[stay], new.day])
        order = np.argsort(day)
        tokens = [*(token for token, stays in zip(self.tokens, stay, strict=True) if stays), *new.tokens]
        return KeptDays(
            day[order],
            np.concatenate([self.outcomes[stay], new.outcomes])[order],
            np.concatenate([self.figures[stay], new.figures])[order],
            tuple(tokens[place] for place in order),
        )


@dataclass(frozen=True, slots=True, eq=False)
class KeptLongest:
    """The longest paired scoring of each arm in seconds ``[session, model]``: see :func:`.guardrails.longest_of_pairs`.

    NaN where there was none; ``day`` is datetime64[D], rising.
    """

    day: NDArray[np.datetime64]
    models: tuple[str, ...]
    seconds: NDArray[np.float64]

    @classmethod
    def none(cls) -> KeptLongest:
        """No session yet."""
        return cls(np.empty(0, "datetime64[D]"), (), np.empty((0, 0)))

    def with_days(self, gone: NDArray[np.datetime64], new: KeptLongest) -> KeptLongest:
        """Without the sessions ``gone`` and with those of ``new``, in order."""
        stay, models = ~np.isin(self.day, gone), tuple(sorted({*self.models, *new.models}))
        day = np.concatenate([self.day[stay], new.day])
        order = np.argsort(day)
        parts = [self._of(models)[stay], new._of(models)]
        return KeptLongest(day[order], models, np.concatenate(parts)[order])

    def _of(self, models: tuple[str, ...]) -> NDArray[np.float64]:
        if models == self.models:
            return self.seconds
        found = np.full((len(self.day), len(models)), np.nan)
        found[:, [models.index(model) for model in self.models]] = self.seconds
        return found


@dataclass(frozen=True)
class KeptState:
    """What is kept of a plan's evidence beside its arrays.

    ``last``, ``count`` and ``begun`` say how far the log was read; ``pending`` are sessions to be read again, with open
    intents or later than the session of the decision; ``first`` is ticker -> the first session on which it was
    requested. Of the confidence sequence the days that were played, their digest and their sum are known.
    """

    depends_on: str = ""
    last: int = 0
    count: int = 0
    begun: str = ""
    pending: tuple[str, ...] = ()
    first: Mapping[str, str] = field(default_factory=dict)
    watched: int = 0
    watched_digest: str = ""
    total: float = 0.0


@dataclass(frozen=True)
class _Head(KeptState):
    """The state with the texts that belong to the arrays."""

    tokens: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class KeptEvidence:
    """Everything that is kept of a plan's evidence; ``sequence`` is the state of its confidence sequence, if any."""

    state: KeptState
    days: KeptDays
    longest: KeptLongest
    sequence: NDArray[np.float64] | None = None

    @classmethod
    def none(cls, depends_on: str, figures: int) -> KeptEvidence:
        """Nothing yet."""
        return cls(KeptState(depends_on), KeptDays.none(figures), KeptLongest.none())


_FORMAT = TypeAdapter(_Head)


def load_evidence(path: Path, figures: int) -> KeptEvidence:
    """What is kept; nothing for a file that is missing, damaged, of another format or of another number of figures."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            head = _FORMAT.validate_json(held["state"].tobytes())
            days, longest = held["days"], held["longest"]
            sequence = held.get("sequence")
        if days.dtype != _days_type(figures) or longest.dtype != _longest_type(len(head.models)):
            return KeptEvidence.none("", figures)
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ValidationError):
        return KeptEvidence.none("", figures)
    state = KeptState(**{name: getattr(head, name) for name in KeptState.__dataclass_fields__})
    return KeptEvidence(
        state,
        KeptDays(days["day"], days["outcomes"], days["figures"], head.tokens),
        KeptLongest(longest["day"], head.models, longest["seconds"]),
        sequence,
    )


def save_evidence(path: Path, kept: KeptEvidence) -> None:
    """Write what is kept, atomically."""
    days, longest = kept.days, kept.longest
    head = _Head(**vars(kept.state), tokens=days.tokens, models=longest.models)
    records = np.empty(len(days.day), _days_type(days.figures.shape[1]))
    records["day"], records["outcomes"], records["figures"] = days.day, days.outcomes, days.figures
    seconds = np.empty(len(longest.day), _longest_type(len(longest.models)))
    seconds["day"], seconds["seconds"] = longest.day, longest.seconds
    # Few arrays: each is a file of its own in the archive, and takes longer to open than to read.
    held: dict[str, NDArray[Any]] = {"state": np.frombuffer(_FORMAT.dump_json(head), dtype=np.uint8)}
    held |= {"days": records, "longest": seconds}
    held |= {} if kept.sequence is None else {"sequence": kept.sequence}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **held)
    atomic_write_bytes(path, stream.getvalue())


def _days_type(figures: int) -> np.dtype[Any]:
    return np.dtype([("day", "<M8[D]"), ("outcomes", "u1", (DIGEST_SIZE,)), ("figures", "<f8", (figures,))])


def _longest_type(models: int) -> np.dtype[Any]:
    return np.dtype([("day", "<M8[D]"), ("seconds", "<f8", (models,))])


def arrays_of(sequence: BettingSequence) -> NDArray[np.float64]:
    """The arrays of a confidence sequence that change from day to day, below each other ``[..., margin]``."""
    return np.vstack([getattr(sequence, name) for name in _STATE])


def arrays_in(kept: NDArray[np.float64], start: BettingSequence) -> Mapping[str, NDArray[np.float64]] | None:
    """The arrays of :func:`arrays_of` by name; ``None`` where they are not those of a sequence that starts so."""
    stakes, margins = start.up.shape
    if kept.shape != (2 * stakes + 2, margins):
        return None
    up, down, peaks = kept[:stakes], kept[stakes : 2 * stakes], kept[2 * stakes :]
    return dict(zip(_STATE, (up, down, *peaks), strict=True))
