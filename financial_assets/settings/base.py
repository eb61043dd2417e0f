"""The base class of all groups of settings, and checks that several of them use."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import BaseSettings, SettingsConfigDict

from financial_assets.drivers import with_driver


class SettingsGroup(BaseSettings):
    """Settings of one concern; each field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True)


def has_scheme(*allowed: str) -> AfterValidator:
    """Validator of a URL of one of these schemes."""
    return AfterValidator(partial(_check_scheme, allowed))


def _check_scheme(allowed: tuple[str, ...], value: str) -> str:
    if value != value.strip():
        raise ValueError("begins or ends with a blank or a line break: remove it")
    if "://" not in value or urlsplit(value).scheme.split("+")[0] not in allowed:
        raise ValueError(f"must start with one of {', '.join(name + '://' for name in allowed)}")
    return value


def check_server(value: str) -> str:
    """``value`` itself when it is an address of HTTP with a host, a possible port and no query."""
    parts = urlsplit(value)
    try:
        is_whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    # An @ behind the host is what is left of a password with an unescaped slash or question mark.
    if not is_whole or len(value.split()) > 1 or "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(
            "is not an address such as http://host:5000; is the port a number from 1 to 65535, and is every special "
            "character of a password percent-encoded (@ is %40, / is %2F)?"
        )
    if parts.query or parts.fragment:
        raise ValueError("must end with its host, port or path: no query and no fragment")
    return value


def check_database(value: str) -> str:
    """``value`` with an installed driver named in it; a file, where it is SQLite."""
    url = with_driver(value)
    if url.startswith("sqlite:") and url.partition(":///")[2].partition("?")[0] in ("", ":memory:"):
        raise ValueError("names no file, and a database in memory is lost with the process: sqlite:////folder/name.db")
    return url


def check_path(value: object) -> object:
    """``value`` itself unless it is an address: what is meant is a path of this machine."""
    if isinstance(value, str | Path) and "://" in str(value):
        raise ValueError("is an address; give a path of this machine")
    return value


HttpAddress = Annotated[str, has_scheme("http", "https"), AfterValidator(check_server)]
LocalPath = Annotated[Path, BeforeValidator(check_path)]
LocalPattern = Annotated[str, BeforeValidator(check_path)]
