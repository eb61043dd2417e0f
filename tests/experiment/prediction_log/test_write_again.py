"""A database that is away: how long a write waits for it, and what it does not wait for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from financial_assets.errors import LogError
from financial_assets.experiment.prediction_log import engine as log_engine


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have passed; waiting takes none."""
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(log_engine, "time", SimpleNamespace(monotonic=lambda: passed[0], sleep=sleep))
    return passed


def gone() -> exc.OperationalError:
    return exc.OperationalError("INSERT", None, Exception("server closed the connection"), connection_invalidated=True)


@pytest.mark.parametrize(("away_s", "is_written"), [(0, True), (60, True), (600, False)])
def test_a_database_that_is_away_for_a_minute_costs_a_wait_and_no_answer(
    instant: list[float], away_s: float, is_written: bool
) -> None:
    tries = 0

    def write(_: Connection) -> str:
        nonlocal tries
        tries += 1
        if instant[0] < away_s:
            raise gone()
        return "written"

    database = sa.create_engine("sqlite://")
    if is_written:
        assert log_engine.write_again(database, write) == "written"
        assert away_s <= instant[0] < away_s + 1
    else:
        with pytest.raises(LogError):
            log_engine.write_again(database, write)
        assert 60 < instant[0] < away_s
    assert tries > (away_s > 0)


def test_a_statement_that_is_refused_is_not_tried_again(instant: list[float]) -> None:
    def write(_: Connection) -> None:
        raise exc.IntegrityError("INSERT", None, Exception("not unique"))

    with pytest.raises(LogError):
        log_engine.write_again(sa.create_engine("sqlite://"), write)
    assert instant == [0.0]
