"""Secrets of addresses: kept out of everything that is printed, logged or stored.

``redact`` works on any text. It finds addresses by their form, and it also knows the secrets of the addresses that the
settings hold, because drivers repeat a password without the address around it. Errors of this package pass through it
(see ``errors.FinancialAssetsError``), so a message may quote an address as it is.

``conceal`` and ``reveal`` are for values that are handed on by somebody who shows them: Dagster stores the values of a
resource with each run and shows them in the browser. The resource holds the redacted address, and who opens the
connection asks for the real one, which never leaves this process.
"""

from __future__ import annotations

import hashlib
import logging
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`]+")
_QUERY_START = re.compile(r"\?(?=[\w.-]+=)")
_KEY = r"(?:key|[\w.-]*(?:pass|pwd|secret|token|api_?-?key|access_?-?key|auth|signature|credential)[\w.-]*)"
_QUERY = re.compile(rf"(?P<key>[?&;]{_KEY}=)(?P<value>[^&]+)", re.IGNORECASE | re.DOTALL)
_PATH_QUERY = re.compile(rf"(?P<key>[?&;]{_KEY}=)(?P<value>[^&;#\s\"'<>`]+)", re.IGNORECASE)
_KEYWORD = re.compile(
    r"(?P<key>\b(?:ssl)?(?:password|passwd|pwd)\s*=\s*)(?P<value>'[^']*'|[^\s&;,'\"]+)", re.IGNORECASE
)
_HEADER = re.compile(r"(?P<key>authorization['\"]?\s*[:=]\s*['\"]?(?:\w+\s+)?)(?P<value>[^\s'\",;]+)", re.IGNORECASE)

_HIDE = rf"\g<key>{HIDDEN}"

_NAMED_USERS = re.compile(r"(?:postgres|mysql|mariadb|mssql|oracle|ssh|git\+ssh|$)", re.IGNORECASE)
"""Schemes whose user is a name worth showing (``git@host:path`` has no scheme); elsewhere a user may be a token."""

_SHORTEST = 3
"""Shorter passwords are hidden where they stand in an address, but not looked for elsewhere: every text holds them."""
_DISTINCT = 8
"""From this length on a secret is also found inside a longer word."""

_secrets: dict[str, None] = {}
_concealed: dict[str, str] = {}


def redact(text: str) -> str:
    """``text`` without passwords, tokens and the like; the same text if it holds none."""
    # The longest first: a secret that is part of another would spoil the search for that one.
    for secret in sorted(_secrets, key=len, reverse=True):
        if secret in text:
            text = _blot(secret, text)
    # Most texts hold nothing of the kind, and looking for a few characters takes a tenth of a pattern's time.
    if "://" in text:
        text = _WORD.sub(lambda match: _Address.of(match[0]).shown, text)
    if "=" in text:
        text = _KEYWORD.sub(_HIDE, _PATH_QUERY.sub(_HIDE, text))
    # Beyond ASCII, more letters count as equal than lower case says.
    if not text.isascii() or "authorization" in text.lower():
        text = _HEADER.sub(_HIDE, text)
    return text


def redact_address(value: str) -> str:
    """``value``, which is one address and nothing else, without its secrets.

    What is known to be an address may hold blanks and quotes, or lack its scheme; ``redact`` would stop there.
    """
    return redact(_Address.of(value).shown)


def has_credentials(url: str) -> bool:
    """Whether an address names a user or a password before its host."""
    return bool(_Address.of(url).user)


def has_password(url: str) -> bool:
    """Whether an address names a password before its host."""
    return ":" in _Address.of(url).user


def without_user(url: str) -> tuple[str, str]:
    """An address without its user, and the decoded user (``""``: it names none)."""
    address = _Address.of(url)
    scheme = f"{address.scheme}://" if "://" in url else ""
    return (f"{scheme}{address.host}{address.query}", unquote(address.user)) if address.user else (url, "")


def conceal(url: str) -> str:
    """The address without its secrets, which are remembered for ``redact`` and ``reveal``."""
    shown = redact_address(url)
    if shown != url:
        _secrets.update(dict.fromkeys(form for secret in _Address.of(url).secrets() for form in _forms(secret)))
        _concealed[shown] = url
    return shown


