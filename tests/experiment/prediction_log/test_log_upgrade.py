"""Logs of earlier versions: opened by one process, by several at once, and by one that dies half-way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from financial_assets.errors import LogError
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Result
from tests.experiment.builders import CHAMPION, arms
from tests.experiment.prediction_log.earlier_log import (
    ADDED,
    DAY,
    DIES,
    FORECAST,
    NEXT,
    WHOLE,
    as_of_version_4,
    columns_of,
    use,
)


@pytest.fixture
def earlier(log_url: str) -> pd.DataFrame:
    """The rows of a log of version 4, which lies at ``log_url``."""
    with PredictionLog(log_url) as log:
        epoch = log.open_epoch("old-experiment", arms(), "start", after=0)
        done, _ = log.begin_routed(epoch, DAY, NEXT, ["T00", "T01"])
        log.complete_routed([Result(done.id, FORECAST, route=CHAMPION, latency_s=0.002)])
        rows = log.routed()
        as_of_version_4(log.engine)
    return rows


def test_a_log_of_the_version_before_gets_the_new_columns(log_url: str, earlier: pd.DataFrame) -> None:
    with PredictionLog(log_url) as log:
        use(log, earlier)
    with PredictionLog(log_url) as log:  # and once more, now that it is up to date
        assert len(log.routed()) == len(earlier) + 1


def test_what_was_pending_is_completed_with_all_heads_after_the_upgrade(log_url: str, earlier: pd.DataFrame) -> None:
    with PredictionLog(log_url) as log:
        (epoch,) = log.epochs()
        (left,) = log.begin_routed(epoch, DAY, NEXT, ["T00", "T01"])
        assert (left.ticker, left.attempts) == ("T01", 2)
        assert log.complete_routed([Result(left.id, WHOLE, route=CHAMPION)]) == 1
        assert log.routed().set_index("ticker")["excess_return"].to_dict() == pytest.approx(
            {"T00": float("nan"), "T01": 0.25}, nan_ok=True
        )


def test_processes_may_upgrade_it_at_the_same_time(log_url: str, earlier: pd.DataFrame) -> None:
    code = (
        f"from financial_assets.experiment.prediction_log.log import PredictionLog; PredictionLog({log_url!r}).close()"
    )
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    with PredictionLog(log_url) as log:
        use(log, earlier)
        with log.engine.connect() as connection:
            versions = connection.execute(sa.select(schema.version.c.version)).scalars().all()
        assert sorted(versions) == [4, schema.SCHEMA_VERSION]


@pytest.mark.parametrize("after", [1, len(ADDED), len(ADDED) + 1, 2 * len(ADDED), 2 * len(ADDED) + 1])
def test_an_upgrade_that_dies_half_way_is_done_by_the_next(log_url: str, earlier: pd.DataFrame, after: int) -> None:
    """After the first new column, between the tables, and after the version was written but not committed."""
    child = subprocess.run([sys.executable, "-c", DIES, log_url, str(after)], timeout=60, check=False)
    assert child.returncode == 9
    bare = sa.create_engine(log_url)
    assert all(not columns & set(ADDED) for columns in columns_of(bare).values()), "all columns, or none"
    bare.dispose()
    with PredictionLog(log_url) as log:
        use(log, earlier)


def test_columns_of_an_upgrade_that_was_not_one_transaction_are_not_added_twice(
    log_url: str, earlier: pd.DataFrame
) -> None:
    """A database that commits each change of a table by itself, or an administrator, may leave a part."""
    bare = sa.create_engine(log_url)
    with bare.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE {schema.routed.name} ADD COLUMN q50_5d FLOAT"))
    bare.dispose()
    with PredictionLog(log_url) as log:
        use(log, earlier)


def test_an_earlier_log_that_cannot_be_written_is_named(log_url: str, earlier: pd.DataFrame) -> None:
    """Somebody else holds the write lock for longer than we wait: an error of ours, and the log as it was."""
    bare = sa.create_engine(log_url)
    holder = bare.raw_connection()
    try:
        holder.driver_connection.isolation_level = None  # pyright: ignore[reportOptionalMemberAccess]
        holder.cursor().execute("BEGIN IMMEDIATE")
        with pytest.raises(LogError, match="cannot be used: database is locked"):
            PredictionLog(log_url, busy_timeout_s=0.05)
        holder.cursor().execute("ROLLBACK")
    finally:
        holder.close()
        bare.dispose()
    with PredictionLog(log_url) as log:
        use(log, earlier)


def test_the_file_keeps_its_rows_when_nothing_is_read_but_the_columns(log_url: str, earlier: pd.DataFrame) -> None:
    with PredictionLog(log_url) as log:
        frame = log.routed(columns=("ticker", "q05_5d", "excess_return"))
        assert frame.dtypes.astype(str).to_dict() == {
            "ticker": "object",
            "q05_5d": "float64",
            "excess_return": "float64",
        }
        with pytest.raises(LogError, match="has no columns q05_6d"):
            log.routed(columns=("q05_6d",))
    assert Path(log_url.removeprefix("sqlite:///")).is_file()
