"""What a cluster's gateway reports of its Models: whether they answer, and the route of each.

The status of a cluster's objects can be wrong after a scheduler's restart, and the number ``n`` in a route
``<model>_<n>`` is the scheduler's own count, so both are read from answers and never assumed.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping

from financial_assets.errors import InferenceError
from financial_assets.serving.client.transport import RestTransport

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
        self._gateway = RestTransport(http_url, timeout_s)
        weakref.finalize(self, self._gateway.close)  # the targets that ask have no end at which they could close it
        self._timeout_s = timeout_s
        self._seen: dict[str, str] = {}

    @property
    def seen(self) -> Mapping[str, str]:
        """Model -> route, for the routes that answers have named so far."""
        return dict(self._seen)

    def problem(self, model: str) -> str:
        """Why a Model does not answer; empty if it does."""
        return self.ask(model)[0]

    def learn(self, model: str) -> str | None:
        """The route ``<model>_<n>`` of a Model, ``None`` if the gateway does not name it.

        The default of an experiment answers for itself only in its share of the requests. It is asked until it does,
        but not without end, so the route of a default with a tiny weight may not be found.
        """
        for _ in range(_ATTEMPTS):
            problem, answered = self.ask(model)
            if problem or answered is None:
                return None
            if answered == model:
                return self._seen[model]
        return None

    def row_shape(self, model: str) -> tuple[int, ...]:
        """Shape of one row of a Model's input: sessions and channels, those of its covariates included."""
        return self._gateway.row_shape(model, self._timeout_s)

    def ask(self, name: str) -> tuple[str, str | None]:
        """What is wrong with a Model or Experiment (empty if nothing is), and the Model that answered for it."""
        try:
            route = self._gateway.ready(name, self._timeout_s)
        except InferenceError as error:
            return str(error) if error.status else f"{error}; see SERVING_GATEWAY_URL", None
        if route is None:
            return "", None
        self._seen[route.model] = route.sticky.strip(":")
        return "", route.model
