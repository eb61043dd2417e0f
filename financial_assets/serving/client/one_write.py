"""HTTP requests that leave in one piece.

``httpcore`` writes the headers of a request and then its body. Each write wakes every process on the way: the gateway
reads the headers, waits for the body that is already there, and so does the server. Joined, a request of one row costs
client, gateway and server a wakening less each.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

_JOINED_BYTES = 64 * 2**10
"""Larger bodies follow their headers: copying them would cost more than a wakening."""

_CONNECTIONS, _KEPT_ALIVE, _KEPT_ALIVE_S = 100, 20, 5.0  # as httpx has them


class OneWriteTransport(httpx.HTTPTransport):
    """``httpx.HTTPTransport`` without any proxy; headers and a short body are one write.

    Parameters
    ----------
    verify
        Whether the certificate of an https server is checked.
    """

    def __init__(self, *, verify: bool) -> None:
        super().__init__(verify=False, trust_env=False)  # its pool is never used
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(verify=verify, trust_env=False),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_KEPT_ALIVE,
            keepalive_expiry=_KEPT_ALIVE_S,
            network_backend=_Backend(),
        )


class _Backend(httpcore.NetworkBackend):
    """Connections whose streams join."""

    def __init__(self) -> None:
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return OneWriteStream(self._sockets.connect_tcp(host, port, timeout, local_address, socket_options))


class OneWriteStream(httpcore.NetworkStream):
    """Holds the first write after a read, which is the headers, back until the next one.

    There always is one: at a message's end ``httpcore`` writes what is left, if nothing else than nothing.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._head: bytes | None = None
        self._begins = True

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, or hold back."""
        if self._begins:
            self._head, self._begins = buffer, False
            return
        if self._head is not None and len(buffer) > _JOINED_BYTES:
            self._flush(timeout)
        head, self._head = self._head or b"", None
        self._stream.write(head + buffer if head else buffer, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read; what was held back is written before, or its answer would never come."""
        self._flush(timeout)
        self._begins = True
        return self._stream.read(max_bytes, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection, encrypted."""
        return OneWriteStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What ``httpcore`` asks of a stream."""
        return self._stream.get_extra_info(info)

    def _flush(self, timeout: float | None) -> None:
        head, self._head = self._head, None
        if head:
            self._stream.write(head, timeout)
