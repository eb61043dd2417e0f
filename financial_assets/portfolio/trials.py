"""The record of everything that was ever tried: each trained model, each walk-forward variant, each trial of a search.

The best of many trials looks good by luck, so that no Sharpe ratio can be judged without knowing how many there were
(Bailey and López de Prado 2014, The deflated Sharpe ratio). A trial is known by its fingerprint and counted once,
whoever records it and however often.

The record is a file of one JSON object a line that only grows. A line counts once it ends: what a writer that died left
half written is cut off by the next one, and ignored until then. Writers hold a lock; readers need none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from financial_assets.atomic import append_bytes
from financial_assets.disk import disk_errors
from financial_assets.errors import TrialsError
from financial_assets.locking import exclusive
from financial_assets.portfolio.performance import sharpe_ratio, until_ruin
from financial_assets.portfolio.selection import Trials
from financial_assets.scoring.arguments import vector

TrialKind = Literal["training", "walk_forward", "search", "external"]
"""What was tried: a model that was trained, a variant that walked forward, a trial of a search, or a model made
elsewhere."""

_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One strategy that was tried.

    Attributes
    ----------
    fingerprint
        Names it, for ever: what was tried, on which data, with which code and seed.
    kind, variant
        What it was.
    hyperparameters
        Their :func:`hyperparameters_hash`; empty where they are not known.
    recorded_at
        UTC, ISO 8601.
    sharpe
        Ratio of its held-out returns, per session and not annual; ``None`` where it is not known.
    sessions
        Held-out sessions behind it; 0 where it is not known.
    """

    fingerprint: str
    kind: TrialKind
    variant: str
    hyperparameters: str
    recorded_at: str
    sharpe: float | None = None
    sessions: int = 0

    def __post_init__(self) -> None:
        if not (self.fingerprint and self.variant):
            raise TrialsError("a trial needs a fingerprint and a variant")
        if self.kind not in get_args(TrialKind):
            raise TrialsError(f"a trial's kind is one of {', '.join(get_args(TrialKind))}, not {self.kind!r}")
        if self.sharpe is not None and not math.isfinite(self.sharpe):
            raise TrialsError(f"the Sharpe ratio of trial {self.fingerprint} must be a finite number or None")
        if self.sessions < 0:
            raise TrialsError(f"the sessions of trial {self.fingerprint} must be at least 0, not {self.sessions}")
        try:
            aware = datetime.fromisoformat(self.recorded_at).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            raise TrialsError(f"{self.recorded_at!r} is not an instant with its time zone (ISO 8601)")


@dataclass(frozen=True)
class TrialLedger:
    """The record of trials at ``path``; a missing file is an empty record."""

    path: Path

    def record(self, *trials: Trial) -> int:
        """Add trials; how many of them said something new.

        A fingerprint that is recorded already gets no line, unless its Sharpe ratio was not known and now is.

        Raises
        ------
        TrialsError
            The record is damaged, or another process held it for a minute.
        StorageError
            The disk refuses.
        """
        with exclusive(self.path.with_suffix(".lock"), _LONGEST_WAIT_S, error=TrialsError, purpose="recording trials"):
            content = self._content()
            whole = content[: content.rfind(b"\n") + 1]
            known = {trial.fingerprint: trial for trial in self._merged(whole)}
            lines: list[str] = []
            for trial in trials:
                before = known.get(trial.fingerprint)
                after = trial if before is None else _more(before, trial)
                if after != before:
                    known[trial.fingerprint] = after
                    lines.append(json.dumps(asdict(trial), sort_keys=True, allow_nan=False) + "\n")
            if lines:
                append_bytes(self.path, len(whole), "".join(lines).encode())
        return len(lines)

    def read(self) -> tuple[Trial, ...]:
        """Every trial once, in the order of their first records.

        Raises
        ------
        TrialsError
            A line is damaged.
        """
        content = self._content()
        return self._merged(content[: content.rfind(b"\n") + 1])

    def trials(self) -> Trials | None:
        """What a Sharpe ratio is deflated by; ``None`` where nothing was ever recorded."""
        found = self.read()
        known = [trial.sharpe for trial in found if trial.sharpe is not None]
        return Trials(np.array(known), unknown=len(found) - len(known)) if found else None

    def _content(self) -> bytes:
        with disk_errors(self.path, "read"):
            try:
                return self.path.read_bytes()
            except FileNotFoundError:
                return b""

    def _merged(self, whole: bytes) -> tuple[Trial, ...]:
        merged: dict[str, Trial] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            trial = self._parsed(number, line)
            before = merged.get(trial.fingerprint)
            merged[trial.fingerprint] = trial if before is None else _more(before, trial)
        return tuple(merged.values())

    def _parsed(self, number: int, line: bytes) -> Trial:
        try:
            return _trial(json.loads(line))
        except (ValueError, TypeError, TrialsError) as error:
            raise TrialsError(
                f"line {number} of {self.path} is not a trial ({error}): without it the number of trials is not known. "
                "Restore the file from a copy, or remove the line if what it was is known"
            ) from error


