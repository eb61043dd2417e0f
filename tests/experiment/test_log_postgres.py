"""The prediction log on a real PostgreSQL server, started for these tests and ended by its own data folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from experiment_doubles import CHALLENGER, CHAMPION, CUTOFF, LOOKBACK, FakeGateway, arms, panel

from financial_assets.errors import LogError
from financial_assets.experiment import log_schema
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.records import Forecast, Result
from financial_assets.experiment.replay import replay

pytestmark = [pytest.mark.debian("postgresql"), pytest.mark.integration]

FORECAST = Forecast(0.6, (-0.03, -0.02, 0.0, 0.02, 0.03))
DAY, NEXT = pd.Timestamp("2010-02-01"), pd.Timestamp("2010-02-02")


def binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(str(shutil.which("initdb"))).parent]
    return found[-1]


def command(*words: str) -> list[str]:
    """PostgreSQL refuses to run as root: then as its own user."""
    return ["runuser", "-u", "postgres", "--", *words] if os.geteuid() == 0 else list(words)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="financial-assets-pg-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
    data = str(home / "data")
    try:
        initdb = command(str(binaries() / "initdb"), "-D", data, "-U", "tester", "--auth=trust", "-E", "UTF8", "-N")
        subprocess.run(initdb, check=True, capture_output=True, cwd=home)
        options = f"-p {port} -k {home} -h 127.0.0.1 -F"
        control = command(str(binaries() / "pg_ctl"), "-D", data, "-w", "-l", str(home / "log"))
        subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd=home)
        try:
            yield f"postgresql+psycopg2://tester@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def log(server: str) -> Iterator[PredictionLog]:
    with PredictionLog(server) as opened:
        yield opened


def test_concurrent_creation_makes_one_log(server: str) -> None:
    errors: list[Exception] = []

    def create() -> None:
        try:
            PredictionLog(server).close()
        except LogError as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_replay_is_logged_read_back_and_not_repeated(log: PredictionLog) -> None:
    prices, gateway = panel(sessions=30, tickers=3), FakeGateway()
    epoch = log.open_epoch("ab-experiment", arms(), "start", after=0)
    assert log.epochs("ab-experiment") == (epoch,)
    sessions = prices.sessions[prices.sessions > CUTOFF][:4]
    options = {"log": log, "epoch": epoch, "panel": prices, "sessions": sessions, "lookback": LOOKBACK}
    report = replay(connect=gateway.connect, progress=False, **options)  # type: ignore[arg-type]
    assert (report.ok, report.direct) == (12, 36)
    rows = log.routed("ab-experiment")
    assert rows["session"].dtype == "datetime64[ns]"
    assert str(rows["completed_at"].dtype) == "datetime64[ns, UTC]"
    assert rows["status"].eq("ok").all()
    assert sorted(gateway.requests) == sorted(rows["request_id"])
    assert replay(connect=FakeGateway().connect, progress=False, **options).worked == 0  # type: ignore[arg-type]


def test_intents_and_results_keep_their_laws(log: PredictionLog) -> None:
    epoch = log.open_epoch("laws", arms(), "start", after=0)
    first, second = log.begin_routed(epoch, DAY, NEXT, ["AAPL", "MSFT"])
    assert log.complete_routed([Result(first.id, FORECAST, route=CHALLENGER)]) == 1
    assert log.complete_routed([Result(first.id, None, "timeout"), Result(second.id, None, "timeout")]) == 1
    assert log.begin_routed(epoch, DAY, NEXT, ["AAPL", "MSFT"]) == ()
    rows = log.routed("laws").set_index("ticker")
    assert list(rows["model"]) == [CHALLENGER, None]
    assert list(rows["status"]) == ["ok", "unattributed"]
    with pytest.raises(LogError, match="at weight epoch 1, not 0"):
        log.open_epoch("laws", arms(), "again", after=0)


def test_concurrent_writers_lose_and_double_nothing(log: PredictionLog, server: str) -> None:
    epoch = log.open_epoch("concurrent", arms(), "start", after=0)
    days, counted = pd.bdate_range("2010-02-01", periods=8), []

    def work() -> None:
        with PredictionLog(server) as own:
            done = 0
            for day in days:
                intents = own.begin_routed(epoch, day, day + pd.Timedelta(days=1), ["A", "B", "C"])
                done += own.complete_routed([Result(intent.id, FORECAST, route=CHAMPION) for intent in intents])
            counted.append(done)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = log.routed("concurrent")
    assert len(rows) == sum(counted) == 24
    assert rows["status"].eq("ok").all()


def test_only_one_replay_at_a_time(log: PredictionLog, server: str) -> None:
    with PredictionLog(server) as other:
        with log.exclusive("ab"), other.exclusive("else"), pytest.raises(LogError, match="another replay of ab"):
            other.exclusive("ab").__enter__()
        with other.exclusive("ab"):
            pass


def test_a_log_of_an_earlier_version_gets_the_new_columns(server: str) -> None:
    with sa.create_engine(server, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text("CREATE DATABASE earlier"))
    url = server.removesuffix("postgres") + "earlier"
    with PredictionLog(url) as log:
        epoch = log.open_epoch("old-experiment", arms(), "start", after=0)
        (intent,) = log.begin_routed(epoch, DAY, NEXT, ["T00"])
        log.complete_routed([Result(intent.id, FORECAST, route=CHAMPION, latency_s=0.002)])
        before = log.routed()
        with log.engine.begin() as connection:
            for column in log_schema.ADDED_COLUMNS:
                connection.execute(sa.text(f"ALTER TABLE {column.table.name} DROP COLUMN {column.name}"))
            connection.execute(sa.text("UPDATE prediction_log_version SET version = 2"))
    regimes = {"high": {CHAMPION: 20, CHALLENGER: 80}}
    with PredictionLog(url) as log:
        pd.testing.assert_frame_equal(log.routed(), before)
        assert log.epochs() == (epoch,)
        later = log.open_epoch("old-experiment", arms(), "by regime", after=1, regimes=regimes)
        (intent,) = log.begin_routed(later, NEXT, pd.Timestamp("2010-02-03"), ["T00"], {"T00": "high"})
        assert intent.regime == "high"
    with PredictionLog(url) as log:
        assert log.epochs()[-1].regimes == regimes
