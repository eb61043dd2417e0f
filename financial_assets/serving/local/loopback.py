"""HTTP to the plane's own processes on this machine."""

from __future__ import annotations

from collections.abc import Mapping

import httpx


def fetch(
    url: str, *, method: str = "GET", timeout_s: float = 2.0, params: Mapping[str, str] | None = None
) -> httpx.Response:
    """One request; no proxy from the environment comes between, and no TLS certificates are loaded, as none are used.

    Raises
    ------
    httpx.TransportError
        No answer.
    """
    return httpx.request(method, url, params=params, timeout=timeout_s, trust_env=False, verify=False)
