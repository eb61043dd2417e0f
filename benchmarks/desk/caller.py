"""Questions to the HTTP interface over connections that are kept: little work for the client, checked answers."""

from __future__ import annotations

import asyncio
import json
import time

TICKERS = ("AAA", "BBB", "CCC", "DDD")
RISK = json.dumps({"positions": [{"ticker": name, "value": 1e5} for name in TICKERS]}).encode()
BOOK = json.dumps({"capital": 1e6, "constraints": {"per_name": 0.5, "turnover": 1.0}}).encode()

_IDLE_S = 10.0
"""Less than the 30 s after which the interface closes an idle connection."""


class Caller:
    """One connection that is kept; a client with less to do than the servers, so that these are what is measured."""

    def __init__(self, port: int, key: str = "") -> None:
        self._port = port
        self._headers = f"host: 127.0.0.1:{port}\r\n" + (f"authorization: Bearer {key}\r\n" if key else "")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: bytes = b"") -> int:
        """Send one request; the status of its answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        method = "POST" if body else "GET"
        content = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
        writer.write(f"{method} {path} HTTP/1.1\r\n{self._headers}{content}\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()


def question(number: int) -> tuple[str, bytes]:
    """Path and body of the n-th request: signals, every fiftieth about risk, every hundredth about a portfolio."""
    if number % 50:
        return f"/v1/signals/{TICKERS[number % len(TICKERS)]}", b""
    return ("/v1/portfolio", BOOK) if number % 100 == 0 else ("/v1/risk", RISK)


class Desk:
    """Sends such questions, each over a connection that no other one uses meanwhile.

    A connection that has been idle for long may be closed by the server just when the next question is on its way, so
    that it is not used again: what is kept for rushes would fail by itself otherwise.
    """

    def __init__(self, port: int, key: str = "") -> None:
        self._port, self._key = port, key
        self._idle: list[tuple[float, Caller]] = []

    async def send(self, number: int) -> None:
        """Ask once.

        Raises
        ------
        OSError, EOFError
            The server is gone, or said something else than the answer.
        """
        while self._idle and time.monotonic() - self._idle[0][0] > _IDLE_S:
            self._idle.pop(0)[1].close()
        caller = self._idle.pop()[1] if self._idle else Caller(self._port, self._key)
        try:
            status = await caller.ask(*question(number))
        except BaseException:
            caller.close()
            raise
        self._idle.append((time.monotonic(), caller))
        if status != 200:
            raise OSError(f"{question(number)[0]}: {status}")

    async def close(self) -> None:
        """End all connections."""
        for _, caller in self._idle:
            caller.close()
