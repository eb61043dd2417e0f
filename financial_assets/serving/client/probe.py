"""What a cluster's gateway reports of its Models: whether they answer, and the route of each.

The status of a cluster's objects can be wrong after a scheduler's restart, and the number ``n`` in a route
``<model>_<n>`` is the scheduler's own count, so both are read from answers and never assumed.
"""

from __future__ import annotations

from collections.abc import Mapping

import urllib3

from financial_assets.serving.client.answers import ROUTE_HEADER, last_route

__all__ = ["GatewayProbe"]

_OK = 200
# The default of an experiment shares its endpoint with the split: with a share of 5 %, the probability that none of
# these attempts reaches it is 1 in 700.
_ATTEMPTS = 128


class GatewayProbe:
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
        self._seen: dict[str, str] = {}

    @property
    def seen(self) -> Mapping[str, str]:
        """Model -> route, for the routes that answers have named so far."""
        return dict(self._seen)

    def problem(self, model: str) -> str:
        """Why a Model does not answer; empty if it does."""
        return self._ask(model)[0]

    def learn(self, model: str) -> str | None:
        """The route ``<model>_<n>`` of a Model, ``None`` if the gateway does not name it.

        The default of an experiment answers for itself only in its share of the requests. It is asked until it does,
        but not without end, so the route of a default with a tiny weight may not be found.
        """
        for _ in range(_ATTEMPTS):
            problem, answered = self._ask(model)
            if problem or answered is None:
                return None
            if answered == model:
                return self._seen[model]
        return None

    def _ask(self, model: str) -> tuple[str, str | None]:
        """What is wrong (empty if nothing is), and the Model that answered."""
        url = f"{self._http_url}/v2/models/{model}/ready"
        try:
            answer = self._pool.request(
                "GET", url, headers={"seldon-model": model}, timeout=self._timeout_s, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            return (
                f"no answer from the gateway at {url} ({type(error).__name__}: {error}); see SERVING_GATEWAY_URL",
                None,
            )
        if answer.status != _OK:
            return f"the gateway answers HTTP {answer.status} at {url}", None
        route = last_route(answer.headers.get(ROUTE_HEADER))
        if route is None:
            return "", None
        self._seen[route.model] = route.sticky.strip(":")
        return "", route.model
