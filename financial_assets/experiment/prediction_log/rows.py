"""Weight epochs, intents and results in the prediction log's database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.arms import WeightEpoch, arm_from_json, arm_to_json
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.records import Result
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS


def utc_now() -> datetime:
    """The current instant."""
    return datetime.now(UTC)


def begin(
    connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]], where: Sequence[sa.ColumnElement[bool]]
) -> Sequence[sa.Row[Any]]:
    """Add the intents that are not there yet, count an attempt on every open one, and return the open ones.

    Parameters
    ----------
    connection
        In a writing transaction.
    table
        ``routed`` or ``direct``.
    rows
        Keys and fixed columns of the intents.
    where
        Conditions that hold for these intents and no others.
    """
    now = utc_now()
    # `intended_at` is kept from the first attempt, `sent_at` is that of the latest.
    new = [{**row, "status": "pending", "attempts": 0, "intended_at": now, "sent_at": now} for row in rows]
    # Whatever is there already stays as it is: an intent that was begun before keeps its id, attempts and result.
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(table).on_conflict_do_nothing(), new)
    pending = sa.and_(*where, table.c.status == "pending")
    connection.execute(sa.update(table).where(pending).values(attempts=table.c.attempts + 1, sent_at=now))
    return connection.execute(sa.select(table).where(pending).order_by(table.c.id)).all()


def statuses(
    connection: Connection, table: sa.Table, results: Sequence[Result], *columns: sa.Column[Any]
) -> dict[int, sa.Row[Any]]:
    """Id -> status and other columns of the intents that ``results`` complete, locked until the transaction ends.

    Raises
    ------
    LogError
        If an intent is unknown or named twice.
    """
    ids = [result.id for result in results]
    if len(set(ids)) != len(ids):
        raise LogError("an intent is completed more than once in one call")
    query = sa.select(table.c.id, table.c.status, *columns).where(table.c.id.in_(ids)).with_for_update()
    rows = {row.id: row for row in connection.execute(query)}
    unknown = sorted(set(ids) - set(rows))
    if unknown:
        raise LogError(f"no intent with id {', '.join(map(str, unknown[:5]))} in {table.name}: begin it first")
    return rows


def answer_values(table: sa.Table, result: Result) -> dict[str, Any]:
    """The columns that a result fills, and ``row_id`` and ``extra_attempts`` for :func:`complete`.

    A field of :class:`Result` goes to the column of its name, so a new figure needs a field there and a column in
    ``schema`` only.
    """
    forecast = result.forecast
    nothing = (None,) * len(QUANTILE_COLUMNS)
    quantiles = nothing if forecast is None else map(float, forecast.quantiles)
    further = nothing if forecast is None or forecast.quantiles_5d is None else map(float, forecast.quantiles_5d)
    score = None if forecast is None or forecast.excess_return is None else float(forecast.excess_return)
    columns = {field.name for field in fields(result)} & set(table.c.keys()) - {"id"}
    return {
        "row_id": result.id,
        "extra_attempts": result.extra_attempts,
        **{name: getattr(result, name) for name in columns},
        "probability_up": None if forecast is None else float(forecast.probability_up),
        **dict(zip(QUANTILE_COLUMNS, quantiles, strict=True)),
        **dict(zip(QUANTILE_5D_COLUMNS, further, strict=True)),
        "excess_return": score,
        "completed_at": utc_now(),
    }


def complete(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> int:
    """Write results (:func:`answer_values` and ``status``) to intents that are still open; returns how many."""
    if rows:
        columns = [name for name in rows[0] if name not in ("row_id", "extra_attempts")]
        update = (
            sa.update(table)
            .where(table.c.id == sa.bindparam("row_id"), table.c.status == "pending")
            .values(
                **{name: sa.bindparam(name) for name in columns},
                attempts=table.c.attempts + sa.bindparam("extra_attempts"),
            )
        )
        connection.execute(update, list(rows))
    return len(rows)


def refuse_repeats(what: str, names: Sequence[str]) -> None:
    """Raise ``LogError`` for empty or repeated names."""
    if any(not name for name in names):
        raise LogError(f"a {what} without a name")
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise LogError(f"{what} named more than once: {', '.join(repeated)}")


def check_session(session: pd.Timestamp, target: pd.Timestamp, tickers: Sequence[str]) -> tuple[date, date]:
    """The two sessions as dates; ``LogError`` unless they are tz-naive dates in order and the tickers are distinct."""
    for value in (session, target):
        if pd.isna(value) or value.tz is not None or value != value.normalize():
            raise LogError(f"{value!r} is not a tz-naive session date")
    if target <= session:
        raise LogError(f"target session {target.date()} is not after session {session.date()}")
    refuse_repeats("ticker", tickers)
    return session.date(), target.date()


def insert_epoch(connection: Connection, epoch: WeightEpoch) -> None:
    """Append an epoch; of two writers that both follow the same epoch, the primary key refuses the second.

    Raises
    ------
    LogError
        If it does not follow the latest one.
    """
    query = sa.select(sa.func.max(schema.epochs.c.epoch)).where(schema.epochs.c.experiment == epoch.experiment)
    latest = int(connection.execute(query).scalar() or 0)
    if epoch.number != latest + 1:
        raise LogError(
            f"experiment {epoch.experiment} is at weight epoch {latest}, not {epoch.number - 1}: another process "
            "changed it meanwhile; read it again"
        )
    connection.execute(
        sa.insert(schema.epochs).values(
            experiment=epoch.experiment,
            epoch=epoch.number,
            opened_at=epoch.opened_at.to_pydatetime(),
            arms=[arm_to_json(arm) for arm in epoch.arms],
            reason=epoch.reason,
            regimes={label: dict(weights) for label, weights in epoch.regimes.items()} or None,
        )
    )


def select_epochs(connection: Connection, experiment: str | None) -> tuple[WeightEpoch, ...]:
    """The epochs of one or of every experiment, by experiment and number.

    Raises
    ------
    LogError
        If the arms of one cannot be read.
    """
    table = schema.epochs
    query = sa.select(table).order_by(table.c.experiment, table.c.epoch)
    if experiment is not None:
        query = query.where(table.c.experiment == experiment)
    return tuple(_epoch(row) for row in connection.execute(query))


def _epoch(row: sa.Row[Any]) -> WeightEpoch:
    try:
        arms = tuple(arm_from_json(values) for values in row.arms)
        opened = pd.Timestamp(row.opened_at)
        return WeightEpoch(row.experiment, row.epoch, opened, arms, row.reason, dict(row.regimes or {}))
    except (TypeError, ValueError, KeyError, AttributeError, ExperimentError) as error:
        shown = json.dumps(row.arms)[:200]
        raise LogError(f"weight epoch {row.epoch} of {row.experiment} has unreadable arms {shown}: {error}") from error