def record_trial(
    ledger: TrialLedger,
    *,
    fingerprint: str,
    kind: TrialKind,
    variant: str,
    hyperparameters: Mapping[str, Any] | None = None,
    returns: ArrayLike | None = None,
    at: datetime | None = None,
) -> Trial:
    """Record what was tried just now; repeating it changes nothing.

    Parameters
    ----------
    ledger
        Of the state folder.
    fingerprint, kind, variant
        What was tried.
    hyperparameters
        JSON values by name; ``None``: not known.
    returns
        Its simple returns on held-out sessions ``[session]``; ``None``: not known. A Sharpe ratio that is not defined
        for them (no variation, wiped out) is not known either: the trial counts all the same.
    at
        When, with its time zone; default: now.

    Raises
    ------
    TrialsError
        No fingerprint, no variant, an unknown kind; hyperparameters that are no JSON; a damaged record.
    ValueError
        Returns that are not finite, or empty.
    StorageError
        The disk refuses.
    """
    sharpe, sessions = None, 0
    if returns is not None:
        data = vector("returns", returns)
        sessions = data.size
        ratio = sharpe_ratio(until_ruin(data), periods=1)
        sharpe = None if math.isnan(ratio) else ratio
    trial = Trial(
        fingerprint=fingerprint,
        kind=kind,
        variant=variant,
        hyperparameters="" if hyperparameters is None else hyperparameters_hash(hyperparameters),
        recorded_at=(at or datetime.now(UTC)).isoformat(timespec="seconds"),
        sharpe=sharpe,
        sessions=sessions,
    )
    ledger.record(trial)
    return trial


def hyperparameters_hash(values: Mapping[str, Any]) -> str:
    """Names hyperparameters, whatever their order: the first 16 digits of the SHA-256 of their JSON.

    Raises
    ------
    TrialsError
        They are no JSON values.
    """
    try:
        text = json.dumps(values, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TrialsError(f"hyperparameters must be JSON values: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def earlier_trials(registered: Iterable[Mapping[str, str]], at: datetime | None = None) -> list[Trial]:
    """Models that were registered before there was a record, from the tags of their versions.

    Parameters
    ----------
    registered
        Tags of each version: ``fingerprint`` and ``variant``. A version without them was not trained here and is left
        out.
    at
        When they were found, which is all that is known of their time; default: now.
    """
    found = (at or datetime.now(UTC)).isoformat(timespec="seconds")
    return [
        Trial(tags["fingerprint"], _kind_of(tags), tags["variant"], "", found)
        for tags in registered
        if tags.get("fingerprint") and tags.get("variant")
    ]


def _kind_of(tags: Mapping[str, str]) -> TrialKind:
    """A version that was made elsewhere was tried here all the same."""
    return "external" if tags.get("origin") == "external" else "training"


def _trial(values: Any) -> Trial:
    """A line's values as a trial; ``TypeError`` for values of other types or names."""
    wanted = {"fingerprint": str, "kind": str, "variant": str, "hyperparameters": str, "recorded_at": str}
    wanted |= {"sharpe": float | int | None, "sessions": int}
    for name, value in dict(values).items():
        if isinstance(value, bool) or not isinstance(value, wanted.get(name, object)):
            raise TypeError(f"{name} is {value!r}")
    return Trial(**values)


def _more(before: Trial, after: Trial) -> Trial:
    """What is known after a second record of the same trial: what was known first stays."""
    known = before
    if known.sharpe is None and after.sharpe is not None:
        known = replace(known, sharpe=after.sharpe, sessions=after.sessions)
    if not known.hyperparameters and after.hyperparameters:
        known = replace(known, hyperparameters=after.hyperparameters)
    return known
