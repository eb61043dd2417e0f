"""What a stored panel still has in common with those that it was continued from."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

_MOST = 40
"""Ancestors that are remembered: whoever has not looked for as many days starts anew."""


@dataclass(frozen=True)
class Ancestor:
    """An earlier state of a panel.

    Attributes
    ----------
    name
        Its unique name.
    kept
        How many of its first sessions have been left as they were.
    apart
        Tickers of which any earlier bar may have changed.
    """

    name: str
    kept: int
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lineage:
    """A unique name of a panel's content, and the earlier states, newest first."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    ancestors: tuple[Ancestor, ...] = ()

    def continued(self, kept: int, apart: tuple[str, ...]) -> Lineage:
        """The lineage of a panel that has the first ``kept`` sessions of this one, but for the tickers ``apart``."""
        earlier = (
            Ancestor(one.name, min(one.kept, kept), tuple(sorted({*one.apart, *apart}))) for one in self.ancestors
        )
        return Lineage(ancestors=(Ancestor(self.name, kept, apart), *earlier)[:_MOST])

    def since(self, name: str, sessions: int) -> Ancestor | None:
        """What has changed since the state ``name`` with that many sessions; ``None``: that is not known."""
        if name == self.name:
            return Ancestor(name, sessions)
        return next((one for one in self.ancestors if one.name == name), None)
