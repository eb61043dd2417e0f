"""V2 inference through the gateway: REST for one request, gRPC with raw tensors for batches.

The gateway has no deadline of its own and repeats a 5xx up to five times (from 0.5 s back-off on), so the client sets
the deadline and never repeats one itself. Which arm answered is read from the header ``x-seldon-route``.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
import httpx
import numpy as np
import orjson

from financial_assets.errors import GatewayUnavailableError, InferenceError, InferenceTimeoutError, RequestRejectedError
from financial_assets.serving.manifests import is_experiment
from financial_assets.serving.protocol import INFER_METHOD, ModelInferRequest, ModelInferResponse
from financial_assets.serving.target import Endpoint

__all__ = ["Answer", "InferenceClient", "parse_routes"]

INPUT = "bars"
OUTPUTS = ("probability_up", "return_quantiles")
_ROUTE_HEADER = "x-seldon-route"
_ROUTES = re.compile(r":([^:\s]+?)_(\d+):")
_DTYPES = {"FP32": np.dtype("<f4")}
_MAX_MESSAGE_BYTES = 64 * 2**20
# What REST says with 4xx.
_REJECTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.OUT_OF_RANGE,
}


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes
    ----------
    probability_up
        float32 ``[n]``: calibrated probability that the next session's adjusted close is higher.
    return_quantiles
        float32 ``[n, 5]``: quantiles of that log return.
    route
        Name of the Model that answered, as the gateway says; ``None`` when it does not say.
    route_version
        Its version number ``n`` in the gateway, ``None`` when it does not say.
    model_name
        The name that the server gives itself.
    latency_s
        From bars to answer, in the client.
    request_id
        The ``x-request-id`` that was sent.
    """

    probability_up: np.ndarray
    return_quantiles: np.ndarray
    route: str | None
    route_version: int | None
    model_name: str
    latency_s: float
    request_id: str

    @property
    def sticky(self) -> str | None:
        """The value that sends a later request to the same arm."""
        return None if self.route is None else f":{self.route}_{self.route_version}:"


def parse_routes(header: str) -> list[tuple[str, int]]:
    """``(model, n)`` of every ``:model_n:`` in a route header; the last one answered."""
    return [(name, int(number)) for name, number in _ROUTES.findall(header)]


