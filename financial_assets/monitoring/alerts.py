"""Active alerts of Alertmanager: neither silenced, inhibited nor muted.

A route may mute its alerts by time intervals. Since 0.28 Alertmanager tells which alerts are muted (``mutedBy``).
Earlier versions do not, and call them active.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, cast

import httpx

from financial_assets.errors import AlertsError
from financial_assets.redaction import conceal, harmless, reveal, without_user

__all__ = ["Alert", "AlertmanagerClient"]

_ALERTS, _STATUS = "/api/v2/alerts", "/api/v2/status"
_QUERY = {"active": "true", "silenced": "false", "inhibited": "false"}
_MUTING_ROUTE = re.compile(r"^\s+(?:- )?(?:mute|active)_time_intervals:", re.MULTILINE)
"""Within a route; at the margin stand the definitions, which mute nothing by themselves."""
_MOST_BYTES = 64 * 2**20
"""Some 100,000 alerts; a longer answer does not come from a working Alertmanager."""


@dataclass(frozen=True)
class Alert:
    """One active alert.

    Attributes
    ----------
    name
        Name of its rule; empty where it has none.
    model
        Served model that it is about (label ``model_name``); empty where it is about none.
    labels
        All its labels.
    starts_at
        UTC instant at which it began to fire, by the clock of Prometheus.
    fingerprint
        Alertmanager's hash of the labels.
    muted_by
        Time intervals that mute it; ``None`` if Alertmanager does not tell.
    """

    name: str
    model: str
    labels: Mapping[str, str]
    starts_at: datetime
    fingerprint: str
    muted_by: tuple[str, ...] | None = None


@dataclass(frozen=True)
class AlertmanagerClient:
    """Asks one Alertmanager.

    Parameters
    ----------
    url
        Base URL, with the route prefix if it has one; a user and password in it are sent as basic authentication.
    timeout_s
        Longest wait for the whole answer.
    """

    url: str
    timeout_s: float = 10.0

    def active(self) -> tuple[Alert, ...]:
        """The active alerts, each once, by fingerprint; without those that are known to be muted by a time interval.

        Raises
        ------
        AlertsError
            Alertmanager is not reachable, does not answer in time, refuses, or answers something else than alerts.
        """
        rows = self._ask(_ALERTS, _QUERY)
        if not isinstance(rows, list):
            raise self._error(f"it answered {_shown(rows)} instead of a list of alerts")
        alerts: dict[str, Alert] = {}
        for row in cast("list[Any]", rows):
            try:
                alert = _alert(row)
            except (KeyError, TypeError, ValueError) as error:
                raise self._error(f"it answered {_shown(row)}, which is not an alert ({error!r})") from error
            alerts[alert.fingerprint] = alert
        return tuple(alerts[fingerprint] for fingerprint in sorted(alerts) if not alerts[fingerprint].muted_by)

    def unseen_mutes(self, alerts: Iterable[Alert]) -> str | None:
        """Why some of ``alerts`` may be muted although they were answered as active; ``None`` if none can be.

        Asks for Alertmanager's version and configuration, unless every alert tells by what it is muted.
        """
        if all(alert.muted_by is not None for alert in alerts):
            return None
        doubt = "an alert that is muted by a time interval counts as active here"
        try:
            status: Any = self._ask(_STATUS, {})
            version, configuration = str(status["versionInfo"]["version"]), str(status["config"]["original"])
        except (AlertsError, KeyError, TypeError) as error:
            return f"{doubt}: Alertmanager does not tell which ones are, nor its configuration ({error})"
        if _MUTING_ROUTE.search(configuration) is None:
            return None
        return f"{doubt}: its configuration mutes by time, but Alertmanager {version} does not tell what; 0.28 does"

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Any:
        content = self._get(path, parameters)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._error(f"its answer is not JSON ({error})") from error

    def _get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """The body. httpx limits each wait but not their sum, so a server that sends byte by byte is cut off here."""
        deadline = time.monotonic() + self.timeout_s
        content = bytearray()
        # Sent apart from the address, which httpx writes into its log.
        url, user = without_user(reveal(self.url))
        name, _, password = user.partition(":")
        login = httpx.BasicAuth(name, password) if user else None
        try:
            # Alertmanager belongs to our own service: no proxy from the environment may come between.
            with (
                httpx.Client(timeout=self.timeout_s, trust_env=False, verify=url.startswith("https:")) as client,
                client.stream("GET", f"{url.rstrip('/')}{path}", params=parameters, auth=login) as response,
            ):
                if response.status_code != 200:
                    raise self._error(f"it answered {response.status_code} {response.reason_phrase}")
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _MOST_BYTES:
                        raise self._error(f"its answer is longer than {_MOST_BYTES:,} bytes")
                    if time.monotonic() > deadline:
                        raise self._error(f"its answer was not complete within {self.timeout_s:g} s")
        except httpx.TimeoutException as error:
            raise self._error(f"no answer within {self.timeout_s:g} s ({error!r})") from harmless(error)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._error(repr(error)) from harmless(error)
        return bytes(content)

    def _error(self, problem: str) -> AlertsError:
        return AlertsError(
            f"no alerts from Alertmanager at {conceal(self.url)}: {problem}. Is it running "
            "(financial-assets status), and does ALERTMANAGER_URL name it?"
        )


def _alert(row: Any) -> Alert:
    """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is not an alert."""
    labels = row["labels"]
    if not isinstance(labels, dict):
        raise TypeError("labels are not an object")
    fingerprint = _text(row["fingerprint"])
    if not fingerprint:
        raise ValueError("the fingerprint is empty")
    named = {str(name): _text(value) for name, value in cast("dict[Any, Any]", labels).items()}
    return Alert(
        name=named.get("alertname", ""),
        model=named.get("model_name", ""),
        labels=MappingProxyType(named),
        starts_at=_instant(row["startsAt"]),
        fingerprint=fingerprint,
        muted_by=_muted_by(row.get("status")),
    )


def _muted_by(status: Any) -> tuple[str, ...] | None:
    named = cast("dict[str, Any]", status).get("mutedBy") if isinstance(status, dict) else None
    if named is not None and not isinstance(named, list):
        raise TypeError("mutedBy is not a list")
    return None if named is None else tuple(_text(name) for name in cast("list[Any]", named))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _instant(value: Any) -> datetime:
    """RFC 3339; Go writes nanoseconds, of which Python keeps the microseconds."""
    instant = datetime.fromisoformat(_text(value))
    if instant.tzinfo is None:
        raise ValueError(f"startsAt {value} carries no time zone")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"startsAt {value} is out of range") from error


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
