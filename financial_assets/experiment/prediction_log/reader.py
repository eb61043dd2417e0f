"""Reading the prediction log: epochs, completed requests, and typed frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Self

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from financial_assets.errors import LogError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.decisions import DecisionReader
from financial_assets.experiment.prediction_log.engine import transaction
from financial_assets.experiment.prediction_log.frames import driver_rows, read_frame
from financial_assets.experiment.prediction_log.rows import select_epochs


class LogReader(DecisionReader):
    """The reading half of a prediction log.

    Parameters
    ----------
    engine
        Database whose tables exist.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._epochs: dict[tuple[str, int], WeightEpoch] = {}

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def epochs(self, experiment: str | None = None) -> tuple[WeightEpoch, ...]:
        """All weight epochs of one experiment or of all, by experiment and number."""
        with transaction(self.engine) as connection:
            return select_epochs(connection, experiment)

    def current_epoch(self, experiment: str) -> WeightEpoch | None:
        """The latest weight epoch, ``None`` before the first."""
        epochs = self.epochs(experiment)
        return epochs[-1] if epochs else None

    def known_epoch(self, experiment: str, number: int) -> WeightEpoch:
        """One weight epoch.

        Raises
        ------
        LogError
            There is none of that number.
        """
        key = (experiment, number)
        if key not in self._epochs:
            self._epochs |= {(epoch.experiment, epoch.number): epoch for epoch in self.epochs(experiment)}
        if key not in self._epochs:
            raise LogError(f"experiment {experiment} has no weight epoch {number}: materialize the asset `experiment`")
        return self._epochs[key]

    def completed_routed(self, experiment: str, epoch: int) -> set[tuple[pd.Timestamp, str]]:
        """The (session, ticker) pairs of an epoch that have a result."""
        columns = schema.routed.c
        return self._completed(
            (columns.session, columns.ticker), columns.experiment == experiment, columns.epoch == epoch
        )

    def begun_routed(self, experiment: str, epoch: int) -> set[tuple[pd.Timestamp, str]]:
        """The (session, ticker) pairs of an epoch that were requested, answered or not."""
        columns = schema.routed.c
        where = (columns.experiment == experiment, columns.epoch == epoch)
        return self._keys((columns.session, columns.ticker), *where)

    def last_routed(self, experiment: str, *, before: int) -> pd.Timestamp | None:
        """The last session with routed requests, sent or only intended, of an epoch ``before`` this number."""
        table = schema.routed
        query = sa.select(sa.func.max(table.c.session)).where(table.c.experiment == experiment, table.c.epoch < before)
        with transaction(self.engine) as connection:
            session = connection.execute(query).scalar()
        return None if session is None else pd.Timestamp(session)

    def completed_direct(
        self, models: Iterable[str], sessions: Iterable[pd.Timestamp] | None = None
    ) -> set[tuple[pd.Timestamp, str, str]]:
        """The (session, ticker, model) triples that have a result; only those of ``sessions``."""
        columns = schema.direct.c
        where = [columns.model.in_(list(models))]
        if sessions is not None:
            days = [session.date() for session in sessions]
            if not days:
                return set()
            # Few sessions are named; many are read as a span, which databases do not bind one by one.
            where.append(
                columns.session.in_(days) if len(days) <= _FEW else columns.session.between(min(days), max(days))
            )
        return self._completed((columns.session, columns.ticker, columns.model), *where)

    def last_direct(self) -> tuple[int, int, str]:
        """Id of the last direct prediction, how many there are, and the text of when the last one was begun.

        Rows are only appended, and results are final: with the same three, nothing was added since, and with more rows
        whatever is new has a larger id, unless the ids do not add up.
        """
        return self._end(schema.direct)

    def last_request(self) -> tuple[int, int, str]:
        """The same of routed predictions, of all experiments together."""
        return self._end(schema.routed)

    def direct_after(self, models: Iterable[str] | None, last: int, begun: str) -> tuple[int, set[pd.Timestamp]] | None:
        """How many direct predictions have a larger id than ``last``, and the sessions of those of ``models`` or all.

        ``None`` if the row ``last`` is not there or was not begun at the instant ``begun``: it is another log.
        """
        return self._after(schema.direct.c.model, models, last, begun)

    def requests_after(self, experiment: str, last: int, begun: str) -> tuple[int, set[pd.Timestamp]] | None:
        """The same of routed predictions: how many of all experiments, and the sessions of those of one."""
        return self._after(schema.routed.c.experiment, (experiment,), last, begun)

    def _end(self, table: sa.Table) -> tuple[int, int, str]:
        with transaction(self.engine) as connection:
            count = int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
            query = sa.select(table.c.id, table.c.intended_at).order_by(table.c.id.desc()).limit(1)
            last = connection.execute(query).first()
        return (0, 0, "") if last is None else (int(last.id), count, last.intended_at.isoformat())

    def _after(
        self, column: sa.Column[Any], of: Iterable[str] | None, last: int, begun: str
    ) -> tuple[int, set[pd.Timestamp]] | None:
        table, wanted = column.table, None if of is None else set(of)
        with transaction(self.engine) as connection:
            query = sa.select(table.c.intended_at).where(table.c.id == last)
            found = connection.execute(query).scalar()
            if last and (found is None or found.isoformat() != begun):
                return None
            # Neither "distinct" nor a condition on the column: SQLite would read a whole index for it, instead of the
            # few rows behind the id.
            query = sa.select(table.c.session, column).where(table.c.id > last)
            later = driver_rows(connection, query)
        return len(later), {_stamp(session) for session, name in later if wanted is None or name in wanted}

    def complete_sessions(self, models: Iterable[str]) -> dict[tuple[pd.Timestamp, str], str]:
        """What ``record_complete`` noted: (session, model) -> digest of the tickers."""
        columns = schema.complete.c
        query = sa.select(columns.session, columns.model, columns.tickers).where(columns.model.in_(list(models)))
        with transaction(self.engine) as connection:
            return {(_stamp(session), model): digest for session, model, digest in driver_rows(connection, query)}

    def counts(self, experiment: str) -> tuple[int, int]:
        """How many routed requests the experiment has, and how many direct predictions there are."""
        count, routed, direct = sa.func.count(), schema.routed, schema.direct
        with transaction(self.engine) as connection:
            requests = connection.execute(sa.select(count).where(routed.c.experiment == experiment)).scalar_one()
            return int(requests), int(connection.execute(sa.select(count).select_from(direct)).scalar_one())

    def _completed(self, key: Sequence[sa.Column[Any]], *where: sa.ColumnElement[bool]) -> set[tuple[Any, ...]]:
        return self._keys(key, *where, key[0].table.c.status != "pending")

    def _keys(self, key: Sequence[sa.Column[Any]], *where: sa.ColumnElement[bool]) -> set[tuple[Any, ...]]:
        query = sa.select(*key).where(*where)
        with transaction(self.engine) as connection:
            return {(_stamp(session), *rest) for session, *rest in driver_rows(connection, query)}

    def routed(
        self,
        experiment: str | None = None,
        *,
        epoch: int | None = None,
        since: pd.Timestamp | None = None,
        until: pd.Timestamp | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Routed predictions as a typed frame, ordered by experiment, epoch, session and ticker.

        Parameters
        ----------
        experiment, epoch
            Only these.
        since, until
            Only sessions from this one on, and up to that one, included.
        columns
            Only these, in this order; default all.
        """
        table = schema.routed
        where = [] if experiment is None else [table.c.experiment == experiment]
        where += [] if epoch is None else [table.c.epoch == epoch]
        where += [] if since is None else [table.c.session >= since.date()]
        where += [] if until is None else [table.c.session <= until.date()]
        with transaction(self.engine) as connection:
            return read_frame(connection, table, where, ("experiment", "epoch", "session", "ticker"), columns)

    def direct(
        self,
        models: Iterable[str] | None = None,
        *,
        since: pd.Timestamp | None = None,
        until: pd.Timestamp | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Direct predictions as a typed frame, ordered by session, ticker and model; see :meth:`routed`."""
        table = schema.direct
        where = [] if models is None else [table.c.model.in_(list(models))]
        where += [] if since is None else [table.c.session >= since.date()]
        where += [] if until is None else [table.c.session <= until.date()]
        with transaction(self.engine) as connection:
            return read_frame(connection, table, where, ("session", "ticker", "model"), columns)


_FEW = 100
_stamp = cache(pd.Timestamp)  # few sessions, many rows