_Send = Callable[[str, np.ndarray, str | None, str], Answer]


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
        self._http = httpx.Client(base_url=endpoint.http_url, timeout=timeout_s, trust_env=False)
        options = [
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            # By default a channel waits up to two minutes before it tries a gateway again that was away.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = grpc.insecure_channel(endpoint.grpc_target, options=options)
        self._infer = self._channel.unary_unary(
            INFER_METHOD,
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        self._routes: dict[str, str] = {model: f":{route}:" for model, route in endpoint.routes.items()}
        self._in_split: set[str] = set()

    def __enter__(self) -> InferenceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._channel.close()

    def infer(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        """Ask over REST.

        Parameters
        ----------
        target
            A Model's name, answered by that Model and no other, or an Experiment's, answered by the arm that the
            gateway draws.
        bars
            float32 ``[n, session, channel]``.
        route
            Arm to stay with, an earlier answer's :attr:`Answer.sticky`; dropped when the gateway does not know it any
            more.
        request_id
            Sent as ``x-request-id``; made up if not given.

        Raises
        ------
        RequestRejectedError
            4xx; the text is the server's.
        GatewayUnavailableError
            No connection, or 5xx after the gateway's own retries.
        InferenceTimeoutError
            No answer within the deadline.
        """
        return self._ask(self._rest, target, bars, route, request_id)

    def infer_batch(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        """Ask over gRPC with raw tensors; parameters and errors are those of :meth:`infer`."""
        return self._ask(self._raw, target, bars, route, request_id)

    def _ask(self, send: _Send, target: str, bars: np.ndarray, route: str | None, request_id: str | None) -> Answer:
        values = np.ascontiguousarray(bars, dtype=np.float32)
        identity = request_id or str(uuid.uuid4())
        name = target.removesuffix(".experiment")
        if route is not None:
            return self._send(send, name, values, self._sticky(route), identity)
        answer = self._send(send, name, values, self._routes[name] if name in self._in_split else None, identity)
        if is_experiment(name) or answer.route in (None, name):
            return answer
        # The default model of an experiment shares its endpoint with the split; only its sticky route is its own.
        sticky = self._sticky(name)
        self._in_split.add(name)
        answer = self._send(send, name, values, sticky, identity)
        if answer.route != name:
            raise InferenceError(f"{name} was asked, but {answer.route} answered", route=answer.route)
        return answer

    def _sticky(self, route: str) -> str:
        """The header value for a route given as such, as ``<model>_<n>`` or as the name of a Model already met."""
        if parse_routes(route):
            return route
        if parse_routes(f":{route}:"):
            return f":{route}:"
        if route not in self._routes:
            raise InferenceError(
                f"the route of {route} is not known: give it as :<model>_<n>:, or connect to an endpoint that names it"
            )
        return self._routes[route]

    def _send(self, send: _Send, name: str, bars: np.ndarray, route: str | None, identity: str) -> Answer:
        try:
            answer = send(name, bars, route, identity)
        except RequestRejectedError as error:
            if route is None or error.status not in (404, grpc.StatusCode.UNIMPLEMENTED.name):
                raise
            # The route went stale: the arm was replaced, or the experiment ended.
            self._in_split.discard(name)
            answer = send(name, bars, None, identity)
        if answer.route is not None and answer.sticky is not None:
            self._routes[answer.route] = answer.sticky
        return answer

    def _headers(self, name: str, route: str | None, identity: str) -> dict[str, str]:
        headers = {"seldon-model": f"{name}.experiment" if is_experiment(name) else name, "x-request-id": identity}
        return headers if route is None else {**headers, _ROUTE_HEADER: route}

    def _rest(self, name: str, bars: np.ndarray, route: str | None, identity: str) -> Answer:
        began = time.perf_counter()
        tensor = {"name": INPUT, "shape": list(bars.shape), "datatype": "FP32", "data": bars.ravel()}
        body = orjson.dumps({"id": identity, "inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = {**self._headers(name, route, identity), "content-type": "application/json"}
        try:
            response = self._http.post(f"/v2/models/{name}/infer", content=body, headers=headers)
        except httpx.TimeoutException as error:
            raise InferenceTimeoutError(f"{name}: no answer within {self._timeout_s:g} s ({error!r})") from error
        except httpx.TransportError as error:
            raise GatewayUnavailableError(f"{name}: no answer from {self.endpoint.http_url}: {error!r}") from error
        arm = _last_route(response.headers.get(_ROUTE_HEADER))
        if response.is_error:
            raise _http_error(name, response, arm)
        try:
            document = orjson.loads(response.content)
            outputs = {o["name"]: np.asarray(o["data"], np.float32).reshape(o["shape"]) for o in document["outputs"]}
            return _answer(outputs, bars, arm, document["model_name"], time.perf_counter() - began, identity)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _malformed(name, error, arm) from error

    def _raw(self, name: str, bars: np.ndarray, route: str | None, identity: str) -> Answer:
        began = time.perf_counter()
        request = ModelInferRequest(model_name=name, id=identity)
        request.inputs.add(name=INPUT, datatype="FP32", shape=bars.shape)
        request.raw_input_contents.append(bars.tobytes())
        metadata = tuple(self._headers(name, route, identity).items())
        try:
            response, call = self._infer.with_call(request, metadata=metadata, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._grpc_error(name, error) from error
        arm = _last_route(_metadata(call).get(_ROUTE_HEADER))
        try:
            outputs = {
                output.name: np.frombuffer(content, dtype=_DTYPES[output.datatype]).reshape(output.shape)
                for output, content in zip(response.outputs, response.raw_output_contents, strict=True)
            }
            return _answer(outputs, bars, arm, response.model_name, time.perf_counter() - began, identity)
        except (ValueError, KeyError) as error:
            raise _malformed(name, error, arm) from error

    def _grpc_error(self, name: str, error: Any) -> InferenceError:
        code: grpc.StatusCode = error.code()
        arm = _last_route(_metadata(error).get(_ROUTE_HEADER))
        route = arm[0] if arm else None
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return InferenceTimeoutError(
                f"{name}: no answer within {self._timeout_s:g} s", status=code.name, route=route
            )
        kind = RequestRejectedError if code in _REJECTED else GatewayUnavailableError
        return kind(f"{name}: {code.name}: {error.details()}", status=code.name, route=route)


def _answer(
    outputs: Mapping[str, np.ndarray],
    bars: np.ndarray,
    arm: tuple[str, int] | None,
    model_name: str,
    latency_s: float,
    identity: str,
) -> Answer:
    probability, quantiles = (outputs[output] for output in OUTPUTS)
    if probability.shape != (len(bars), 1) or quantiles.ndim != 2 or len(quantiles) != len(bars):
        raise ValueError(f"{len(bars)} rows asked, but outputs of shape {probability.shape} and {quantiles.shape}")
    name, version = arm if arm else (None, None)
    return Answer(probability[:, 0], quantiles, name, version, model_name, latency_s, identity)


def _malformed(name: str, error: Exception, arm: tuple[str, int] | None) -> GatewayUnavailableError:
    return GatewayUnavailableError(f"{name}: the answer is not a V2 answer: {error!r}", route=arm[0] if arm else None)


def _last_route(header: str | None) -> tuple[str, int] | None:
    routes = parse_routes(header or "")
    return routes[-1] if routes else None


def _http_error(name: str, response: httpx.Response, arm: tuple[str, int] | None) -> InferenceError:
    try:
        text = str(orjson.loads(response.content)["error"])
    except (ValueError, KeyError, TypeError):
        text = response.text[:500] or "(no text)"
    kind = RequestRejectedError if response.status_code < 500 else GatewayUnavailableError
    if response.status_code == 404 and not text.strip("() ").removeprefix("no text"):
        text = "the gateway has no such model, experiment or route"
    return kind(f"{name}: {response.status_code}: {text}", status=response.status_code, route=arm[0] if arm else None)


def _metadata(call: Any) -> dict[str, str]:
    pairs: Iterable[tuple[str, str]] = (*(call.initial_metadata() or ()), *(call.trailing_metadata() or ()))
    return dict(pairs)
