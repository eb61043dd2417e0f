"""Read-only access to databases: the packages that own them create what they do not find."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from financial_assets.disk import database_remedy
from financial_assets.doctor.walk import RUN, LayerError
from financial_assets.drivers import connect_timeout, with_driver
from financial_assets.redaction import conceal, harmless

_LOCK_S = 2.0


def sqlite_file(url: str) -> Path | None:
    """The file that an SQLite URL names, ``None`` for other URLs."""
    parsed = sa.make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def reading_engine(url: str) -> sa.Engine:
    """An engine for an SQLite or PostgreSQL database whose connections may only read."""
    path = sqlite_file(url)
    if path is None:
        address = with_driver(url)
        options = {"postgresql_readonly": True} if address.startswith("postgresql") else {}
        arguments = connect_timeout(address, 10)
        return sa.create_engine(address, connect_args=arguments, poolclass=sa.NullPool, execution_options=options)
    return sa.create_engine("sqlite://", creator=lambda: _connect(path.absolute()), poolclass=sa.NullPool)


def _connect(path: Path) -> sqlite3.Connection:
    # Even a reader creates the files of a write-ahead log, unless it is told that the database cannot change.
    unfinished = any(path.with_name(f"{path.name}-{kind}").exists() for kind in ("wal", "journal"))
    source = f"file:{quote(str(path))}?{'mode=ro' if unfinished else 'immutable=1'}"
    return sqlite3.connect(source, uri=True, timeout=_LOCK_S, check_same_thread=False)


def need_tables(url: str, tables: Iterable[str], setting: str) -> None:
    """Refuse a database that is absent, locked, damaged or lacks a table.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    tables
        What it must hold.
    setting
        The variable that names it.

    Raises
    ------
    LayerError
        With the fix for it.
    """
    path, shown = sqlite_file(url), conceal(url)
    if path is not None and not path.is_file():
        raise LayerError(f"{path} does not exist", f"{RUN} makes it; or set {setting}")
    try:
        engine = reading_engine(url)
    except ValueError as error:
        raise LayerError(f"{shown} {error}", f"set {setting}") from None
    try:
        absent = sorted(set(tables) - set(sa.inspect(engine).get_table_names()))
        if path is not None:
            _check_pages(engine)
    except SQLAlchemyError as error:
        detail = str(getattr(error, "orig", None) or error).strip()
        raise LayerError(f"{shown}: {detail}", _remedy(path, detail, setting)) from harmless(error)
    finally:
        engine.dispose()
    if absent and path is not None and path.stat().st_size == 0:
        detail = f"{shown} lacks the tables {', '.join(absent)}: {path} is empty, so what it held is lost"
        raise LayerError(detail, f"put {path} back from a copy; without one {RUN} begins anew; or set {setting}")
    if absent:
        raise LayerError(f"{shown} lacks the tables {', '.join(absent)}", f"set {setting} to the right database")


def _check_pages(engine: sa.Engine) -> None:
    """Raise ``DatabaseError`` if a page is damaged: a file cut short still lists its tables."""
    with engine.connect() as connection:
        answer = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if answer != "ok":
        damaged = sqlite3.DatabaseError("database disk image is malformed: " + " ".join(str(answer).split()))
        raise DatabaseError("PRAGMA quick_check", None, damaged)


def _remedy(path: Path | None, detail: str, setting: str) -> str:
    if path is None:
        return f"start the database server, or set {setting}"
    remedy = database_remedy(path, detail)
    if remedy and "put " not in remedy:
        return remedy
    quoted = shlex.quote(str(path))
    return f"put {path} back from a copy; without one what it held is lost: `mv {quoted} {quoted}.damaged`, then {RUN}"
