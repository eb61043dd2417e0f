"""A connection to an MLflow store: lazy import, safe first initialisation, errors that name the setting."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from financial_assets.atomic import atomic_path
from financial_assets.disk import database_remedy
from financial_assets.drivers import with_driver
from financial_assets.errors import TrackingError
from financial_assets.locking import exclusive
from financial_assets.redaction import RedactingFilter, conceal, harmless, reveal

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Read by MLflow on each request (retries, timeouts) or at import (telemetry); what the user has set wins.
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.5",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_LOCK_TIMEOUT_S = 120.0
_BUSY_S = 30.0
"""How long opening a SQLite store is tried while its file is busy."""
_PAUSE_S = 0.1  # SQLite refuses at once, without waiting, where two processes would wait for each other
_clients: dict[str, tuple[MlflowClient, tuple[int, int] | None]] = {}
_clients_lock = threading.Lock()


class Connection:
    """Access to one MLflow tracking store and registry.

    Nothing is opened before ``client`` is first asked for. One client is shared by all connections of a process to the
    same URI.

    Parameters
    ----------
    uri
        An MLflow tracking URI: ``sqlite:///<path>``, another database URI, or ``http(s)://`` of a tracking server. One
        whose password was concealed is revealed.

    Attributes
    ----------
    shown
        The URI without its password.
    """

    def __init__(self, uri: str) -> None:
        if not uri.strip():
            raise TrackingError("MLFLOW_TRACKING_URI is empty: give sqlite:///<path> or http(s)://<server>")
        try:
            self.uri = uri = with_driver(reveal(uri))
        except ValueError as error:
            raise TrackingError(f"MLFLOW_TRACKING_URI={uri} {error}") from None
        self.shown = conceal(uri)
        self.is_sqlite = uri.startswith("sqlite:")
        self.is_server = uri.startswith(("http://", "https://"))
        self._database = _sqlite_path(uri) if self.is_sqlite else None

    @property
    def exists(self) -> bool:
        """Whether there may be anything in the store: ``False`` only for a local database that nobody has made yet."""
        return self._database is None or self._database.exists()

    @property
    def client(self) -> MlflowClient:
        """The MLflow client; the store behind it exists and has the current schema."""
        # Asked without the lock first: who holds a store's file lock must not wait here for one who waits for that.
        if self.uri not in _clients:
            with _clients_lock:
                self._open()
        client, opened = _clients[self.uri]
        if _identity(self._database) != opened:
            # SQLite would go on writing to the deleted file, and everything written would be lost.
            raise TrackingError(f"{self._database} (MLFLOW_TRACKING_URI) was deleted or replaced: restart this process")
        return client

    def _open(self) -> None:
        if self.uri in _clients:
            return
        with self.errors("open the store"), self.exclusive():
            _quieten()
            if self._database is not None and not self._database.exists():
                _create(self._database)
            client = _connect_in_turn(self.uri)
            _clients[self.uri] = client, _identity(self._database)

    @contextmanager
    def errors(self, doing: str) -> Generator[None, None, None]:
        """Turn what MLflow, its database or the network raise into a ``TrackingError`` naming the setting.

        Parameters
        ----------
        doing
            What the block does, as an infinitive: "log metrics to run 7".
        """
        for name, value in _MLFLOW_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError) as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            if self._is_unreachable(error):  # the connection pool names the cause in its last words only
                cause = re.search(r"\[Errno -?\d+\] [^'\")]+", reason)
                reason = f"no connection ({cause[0]})" if cause else "no connection"
            message = f"cannot {doing} (MLFLOW_TRACKING_URI={self.shown}): {reason}{self._advice(error)}"
            # The cause may repeat the URI, and tracebacks end up in logs.
            raise TrackingError(message) from harmless(error)

    @contextmanager
    def exclusive(self) -> Generator[None, None, None]:
        """Keep other processes out of the block, when the store is a local sqlite file.

        MLflow creates the schema, and looks names up before inserting them, without holding a lock: two processes that
        start together would collide. A server or a database server does its own locking; there this does nothing.
        """
        if self._database is None:
            yield
            return
        lock, purpose = self._database.with_name(f"{self._database.name}.lock"), "opening the store"
        with exclusive(lock, _LOCK_TIMEOUT_S, error=TrackingError, purpose=purpose, remedy="end who has it"):
            yield

    def _advice(self, error: Exception) -> str:
        if self._database is not None:
            remedy = database_remedy(self._database, str(error))
            return f"; {remedy}" if remedy else ""
        hint = "; is the server running there? Start it, or set MLFLOW_TRACKING_URI"
        return hint if self._is_unreachable(error) else ""

    def _is_unreachable(self, error: Exception) -> bool:
        return self.is_server and "Max retries exceeded" in str(error)


@contextmanager
def ignoring(code: str) -> Generator[None, None, None]:
    """Leave the block without an error where MLflow refuses with ``code``, e.g. ``RESOURCE_ALREADY_EXISTS``."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != code:
            raise


def _quieten() -> None:
    import mlflow  # noqa: F401  (its import sets the levels that are set here)  # pyright: ignore[reportUnusedImport]

    for name in ("mlflow", "alembic"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        for handler in logger.handlers:
            if not any(isinstance(present, RedactingFilter) for present in handler.filters):
                handler.addFilter(RedactingFilter())


def _connect_in_turn(uri: str) -> MlflowClient:
    """Connect; while other processes write into a SQLite file one after the other, a reader may miss its turn."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            return _connect(uri)
        except (MlflowException, OperationalError) as error:  # SQLite has waited for some seconds already
            if "database is locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)


def _connect(uri: str) -> MlflowClient:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    # Opening is lazy for some stores; a first question makes an unreachable one fail here.
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    return client


def _create(database: Path) -> None:
    """Make a store beside its place and move it there when complete.

    MLflow's migrations are not transactional on sqlite: a process that dies in the first second of its first run would
    leave a schema that no later one can complete.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left_over in database.parent.glob(f".{database.name}.*"):
        left_over.unlink()
    with atomic_path(database) as unfinished:
        store = SqlAlchemyStore(f"sqlite:///{unfinished}", str(database.parent))
        store.engine.dispose()


def _sqlite_path(uri: str) -> Path:
    path = uri.removeprefix("sqlite://").removeprefix("/").split("?")[0]
    if not path or path == ":memory:":
        raise TrackingError(
            f"MLFLOW_TRACKING_URI={uri} is an in-memory database, lost with the process: give sqlite:///<path>"
        )
    return Path(path)


def _identity(database: Path | None) -> tuple[int, int] | None:
    """Which file a path leads to, by device and inode; ``None`` when to none."""
    try:
        status = database.stat() if database is not None else None
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino) if status is not None else None
