"""The prediction log: an append-only record of weight epochs, routed predictions and paired (direct) predictions.

The protocol that makes a crash lose nothing and double nothing:

1. ``begin_*`` commits the *intent* of each request before anything is sent, and returns what has to be sent;
2. the request is sent;
3. ``complete_*`` commits how it ended; the first result of an intent is final.

After a crash ``begin_*`` returns the intents without a result again, with ``attempts`` incremented, and never one
that has a result. Outcomes (what the price did) are not in the log: they are joined from prices.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from financial_assets.errors import LogError
from financial_assets.experiment.arms import Arm, WeightEpoch, check_arms
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.decisions import DecisionWriter
from financial_assets.experiment.prediction_log.engine import open_engine, transaction, write_again
from financial_assets.experiment.prediction_log.lock import ReplayLock, exclusive
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.experiment.prediction_log.records import DirectIntent, Result, RoutedIntent
from financial_assets.experiment.prediction_log.rows import (
    answer_values,
    begin,
    check_session,
    complete,
    insert_epoch,
    refuse_repeats,
    statuses,
    utc_now,
)
from financial_assets.experiment.prediction_log.sealed.chain import open_chain
from financial_assets.experiment.prediction_log.sealed.records import seal_weights
from financial_assets.signing import Signer


class PredictionLog(LogReader, DecisionWriter):
    """Predictions and weight epochs in one SQL database.

    Safe for any number of concurrent threads and processes.

    Parameters
    ----------
    url
        SQLAlchemy URL of an SQLite file (made when missing) or a PostgreSQL database.
    busy_timeout_s
        How long a writer waits for another writer (SQLite).
    signer
        See :class:`.DecisionWriter`.

    Raises
    ------
    LogError
        If the URL is malformed, the database cannot be used, or its schema is of another version.
    """

    def __init__(
        self, url: str, *, busy_timeout_s: float = 30.0, signer: Callable[[], Signer | None] = lambda: None
    ) -> None:
        super().__init__(open_engine(url, busy_timeout_s))
        self._signer = signer
        self._held: dict[str, ReplayLock] = {}

    # --- weight epochs -------------------------------------------------------------------------------------------

    def open_epoch(
        self,
        experiment: str,
        arms: Sequence[Arm],
        reason: str,
        *,
        after: int,
        regimes: Mapping[str, Mapping[str, int]] | None = None,
        decisions: Sequence[str] = (),
    ) -> WeightEpoch:
        """Open the epoch ``after + 1`` of an experiment.

        Parameters
        ----------
        experiment
            Its name.
        arms
            Participants and their weights.
        reason
            Why, for the reader of the history.
        after
            Number of the epoch that the caller believes to be the latest, 0 for none. Of two writers, one fails.
        regimes
            Weights of their own for requests of some regimes, by label.
        decisions
            Digests of the decisions that it follows from.

        Raises
        ------
        LogError
            If ``after`` is not the latest epoch, or a name or the reason is empty.
        ExperimentError
            If the arms cannot be an epoch.
        """
        if not experiment or not reason:
            raise LogError("a weight epoch needs the name of its experiment and a reason")
        check_arms(tuple(arms))
        epoch = WeightEpoch(experiment, after + 1, pd.Timestamp(utc_now()), tuple(arms), reason, dict(regimes or {}))
        with transaction(self.engine, write=True) as connection:
            chain = open_chain(connection, self._signer)  # first: it counts what was there before it
            insert_epoch(connection, epoch)
            seal_weights(chain, epoch, decisions)
        return epoch

    # --- routed predictions --------------------------------------------------------------------------------------

    def begin_routed(
        self,
        epoch: WeightEpoch,
        session: pd.Timestamp,
        target: pd.Timestamp,
        tickers: Sequence[str],
        regimes: Mapping[str, str] | None = None,
        inclusion: float = 1.0,
    ) -> tuple[RoutedIntent, ...]:
        """Commit the intents of one session's routed requests.

        Parameters
        ----------
        epoch
            Current weight epoch.
        session, target
            The session whose close is the latest known price, and the session that is predicted; both tz-naive.
        tickers
            One request per ticker.
        regimes
            Ticker -> regime of its request, where it is known; kept if the epoch has weights of its own for it.
        inclusion
            Probability that each of these tickers was to be among them; 1 where all tickers of the session are.

        Returns
        -------
        tuple of RoutedIntent
            What is still to be sent: new intents, and those that a crash left without a result.

        Raises
        ------
        LogError
            If the epoch is unknown, a ticker is empty or repeated, the sessions are not two in order, or ``inclusion``
            is not a probability above 0.
        LockLostError
            If :meth:`exclusive` is no longer held.
        """
        day, target_day = check_session(session, target, tickers)
        if not 0.0 < inclusion <= 1.0:
            raise LogError(f"tickers are included with probability {inclusion!r}; allowed: above 0, at most 1")
        self.known_epoch(epoch.experiment, epoch.number)
        rows = [
            {
                "request_id": f"{epoch.experiment}.{epoch.number}.{day.isoformat()}.{ticker}",
                "experiment": epoch.experiment,
                "epoch": epoch.number,
                "session": day,
                "target_session": target_day,
                "ticker": ticker,
                "regime": regime if (regime := (regimes or {}).get(ticker)) in epoch.regimes else None,
                "inclusion": inclusion,
            }
            for ticker in tickers
        ]
        table = schema.routed
        where = (table.c.experiment == epoch.experiment, table.c.epoch == epoch.number, table.c.session == day)
        return tuple(
            RoutedIntent(
                r.id, r.request_id, r.experiment, r.epoch, pd.Timestamp(r.session), r.ticker, r.attempts, r.regime
            )
            for r in self._begin(table, rows, (*where, table.c.ticker.in_(tickers)))
        )

    def complete_routed(self, results: Sequence[Result]) -> int:
        """Commit how routed requests ended; the first result of an intent is final.

        Returns
        -------
        int
            How many intents this call completed; the others had a result already.

        Raises
        ------
        LogError
            If an intent is unknown or named twice.
        """
        table = schema.routed
        return self._complete(table, results, self._attribution, table.c.experiment, table.c.epoch, table.c.regime)

    # --- direct (paired) predictions -----------------------------------------------------------------------------

    def begin_direct(
        self, arms: Sequence[Arm], session: pd.Timestamp, target: pd.Timestamp, tickers: Sequence[str]
    ) -> tuple[DirectIntent, ...]:
        """Commit the intents to score every arm on the same bars of one session; see :meth:`begin_routed`."""
        day, target_day = check_session(session, target, tickers)
        models = [arm.model for arm in arms]
        refuse_repeats("model", models)
        rows = [
            {
                "session": day,
                "target_session": target_day,
                "ticker": ticker,
                "model": arm.model,
                "variant": arm.variant,
                "model_version": arm.version,
            }
            for arm in arms
            for ticker in tickers
        ]
        table = schema.direct
        where = (table.c.session == day, table.c.model.in_(models), table.c.ticker.in_(tickers))
        return tuple(
            DirectIntent(r.id, pd.Timestamp(r.session), r.ticker, r.model, r.attempts)
            for r in self._begin(table, rows, where)
        )

    def complete_direct(self, results: Sequence[Result]) -> int:
        """Commit how direct scorings ended; see :meth:`complete_routed`."""
        return self._complete(schema.direct, results, lambda result, _row: {"status": result.failure or "ok"})

    def record_complete(self, models: Mapping[str, Mapping[pd.Timestamp, str]]) -> None:
        """Note sessions of which a model's direct predictions all have a result.

        Parameters
        ----------
        models
            Model -> session -> digest of the tickers that were asked for. A later one takes the place of an earlier.
        """
        rows = [
            {"session": session.date(), "model": model, "tickers": digest}
            for model, sessions in models.items()
            for session, digest in sessions.items()
        ]
        if not rows:
            return

        def write(connection: Connection) -> None:
            insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            statement = insert(schema.complete)
            keys = [schema.complete.c.session, schema.complete.c.model]
            replaced = {"tickers": statement.excluded.tickers}
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=replaced), rows)

        write_again(self.engine, write)

    # --- one replay at a time ----------------------------------------------------------------------------------------

    @contextmanager
    def exclusive(self, experiment: str) -> Generator[ReplayLock]:
        """Hold the right to send requests of an experiment, so that no two replays send the same intents.

        The lock ends with the process that holds it, however that process ends. While this log holds it, every intent
        is written in a transaction that proves it is still held.

        Raises
        ------
        LogError
            If another replay holds it.
        """
        with exclusive(self.engine, experiment) as lock:
            self._held[experiment] = lock
            try:
                yield lock
            finally:
                del self._held[experiment]

    # --- private -------------------------------------------------------------------------------------------------

    def _begin(
        self, table: sa.Table, rows: Sequence[dict[str, Any]], where: Sequence[sa.ColumnElement[bool]]
    ) -> Sequence[sa.Row[Any]]:
        if not rows:
            return ()

        def write(connection: Connection) -> Sequence[sa.Row[Any]]:
            # In the same transaction as the intents: a replay that has lost its lock cannot add any.
            for lock in self._held.values():
                lock.prove(connection)
            return begin(connection, table, rows, where)

        return write_again(self.engine, write)

    def _complete(
        self,
        table: sa.Table,
        results: Sequence[Result],
        values_of: Callable[[Result, sa.Row[Any]], dict[str, Any]],
        *columns: sa.Column[Any],
    ) -> int:
        def write(connection: Connection) -> int:
            intents = statuses(connection, table, results, *columns)
            # write_again() may repeat this after a commit whose confirmation was lost: then nothing is pending.
            first = [result for result in results if intents[result.id].status == "pending"]
            rows = [{**answer_values(table, result), **values_of(result, intents[result.id])} for result in first]
            return complete(connection, table, rows)

        return write_again(self.engine, write)

    def _attribution(self, result: Result, row: sa.Row[Any]) -> dict[str, Any]:
        epoch = self.known_epoch(row.experiment, row.epoch)
        arm = None if result.route is None else epoch.arm(result.route)
        if arm is not None and arm.role != "shadow":
            return {
                "status": result.failure or "ok",
                "model": arm.model,
                "variant": arm.variant,
                "model_version": arm.version,
                "propensity": epoch.propensity(arm.model, row.regime),
            }
        no_arm = dict.fromkeys(("model", "variant", "model_version", "propensity"))
        unattributed = {"status": "unattributed", **no_arm}
        if result.failure is not None:
            return unattributed
        named = "no route" if result.route is None else f"route {result.route!r}, no arm of epoch {row.epoch}"
        return {**unattributed, "failure": "unknown_route", "error": f"the gateway's answer named {named}"}