def hide_path(url: str) -> str:
    """An address of which only scheme and host are not secret, such as that of an incoming webhook.

    The digits at its end tell two of one host apart.
    """
    address = _Address.of(url)
    host = re.split(r"[/?#]", address.host, maxsplit=1)[0]
    return f"{address.scheme}{address.separator}{host}/{HIDDEN}{hashlib.sha256(url.encode()).hexdigest()[:6]}"


def conceal_path(url: str) -> str:
    """Like ``conceal``, for an address whose path and query are the secret."""
    shown = hide_path(url)
    _, _, rest = url.partition("://")
    path = re.split(r"[/?#]", rest, maxsplit=1)[1:]
    secrets = [url, *(part for part in (*path, *_Address.of(url).secrets()) if len(part) >= _DISTINCT)]
    _secrets.update(dict.fromkeys(form for secret in secrets for form in (secret, unquote(secret))))
    _concealed[shown] = url
    return shown


def reveal(shown: str) -> str:
    """The address that ``conceal`` was given in this process; any other text as it is."""
    return _concealed.get(shown, shown)


def harmless(error: BaseException) -> BaseException | None:
    """``error`` as the cause of another one; ``None`` if its own text, or that of its causes, holds a secret.

    A traceback shows all causes, and Dagster stores them with the run.
    """
    text = "".join(traceback.format_exception_only(error))
    if redact(text) != text:
        return None
    for earlier in (error.__cause__, None if error.__suppress_context__ else error.__context__):
        if earlier is not None and harmless(earlier) is None:
            return None
    return error


class RedactingFilter(logging.Filter):
    """Keeps secrets out of the records of a handler, in whichever library they were written."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: a record is changed, never dropped."""
        message = record.getMessage()
        shown = redact(message)
        if shown != message:
            record.msg, record.args = shown, None
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True


@dataclass(frozen=True)
class _Address:
    """``scheme://user@host?query``; ``host`` is everything between the last @ and the query."""

    scheme: str
    user: str
    host: str
    query: str
    separator: str = "://"

    @classmethod
    def of(cls, url: str) -> _Address:
        scheme, separator, rest = url.partition("://")
        if not separator:
            scheme, rest = "", url
        start = _QUERY_START.search(rest)
        base, query = (rest[: start.start()], rest[start.start() :]) if start else (rest, "")
        if "@" in query and "@" not in base and ":" in base:
            base, query = rest, ""  # a password that holds "?x=", or one in a query that holds an @: hide either
        user, _, host = base.rpartition("@")
        # A password may hold an unescaped @ or /; a path, which sqlite:// and file:// have, starts with a slash.
        if user.startswith("/"):
            user, host = "", base
        return cls(scheme, user, host, query, separator)

    @property
    def has_named_user(self) -> bool:
        return _NAMED_USERS.match(self.scheme) is not None

    @property
    def shown(self) -> str:
        name, colon, _ = self.user.partition(":")
        user = f"{name}:{HIDDEN}" if self.has_named_user and colon else name if self.has_named_user else HIDDEN
        query = _QUERY.sub(rf"\g<key>{HIDDEN}", self.query)
        host = HIDDEN if _QUERY_START.search(self.user) else self.host
        return f"{self.scheme}{self.separator}{f'{user}@' if self.user else ''}{host}{query}"

    def secrets(self) -> Iterator[str]:
        """What is secret, as it is written."""
        name, colon, password = self.user.partition(":")
        secret = password if colon else "" if self.has_named_user else name
        if secret:
            yield secret
        yield from (match["value"] for match in _QUERY.finditer(self.query or f"{self.user}@{self.host}"))


def _forms(secret: str) -> Iterator[str]:
    """How a driver may repeat a secret: as written, decoded, encoded, escaped, or the pieces that a parser makes."""
    plain = unquote(secret)
    for form in (secret, plain, unquote_plus(secret), quote(plain), quote(plain, safe=""), quote_plus(plain)):
        yield from (text for text in (form, repr(form)[1:-1]) if len(text) >= _SHORTEST)
    yield from (piece for piece in re.split(r"[@/:?#&]", secret) if len(piece) > _SHORTEST)


def _blot(secret: str, text: str) -> str:
    if len(secret) >= _DISTINCT:
        return text.replace(secret, HIDDEN)
    # A short one may be a word, such as "token": as part of a name, or as the name before a value, it is not a secret,
    # and hiding it there would keep the value from being found.
    return re.sub(rf"(?<![A-Za-z0-9_]){re.escape(secret)}(?![A-Za-z0-9_=])", HIDDEN, text)
