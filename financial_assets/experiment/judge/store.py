"""Plans, and what was judged by them last: files of a folder that several processes may share.

``plans.jsonl`` and ``verdicts.jsonl`` are hash chains: no plan can be changed, taken away or put in before another, and
no verdict either. ``kept/`` has a file per plan with the last judgement and the digest of the series that it was made
of, so that a series which rewrites its past is found out. A process that dies half-way leaves the old file or the new
one; what it was asked can be asked again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from financial_assets.atomic import atomic_write_text
from financial_assets.chain import HashChain, Link, canonical
from financial_assets.disk import disk_errors
from financial_assets.errors import ChainError, ExperimentError, JudgeError
from financial_assets.experiment.judge.kept import Kept, Update, kept_of
from financial_assets.experiment.judge.plan import JudgePlan, is_name
from financial_assets.locking import exclusive

MOST_PLANS = 10_000
_WAIT_S = 20.0
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class RegisteredPlan:
    """A plan with its name, and when it was registered."""

    name: str
    plan: JudgePlan
    registered_at: datetime

    @property
    def digest(self) -> str:
        """SHA-256 of the plan."""
        return self.plan.digest

    @property
    def start(self) -> datetime:
        """First instant whose outcomes count."""
        return self.plan.starts or (LONG_AGO if self.plan.retrospective else self.registered_at)


class JudgeStore:
    """The plans of a folder, which is made when the first one is registered.

    Parameters
    ----------
    folder
        Of the store alone.

    Attributes
    ----------
    folder
        The same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._plans = HashChain(folder / "plans.jsonl")
        self._verdicts = HashChain(folder / "verdicts.jsonl")
        self._read: tuple[tuple[int, int, int], dict[str, RegisteredPlan]] | None = None
        self._by_digest: dict[str, RegisteredPlan] = {}

    def register(self, name: str, plan: JudgePlan, now: datetime) -> tuple[RegisteredPlan, bool]:
        """Register a plan, and say whether it is new; the same plan again is the one that is there.

        Raises
        ------
        JudgeError
            The name cannot be one, or has another plan; or the plan starts before it is registered.
        ChainError, StorageError
            The store is damaged, or cannot be written.
        """
        if not is_name(name):
            raise _invalid(
                "name",
                "must have 1 to 128 lower-case letters, digits, dots, hyphens or underscores, and begin and end with a "
                "letter or digit",
            )
        if (found := self.plans().get(name)) is None:
            with self._locked("plans", "registering a plan"):
                if (found := self.plans().get(name)) is None:
                    return self._add(RegisteredPlan(name, plan, now)), True
        if found.digest != plan.digest:
            theirs, ours = found.plan.model_dump(mode="json"), plan.model_dump(mode="json")
            changed = [field for field in ours if ours[field] != theirs[field]]
            raise JudgeError(
                "plan_differs",
                "conflict",
                f"{name} was registered at {found.registered_at:%Y-%m-%dT%H:%M:%SZ} with another plan, which differs "
                f"in {', '.join(changed)}; a plan never changes",
                "register this one under a name of its own",
                [(field, f"is {json.dumps(theirs[field])} in the registered plan") for field in changed],
            )
        return found, False

    def _add(self, new: RegisteredPlan) -> RegisteredPlan:
        plan = new.plan
        if plan.starts is not None and plan.starts < new.registered_at and not plan.retrospective:
            raise _invalid(
                "starts",
                f"lies before now ({new.registered_at:%Y-%m-%dT%H:%M:%SZ}): a plan must come before its data; set "
                "`retrospective` if they may be known already",
            )
        if len(self.plans()) >= MOST_PLANS:
            raise JudgeError(
                "too_many_plans",
                "conflict",
                f"{self.folder} has {MOST_PLANS:,} plans",
                "move the folder away on the server; a new one is made",
            )
        self._plans.append(
            {
                "name": new.name,
                "plan": plan.model_dump(mode="json"),
                "digest": new.digest,
                "registered_at": _text(new.registered_at),
            }
        )
        return new

    def plans(self) -> Mapping[str, RegisteredPlan]:
        """All plans by name, in the order in which they were registered.

        Raises
        ------
        ChainError, StorageError
            The store is damaged, or cannot be read.
        """
        path = self._plans.path
        with disk_errors(path, "read"):
            try:
                status = path.stat()
            except FileNotFoundError:
                return {}
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._read is None or self._read[0] != stamp:
            plans = [self._plan_of(link) for link in self._plans.read()]
            # Of two names for one plan, the digest means the first.
            self._by_digest = {plan.digest: plan for plan in reversed(plans)}
            self._read = stamp, {plan.name: plan for plan in plans}
        return self._read[1]

    def find(self, name: str) -> RegisteredPlan:
        """The plan of a name or digest.

        Raises
        ------
        JudgeError
            There is none.
        """
        found = self.plans().get(name) or self._by_digest.get(name)
        if found is None:
            raise JudgeError(
                "unknown_plan",
                "unknown",
                f"no plan is registered under {name!r}",
                "register it before the data: PUT /v1/judge/plans/NAME",
                [("plan", "is not registered")],
            )
        return found

    def _plan_of(self, link: Link) -> RegisteredPlan:
        try:
            plan = JudgePlan.model_validate(link.values["plan"])
            found = RegisteredPlan(link.values["name"], plan, datetime.fromisoformat(link.values["registered_at"]))
        except (ValidationError, KeyError, ValueError, TypeError) as error:
            raise ChainError(f"line {link.number} of {self._plans.path} is not a plan ({error})") from error
        if found.digest != link.values.get("digest"):
            raise ChainError(
                f"line {link.number} of {self._plans.path}: the plan {found.name} has another digest than when it was "
                "registered. It was written by another version of financial_assets: use that one for its test"
            )
        return found

    @contextmanager
    def updating(self, plan: RegisteredPlan) -> Generator[Update]:
        """What is kept of a plan's test, for a change that nobody else makes at the same time.

        Raises
        ------
        ExperimentError
            Somebody else held it for too long.
        ChainError, StorageError
            What is kept is damaged, or the disk refuses.
        """
        with self._locked(f"kept/{plan.name}", f"judging by {plan.name}"):
            update = Update(self.kept(plan))
            yield update
            if update.kept != update.before:
                self._write(plan, update)

    def kept(self, plan: RegisteredPlan) -> Kept:
        """What is known of a plan's test.

        Raises
        ------
        ChainError, StorageError
            It is damaged, or cannot be read.
        """
        path = self._path(plan)
        with disk_errors(path, "read"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return Kept()
        try:
            return kept_of(json.loads(content), plan.digest)
        except (ValueError, KeyError, TypeError) as error:
            raise ChainError(
                f"{path} is not what was kept of {plan.name} ({error}). Restore it from a copy; without it, a series "
                "that rewrites its past would not be found out"
            ) from error

    def _write(self, plan: RegisteredPlan, update: Update) -> None:
        new = update.kept
        was_final = update.before.judgement is not None and update.before.judgement.final
        if new.judgement is not None and new.judgement.final and not was_final:
            self._note_verdict(plan, new)
        values = dataclasses.asdict(new) | {
            "plan": plan.digest,
            "judged_at": None if new.judged_at is None else _text(new.judged_at),
        }
        atomic_write_text(self._path(plan), canonical(values) + "\n")

    def _note_verdict(self, plan: RegisteredPlan, new: Kept) -> None:
        """Before the file of the plan: who dies in between finds the verdict here, and does not add it again."""
        assert new.judgement is not None
        assert new.judged_at is not None
        with self._locked("verdicts", "recording a verdict"):
            if any(link.values.get("plan") == plan.name for link in self._verdicts.read()):
                return
            self._verdicts.append(
                {
                    "plan": plan.name,
                    "digest": plan.digest,
                    "verdict": new.judgement.verdict,
                    "reason": new.judgement.reason,
                    "decided_by": new.judgement.decided_by,
                    "units": new.judgement.units,
                    "series": new.series,
                    "judged_at": _text(new.judged_at),
                }
            )

    def _path(self, plan: RegisteredPlan) -> Path:
        return self.folder / "kept" / f"{plan.name}.json"

    @contextmanager
    def _locked(self, what: str, purpose: str) -> Generator[None]:
        with exclusive(self.folder / f"{what}.lock", _WAIT_S, error=ExperimentError, purpose=purpose):
            yield


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _invalid(field: str, message: str) -> JudgeError:
    return JudgeError(
        "invalid_plan", "invalid", f"{field}: {message}", "correct the plan; nothing was registered", [(field, message)]
    )
