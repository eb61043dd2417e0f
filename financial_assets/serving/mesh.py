"""What a cluster's gateway says of its Models: whether they answer, and the route of each.

The status of a cluster's objects can lie after a scheduler's restart, and the number ``n`` in a route ``<model>_<n>``
is the scheduler's own count, so both are learnt from answers and never assumed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import urllib3

from financial_assets.serving.answers import ROUTE_HEADER, last_route

__all__ = ["Mesh"]

_OK = 200
# The default of an experiment shares its endpoint with the split: at a share of 5 % this many in vain are 1 in 700.
_ASKS = 128


class Mesh:
    """The gateway's V2 REST protocol; needs no credentials.

    Parameters
    ----------
    http_url
        Its base URL.
    timeout_s
        Longest wait for one answer.
    """

    def __init__(self, http_url: str, *, timeout_s: float = 2.0) -> None:
        self._http_url = http_url.rstrip("/")
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager()

    def problem(self, model: str) -> str:
        """Why a Model does not answer; empty if it does."""
        return self._ask(model)[0]

    def routes(self, models: Collection[str]) -> Mapping[str, str]:
        """Route ``<model>_<n>`` of each of ``models`` that answers; those that the gateway does not name are left out.

        The default of an experiment answers for itself only in its share of the requests: it is asked until it does,
        but not without end, so a default of hardly any weight may be left out.
        """
        found: dict[str, str] = {}
        for model in models:
            for _ in range(_ASKS):
                if model in found:
                    break
                problem, seen = self._ask(model)
                if problem or not seen:
                    break
                found |= seen
        return {model: route for model, route in found.items() if model in models}

    def _ask(self, model: str) -> tuple[str, dict[str, str]]:
        """What is wrong, and the route of the Model that answered."""
        url = f"{self._http_url}/v2/models/{model}/ready"
        try:
            answer = self._pool.request(
                "GET", url, headers={"seldon-model": model}, timeout=self._timeout_s, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            return f"no answer from the gateway at {url} ({type(error).__name__}: {error})", {}
        if answer.status != _OK:
            return f"the gateway answers HTTP {answer.status} at {url}", {}
        arm = last_route(answer.headers.get(ROUTE_HEADER))
        return "", {arm[0]: f"{arm[0]}_{arm[1]}"} if arm else {}
