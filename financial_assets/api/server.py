"""The server process: binds, says where it answers, and ends once the requests in flight are answered."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from financial_assets.api.access import is_loopback
from financial_assets.errors import SettingsError
from financial_assets.settings import Settings

_BACKLOG = 2048


def run_server(
    make_app: Callable[[], FastAPI], settings: Settings, host: str, port: int, announce: Callable[[str], object]
) -> None:
    """Serve until SIGTERM or Ctrl-C; call it from the main thread.

    New connections are refused from then on, and requests in flight are answered for at most ``API_DRAIN_SECONDS``.

    Parameters
    ----------
    make_app
        Called once the address is known to be ours.
    settings
        Drain time, and whether there are keys.
    host, port
        Where to listen; port 0 takes a free one.
    announce
        Told what it answers, once it does.

    Raises
    ------
    SettingsError
        The address cannot be listened on, or is not this machine's own while there are no keys.
    """
    if settings.api_keys_file is None and not is_loopback(host):
        raise SettingsError(
            f"API_HOST={host}: without API keys only this machine is answered (127.0.0.1); set API_KEYS_FILE "
            "(`financial-assets api-key NAME` makes a key) to listen elsewhere"
        )
    listener = _listen(host, port)
    try:
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        who = (
            "this machine only: no API_KEYS_FILE is set"
            if settings.api_keys_file is None
            else "callers with an API key"
        )
        server = _Server(make_app(), settings.api_drain_seconds, lambda: announce(f"{url} answers {who}; {url}/docs"))
        server.run(sockets=[listener])
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """Takes signals without passing them on after the end, so that a drained server has ended well (status 0)."""

    def __init__(self, app: FastAPI, drain_s: float, started: Callable[[], object]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=round(drain_s),
            lifespan="on",
        )
        super().__init__(config)
        self._app = app
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._when_started()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: object) -> None:
        self._app.state.draining = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _refused(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def _refused(host: str, port: int, error: OSError) -> SettingsError:
    return SettingsError(f"cannot listen on API_HOST={host}, API_PORT={port} ({error}); port 0 takes a free one")
