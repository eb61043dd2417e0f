"""The two ways to carry a V2 request: over HTTP, as JSON or with raw tensors behind it, and over gRPC."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import httpx
import numpy as np
import orjson

from financial_assets.errors import GatewayUnavailableError, InferenceError, InferenceTimeoutError, RequestRejectedError
from financial_assets.serving.client.answers import INPUT, ROUTE_HEADER, Answer, Route, last_route, make_answer
from financial_assets.serving.client.one_write import OneWriteTransport
from financial_assets.serving.client.protocol import (
    BINARY_EXTENSION,
    BINARY_HEADER,
    BINARY_SIZE,
    INFER_METHOD,
    ModelInferRequest,
    ModelInferResponse,
)

_DTYPES = {"FP32": np.dtype("<f4")}
_MAX_MESSAGE_BYTES = 64 * 2**20
_ALIGNMENT = 64
_RAW_CONTENTS = b"\x3a"  # field 7 of ModelInferRequest, raw_input_contents, whose length and bytes follow
# Status of a gateway that reaches no server, or of a server that has not loaded the model yet; never of a model.
_NO_MODEL = {
    404,
    502,
    503,
    grpc.StatusCode.NOT_FOUND.name,
    grpc.StatusCode.UNIMPLEMENTED.name,
    grpc.StatusCode.UNAVAILABLE.name,
}
_LOADING = "is not ready yet"  # MLServer, with 400
# Status codes that correspond to 4xx over REST.
_REJECTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # the message is too long
}


def request_body(bars: np.ndarray, identity: str | None = None) -> bytes:
    """The JSON of a request for float32 bars ``[n, session, channel]``."""
    tensor = {"name": INPUT, "shape": list(bars.shape), "datatype": "FP32", "data": bars.ravel()}
    named = {} if identity is None else {"id": identity}
    return orjson.dumps({**named, "inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)


def binary_request_body(bars: np.ndarray, identity: str) -> tuple[bytes, int]:
    """The same request with the bars as raw bytes behind its JSON, and the length of the JSON.

    ``bars`` has to be contiguous. The outputs are asked for as raw bytes, too.
    """
    tensor = {
        "name": INPUT,
        "shape": list(bars.shape),
        "datatype": "FP32",
        "parameters": {BINARY_SIZE: bars.nbytes},
    }
    head = orjson.dumps({"id": identity, "parameters": {"binary_data_output": True}, "inputs": [tensor]})
    head += b" " * (-len(head) % _ALIGNMENT)  # so that the server need not copy the bars
    return b"".join((head, bars.data.cast("B"))), len(head)


class RestTransport:
    """JSON over HTTP; with raw tensors behind it where the server has the binary tensor data extension.

    The first request asks the server for its extensions.

    Parameters
    ----------
    url
        Base URL of the gateway.
    timeout_s
        Longest wait for a connection, for sending and for each part of the answer.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        # Without TLS there is nothing to verify, and loading the certificates takes as long as a hundred requests.
        transport = OneWriteTransport(verify=url.startswith("https:"))
        self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False, transport=transport)
        self._takes_binary: bool | None = None

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ready(self, name: str, timeout_s: float, sticky: str | None = None) -> Route | None:
        """The route by which a Model or Experiment reports ready, ``None`` if the gateway names none.

        Raises the fitting :class:`InferenceError` if it is not ready. No inference request is sent.
        """
        url = f"{self._url.rstrip('/')}/v2/models/{name.removesuffix('.experiment')}/ready"
        headers = {"seldon-model": name, **({} if sticky is None else {ROUTE_HEADER: sticky})}
        try:
            response = self._http.get(url, headers=headers, timeout=timeout_s)
        except httpx.TransportError as error:
            message = f"no answer from the gateway at {url} ({error!r})"
            if isinstance(error, httpx.TimeoutException):
                raise InferenceTimeoutError(f"{message} within {timeout_s:g} s") from error
            raise GatewayUnavailableError(message, answered=False) from error
        route = last_route(response.headers.get(ROUTE_HEADER))
        if not response.is_success:
            message, model = f"the gateway answers HTTP {response.status_code} at {url}", route.model if route else None
            raise GatewayUnavailableError(message, status=response.status_code, route=model, answered=False)
        return route

    def row_shape(self, name: str, timeout_s: float) -> tuple[int, ...]:
        """Shape of one row of a Model's input, ``(session, channel)``, by its metadata.

        Raises the fitting :class:`InferenceError` if it does not tell.
        """
        try:
            response = self._http.get(f"/v2/models/{name}", headers={"seldon-model": name}, timeout=timeout_s)
        except httpx.TransportError as error:
            raise GatewayUnavailableError(f"{name}: no answer from {self._url}: {error!r}", answered=False) from error
        route = last_route(response.headers.get(ROUTE_HEADER))
        if not response.is_success:
            raise _http_error(name, response, route)
        try:
            (tensor,) = orjson.loads(response.content)["inputs"]
            return tuple(int(size) for size in tensor["shape"][1:])
        except (ValueError, KeyError, TypeError) as error:
            raise _malformed(name, error, route) from error

    def send(self, name: str, bars: np.ndarray, headers: Mapping[str, str]) -> Answer:
        """Ask ``name`` once; raises the fitting :class:`InferenceError`."""
        began = time.perf_counter()
        identity = headers["x-request-id"]
        try:
            if self._takes_binary is None:
                self._takes_binary = self._ask_for_binary()
            if self._takes_binary:
                body, json_length = binary_request_body(bars, identity)
                kind = {"content-type": "application/octet-stream", BINARY_HEADER: str(json_length)}
            else:
                body, kind = request_body(bars, identity), {"content-type": "application/json"}
            response = self._http.post(f"/v2/models/{name}/infer", content=body, headers={**headers, **kind})
        except httpx.ConnectTimeout as error:  # before TimeoutException, its base: no model can have seen this request
            message = f"{name}: no connection to {self._url} within {self._timeout_s:g} s ({error!r})"
            raise GatewayUnavailableError(message, answered=False) from error
        except httpx.TimeoutException as error:
            raise InferenceTimeoutError(f"{name}: no answer within {self._timeout_s:g} s ({error!r})") from error
        except httpx.TransportError as error:
            raise GatewayUnavailableError(f"{name}: no answer from {self._url}: {error!r}", answered=False) from error
        route = last_route(response.headers.get(ROUTE_HEADER))
        if not response.is_success:
            raise _http_error(name, response, route)
        try:
            document, outputs = _read_outputs(response.content, response.headers.get(BINARY_HEADER))
            model_name = str(document["model_name"])
            return make_answer(outputs, len(bars), route, model_name, time.perf_counter() - began, identity)
        except (ValueError, KeyError, TypeError) as error:
            raise _malformed(name, error, route) from error

    def _ask_for_binary(self) -> bool | None:
        """Whether the server has the extension by its metadata; ``None`` while it does not answer for itself.

        A cluster's gateway has no such page: it answers 404.
        """
        response = self._http.get("/v2")
        if response.status_code != 200:
            return None if response.status_code >= 500 else False
        try:
            return BINARY_EXTENSION in orjson.loads(response.content)["extensions"]
        except (ValueError, KeyError, TypeError):  # another page than a V2 server's
            return False


