"""Reads of the log that one evaluation shares: each row is read once, for the report and for every plan's decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.prediction_log.reader import LogReader


class SharedReads:
    """A log's predictions as of one evaluation; what was read once is not read again.

    Rows that a caller asks for are taken from an earlier read that holds them, so that whoever needs most should ask
    first. How far the log was read is noted before its first rows: what is added later is read next time.

    Parameters
    ----------
    log
        The prediction log.
    direct
        Columns of all reads of direct predictions, so that one serves every caller; ``session`` and ``model`` among
        them.
    routed
        The same of routed predictions; ``session`` among them.
    """

    def __init__(self, log: LogReader, direct: Sequence[str], routed: Sequence[str]) -> None:
        self._log, self._direct, self._routed = log, tuple(direct), tuple(routed)
        self._last_direct: tuple[int, int, str] | None = None
        self._last_request: tuple[int, int, str] | None = None
        self._after: dict[tuple[object, ...], tuple[int, set[pd.Timestamp]] | None] = {}
        self._requests_after: dict[tuple[object, ...], tuple[int, set[pd.Timestamp]] | None] = {}
        self._rows: dict[_Wanted, pd.DataFrame] = {}
        self._requests: dict[_Wanted, pd.DataFrame] = {}

    def last_direct(self) -> tuple[int, int, str]:
        """See :meth:`.LogReader.last_direct`."""
        self._last_direct = self._last_direct or self._log.last_direct()
        return self._last_direct

    def last_request(self) -> tuple[int, int, str]:
        """See :meth:`.LogReader.last_request`."""
        self._last_request = self._last_request or self._log.last_request()
        return self._last_request

    def direct_after(self, models: Iterable[str] | None, last: int, begun: str) -> tuple[int, set[pd.Timestamp]] | None:
        """See :meth:`.LogReader.direct_after`."""
        names = None if models is None else tuple(models)
        key = (names, last, begun)
        if key not in self._after:
            self._after[key] = self._log.direct_after(names, last, begun)
        return self._after[key]

    def requests_after(self, experiment: str, last: int, begun: str) -> tuple[int, set[pd.Timestamp]] | None:
        """See :meth:`.LogReader.requests_after`."""
        key = (experiment, last, begun)
        if key not in self._requests_after:
            self._requests_after[key] = self._log.requests_after(experiment, last, begun)
        return self._requests_after[key]

    def direct(
        self,
        models: Iterable[str] | None = None,
        *,
        since: pd.Timestamp | None = None,
        until: pd.Timestamp | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """See :meth:`.LogReader.direct`; ``columns`` are among those of all reads, which is the default."""
        names = None if models is None else frozenset(models)
        wanted = _Wanted(names, since, until)
        if wanted not in self._rows:
            self.last_direct()
            held = wanted.found_in(self._rows, "model")
            if held is None:
                held = self._log.direct(names, since=since, until=until, columns=self._direct)
            self._rows[wanted] = held
        rows = self._rows[wanted]
        return rows if columns is None else rows[list(columns)]

    def routed(
        self,
        experiment: str,
        *,
        since: pd.Timestamp | None = None,
        until: pd.Timestamp | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """See :meth:`.LogReader.routed`; ``columns`` are among those of all reads, which is the default."""
        wanted = _Wanted(frozenset((experiment,)), since, until)
        if wanted not in self._requests:
            self.last_request()
            held = wanted.found_in(self._requests, "experiment")
            if held is None:
                held = self._log.routed(experiment, since=since, until=until, columns=self._routed)
            self._requests[wanted] = held
        rows = self._requests[wanted]
        return rows if columns is None else rows[list(columns)]


@dataclass(frozen=True)
class _Wanted:
    """Rows of some names, ``None`` for all, from a session to another."""

    names: frozenset[str] | None
    since: pd.Timestamp | None
    until: pd.Timestamp | None

    def found_in(self, held: dict[_Wanted, pd.DataFrame], column: str) -> pd.DataFrame | None:
        """These rows of an earlier read that has them all; the names stand in ``column``."""
        wider = next((read for read in held if read._holds(self)), None)
        if wider is None:
            return None
        rows, session = held[wider], held[wider]["session"].to_numpy()
        inside = np.ones(len(rows), bool)
        if self.since is not None:
            inside &= session >= np.datetime64(self.since.date())
        if self.until is not None:
            inside &= session <= np.datetime64(self.until.date())
        if self.names is not None and wider.names != self.names:
            inside &= rows[column].isin(self.names).to_numpy()
        if inside.all():
            return rows
        found = rows[inside]  # a copy already: to number its rows anew must not make another
        found.index = pd.RangeIndex(len(found))
        return found

    def _holds(self, other: _Wanted) -> bool:
        return (
            (self.names is None or (other.names is not None and other.names <= self.names))
            and (self.since is None or (other.since is not None and other.since >= self.since))
            and (self.until is None or (other.until is not None and other.until <= self.until))
        )
