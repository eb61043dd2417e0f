"""Active alerts of Alertmanager: neither silenced, inhibited nor muted.

A route may mute its alerts by time intervals. Since 0.28 Alertmanager tells which alerts are muted (``mutedBy``).
Earlier versions do not, and call them active.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from financial_assets.errors import AlertsError
from financial_assets.monitoring import own_service
from financial_assets.redaction import conceal

_ALERTS, _STATUS = "/api/v2/alerts", "/api/v2/status"
_QUERY = {"active": "true", "silenced": "false", "inhibited": "false"}
_MUTING_ROUTE = re.compile(r"^\s+(?:- )?(?:mute|active)_time_intervals:", re.MULTILINE)
"""Within a route; at the margin stand the definitions, which mute nothing by themselves."""


# Read by Python, because pydantic would also take a number for an instant.
_Instant = Annotated[
    AwareDatetime, BeforeValidator(datetime.fromisoformat), AfterValidator(lambda instant: instant.astimezone(UTC))
]


class _Status(BaseModel, frozen=True, strict=True):
    muted_by: tuple[str, ...] | None = Field(default=None, alias="mutedBy")


class Alert(BaseModel, frozen=True, strict=True):
    """One active alert, as Alertmanager writes it.

    Attributes
    ----------
    labels
        All its labels.
    starts_at
        UTC instant at which it began to fire, by the clock of Prometheus. Go writes nanoseconds, of which Python keeps
        the microseconds.
    fingerprint
        Alertmanager's hash of the labels.
    status
        See :attr:`muted_by`.
    """

    labels: Mapping[str, str]
    starts_at: _Instant = Field(alias="startsAt")
    fingerprint: str = Field(min_length=1)
    status: _Status = _Status()

    @property
    def name(self) -> str:
        """Name of its rule; empty where it has none."""
        return self.labels.get("alertname", "")

    @property
    def model(self) -> str:
        """Served model that it is about (label ``model_name``); empty where it is about none."""
        return self.labels.get("model_name", "")

    @property
    def muted_by(self) -> tuple[str, ...] | None:
        """Time intervals that mute it; ``None`` if Alertmanager does not tell."""
        return self.status.muted_by


_ALERT_LIST = TypeAdapter(list[Alert])


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
        content = self._get(_ALERTS, _QUERY)
        try:
            alerts = {alert.fingerprint: alert for alert in _ALERT_LIST.validate_json(content)}
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            if problem["type"] == "json_invalid":
                raise self._error(f"its answer is not JSON ({problem['msg']})") from error
            why = ": ".join([*map(str, problem["loc"]), problem["msg"]])
            shown = repr(problem["input"])[:200]
            raise self._error(f"it answered {shown} instead of a list of alerts ({why})") from error
        except (TypeError, OverflowError) as error:  # not a text, or an instant that has no date in UTC
            raise self._error(f"it answered something else instead of a list of alerts (startsAt: {error})") from error
        return tuple(alerts[fingerprint] for fingerprint in sorted(alerts) if not alerts[fingerprint].muted_by)

    def unseen_mutes(self, alerts: Iterable[Alert]) -> str | None:
        """Why some of ``alerts`` may be muted although they were answered as active; ``None`` if none can be.

        Asks for Alertmanager's version and configuration, unless every alert tells by what it is muted.
        """
        if all(alert.muted_by is not None for alert in alerts):
            return None
        doubt = "an alert that is muted by a time interval counts as active here"
        try:
            status: Any = json.loads(self._get(_STATUS, {}))
            version, configuration = str(status["versionInfo"]["version"]), str(status["config"]["original"])
        except (AlertsError, ValueError, RecursionError, KeyError, TypeError) as error:
            return f"{doubt}: Alertmanager does not tell which ones are, nor its configuration ({error})"
        if _MUTING_ROUTE.search(configuration) is None:
            return None
        return f"{doubt}: its configuration mutes by time, but Alertmanager {version} does not tell what; 0.28 does"

    def _get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        status, phrase, content = own_service.get(self.url, path, parameters, self.timeout_s, self._error)
        if status != 200:
            raise self._error(f"it answered {status} {phrase}")
        return content

    def _error(self, problem: str) -> AlertsError:
        return AlertsError(
            f"no alerts from Alertmanager at {conceal(self.url)}: {problem}. Is it running "
            "(financial-assets status), and does ALERTMANAGER_URL name it?"
        )
