"""API keys: kept as hashes, compared in constant time, read again when their file changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import SettingsError

Scope = Literal["signals", "risk", "portfolio", "records", "judge", "verdicts"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""``signals``: signals, explanations, universe; ``risk``; ``portfolio``; ``records``: decisions and models;
``judge``: register plans and send series; ``verdicts``: read verdicts and ask the gates of deployments."""
_LOOK_S = 1.0
_PREFIX = "fa_"


class ApiKey(BaseModel):
    """One key, as its file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    """Who uses it: in logs and metrics."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the key. Keys are 256 random bits, so that a slow hash, which guards guessable passwords, adds nothing."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Limit of its own."""
    expires: date | None = None
    """Last day (UTC) on which it is taken."""


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[ApiKey, ...]


class KeyRing:
    """The keys of a file; it is looked at at most once a second, so that a key can be taken away without a restart.

    Parameters
    ----------
    path
        See ``API_KEYS_FILE``.

    Raises
    ------
    SettingsError
        There is no such file, or it does not hold keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._keys = read_keys(self._path)
        self._stamp = self._current_stamp()
        self._looked = time.monotonic()

    def find(self, secret: str) -> ApiKey | None:
        """The key that ``secret`` is, ``None`` for no key or one that has expired.

        Raises
        ------
        SettingsError
            The file was damaged since: nobody is let in on the strength of what it said before.
        """
        if time.monotonic() - self._looked > _LOOK_S:
            self._look()
        digest = _digest(secret)
        found: ApiKey | None = None
        # All of them, whichever fits: how long it takes must not say how far the search came.
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is not None and found.expires is not None and found.expires < _today():
            return None
        return found

    def _look(self) -> None:
        stamp = self._current_stamp()
        if stamp != self._stamp:
            self._keys = ()
            self._keys, self._stamp = read_keys(self._path), stamp
        self._looked = time.monotonic()

    def _current_stamp(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys in a file.

    Raises
    ------
    SettingsError
        It cannot be read, or is not one of keys.
    """
    try:
        keys = _KeyFile.model_validate_json(path.read_bytes()).keys
    except OSError as error:
        raise SettingsError(
            f"API_KEYS_FILE={path} cannot be read ({error.strerror}); `financial-assets api-key NAME` makes one"
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"API_KEYS_FILE={path} is not a file of keys ({place}: {first['msg']}); `financial-assets api-key NAME` "
            "writes one"
        ) from None
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise SettingsError(f"API_KEYS_FILE={path} has two keys of one name: each caller needs its own")
    return keys


def add_key(
    path: Path,
    name: str,
    scopes: Sequence[Scope],
    *,
    requests_per_minute: int | None = None,
    expires: date | None = None,
) -> str:
    """Make a key and add its hash to a file; a key of that name is replaced. Returns the key, which is kept nowhere."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        name=name,
        sha256=_digest(secret),
        scopes=tuple(scopes),
        requests_per_minute=requests_per_minute,
        expires=expires,
    )
    others = [other for other in (read_keys(path) if path.exists() else ()) if other.name != name]
    content = _KeyFile(keys=(*others, key)).model_dump(mode="json", exclude_none=True)
    atomic_write_text(path, json.dumps(content, indent=1) + "\n")
    path.chmod(0o600)
    return secret


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _today() -> date:
    from datetime import UTC, datetime

    return datetime.now(UTC).date()
