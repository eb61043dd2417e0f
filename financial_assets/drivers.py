"""Which driver speaks to the database that an address names.

SQLAlchemy's default for ``postgresql://`` is one driver of several, and changes with its version; what is installed is
another matter. Here the kind of database decides, and the first installed driver speaks to it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

# SQLAlchemy's name, module, package to install; in order of preference.
_DRIVERS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "sqlite": (("pysqlite", "sqlite3", ""),),
    "postgresql": (
        ("psycopg", "psycopg", "psycopg[binary]"),
        ("psycopg2", "psycopg2", "psycopg2-binary"),
        ("pg8000", "pg8000", "pg8000"),
    ),
    "mysql": (
        ("mysqldb", "MySQLdb", "mysqlclient"),
        ("pymysql", "pymysql", "pymysql"),
        ("mysqlconnector", "mysql.connector", "mysql-connector-python"),
    ),
}
_ADVISED = {"postgresql": "psycopg2-binary", "mysql": "pymysql"}
_ASYNCHRONOUS = ("asyncpg", "psycopg_async", "aiomysql", "asyncmy", "aiosqlite")


def with_driver(url: str) -> str:
    """The address of a database with an installed driver named in it; other addresses as they are.

    ``postgresql://host/db`` becomes ``postgresql+psycopg2://host/db`` where psycopg2 is installed. A driver that is
    named is kept.

    Raises
    ------
    ValueError
        The address cannot be parsed, no driver is installed, or the named one is not installed, unknown or
        asynchronous; the message says what to write or to install.
    """
    scheme, separator, rest = url.partition("://")
    kind, _, named = scheme.lower().partition("+")
    if kind == "postgres":
        raise ValueError("starts with postgres://; write postgresql://")
    if not separator or kind not in _DRIVERS:
        return url
    driver = _named_driver(kind, named) if named else _installed_driver(kind)
    address = f"{kind}://{rest}" if kind == "sqlite" else f"{kind}+{driver}://{rest}"
    _check_address(address)
    return address


def connect_timeout(url: str, seconds: int) -> dict[str, Any]:
    """The driver's argument that limits the wait for a connection; ``url``, or its scheme, names the driver."""
    return {"timeout" if url.lower().partition("://")[0].endswith("+pg8000") else "connect_timeout": seconds}


def _installed_driver(kind: str) -> str:
    driver = next((name for name, module, _ in _DRIVERS[kind] if _is_installed(module)), None)
    if driver is None:
        raise ValueError(
            f"no driver for {kind}:// is installed; pip install {_ADVISED[kind]} "
            f"(or one of {', '.join(package for _, _, package in _DRIVERS[kind])})"
        )
    return driver


def _named_driver(kind: str, named: str) -> str:
    drivers = {name: (module, package) for name, module, package in _DRIVERS[kind]}
    if named in _ASYNCHRONOUS:
        raise ValueError(f"names the asynchronous driver {named}; write {kind}://, or name one of {', '.join(drivers)}")
    if named not in drivers:
        forms = ", ".join(f"{kind}+{name}://" for name in drivers)
        raise ValueError(f"names the driver {named!r}, which is not known; write {kind}:// or one of {forms}")
    module, package = drivers[named]
    if not _is_installed(module):
        raise ValueError(f"the driver {named} is not installed; pip install {package}, or write {kind}://")
    return named


def _is_installed(module: str) -> bool:
    # Imported instead of looked up: psycopg without its C library is found but cannot be used.
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _check_address(url: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # SQLAlchemy's message repeats the address, or reads "invalid literal for int()".
        raise ValueError(
            "is not a database address such as postgresql://user:password@host:5432/database; is the port a number, "
            "and is every special character of the password percent-encoded?"
        ) from None
    if parsed.host and "@" in parsed.host:
        raise ValueError("holds more than one @; write the one of the password as %40")
    if parsed.port is not None and not 0 < parsed.port < 2**16:
        raise ValueError(f"names the port {parsed.port}; ports go from 1 to 65535")
