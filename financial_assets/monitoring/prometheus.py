"""Queries of one Prometheus: what it answers now, and over a span of time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from financial_assets.errors import PrometheusError
from financial_assets.monitoring import own_service
from financial_assets.redaction import conceal


@dataclass(frozen=True)
class Series:
    """One answered series.

    Attributes
    ----------
    labels
        All its labels, the metric's name as ``__name__`` where the query keeps it.
    times
        Instants in seconds since 1970-01-01 UTC, ascending; one for a query of the present.
    values
        At these instants; no NaN.
    """

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class PrometheusClient:
    """Asks one Prometheus.

    Parameters
    ----------
    url
        Base URL, with the route prefix if it has one; a user and password in it are sent as basic authentication.
    timeout_s
        Longest wait for a whole answer.
    """

    url: str
    timeout_s: float = 10.0

    def now(self, promql: str) -> tuple[Series, ...]:
        """The series of a query as of now; those without a number are left out.

        Raises
        ------
        PrometheusError
            Prometheus is not reachable, does not answer in time, or refuses the query.
        """
        found = self._ask("query", {"query": promql}, "vector")
        return tuple(one for row in found if (one := _series(row["metric"], [row["value"]])).times)

    def over(self, promql: str, start: float, end: float, step: float) -> tuple[Series, ...]:
        """The series of a query from ``start`` to ``end``, instants in seconds, every ``step`` seconds.

        Raises
        ------
        PrometheusError
            Prometheus is not reachable, does not answer in time, or refuses the query.
        """
        asked = {"query": promql, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        found = self._ask("query_range", asked, "matrix")
        return tuple(one for row in found if (one := _series(row["metric"], row["values"])).times)

    def _ask(self, what: str, parameters: Mapping[str, str], kind: str) -> list[Any]:
        status, phrase, content = own_service.get(self.url, f"/api/v1/{what}", parameters, self.timeout_s, self._error)
        try:
            answer: Any = json.loads(content)
            if answer["status"] == "error":
                raise self._error(f"it refuses {parameters['query']}: {answer['error']}")
            if answer["data"]["resultType"] != kind:
                raise self._error(f"{parameters['query']} answers a {answer['data']['resultType']}, not a {kind}")
            return answer["data"]["result"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._error(f"it answered {status} {phrase}, and nothing that Prometheus would say") from error

    def _error(self, problem: str) -> PrometheusError:
        return PrometheusError(f"no answer from Prometheus at {conceal(self.url)}: {problem}. Check PROMETHEUS_URL")


def _series(labels: Mapping[str, str], samples: list[Any]) -> Series:
    known = [(float(time), float(value)) for time, value in samples]
    known = [(time, value) for time, value in known if not math.isnan(value)]
    return Series(labels, tuple(time for time, _ in known), tuple(value for _, value in known))
