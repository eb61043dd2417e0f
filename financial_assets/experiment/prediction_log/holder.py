"""Who holds a replay's lock, and whether that process still lives."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

from financial_assets.tracking.owners import (
    OWNER_BOOT,
    OWNER_HOST,
    OWNER_NAMESPACE,
    OWNER_PID,
    OWNER_STARTED,
    OwnerState,
    owner_state,
    owner_tags,
)

OWN_TOKENS: set[str] = set()
"""Tokens of the locks that this process holds."""


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The process that holds a lock, as its row in the database names it; the fields never change their names.

    Attributes
    ----------
    host, pid, created
        Host name, process id, and start time in seconds since the epoch.
    space
        Where the process id is valid: the boot and the process namespace, separated by a blank.
    token
        Tells the locks of one process apart.
    """

    host: str
    space: str
    pid: int
    created: float
    token: str

    @classmethod
    def this_process(cls) -> LockHolder:
        """The current process, with a new token."""
        owner = owner_tags()
        space = f"{owner[OWNER_BOOT]} {owner[OWNER_NAMESPACE]}".strip()
        return cls(owner[OWNER_HOST], space, int(owner[OWNER_PID]), float(owner[OWNER_STARTED]), uuid.uuid4().hex)

    @classmethod
    def read(cls, text: str) -> LockHolder:
        """The holder that a row names; an unknown one if its text is of another kind."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return cls("an unknown machine", "", 0, 0.0, "")

    def state(self) -> OwnerState:
        """Whether the holder still lives; ``unknown`` if that cannot be seen from here, because it ran elsewhere."""
        here = LockHolder.this_process()
        # The row names no machine, and machines may share a host name: another boot need not be this machine's past.
        if (self.host, self.space) != (here.host, here.space):
            return "unknown"
        if self.pid == here.pid:
            return "alive" if self.token in OWN_TOKENS else "gone"
        return owner_state({OWNER_HOST: self.host, OWNER_PID: str(self.pid), OWNER_STARTED: str(self.created)})

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"
