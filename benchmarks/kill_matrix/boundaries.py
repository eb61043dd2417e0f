"""Where a run can be broken off: the boundaries that its process passes, seen from outside of the product.

``watch`` wraps, in this process only, what every lasting change goes through: the commit of SQLAlchemy's dialects,
``os.replace`` and ``os.rename``, the opening of a file for writing, and the sending of a request by httpx, requests and
gRPC. The product itself has no such switch.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

Kind = Literal["commit", "rename", "write", "request"]
Side = Literal["before", "after"]

_TEMPORARY = re.compile(r"^\.(?P<name>.+)\.[a-z0-9_]{8}(\.[^.]*)?$")
"""As ``atomic_path`` names its temporary files."""
VOLATILE = re.compile(
    r"[0-9a-f]{32}|(?<=m-)[0-9a-f]+|\d{8}T\d{6}Z|[0-9a-f]{8}-[0-9a-f-]{27}"
    # A temporary folder is called as what it becomes, a dot and eight characters.
    r"|(?<=[a-z0-9_]\.)[a-z0-9_]{8}(?=/)|(?<=/)[0-9a-f]{20}(?=\b)|(?<=-)[0-9a-f]{12}(?=\.(?:json|seal))"
)
"""Parts of names that change from run to run."""
_TABLE = re.compile(r"^\s*(INSERT\s+INTO|INSERT\s+OR\s+\w+\s+INTO|UPDATE|DELETE\s+FROM)\s+\"?(\w+)", re.IGNORECASE)
_READING = ("GET", "HEAD")


@dataclass(frozen=True, order=True)
class Boundary:
    """One place in a run.

    Attributes
    ----------
    kind
        What is done there.
    name
        What it is done to, without the parts that change from run to run.
    side
        Whether the process has done it.
    occurrence
        Counts what has the same kind, name and side in a run, from 1 on.
    """

    kind: Kind
    name: str
    side: Side
    occurrence: int

    def __str__(self) -> str:
        return f"{self.side} {self.kind} {self.name} #{self.occurrence}"

    @property
    def part(self) -> str:
        """What is changed there, whichever of its files, models or sessions it is: many boundaries have one part.

        Of files the uppermost folder, of a commit the database and the first table, of a request its last word.
        """
        if self.kind == "commit":
            database, _, tables = self.name.partition(": ")
            # MLflow makes its schema in half a hundred steps, each of which notes its version.
            return f"{database}: {'schema' if 'alembic_version' in tables else tables.partition(',')[0]}"
        if self.kind == "request":
            return re.split(r"[ /]", self.name)[-1] if self.name[0].isupper() else self.name.partition(" ")[0]
        return self.name.partition("/")[0]

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Boundary:
        """The boundary of such a line."""
        return cls(**json.loads(line))


Reaction = Callable[[Boundary], None]


def record(path: Path) -> Reaction:
    """Write every boundary to a file, a line each."""

    def note(boundary: Boundary) -> None:
        line = f"{boundary.to_json()}\n".encode()
        os.write(descriptor, line)

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return note


def kill_at(point: Boundary) -> Reaction:
    """End the process as a power cut would, at one boundary."""

    def strike(boundary: Boundary) -> None:
        if boundary == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return strike


def touch_at(point: Boundary, path: Path) -> Reaction:
    """Make a file at one boundary, and go on."""

    def touch(boundary: Boundary) -> None:
        if boundary == point:
            path.touch()

    return touch


def disk_full_from(point: Boundary) -> Reaction:
    """From one boundary on, nothing can be written any more: every file and every commit is refused."""
    is_full = threading.Event()

    def refuse(boundary: Boundary) -> None:
        if boundary == point:
            is_full.set()
        if not is_full.is_set() or boundary.side != "before":
            return
        if boundary.kind == "commit":
            raise sqlite3.OperationalError("database or disk is full")
        if boundary.kind == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return refuse


class _Watch:
    def __init__(self, home: Path, react: Reaction) -> None:
        self._home = home
        self._react = react
        self._counts = Counter[tuple[str, str, str]]()
        self._counting = threading.Lock()
        self._tables = dict[int, list[str]]()
        self._inside = threading.local()

    def pass_by(self, kind: Kind, name: str, side: Side) -> None:
        if getattr(self._inside, "busy", False):
            return
        with self._counting:
            self._counts[kind, name, side] += 1
            boundary = Boundary(kind, name, side, self._counts[kind, name, side])
        self._inside.busy = True
        try:
            self._react(boundary)
        finally:
            self._inside.busy = False

    def wrap(self, owner: Any, method: str, kind: Kind, name_of: Callable[..., str | None]) -> None:
        """Let a function pass a boundary before and after it; not where ``name_of`` its arguments is ``None``."""
        function = getattr(owner, method)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            name = name_of(*arguments, **options)
            if name is None:
                return function(*arguments, **options)
            self.pass_by(kind, name, "before")
            result = function(*arguments, **options)
            self.pass_by(kind, name, "after")
            return result

        setattr(owner, method, wrapped)

    def name_of_file(self, path: Any) -> str | None:
        """Relative to the state folder; ``None`` outside of it."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        absolute = Path(os.path.abspath(os.fsdecode(path)))
        if not absolute.is_relative_to(self._home):
            return None
        relative = absolute.relative_to(self._home)
        temporary = _TEMPORARY.match(relative.name)
        if temporary is not None:
            relative = relative.with_name(temporary["name"])
        return VOLATILE.sub("*", relative.as_posix())

    def note_statement(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        """SQLAlchemy's ``before_cursor_execute``: which tables the transaction has written."""
        found = _TABLE.match(statement)
        if found is not None:
            tables = self._tables.setdefault(id(connection.connection.dbapi_connection), [])
            tables.append(found[2])

    def name_of_commit(self, _dialect: Any, connection: Any) -> str | None:
        """The database and what was written to it; ``None`` where nothing was, or elsewhere."""
        driver = getattr(connection, "dbapi_connection", connection)
        tables = self._tables.pop(id(driver), [])
        if not tables:
            return None
        if not isinstance(driver, sqlite3.Connection):
            return f"database: {', '.join(dict.fromkeys(tables))}"
        path = driver.execute("PRAGMA database_list").fetchone()[2]
        database = self.name_of_file(path)
        return None if database is None else f"{database}: {', '.join(dict.fromkeys(tables))}"


def watch(home: Path, react: Reaction) -> None:
    """Call ``react`` at every boundary that this process crosses in the state folder ``home``; it cannot be undone.

    Parameters
    ----------
    home
        Files and databases elsewhere are not looked at.
    react
        Called in the thread that passes the boundary; what it raises is raised there.
    """
    import grpc._channel
    import httpx
    import requests
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.default import DefaultDialect

    seen = _Watch(Path(os.path.abspath(home)), react)
    for function in ("rename", "replace"):
        seen.wrap(os, function, "rename", lambda _source, target, **_: seen.name_of_file(target))
    event.listen(Engine, "before_cursor_execute", seen.note_statement)
    seen.wrap(DefaultDialect, "do_commit", "commit", seen.name_of_commit)
    seen.wrap(httpx.Client, "send", "request", lambda _client, request, **_: _request(request.method, str(request.url)))
    seen.wrap(requests.Session, "send", "request", lambda _session, request, **_: _request(request.method, request.url))
    seen.wrap(
        grpc._channel._UnaryUnaryMultiCallable,  # pyright: ignore[reportPrivateUsage] # gRPC has no public seam here
        "with_call",
        "request",
        lambda _call, _message, *, metadata=(), **_: f"infer {dict(metadata).get('seldon-model', '')}",
    )

    def audit(event_name: str, arguments: tuple[Any, ...]) -> None:
        if event_name != "open":
            return
        path, _mode, flags = arguments
        if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR):
            return
        name = seen.name_of_file(path)
        if name is not None and not name.endswith(".lock"):
            seen.pass_by("write", name, "before")

    sys.addaudithook(audit)


def _request(method: str, url: str) -> str | None:
    """Reading requests change nothing and are repeated until something has happened: they are no boundaries."""
    return None if method in _READING else f"{method} {VOLATILE.sub('*', urlsplit(url).path)}"
