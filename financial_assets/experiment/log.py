"""The prediction log: an append-only record of weight epochs, routed predictions and paired (direct) predictions.

The protocol that lets a crash lose and double nothing:

1. ``begin_*`` commits the *intent* of each request, before anything is sent, and returns what has to be sent;
2. the request is sent;
3. ``complete_*`` commits how it ended; the first result of an intent stands for ever.

After a crash ``begin_*`` returns the intents without a result again, with ``attempts`` counted up, and never one
that has a result. Outcomes (what the price did) are not in the log: they are joined from prices.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Self

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment import log_schema as schema
from financial_assets.experiment.arms import Arm, WeightEpoch, arm_from_json, arm_to_json, check_arms
from financial_assets.experiment.log_engine import open_engine, transaction
from financial_assets.experiment.log_frames import read_frame
from financial_assets.experiment.records import DirectIntent, Result, RoutedIntent

__all__ = ["PredictionLog"]


class PredictionLog:
    """Predictions and weight epochs in one SQL database.

    Safe for any number of concurrent threads and processes.

    Parameters
    ----------
    url
        SQLAlchemy URL of an SQLite file (made when missing) or a PostgreSQL database.
    busy_timeout_s
        How long a writer waits for another one (SQLite).

    Raises
    ------
    LogError
        If the URL is malformed, the database cannot be used, or its schema is of another version.
    """

    def __init__(self, url: str, *, busy_timeout_s: float = 30.0) -> None:
        self._engine = open_engine(url, busy_timeout_s)
        self._epochs: dict[tuple[str, int], WeightEpoch] = {}

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- weight epochs -------------------------------------------------------------------------------------------

    def open_epoch(self, experiment: str, arms: Sequence[Arm], reason: str, *, after: int) -> WeightEpoch:
        """Open the epoch ``after + 1`` of an experiment.

        Parameters
        ----------
        experiment
            Its name.
        arms
            Who takes part, with which weights.
        reason
            Why, for the reader of the history.
        after
            Number of the epoch that the caller believes to be the latest, 0 for none: two writers cannot both succeed.

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
        epoch = WeightEpoch(experiment, after + 1, pd.Timestamp(_now()), tuple(arms), reason)
        with transaction(self._engine, write=True) as connection:
            latest = _latest_epoch(connection, experiment)
            if latest != after:
                raise LogError(f"experiment {experiment} is at weight epoch {latest}, not {after}: try again")
            connection.execute(
                sa.insert(schema.epochs).values(
                    experiment=experiment,
                    epoch=epoch.number,
                    opened_at=epoch.opened_at.to_pydatetime(),
                    arms=[arm_to_json(arm) for arm in epoch.arms],
                    reason=reason,
                )
            )
        return epoch

    def epochs(self, experiment: str | None = None) -> tuple[WeightEpoch, ...]:
        """All weight epochs of one or of every experiment, by experiment and number."""
        table = schema.epochs
        query = sa.select(table).order_by(table.c.experiment, table.c.epoch)
        if experiment is not None:
            query = query.where(table.c.experiment == experiment)
        with transaction(self._engine) as connection:
            return tuple(_epoch(row) for row in connection.execute(query))

    def current_epoch(self, experiment: str) -> WeightEpoch | None:
        """The latest weight epoch, ``None`` before the first."""
        found = self.epochs(experiment)
        return found[-1] if found else None

    # --- routed predictions --------------------------------------------------------------------------------------

    def begin_routed(
        self, epoch: WeightEpoch, session: pd.Timestamp, target: pd.Timestamp, tickers: Sequence[str]
    ) -> tuple[RoutedIntent, ...]:
        """Commit the intents of one session's routed requests.

        Parameters
        ----------
        epoch
            Weight epoch in force.
        session, target
            The session as of which is predicted and the one that is predicted, both tz-naive.
        tickers
            One request each.

        Returns
        -------
        tuple of RoutedIntent
            What is still to be sent: new intents and those that a crash left without a result.

        Raises
        ------
        LogError
            If the epoch is unknown, a ticker is empty or repeated, or the sessions are not two in order.
        """
        day, target_day = _check_session(session, target, tickers)
        self._known_epoch(epoch.experiment, epoch.number)
        rows = [
            {
                "request_id": f"{epoch.experiment}.{epoch.number}.{day.isoformat()}.{ticker}",
                "experiment": epoch.experiment,
                "epoch": epoch.number,
                "session": day,
                "target_session": target_day,
                "ticker": ticker,
            }
            for ticker in tickers
        ]
        table = schema.routed
        where = (table.c.experiment == epoch.experiment, table.c.epoch == epoch.number, table.c.session == day)
        found = self._begin(table, rows, (*where, table.c.ticker.in_(tickers)))
        return tuple(
            RoutedIntent(r.id, r.request_id, r.experiment, r.epoch, pd.Timestamp(r.session), r.ticker, r.attempts)
            for r in found
        )

    def complete_routed(self, results: Sequence[Result]) -> int:
        """Commit how routed requests ended; the first result of an intent stands.

        Returns
        -------
        int
            How many intents were completed by this call (the others had a result already).

        Raises
        ------
        LogError
            If an intent is unknown or named twice.
        """
        table = schema.routed
        with transaction(self._engine, write=True) as connection:
            found = _pending(connection, table, results, table.c.experiment, table.c.epoch)
            rows = [
                {**_answer(result), **self._attribution(result, found[result.id])}
                for result in results
                if found[result.id].status == "pending"
            ]
            return _complete(connection, table, rows)

    def completed_routed(self, experiment: str, epoch: int) -> set[tuple[pd.Timestamp, str]]:
        """The (session, ticker) pairs of an epoch that have a result."""
        table = schema.routed
        query = sa.select(table.c.session, table.c.ticker).where(
            table.c.experiment == experiment, table.c.epoch == epoch, table.c.status != "pending"
        )
        with transaction(self._engine) as connection:
            return {(pd.Timestamp(session), ticker) for session, ticker in connection.execute(query)}

    # --- direct (paired) predictions -----------------------------------------------------------------------------

    def begin_direct(
        self, arms: Sequence[Arm], session: pd.Timestamp, target: pd.Timestamp, tickers: Sequence[str]
    ) -> tuple[DirectIntent, ...]:
        """Commit the intents of scoring every arm on the same bars of one session; see :meth:`begin_routed`."""
        day, target_day = _check_session(session, target, tickers)
        _refuse_repeats("model", [arm.model for arm in arms])
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
        models = [arm.model for arm in arms]
        found = self._begin(
            table, rows, (table.c.session == day, table.c.model.in_(models), table.c.ticker.in_(tickers))
        )
        return tuple(DirectIntent(r.id, pd.Timestamp(r.session), r.ticker, r.model, r.attempts) for r in found)

    def complete_direct(self, results: Sequence[Result]) -> int:
        """Commit how direct scorings ended; see :meth:`complete_routed`."""
        table = schema.direct
        with transaction(self._engine, write=True) as connection:
            found = _pending(connection, table, results)
            rows = [
                {**_answer(result), "status": result.failure or "ok"}
                for result in results
                if found[result.id].status == "pending"
            ]
            return _complete(connection, table, rows)

    def completed_direct(self, models: Iterable[str]) -> set[tuple[pd.Timestamp, str, str]]:
        """The (session, ticker, model) triples that have a result."""
        table = schema.direct
        query = sa.select(table.c.session, table.c.ticker, table.c.model).where(
            table.c.model.in_(list(models)), table.c.status != "pending"
        )
        with transaction(self._engine) as connection:
            return {(pd.Timestamp(row.session), row.ticker, row.model) for row in connection.execute(query)}

    # --- reading -------------------------------------------------------------------------------------------------

    def routed(
        self, experiment: str | None = None, *, epoch: int | None = None, since: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Routed predictions as a typed frame, ordered by experiment, epoch, session and ticker.

        Parameters
        ----------
        experiment, epoch
            Only these.
        since
            Only sessions from this one on.
        """
        table = schema.routed
        where = [] if experiment is None else [table.c.experiment == experiment]
        where += [] if epoch is None else [table.c.epoch == epoch]
        where += [] if since is None else [table.c.session >= since.date()]
        with transaction(self._engine) as connection:
            return read_frame(connection, table, where, ("experiment", "epoch", "session", "ticker"))

    def direct(self, models: Iterable[str] | None = None, *, since: pd.Timestamp | None = None) -> pd.DataFrame:
        """Direct predictions as a typed frame, ordered by session, ticker and model."""
        table = schema.direct
        where = [] if models is None else [table.c.model.in_(list(models))]
        where += [] if since is None else [table.c.session >= since.date()]
        with transaction(self._engine) as connection:
            return read_frame(connection, table, where, ("session", "ticker", "model"))

    # --- inside --------------------------------------------------------------------------------------------------

    def _begin(
        self, table: sa.Table, rows: list[dict[str, Any]], where: tuple[sa.ColumnElement[bool], ...]
    ) -> Sequence[sa.Row[Any]]:
        if not rows:
            return ()
        now = _now()
        new = [{**row, "status": "pending", "attempts": 0, "intended_at": now, "sent_at": now} for row in rows]
        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        pending = sa.and_(*where, table.c.status == "pending")
        with transaction(self._engine, write=True) as connection:
            connection.execute(dialect.insert(table).on_conflict_do_nothing(), new)
            connection.execute(sa.update(table).where(pending).values(attempts=table.c.attempts + 1, sent_at=now))
            return connection.execute(sa.select(table).where(pending).order_by(table.c.id)).all()

    def _known_epoch(self, experiment: str, number: int) -> WeightEpoch:
        key = (experiment, number)
        if key not in self._epochs:
            self._epochs |= {(epoch.experiment, epoch.number): epoch for epoch in self.epochs(experiment)}
        if key not in self._epochs:
            raise LogError(f"experiment {experiment} has no weight epoch {number}: materialize the asset `experiment`")
        return self._epochs[key]

    def _attribution(self, result: Result, row: sa.Row[Any]) -> dict[str, Any]:
        epoch = self._known_epoch(row.experiment, row.epoch)
        arm = None if result.route is None else epoch.arm(result.route)
        if arm is not None and arm.role != "shadow":
            return {
                "status": result.failure or "ok",
                "model": arm.model,
                "variant": arm.variant,
                "model_version": arm.version,
                "propensity": epoch.propensity(arm.model),
            }
        problem = {}
        if result.failure is None:
            said = "no route" if result.route is None else f"route {result.route!r}, not an arm of epoch {row.epoch}"
            problem = {"failure": "unknown_route", "error": f"the gateway's answer named {said}"}
        return {"status": "unattributed", "model": None, "variant": None, "model_version": None, "propensity": None,
                "failure": result.failure, "error": result.error, **problem}  # fmt: skip


def _now() -> datetime:
    return datetime.now(UTC)


def _latest_epoch(connection: Connection, experiment: str) -> int:
    query = sa.select(sa.func.max(schema.epochs.c.epoch)).where(schema.epochs.c.experiment == experiment)
    return int(connection.execute(query).scalar() or 0)


def _epoch(row: sa.Row[Any]) -> WeightEpoch:
    try:
        arms = tuple(arm_from_json(values) for values in row.arms)
        return WeightEpoch(row.experiment, row.epoch, pd.Timestamp(row.opened_at), arms, row.reason)
    except (TypeError, ValueError, KeyError, ExperimentError) as error:
        shown = json.dumps(row.arms)[:200]
        raise LogError(f"weight epoch {row.epoch} of {row.experiment} has unreadable arms {shown}: {error}") from error


def _refuse_repeats(what: str, values: Sequence[str]) -> None:
    if any(not value for value in values):
        raise LogError(f"a {what} without a name")
    if len(set(values)) != len(values):
        repeated = sorted({value for value in values if values.count(value) > 1})
        raise LogError(f"{what} named more than once: {', '.join(repeated)}")


def _check_session(session: pd.Timestamp, target: pd.Timestamp, tickers: Sequence[str]) -> tuple[date, date]:
    for value in (session, target):
        if pd.isna(value) or value.tz is not None or value != value.normalize():
            raise LogError(f"{value!r} is not a tz-naive session date")
    if target <= session:
        raise LogError(f"target session {target.date()} is not after session {session.date()}")
    _refuse_repeats("ticker", tickers)
    return session.date(), target.date()


def _answer(result: Result) -> dict[str, Any]:
    forecast = result.forecast
    quantiles = (None,) * 5 if forecast is None else map(float, forecast.quantiles)
    return {
        "row_id": result.id,
        "failure": result.failure,
        "error": result.error,
        "probability_up": None if forecast is None else float(forecast.probability_up),
        **dict(zip(schema.QUANTILE_COLUMNS, quantiles, strict=True)),
        "latency_s": None if result.latency_s is None else float(result.latency_s),
        "extra_attempts": result.extra_attempts,
        "completed_at": _now(),
    }


def _pending(
    connection: Connection, table: sa.Table, results: Sequence[Result], *columns: sa.Column[Any]
) -> dict[int, sa.Row[Any]]:
    ids = [result.id for result in results]
    if len(set(ids)) != len(ids):
        raise LogError("an intent is completed more than once in one call")
    query = sa.select(table.c.id, table.c.status, *columns).where(table.c.id.in_(ids)).with_for_update()
    found = {row.id: row for row in connection.execute(query)}
    unknown = sorted(set(ids) - set(found))
    if unknown:
        raise LogError(f"no intent with id {', '.join(map(str, unknown[:5]))} in {table.name}: begin it first")
    return found


def _complete(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> int:
    if rows:
        values = {name: sa.bindparam(name) for name in rows[0] if name not in ("row_id", "extra_attempts")}
        update = (
            sa.update(table)
            .where(table.c.id == sa.bindparam("row_id"), table.c.status == "pending")
            .values(**values, attempts=table.c.attempts + sa.bindparam("extra_attempts"))
        )
        connection.execute(update, rows)
    return len(rows)
