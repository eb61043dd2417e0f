"""Asynchronous clients that check every answer: many requests in flight from one thread."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import grpc
import httpx
import numpy as np
import orjson

from financial_assets.serving.client.answers import ROUTE_HEADER
from financial_assets.serving.client.protocol import BINARY_HEADER, INFER_METHOD, ModelInferRequest, ModelInferResponse
from financial_assets.serving.client.transport import binary_request_body

DEADLINE_S = 60.0


class WrongAnswerError(Exception):
    """An answer that is not that of the request."""


class RestSender:
    """REST with raw tensors behind the JSON."""

    def __init__(self, url: str, name: str, bars: np.ndarray, headers: Mapping[str, str]) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
        self._http = httpx.AsyncClient(base_url=url, limits=limits, timeout=DEADLINE_S, trust_env=False, verify=False)
        self._path, self._bars, self._headers = f"/v2/models/{name}/infer", bars, headers

    async def send(self, number: int) -> None:
        """Ask once."""
        identity = f"load-{number}"
        body, length = binary_request_body(self._bars[number % len(self._bars)], identity)
        headers = {
            "content-type": "application/octet-stream",
            BINARY_HEADER: str(length),
            "x-request-id": identity,
            **self._headers,
        }
        response = await self._http.post(self._path, content=body, headers=headers)
        if response.status_code != 200:
            raise WrongAnswerError(f"{response.status_code}: {response.text[:200]}")
        document = orjson.loads(response.content[: int(response.headers[BINARY_HEADER])])
        check(document["id"], identity, response.headers.get(ROUTE_HEADER), self._headers)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()


class GrpcSender:
    """gRPC with raw tensors, over as many connections as the streams of one allow."""

    def __init__(self, target: str, name: str, bars: np.ndarray, headers: Mapping[str, str]) -> None:
        # Channels with equal options would share one connection.
        self._channels = [grpc.aio.insecure_channel(target, [("number", number)]) for number in range(4)]
        self._asks = [
            channel.unary_unary(
                INFER_METHOD,
                request_serializer=ModelInferRequest.SerializeToString,
                response_deserializer=ModelInferResponse.FromString,
            )
            for channel in self._channels
        ]
        self._turns = itertools.cycle(self._asks)
        self._name, self._bars, self._headers = name, bars, headers

    async def send(self, number: int) -> None:
        """Ask once."""
        identity = f"load-{number}"
        bars = self._bars[number % len(self._bars)]
        request = ModelInferRequest(model_name=self._name, id=identity)
        request.inputs.add(name="bars", datatype="FP32", shape=bars.shape)
        request.raw_input_contents.append(bars.tobytes())
        metadata = (("x-request-id", identity), *self._headers.items())
        call = next(self._turns)(request, metadata=metadata, timeout=DEADLINE_S)
        response: Any = await call
        route = dict(await call.initial_metadata()).get(ROUTE_HEADER)
        check(response.id, identity, route, self._headers)

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels:
            await channel.close()


Sender = RestSender | GrpcSender


def check(returned: str, identity: str, route: str | bytes | None, headers: Mapping[str, str]) -> None:
    """Through the gateway, which is asked by ``headers``, an answer names its route."""
    if returned != identity:
        raise WrongAnswerError(f"asked as {identity}, answered as {returned}")
    if headers and not route:
        raise WrongAnswerError(f"{identity} was answered without a route")
