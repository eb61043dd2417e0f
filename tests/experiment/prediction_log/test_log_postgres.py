"""The prediction log on a real PostgreSQL server, started for these tests and ended by its own data folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from financial_assets.errors import LockLostError, LogError
from financial_assets.experiment.prediction_log import schema as log_schema
from financial_assets.experiment.prediction_log.engine import transaction
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.prediction_log.sealed.chain import open_chain
from financial_assets.experiment.prediction_log.sealed.rows import ids_in, lines_digest, seal_rows, sealed_rows
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, FakeGateway, arms, panel, play, unit
from tests.experiment.prediction_log.earlier_log import ADDED, DIES, as_of_version_4, columns_of, use

pytestmark = [pytest.mark.debian("postgresql"), pytest.mark.integration]

FORECAST = Forecast(0.6, (-0.03, -0.02, 0.0, 0.02, 0.03))
DAY, NEXT = pd.Timestamp("2010-02-01"), pd.Timestamp("2010-02-02")


def binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(str(shutil.which("initdb"))).parent]
    return found[-1]


def run(home: Path, program: str, *words: str) -> None:
    """Run one of PostgreSQL's programs in ``home``; what it complains of is the message of the failure.

    It refuses to run as root: then it runs as its own user. The locale and the ``PG...`` variables of whoever runs the
    tests are none of its business.
    """
    owner = "postgres" if os.geteuid() == 0 else None
    groups = None if owner is None else []
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
    done = subprocess.run(
        [str(binaries() / program), *words],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        # A server that pg_ctl leaves behind would keep a pipe open for as long as it lives.
        stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
        stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.STDOUT,
        text=True,
        user=owner,
        group=owner,
        extra_groups=groups,
    )
    if done.returncode:
        log = home / "log"
        said = (done.stdout or "") + (log.read_text(errors="replace")[-2000:] if log.is_file() else "")
        room = shutil.disk_usage(home).free >> 20
        raise RuntimeError(f"{program} {' '.join(words)}: exit status {done.returncode}, {room} MiB free: {said}")


def make_cluster(home: Path, data: str) -> None:
    """Make the database's files; a machine that is short of memory or disk for a moment gets two more chances."""
    for attempt in (1, 2, 3):
        try:
            run(home, "initdb", "-D", data, "-U", "tester", "--auth=trust", "-E", "UTF8", "-N")
            return
        except RuntimeError:
            if attempt == 3:
                raise
            shutil.rmtree(data, ignore_errors=True)
            time.sleep(2 * attempt)


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL: its database, and ``pg_ctl``."""

    url: str
    control: Callable[..., None]
    options: str

    def restart(self) -> None:
        """As after a power cut."""
        self.control("-m", "immediate", "stop")
        self.control("-o", self.options, "start")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="financial-assets-pg-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
    data = str(home / "data")
    try:
        make_cluster(home, data)
        options = f"-p {port} -k {home} -h 127.0.0.1 -F"

        def control(*words: str) -> None:
            run(home, "pg_ctl", "-D", data, "-w", "-l", str(home / "log"), *words)

        control("-o", options, "start")
        try:
            yield Server(f"postgresql+psycopg2://tester@127.0.0.1:{port}/postgres", control, options)
        finally:
            control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def server(postgres: Server) -> str:
    return postgres.url


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
    report = play(log, epoch, prices, sessions, gateway.connect)
    assert (report.ok, report.direct) == (12, 36)
    rows = log.routed("ab-experiment")
    assert rows["session"].dtype == "datetime64[ns]"
    assert str(rows["completed_at"].dtype) == "datetime64[ns, UTC]"
    assert rows["status"].eq("ok").all()
    assert sorted(gateway.requests) == sorted(rows["request_id"])
    assert play(log, epoch, prices, sessions, FakeGateway().connect).worked == 0


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


@pytest.mark.parametrize("fault", ["terminate", "idle", "restart"])
def test_what_happens_to_its_connections_costs_a_replay_nothing(
    log: PredictionLog, postgres: Server, fault: str
) -> None:
    """All connections are ended, again and again, or idle ones, or the server; a second replay is tried meanwhile."""
    prices, gateway, name = panel(sessions=30, tickers=3), FakeGateway(), f"faults-{fault}"
    epoch = log.open_epoch(name, arms(), "start", after=0)
    sessions, refused = prices.sessions[prices.sessions > CUTOFF][:8], list[str]()
    one_at_a_time = threading.Lock()
    admin = sa.create_engine(postgres.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def terminate(*_: object) -> None:
        with one_at_a_time, admin.connect() as connection:
            everyone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.execute(sa.text(f"{everyone} AND backend_type = 'client backend'"))

    def disturb(session: pd.Timestamp) -> None:
        if fault == "restart" and session == sessions[3]:
            postgres.restart()
        elif fault == "idle" and session in sessions[2:4]:
            time.sleep(1.2)
        if session == sessions[4]:  # at once, and by another process, as far as the database can see
            with PredictionLog(postgres.url) as other, pytest.raises(LogError) as raised:
                play(other, epoch, prices, sessions, gateway.connect)
            refused.append(str(raised.value))

    if fault == "terminate":
        gateway.before = terminate
    if fault == "idle":
        with admin.connect() as connection:
            connection.execute(sa.text("ALTER ROLE tester SET idle_session_timeout = '1s'"))
    try:
        with PredictionLog(postgres.url) as own:
            report = play(own, epoch, prices, sessions, gateway.connect, on_session=disturb)
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text("ALTER ROLE tester RESET idle_session_timeout"))
    assert report.ok == 24
    assert "another replay of faults-" in refused[0]
    rows = log.routed(name)
    assert sorted(gateway.requests) == sorted(rows["request_id"])  # none was sent twice
    assert rows["status"].eq("ok").all()


def test_a_replay_that_another_one_took_over_ends_with_an_error_of_ours(log: PredictionLog, server: str) -> None:
    prices, first, second = panel(sessions=30, tickers=3), FakeGateway(), FakeGateway()
    epoch = log.open_epoch("taken", arms(), "start", after=0)
    sessions = prices.sessions[prices.sessions > CUTOFF][:6]

    def take(session: pd.Timestamp) -> None:
        if session == sessions[2]:
            with log.engine.begin() as connection:
                connection.execute(sa.text("UPDATE replay_locks SET generation = generation + 1, released = true"))

    with PredictionLog(server) as own, pytest.raises(LockLostError, match=r"another process has taken .*replay again"):
        play(own, epoch, prices, sessions, first.connect, on_session=take)
    play(log, epoch, prices, sessions, second.connect)
    rows = log.routed("taken")
    assert sorted(first.requests + second.requests) == sorted(rows["request_id"])
    assert len(first.requests) == 6
    assert rows["status"].eq("ok").all()


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
            for column in (log_schema.epochs.c.regimes, log_schema.routed.c.regime):
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


@pytest.fixture
def earlier(server: str, request: pytest.FixtureRequest) -> tuple[str, pd.DataFrame]:
    """A database of its own with a log of version 4: its URL, and its rows."""
    name = f"earlier_{unit(request.node.name):.12f}".replace(".", "_")
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = server.removesuffix("postgres") + name
    with PredictionLog(url) as log:
        epoch = log.open_epoch("old-experiment", arms(), "start", after=0)
        (intent,) = log.begin_routed(epoch, DAY, NEXT, ["T00"])
        log.complete_routed([Result(intent.id, FORECAST, route=CHAMPION, latency_s=0.002)])
        rows = log.routed()
        as_of_version_4(log.engine)
    return url, rows


def test_several_may_upgrade_a_log_at_the_same_time(earlier: tuple[str, pd.DataFrame]) -> None:
    url, rows = earlier
    errors: list[Exception] = []

    def upgrade() -> None:
        try:
            PredictionLog(url).close()
        except LogError as error:
            errors.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with PredictionLog(url) as log:
        use(log, rows)


@pytest.mark.parametrize("after", [1, len(ADDED) + 1, 2 * len(ADDED) + 1])
def test_an_upgrade_that_dies_half_way_is_done_by_the_next(earlier: tuple[str, pd.DataFrame], after: int) -> None:
    url, rows = earlier
    child = subprocess.run([sys.executable, "-c", DIES, url, str(after)], timeout=60, check=False)
    assert child.returncode == 9
    bare = sa.create_engine(url)
    assert all(not columns & set(ADDED) for columns in columns_of(bare).values()), "all columns, or none"
    bare.dispose()
    with PredictionLog(url) as log:
        use(log, rows)


def test_rows_are_sealed_as_sqlite_has_them_and_late_commits_are_not_missed(server: str, tmp_path: Path) -> None:
    lines: list[list[str]] = []
    for url in (server, f"sqlite:///{tmp_path / 'predictions.db'}"):
        with PredictionLog(url) as log:
            epoch = log.open_epoch("sealed", arms(), "start", after=0)
            with transaction(log.engine, write=True) as connection:
                seal_rows(open_chain(connection, lambda: None))  # of the tests before
            rows = log.begin_direct(epoch.arms, pd.Timestamp("2012-02-01"), pd.Timestamp("2012-02-02"), ["B", "A"])
            log.complete_direct([Result(row.id, FORECAST, latency_s=0.25) for row in rows])
            late = rows[2].id
            with transaction(log.engine, write=True) as connection:
                chain = open_chain(connection, lambda: None)
                # As if another process had not committed it yet: its id is smaller than that of rows which are seen.
                kept = connection.execute(sa.select(log_schema.direct).where(log_schema.direct.c.id == late)).one()
                connection.execute(sa.delete(log_schema.direct).where(log_schema.direct.c.id == late))
                seal_rows(chain)
                connection.execute(sa.insert(log_schema.direct), dict(kept._mapping))
                if connection.dialect.name == "postgresql":
                    seal_rows(chain)
            sealed = [record for record in log.sealed() if record.kind == "direct" and record.subject == "2012-02-01"]
            if url == server:
                ids = sorted(one for record in sealed for one in ids_in(record.values["ids"]))
                assert ids == sorted(row.id for row in rows)
            with transaction(log.engine) as connection:
                found = [*sealed_rows(connection, log.sealed(), "direct", [CHAMPION], ("2012-01-31", "2012-02-01"))]
            groups = {record.digest: record.values["of"].get(CHAMPION) for record in sealed}
            assert [CHAMPION in json.loads(line) for line in found] == [True, True]
            assert [one for one in groups.values() if one] == [[2, lines_digest(found)]]
            # Ids and instants differ from log to log; types and forms must not.
            lines.append([re.sub(r"^\[\d+|\d{2}:\d{2}:\d{2}\.\d+|20[2-9]\d-\d\d-\d\d", "", line) for line in found])
    assert lines[0] == lines[1]
