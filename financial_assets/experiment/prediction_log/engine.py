"""Opening the prediction log's database: dialects, pragmas, schema version."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine

from financial_assets.disk import database_remedy, disk_errors
from financial_assets.drivers import connect_timeout, with_driver
from financial_assets.errors import LogError
from financial_assets.experiment.prediction_log import schema
from financial_assets.folders import make_folder
from financial_assets.redaction import conceal, harmless, reveal

_T = TypeVar("_T")
_AWAY_S = 120.0
"""A server that moves to another machine, or recovers from a crash, is away for a minute or more."""
_TRY_AGAIN_S = 0.25
ADVISORY_LOCK = 0x66617064
"""An arbitrary constant that keeps our advisory locks in PostgreSQL apart from those of other applications."""


def open_engine(url: str, busy_timeout_s: float) -> Engine:
    """An engine for ``url`` whose tables exist and have this version's schema.

    Raises
    ------
    LogError
        If the URL is malformed or of an unsupported kind, the database is unreachable or not a database, or its schema
        is of another version.
    """
    parsed = _parse(reveal(url))
    shown = _shown(parsed)
    try:
        engine = _sqlite(parsed, busy_timeout_s) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
    except (exc.ArgumentError, ImportError, OSError, TypeError) as error:
        raise LogError(f"prediction log {shown} cannot be opened: {error}. Set PREDICTION_LOG_URL.") from harmless(
            error
        )
    try:
        _prepare(engine, shown)
    except exc.SQLAlchemyError as error:
        engine.dispose()
        raise LogError(
            f"prediction log {shown} cannot be used: {_cause(error)}{_advice(parsed, error)}. Set PREDICTION_LOG_URL "
            "to a prediction log, or to a new SQLite file."
        ) from harmless(error)
    except LogError:
        engine.dispose()
        raise
    return engine


@contextmanager
def transaction(engine: Engine, *, write: bool = False) -> Generator[Connection]:
    """One transaction; a writing one takes SQLite's write lock at its start, so that writers queue and never deadlock.

    Raises
    ------
    LogError
        If the database refuses.
    """
    try:
        with engine.connect().execution_options(log_write=write) as connection, connection.begin():
            try:
                yield connection
            except (KeyboardInterrupt, SystemExit) as interrupt:
                # Interrupted within the driver, SQLAlchemy closes the connection; but SQLite keeps its lock as long as
                # there is a statement, which the frames of the traceback still hold. What was answered could then not
                # be written any more.
                traceback.clear_frames(interrupt.__traceback__)
                raise
    except exc.SQLAlchemyError as error:
        message = f"prediction log {_shown(engine.url)}: {_cause(error)}{_advice(engine.url, error)}"
        raise LogError(message) from harmless(error)


def write_again(engine: Engine, write: Callable[[Connection], _T]) -> _T:
    """Run ``write`` in a writing transaction, repeatedly while a database server is away, for at most two minutes.

    A server that restarts or ends a connection costs a wait, not the answers that are about to be written. It may have
    committed and died before it confirmed that, so ``write`` must be idempotent.

    Raises
    ------
    LogError
        If the database refuses, or stays away.
    """
    deadline = time.monotonic() + _AWAY_S
    while True:
        try:
            with transaction(engine, write=True) as connection:
                return write(connection)
        except LogError as error:
            if not _is_away(error) or time.monotonic() > deadline:
                raise
            time.sleep(_TRY_AGAIN_S)


def _is_away(error: LogError) -> bool:
    """Whether the server, not the statement, was the cause: by SQLAlchemy, or by the error of a starting server."""
    cause = error.__cause__
    if not isinstance(cause, exc.DBAPIError):
        return False
    if cause.connection_invalidated:
        return True
    if not isinstance(cause, exc.OperationalError) or "sqlite" in type(cause.orig).__module__:
        return False
    state = getattr(cause.orig, "sqlstate", None) or getattr(cause.orig, "pgcode", None)
    return state is None or state.startswith(("57P", "08"))  # no connection, shutdown, starting


def _parse(url: str) -> URL:
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        raise LogError(
            "PREDICTION_LOG_URL is not a database URL such as sqlite:////folder/predictions.db or "
            "postgresql://user:password@host/database"
        ) from None
    backend = parsed.drivername.partition("+")[0]
    if backend not in ("sqlite", "postgresql"):
        raise LogError(f"PREDICTION_LOG_URL names the database kind {backend!r}; allowed: sqlite, postgresql")
    try:
        parsed = sa.make_url(with_driver(url))
    except ValueError as error:
        raise LogError(f"PREDICTION_LOG_URL={url} {error}") from None
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise LogError("PREDICTION_LOG_URL must name a file: an SQLite log in memory would not survive a crash")
    return parsed


def _sqlite(url: URL, busy_timeout_s: float) -> Engine:
    path = Path(str(url.database))
    with disk_errors(path, "opened"):
        make_folder(path.parent)
    engine = sa.create_engine(url, connect_args={"timeout": busy_timeout_s, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # the driver must not open transactions of its own: see on_begin
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # an intent must survive a power cut before the request is sent
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        write = connection.get_execution_options().get("log_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    arguments = connect_timeout(url.drivername, 10)
    if url.get_driver_name() in ("psycopg2", "psycopg"):
        # A server or network that vanished without closing connections is noticed in half a minute, not in two hours.
        arguments |= {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}
        arguments |= {"tcp_user_timeout": 30_000}
    return sa.create_engine(url, pool_pre_ping=True, connect_args=arguments)


def _shown(url: URL) -> str:
    return conceal(url.render_as_string(hide_password=False))


def _prepare(engine: Engine, shown: str) -> None:
    # First without the write lock: most openings find a log that is up to date, and must not wait for a writer.
    with engine.connect() as reader, reader.begin():
        version = _version(reader)
    if version is None or version in schema.UPGRADABLE:
        with engine.connect().execution_options(log_write=True) as writer, writer.begin():
            if engine.dialect.name == "postgresql":
                writer.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            version = _version(writer)  # once more: another process may have prepared the log meanwhile
            if version is None:
                _refuse_foreign_tables(writer, shown)
            if version is None or version in schema.UPGRADABLE:
                schema.metadata.create_all(writer)
                _add_columns(writer)
                writer.execute(sa.insert(schema.version).values(version=schema.SCHEMA_VERSION))
                version = schema.SCHEMA_VERSION
    if version != schema.SCHEMA_VERSION:
        raise LogError(
            f"prediction log {shown} has schema version {version}; this release reads version {schema.SCHEMA_VERSION}. "
            "Set PREDICTION_LOG_URL to a new database, or use the release that wrote it."
        )


def _add_columns(connection: Connection) -> None:
    """Add the columns that tables of an earlier version lack."""
    for table in schema.metadata.sorted_tables:
        present = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in present:
                kind = column.type.compile(connection.dialect)
                connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))


def _version(connection: Connection) -> int | None:
    """The schema version; ``None`` for a database without one, -1 for a version table without a row."""
    if not sa.inspect(connection).has_table(schema.version.name):
        return None
    version = connection.execute(sa.select(sa.func.max(schema.version.c.version))).scalar()
    return -1 if version is None else int(version)


def _refuse_foreign_tables(connection: Connection, shown: str) -> None:
    present = set(sa.inspect(connection).get_table_names()) & set(schema.metadata.tables)
    if present:
        raise LogError(
            f"prediction log {shown} holds tables {', '.join(sorted(present))} but no schema version: not written by "
            "this package. Set PREDICTION_LOG_URL to another database."
        )


def _cause(error: exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip()


def _advice(url: URL, error: exc.SQLAlchemyError) -> str:
    """What fixes the fault that SQLite reports; empty for other faults and databases."""
    fix = database_remedy(Path(str(url.database)), _cause(error)) if url.get_backend_name() == "sqlite" else ""
    return f"; {fix}" if fix else ""
