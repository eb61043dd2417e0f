"""V2 inference through the gateway: REST for one request, gRPC with raw tensors for batches.

The gateway has no deadline of its own and repeats a 5xx up to five times (with back-off from 0.5 s on), so the client
sets the deadline and never repeats a request. The arm that answered is read from the header ``x-seldon-route``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager

import grpc
import numpy as np

from financial_assets.errors import InferenceError, RequestRejectedError
from financial_assets.serving.client.answers import ROUTE_HEADER, Answer, parse_routes
from financial_assets.serving.client.probe import GatewayProbe
from financial_assets.serving.client.transport import GrpcTransport, RestTransport
from financial_assets.serving.manifests import is_experiment
from financial_assets.serving.target import Endpoint

__all__ = ["Answer", "Connect", "InferenceClient", "parse_routes"]

_READY_S = 2.0
_NO_ROUTE = 404
_Transport = RestTransport | GrpcTransport


class InferenceClient:
    """Asks models for answers; use as a context manager. Safe to share between threads.

    Parameters
    ----------
    endpoint
        Where the gateway answers.
    timeout_s
        Deadline of one request.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float = 20.0) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._rest = RestTransport(endpoint.http_url, timeout_s)
        self._grpc = GrpcTransport(endpoint.grpc_target, timeout_s)
        self._routes: dict[str, str] = {model: f":{route}:" for model, route in endpoint.routes.items()}
        self._in_split: set[str] = set()

    def __enter__(self) -> InferenceClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._rest.close()
        self._grpc.close()

    def infer(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        """Ask over REST.

        Parameters
        ----------
        target
            A Model's name, answered by that Model and no other, or an Experiment's (with or without ``.experiment``),
            answered by the arm that the gateway draws.
        bars
            float32 ``[n, session, channel]``.
        route
            Arm to stay with: an earlier answer's :attr:`Answer.sticky`, or the name of a Model whose route is known;
            dropped when the gateway no longer knows it.
        request_id
            Sent as ``x-request-id``; generated if not given.

        Raises
        ------
        RequestRejectedError
            4xx; the text is the server's.
        GatewayUnavailableError
            No connection, 5xx after the gateway's own retries, or a malformed answer.
        InferenceTimeoutError
            No answer within the deadline.
        InferenceError
            The gateway cannot be made to ask this Model alone, because its route is not known.
        """
        return self._ask(self._rest, target, bars, route, request_id)

    def infer_batch(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        """Ask over gRPC with raw tensors; parameters and errors are those of :meth:`infer`."""
        return self._ask(self._grpc, target, bars, route, request_id)

    def check_ready(self, name: str) -> None:
        """Return if a Model is ready to answer through the gateway; sends no inference request.

        Raises
        ------
        InferenceTimeoutError
            It does not report within two seconds: it is away, or busy.
        InferenceError
            It is not ready, or there is no server.
        """
        own_route = self._routes.get(name)
        if own_route is not None:
            # Unlike a Model's name, its own route is not shared with a split, and the gateway repeats nothing on it.
            try:
                route = self._rest.ready(name, _READY_S, own_route)
                if route is not None and route.model == name:
                    return
            except InferenceError as error:
                if error.status != _NO_ROUTE or error.route is not None:  # else the Model is in no split: ask its name
                    raise
        route = self._rest.ready(name, _READY_S)
        if route is None or route.model == name:
            return
        if GatewayProbe(self.endpoint.http_url, timeout_s=_READY_S).learn(name) is None:
            raise InferenceError(f"{self.endpoint.http_url} lets other models answer for {name}", answered=False)

    def _ask(
        self, transport: _Transport, target: str, bars: np.ndarray, route: str | None, request_id: str | None
    ) -> Answer:
        values = np.ascontiguousarray(bars, dtype=np.float32)
        identity = request_id or str(uuid.uuid4())
        name = target.removesuffix(".experiment")
        if route is not None:
            return self._send(transport, name, values, self._sticky(route), identity)
        own_route = self._routes.get(name) if name in self._in_split else None
        answer = self._send(transport, name, values, own_route, identity)
        if is_experiment(name) or answer.route in (None, name):
            return answer
        # The default model of an experiment shares its endpoint with the split; only its sticky route is its own.
        sticky = ""
        # Twice, because the first attempt may use a stale route and thereby learn the current one.
        for _ in range(2):
            sticky = self._own_route(name)
            self._in_split.add(name)
            answer = self._send(transport, name, values, sticky, identity)
            if answer.route == name:
                return answer
            if name in self._routes:  # else the gateway refused it: the arm was replaced, and has another by now
                break
        raise InferenceError(
            f"{name} was asked, but {answer.route} answered: the known route {sticky} is stale; connect anew",
            route=answer.route,
        )

    def _own_route(self, name: str) -> str:
        """The route of a Model alone, learned from the gateway if no answer has named it yet."""
        if name not in self._routes:
            learned = GatewayProbe(self.endpoint.http_url, timeout_s=self._timeout_s).learn(name)
            if learned is None:
                raise InferenceError(
                    f"the route of {name} is not known: as the default of an experiment it shares its endpoint, and "
                    f"the gateway at {self.endpoint.http_url} let other models answer for it in every attempt"
                )
            self._routes[name] = f":{learned}:"
        return self._routes[name]

    def _sticky(self, route: str) -> str:
        """The header value of a route: given as such, as ``<model>_<n>``, or as the name of a Model already seen."""
        if parse_routes(route):
            return route
        if parse_routes(f":{route}:"):
            return f":{route}:"
        if route not in self._routes:
            raise InferenceError(
                f"the route of {route} is not known: give it as :<model>_<n>:, or connect to an endpoint that names it"
            )
        return self._routes[route]

    def _send(self, transport: _Transport, name: str, bars: np.ndarray, route: str | None, identity: str) -> Answer:
        headers = {"seldon-model": f"{name}.experiment" if is_experiment(name) else name, "x-request-id": identity}
        try:
            answer = transport.send(name, bars, headers if route is None else {**headers, ROUTE_HEADER: route})
        except RequestRejectedError as error:
            if route is None or error.status not in (404, grpc.StatusCode.UNIMPLEMENTED.name):
                raise
            # The route went stale: the arm was replaced, or the experiment ended.
            self._in_split.discard(name)
            if self._routes.get(name) == route:
                del self._routes[name]
            answer = transport.send(name, bars, headers)
        if answer.route is not None and answer.sticky is not None:
            self._routes[answer.route] = answer.sticky
        return answer


Connect = Callable[[], AbstractContextManager[InferenceClient]]
"""Opens a connection to the gateway, wherever it is by then."""
