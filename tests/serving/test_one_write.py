"""A request leaves in one piece, whatever it is made of."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.serving.client.one_write import OneWriteStream, OneWriteTransport


class Recorded(httpcore.NetworkStream):
    """A stream that keeps what is written and has an answer for every reader."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.writes.append(buffer)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return b"answer"


def test_headers_and_body_are_one_write_of_each_message() -> None:
    recorded = Recorded()
    stream = OneWriteStream(recorded)
    for body in (b"first", b"second"):
        for part in (b"POST / HTTP/1.1\r\n\r\n", body, b""):
            stream.write(part)
        assert stream.read(100) == b"answer"
    heads = [write for write in recorded.writes if write]
    assert heads == [b"POST / HTTP/1.1\r\n\r\nfirst", b"POST / HTTP/1.1\r\n\r\nsecond"]


def test_a_message_without_body_is_written_at_its_end() -> None:
    recorded = Recorded()
    stream = OneWriteStream(recorded)
    stream.write(b"GET / HTTP/1.1\r\n\r\n")
    assert not recorded.writes
    stream.write(b"")
    assert recorded.writes == [b"GET / HTTP/1.1\r\n\r\n"]


def test_a_large_body_is_not_copied() -> None:
    recorded, body = Recorded(), bytes(2**20)
    stream = OneWriteStream(recorded)
    stream.write(b"POST / HTTP/1.1\r\n\r\n")
    stream.write(body)
    assert recorded.writes[0] == b"POST / HTTP/1.1\r\n\r\n"
    assert recorded.writes[1] is body


@given(messages=st.lists(st.lists(st.binary(max_size=100_000), min_size=1, max_size=5), min_size=1, max_size=3))
def test_what_was_written_arrives_before_anybody_reads(messages: list[list[bytes]]) -> None:
    recorded = Recorded()
    stream = OneWriteStream(recorded)
    for number, message in enumerate(messages):
        for part in message:
            stream.write(part)
        stream.read(1)
        assert b"".join(recorded.writes) == b"".join(part for sent in messages[: number + 1] for part in sent)


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers whatever comes in one piece and keeps it."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while piece := connection.recv(2**20):
                    received.append(piece)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", received
        thread.join(10)
        assert not thread.is_alive()


def test_over_a_socket_and_its_kept_connection(server: tuple[str, list[bytes]]) -> None:
    url, received = server
    with httpx.Client(transport=OneWriteTransport(verify=False), base_url=url) as client:
        for body in (b"a" * 7000, b"b" * 7000):
            assert client.post("/v2", content=body).text == "ok"
        assert client.get("/v2").text == "ok"
    first, second, third = received
    assert first.startswith(b"POST /v2 HTTP/1.1")
    assert first.endswith(b"a" * 7000)
    assert second.endswith(b"b" * 7000)
    assert third.startswith(b"GET /v2 HTTP/1.1")
