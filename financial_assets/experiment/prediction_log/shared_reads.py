"""Reads of direct predictions that several plans of one decision share: each is made once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from financial_assets.experiment.prediction_log.reader import LogReader


class SharedReads:
    """A log's direct predictions as of one decision; what was read once is not read again.

    Parameters
    ----------
    log
        The prediction log.
    columns
        Columns of all reads, so that one serves every plan.
    """

    def __init__(self, log: LogReader, columns: Sequence[str]) -> None:
        self._log, self._columns = log, tuple(columns)
        self._last: tuple[int, int, str] | None = None
        self._after: dict[tuple[object, ...], tuple[int, set[pd.Timestamp]] | None] = {}
        self._rows: dict[tuple[object, ...], pd.DataFrame] = {}

    def last_direct(self) -> tuple[int, int, str]:
        """See :meth:`.LogReader.last_direct`."""
        self._last = self._last or self._log.last_direct()
        return self._last

    def direct_after(self, models: Iterable[str] | None, last: int, begun: str) -> tuple[int, set[pd.Timestamp]] | None:
        """See :meth:`.LogReader.direct_after`."""
        names = None if models is None else tuple(models)
        key = (names, last, begun)
        if key not in self._after:
            self._after[key] = self._log.direct_after(names, last, begun)
        return self._after[key]

    def direct(
        self,
        models: Iterable[str] | None = None,
        *,
        since: pd.Timestamp | None = None,
        until: pd.Timestamp | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """See :meth:`.LogReader.direct`; ``columns`` are among those of all reads, which is the default."""
        names = None if models is None else tuple(models)
        key = (names, since, until)
        if key not in self._rows:
            self._rows[key] = self._log.direct(names, since=since, until=until, columns=self._columns)
        rows = self._rows[key]
        return rows if columns is None else rows[list(columns)]
