"""The history of a price store: what changed when, and which files hold the changes."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Change:
    """One entry of the history.

    Attributes
    ----------
    number
        Counts changes, from 1.
    known_at
        When the store took it (UTC): from then on, prices are known as the change leaves them.
    added, replaced, removed
        Bars that were new, that came with other values, and that the source no longer has.
    rescaled
        Tickers whose earlier history was multiplied by a factor.
    first, last
        First and last session of the rows that the change brought.
    old_hash, new_hash
        ``hash_prices`` of the whole store before and after.
    note
        What else is to be known of it, e.g. that an earlier version of this program wrote it.
    """

    number: int
    known_at: dt.datetime
    added: int
    replaced: int
    removed: int
    rescaled: tuple[str, ...]
    first: dt.date | None
    last: dt.date | None
    old_hash: str
    new_hash: str
    note: str = ""


@dataclass(frozen=True)
class ChangesFile:
    """A file of ``changes/``: the numbers of its first and last change, and its rows."""

    name: str
    first: int
    last: int
    rows: int


@dataclass(frozen=True)
class History:
    """What ``history.json`` holds. ``base_bytes`` is the size of the base that the changes build on."""

    base_bytes: int = 0
    files: tuple[ChangesFile, ...] = ()
    changes: tuple[Change, ...] = field(default=())

    def is_whole(self) -> bool:
        """Whether the base and the files hold every change once: the first one is the base."""
        firsts = [file.first for file in self.files]
        lasts = [1, *(file.last for file in self.files)]
        numbers = [change.number for change in self.changes]
        return (
            bool(numbers)
            and numbers == list(range(1, len(numbers) + 1))
            and firsts == [last + 1 for last in lasts[:-1]]
            and lasts[-1] == numbers[-1]
        )
