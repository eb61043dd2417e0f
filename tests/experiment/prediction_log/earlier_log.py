"""Logs as the version before left them, and a process that dies while it upgrades one."""

from __future__ import annotations

import pandas as pd
import sqlalchemy as sa
from pandas.testing import assert_frame_equal

from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from tests.experiment.builders import CHALLENGER, arms

DAY, NEXT = pd.Timestamp("2010-02-01"), pd.Timestamp("2010-02-02")
FORECAST = Forecast(0.6, (-0.03, -0.02, 0.0, 0.02, 0.03))
WHOLE = Forecast(0.6, FORECAST.quantiles, (-0.06, -0.04, 0.01, 0.04, 0.06), 0.25)
ADDED = (*schema.QUANTILE_5D_COLUMNS, "excess_return")
"""What version 5 added to both tables of predictions."""


def as_of_version_4(engine: sa.Engine) -> None:
    """Make a log what version 4 left behind."""
    with engine.begin() as connection:
        for table in (schema.routed, schema.direct):
            for column in ADDED:
                connection.execute(sa.text(f"ALTER TABLE {table.name} DROP COLUMN {column}"))
        for added in (schema.question_plans, schema.unasked_questions):  # by version 6
            added.drop(connection)
        connection.execute(sa.text("UPDATE prediction_log_version SET version = 4"))


def columns_of(engine: sa.Engine) -> dict[str, set[str]]:
    inspector = sa.inspect(engine)
    return {
        table.name: {column["name"] for column in inspector.get_columns(table.name)}
        for table in (schema.routed, schema.direct)
    }


def use(log: PredictionLog, before: pd.DataFrame) -> None:
    """What was there is unchanged, and both tables take all heads."""
    assert_frame_equal(log.routed(until=DAY), before)
    assert before[[*ADDED]].isna().all(axis=None)
    (epoch,) = log.epochs()
    (intent,) = log.begin_routed(epoch, NEXT, NEXT + pd.Timedelta(days=1), ["T00"])
    assert log.complete_routed([Result(intent.id, WHOLE, route=CHALLENGER)]) == 1
    (direct,) = log.begin_direct(arms()[:1], NEXT, NEXT + pd.Timedelta(days=1), ["T00"])
    assert log.complete_direct([Result(direct.id, WHOLE)]) == 1
    for rows in (log.routed(since=NEXT), log.direct()):
        assert rows[[*ADDED]].to_numpy().tolist() == [[*(WHOLE.quantiles_5d or ()), WHOLE.excess_return]]


DIES = """
import os, sys
import sqlalchemy as sa
from sqlalchemy import event
from financial_assets.experiment.prediction_log.log import PredictionLog

left = int(sys.argv[2])

@event.listens_for(sa.Engine, "after_cursor_execute")
def die(connection, cursor, statement, *_):
    global left
    left -= statement.startswith("ALTER TABLE") or "prediction_log_version" in statement and "INSERT" in statement
    if left == 0:
        os._exit(9)

PredictionLog(sys.argv[1]).close()
"""
"""Opens the log at ``argv[1]``, and dies at change number ``argv[2]`` of its tables and version."""
