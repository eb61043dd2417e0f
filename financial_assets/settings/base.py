"""What all groups of settings share."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["SettingsGroup", "check_scheme"]


class SettingsGroup(BaseSettings):
    """Settings of one concern; each field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True)


def check_scheme(value: str | None, allowed: Sequence[str]) -> str | None:
    """``value`` itself when it is unset or a URL of an allowed scheme."""
    if value is not None and urlsplit(value).scheme.split("+")[0] not in allowed:
        raise ValueError(f"must start with one of {', '.join(name + '://' for name in allowed)}")
    return value
