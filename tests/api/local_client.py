"""A client that calls an application in this process, one request after the other or many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import httpx
from fastapi import FastAPI

LOCAL = ("127.0.0.1", 50000)


class LocalClient:
    """Runs the application's lifespan and its requests in one event loop of its own."""

    def __init__(self, app: FastAPI, client: tuple[str, int] = LOCAL) -> None:
        self.app = app
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app=app, client=client)
        self.asynchronous = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None)
        self._lifespan = app.router.lifespan_context(app)

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self.run(self._lifespan.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.asynchronous.aclose())
        self.run(self._lifespan.__aexit__(None, None, None))
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        found: httpx.Response = self.run(self.asynchronous.request(method, path, **more))
        return found