def _read_outputs(content: bytes, json_length: str | None) -> tuple[dict[str, Any], list[tuple[str, np.ndarray]]]:
    """The JSON of an answer and its outputs in their order; raw ones are views of ``content``."""
    head = len(content) if json_length is None else int(json_length)
    document = orjson.loads(content[:head])
    outputs: list[tuple[str, np.ndarray]] = []
    for output in document["outputs"]:
        size, kind = output.get("parameters", {}).get(BINARY_SIZE), _dtype(output["name"], output["datatype"])
        if size is None:
            values = np.asarray(output["data"], kind)
        else:
            values = np.frombuffer(content, kind, size // kind.itemsize, head)
            head += size
        outputs.append((output["name"], values.reshape(output["shape"])))
    if json_length is not None and head != len(content):
        raise ValueError(f"{len(content)} bytes, of which JSON and outputs are {head}")
    return document, outputs


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype not in _DTYPES:
        raise ValueError(f"output {name} has datatype {datatype}; expected {', '.join(_DTYPES)}")
    return _DTYPES[datatype]


class GrpcTransport:
    """Raw tensors over gRPC.

    Parameters
    ----------
    target
        ``host:port`` of the gateway.
    timeout_s
        Deadline of a request.
    """

    def __init__(self, target: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        options = [
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.enable_http_proxy", 0),  # as over REST: no proxy from the environment comes between
            # By default a channel waits up to two minutes before it tries a gateway again that was away.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = grpc.insecure_channel(target, options=options)
        self._infer = self._channel.unary_unary(
            INFER_METHOD,
            response_deserializer=ModelInferResponse.FromString,
        )

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def send(self, name: str, bars: np.ndarray, headers: Mapping[str, str]) -> Answer:
        """Ask ``name`` once; raises the fitting :class:`InferenceError`."""
        began = time.perf_counter()
        identity = headers["x-request-id"]
        request = _message(name, identity, bars)
        try:
            response, call = self._infer.with_call(request, metadata=tuple(headers.items()), timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._error(name, error) from error
        route = last_route(_metadata(call).get(ROUTE_HEADER))
        try:
            outputs = [
                (output.name, np.frombuffer(content, _dtype(output.name, output.datatype)).reshape(output.shape))
                for output, content in zip(response.outputs, response.raw_output_contents, strict=True)
            ]
            latency_s = time.perf_counter() - began
            return make_answer(outputs, len(bars), route, response.model_name, latency_s, identity)
        except ValueError as error:
            raise _malformed(name, error, route) from error

    def _error(self, name: str, error: Any) -> InferenceError:
        code: grpc.StatusCode = error.code()
        route = last_route(_metadata(error).get(ROUTE_HEADER))
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"{name}: no answer within {self._timeout_s:g} s"
            return InferenceTimeoutError(message, status=code.name, route=route.model if route else None)
        kind = RequestRejectedError if code in _REJECTED else GatewayUnavailableError
        return _refusal(kind, name, code.name, str(error.details()), route)


def _message(name: str, identity: str, bars: np.ndarray) -> bytes:
    """A serialised ``ModelInferRequest``. Protobuf would copy the bars three times; here it is once."""
    request = ModelInferRequest(model_name=name, id=identity)
    request.inputs.add(name=INPUT, datatype="FP32", shape=bars.shape)
    length, left = bytearray(), bars.nbytes
    while left > 0x7F:  # a varint: seven bits a byte, the lowest first; all but the last byte have the eighth bit set
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return b"".join((request.SerializeToString(), _RAW_CONTENTS, length, bars.data.cast("B")))


def _http_error(name: str, response: httpx.Response, route: Route | None) -> InferenceError:
    try:
        text = str(orjson.loads(response.content)["error"])
    except (ValueError, KeyError, TypeError):
        text = response.text[:500]
    if response.status_code == 404 and not text:
        text = "the gateway has no such model, experiment or route"
    kind = RequestRejectedError if 400 <= response.status_code < 500 else GatewayUnavailableError
    return _refusal(kind, name, response.status_code, text or "(no text)", route)


def _refusal(
    kind: type[InferenceError], name: str, status: int | str, text: str, route: Route | None
) -> InferenceError:
    """The error of an answer that is not a forecast, with the arm that the gateway had drawn for it."""
    return kind(
        f"{name}: {status}: {text}",
        status=status,
        route=route.model if route else None,
        sticky=route.sticky if route else None,
        answered=status not in _NO_MODEL and _LOADING not in text,
    )


def _malformed(name: str, error: Exception, route: Route | None) -> GatewayUnavailableError:
    message = f"{name}: the answer is not a V2 answer: {error!r}"
    return GatewayUnavailableError(message, route=route.model if route else None)


def _metadata(call: Any) -> dict[str, str]:
    pairs: Iterable[tuple[str, str]] = (*(call.initial_metadata() or ()), *(call.trailing_metadata() or ()))
    return dict(pairs)
