"""The kill switch: who has halted trading, when and why.

Under a halt no orders are made or filled, and the experiment is frozen: no promotion, no rollback, no step of the
shares, no new arm. Each use of the switch is a record of a hash chain in the state folder; its last one is the state.
Whoever is about to act asks anew, so that a running daemon sees a halt at once. A record that cannot be read counts as
a halt: when nobody knows, nothing may be sent.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from financial_assets.chain import HashChain, Link
from financial_assets.errors import ChainError, HaltedError, StorageError
from financial_assets.locking import exclusive

LIFT = "`financial-assets resume`"
"""What ends a halt."""
NO_REASON = "no reason given"
_LONGEST_REASON = 500
_LONGEST_WAIT_S = 10.0


@dataclass(frozen=True)
class Halt:
    """A halt in force.

    Attributes
    ----------
    since
        UTC, ISO 8601; empty where it cannot be read.
    by, reason
        Who and why.
    """

    since: str
    by: str
    reason: str

    @property
    def sentence(self) -> str:
        """For heads of reports and warnings, without the reason's own full stop."""
        when = f" since {self.since}" if self.since else ""
        who = f" by {self.by}" if self.by else ""
        reason = self.reason.rstrip(".")
        frozen = "No orders; champion and traffic are frozen, also against a rollback"
        return f"HALTED{when}{who}: {reason}. {frozen}, until {LIFT}."


@dataclass(frozen=True)
class KillSwitch:
    """The switch whose record is at ``path``."""

    path: Path

    @classmethod
    def of(cls, home: Path | str) -> KillSwitch:
        """That of a state folder."""
        return cls(Path(home) / "halt.jsonl")

    def halt_in_force(self) -> Halt | None:
        """The halt, if there is one; also where the record is damaged or cannot be read."""
        try:
            links = HashChain(self.path).read()
            return _halt_of(links[-1]) if links else None
        except (ChainError, StorageError, OSError) as error:
            return Halt("", "", f"the record of halts cannot be read: {error}")

    def halt(self, reason: str, by: str) -> Halt:
        """Halt; a second halt records its reason, too.

        Raises
        ------
        ChainError
            The record is damaged, which counts as a halt already.
        """
        entry = {"halted": True, "reason": _plain(reason) or NO_REASON, "by": _plain(by), "at": _now()}
        with self._alone("halting"):
            link = HashChain(self.path).append(entry)
        halted = _halt_of(link)
        assert halted is not None
        return halted

    def resume(self, by: str) -> Halt | None:
        """End the halt, and give it back; ``None`` if there was none, and nothing is recorded.

        Raises
        ------
        ChainError
            The record is damaged: a person has to look at it first.
        """
        with self._alone("resuming"):
            chain = HashChain(self.path)
            links = chain.read()
            halted = _halt_of(links[-1]) if links else None
            if halted is not None:
                chain.append({"halted": False, "reason": "", "by": _plain(by), "at": _now()})
        return halted

    def check(self) -> None:
        """Raise ``HaltedError`` under a halt."""
        halted = self.halt_in_force()
        if halted is not None:
            raise HaltedError(halted.sentence)

    def _alone(self, purpose: str) -> Any:
        return exclusive(self.path.with_suffix(".lock"), _LONGEST_WAIT_S, error=ChainError, purpose=purpose)


def _halt_of(link: Link) -> Halt | None:
    values = link.values
    try:
        halted, texts = values["halted"], [values[name] for name in ("at", "by", "reason")]
    except KeyError as error:
        raise ChainError(f"record {link.number} of halts has no {error}") from error
    if not isinstance(halted, bool) or not all(isinstance(text, str) for text in texts):
        raise ChainError(f"record {link.number} of halts is not one")
    return Halt(*texts) if halted else None


def _plain(text: str) -> str:
    """One line of printable text: it is shown on terminals, in pages and in files."""
    shown = "".join(" " if unicodedata.category(sign).startswith(("C", "Z")) else sign for sign in text)
    return " ".join(shown.split())[:_LONGEST_REASON]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
