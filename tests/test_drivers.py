"""A database is named by its kind; an installed driver speaks to it, or the one to install is named."""

from __future__ import annotations

import pytest

from financial_assets import drivers
from financial_assets.drivers import connect_timeout, with_driver


def only(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    monkeypatch.setattr(drivers, "_is_installed", lambda module: module in modules)


@pytest.mark.parametrize(
    ("installed", "url", "found"),
    [
        (["psycopg2"], "postgresql://u:p@h:5432/d", "postgresql+psycopg2://u:p@h:5432/d"),
        (["psycopg", "psycopg2"], "postgresql://h/d", "postgresql+psycopg://h/d"),
        (["psycopg", "psycopg2"], "postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
        (["pg8000"], "PostgreSQL://h/d?ssl=1", "postgresql+pg8000://h/d?ssl=1"),
        (["pymysql"], "mysql://h/d", "mysql+pymysql://h/d"),
        (["sqlite3"], "sqlite+pysqlite:////x.db", "sqlite:////x.db"),
        ([], "sqlite:////x.db", "sqlite:////x.db"),
        ([], "http://h:5000", "http://h:5000"),
        ([], "anything", "anything"),
    ],
)
def test_an_installed_driver_is_found(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], url: str, found: str
) -> None:
    only(monkeypatch, *installed, *(["sqlite3"] if url.startswith("sqlite:") else []))
    assert with_driver(url) == found
    assert with_driver(found) == found


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://h/d", "no driver for postgresql:// is installed; pip install psycopg2-binary"),
        ("mysql://h/d", "no driver for mysql:// is installed; pip install pymysql"),
        (
            "postgresql+psycopg://h/d",
            r"psycopg is not installed; pip install psycopg\[binary\], or write postgresql://",
        ),
        ("postgresql+asyncpg://h/d", "asynchronous driver asyncpg; write postgresql://"),
        ("postgresql+nonsense://h/d", "'nonsense', which is not known"),
        ("sqlite+aiosqlite:///x", "asynchronous"),
        ("postgres://h/d", "write postgresql://"),
    ],
)
def test_a_driver_that_is_missing_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    only(monkeypatch)
    with pytest.raises(ValueError, match=said):
        with_driver(url)


@pytest.mark.parametrize("rest", ["u:p@h:port/d", "u:p@ss@h/d", "u:p@h:99999/d", "u:p@[::1/d"])
def test_an_address_that_cannot_be_parsed_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    only(monkeypatch, "psycopg2")
    with pytest.raises(ValueError, match=r"is not a database address|more than one @|ports go from") as caught:
        with_driver(f"postgresql://{rest}")
    assert rest not in str(caught.value)


def test_each_driver_limits_its_wait_in_its_own_words() -> None:
    assert connect_timeout("postgresql+psycopg2", 7) == connect_timeout("mysql+pymysql", 7) == {"connect_timeout": 7}
    assert connect_timeout("postgresql+pg8000://h/d", 7) == {"timeout": 7}
