"""The exporter: answers scrapes until it is told to end."""

from __future__ import annotations

import signal
from collections.abc import Callable

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from financial_assets.errors import SettingsError


def run_exporter(
    collector: Collector, port: int, announce: Callable[[str], object], *, host: str = "127.0.0.1"
) -> None:
    """Serve ``/metrics`` until Ctrl-C (SIGINT) or SIGTERM; call it from the main thread.

    Parameters
    ----------
    collector
        Asked at each scrape.
    port
        0 takes a free one.
    announce
        Told the URL once scrapes are answered.
    host
        Address to listen on; ``0.0.0.0`` in a pod, which Prometheus reaches from elsewhere.

    Raises
    ------
    SettingsError
        The port is taken, or the address is not this machine's.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    ends = {signal.SIGINT, signal.SIGTERM}
    # Blocked before the server's threads begin, which inherit it: then only the wait below takes them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        try:
            server, thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise SettingsError(f"--port {port}: cannot listen on {host} ({error}); 0 takes a free port") from error
        announce(f"http://{host}:{server.server_port}/metrics")
        signal.sigwait(ends)
        server.shutdown()
        server.server_close()
        thread.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
