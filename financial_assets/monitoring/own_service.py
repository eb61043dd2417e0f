"""One GET to a service of our own, Alertmanager or Prometheus: within a deadline, no password in any error."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import httpx

from financial_assets.redaction import harmless, reveal, without_user

_MOST_BYTES = 64 * 2**20
"""Some 100,000 alerts; a longer answer does not come from a working service."""


def get(
    url: str, path: str, parameters: Mapping[str, str], timeout_s: float, fail: Callable[[str], Exception]
) -> tuple[int, str, bytes]:
    """Status, its phrase, and the body.

    httpx limits each wait but not their sum, so a server that sends byte by byte is cut off here.

    Parameters
    ----------
    url
        Base URL, with the route prefix if it has one; a user and password in it are sent as basic authentication.
    path, parameters
        What is asked for.
    timeout_s
        Longest wait for the whole answer.
    fail
        Makes the error that is raised from what went wrong, in words.
    """
    deadline = time.monotonic() + timeout_s
    content = bytearray()
    # Sent apart from the address, which httpx writes into its log.
    address, user = without_user(reveal(url))
    name, _, password = user.partition(":")
    login = httpx.BasicAuth(name, password) if user else None
    try:
        # The service is our own: no proxy from the environment may come between.
        with (
            httpx.Client(timeout=timeout_s, trust_env=False, verify=address.startswith("https:")) as client,
            client.stream("GET", f"{address.rstrip('/')}{path}", params=parameters, auth=login) as response,
        ):
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise fail(f"its answer is longer than {_MOST_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise fail(f"its answer was not complete within {timeout_s:g} s")
            return response.status_code, response.reason_phrase, bytes(content)
    except httpx.TimeoutException as error:
        raise fail(f"no answer within {timeout_s:g} s ({error!r})") from harmless(error)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(repr(error)) from harmless(error)
