"""Who may ask for what: keys and scopes, or this machine alone; and how often."""

from __future__ import annotations

import base64
import inspect
import ipaddress
import math
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from financial_assets.api.errors import ApiError
from financial_assets.api.keys import ApiKey, KeyRing, Scope
from financial_assets.api.limits import RateLimit
from financial_assets.api.metrics import Metrics
from financial_assets.errors import SettingsError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_LOCAL_NAMES = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


class Access:
    """Decides about each request.

    Parameters
    ----------
    keys
        ``None``: no key is asked for, and only callers of this machine are answered.
    limit
        Of each key, or each address without keys.
    metrics
        Counts refusals.
    """

    def __init__(self, keys: KeyRing | None, limit: RateLimit, metrics: Metrics) -> None:
        self._keys = keys
        self._limit = limit
        self._metrics = metrics

    @property
    def open_to_this_machine(self) -> bool:
        """Whether no keys are configured."""
        return self._keys is None

    def admit(self, request: Request, *scopes: Scope) -> None:
        """Let a request pass whose key has one of the scopes.

        Raises
        ------
        ApiError
            401: no key, or an unknown one. 403: its scopes do not allow this, or the caller is elsewhere and there are
            no keys. 429: too many requests. 503: the file of keys is damaged.
        """
        host = request.client.host if request.client else ""
        if self._keys is None:
            self._only_this_machine(request, host)
            caller, own_limit = f"address {host}", None
            request.scope["caller"] = "local"
        else:
            key = self._identify(request, host)
            request.scope["caller"] = key.name
            self._check(key, *scopes)
            caller, own_limit = f"key {key.name}", key.requests_per_minute
        self._count(caller, own_limit)

    def require(self, request: Request, scope: Scope) -> None:
        """Ask for one scope more of a request that was let in, which is not counted again.

        Raises
        ------
        ApiError
            403: the key does not have it.
        """
        if self._keys is not None:
            self._check(self._identify(request, request.client.host if request.client else ""), scope)

    def _check(self, key: ApiKey, *scopes: Scope) -> None:
        if not set(scopes) & set(key.scopes):
            self._metrics.refused.labels("scope").inc()
            raise ApiError(
                403,
                "wrong_scope",
                f"the key {key.name} has the scopes {', '.join(key.scopes)}; this needs {' or '.join(scopes)}",
                f"ask for a key with it: `financial-assets api-key {key.name} --scope {scopes[0]}`",
            )

    def _count(self, caller: str, own_limit: int | None = None) -> None:
        wait = self._limit.take(caller, own_limit)
        if wait > 0:
            self._metrics.refused.labels("rate").inc()
            raise ApiError(
                429,
                "rate_limited",
                f"too many requests; the next one is answered in {wait:.1f} s",
                "wait as long as Retry-After says; API_REQUESTS_PER_MINUTE, or the key's own limit, allows more",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    def _identify(self, request: Request, host: str) -> ApiKey:
        assert self._keys is not None
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            secret = _password(secret)
        elif scheme.lower() != "bearer" or not secret:
            secret = request.headers.get("x-api-key", "")
        try:
            key = self._keys.find(secret.strip()) if secret else None
        except SettingsError as error:
            raise ApiError(503, "keys_unreadable", str(error), "correct the file on the server") from error
        if key is None:
            self._metrics.refused.labels("key").inc()
            self._count(f"unknown {host}")  # guessing is slowed down, too
            known = "is not known, or has expired" if secret else "is missing"
            raise ApiError(
                401,
                "unknown_key" if secret else "no_key",
                f"the API key {known}",
                "send `Authorization: Bearer <key>`; `financial-assets api-key NAME` on the server makes one",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return key

    def _only_this_machine(self, request: Request, host: str) -> None:
        # A page in this machine's browser can reach a port of it under a name of its own (DNS rebinding), but then the
        # header Host says so.
        if not is_loopback(host) or not _LOCAL_NAMES.fullmatch(request.headers.get("host", "")):
            self._metrics.refused.labels("address").inc()
            raise ApiError(
                403,
                "only_this_machine",
                "no API keys are configured, so only this machine is answered",
                "set API_KEYS_FILE; `financial-assets api-key NAME` makes a key",
            )


def _password(credentials: str) -> str:
    """Of basic authentication: for callers that send no header of their own, but take one from their URL."""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except ValueError:
        return "-"  # a key that nobody has
    return text.partition(":")[2] or "-"


def is_loopback(host: str) -> bool:
    """Whether an address, or the name ``localhost``, is this machine's own loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def route_class(*scopes: Scope) -> type[APIRoute]:
    """The class of routes that need one of some scopes, for ``APIRouter(route_class=...)``.

    Whoever may not ask is refused before anything else of the request is read. A route that takes the bare request and
    gives a ready response is called as it is: what the framework does for all others takes longer than such an answer.
    """

    class ScopedRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            answer: Handler = self.endpoint if _is_bare(self) else super().get_route_handler()

            async def admitted(request: Request) -> Response:
                access: Access = request.app.state.access
                access.admit(request, *scopes)
                return await answer(request)

            return admitted

    return ScopedRoute


def _is_bare(route: APIRoute) -> bool:
    signature = inspect.signature(route.endpoint, eval_str=True)
    taken = [parameter.annotation for parameter in signature.parameters.values()]
    return taken == [Request] and signature.return_annotation is Response and not route.dependant.dependencies
