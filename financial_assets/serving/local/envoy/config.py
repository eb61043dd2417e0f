"""Envoy's bootstrap, listeners and clusters: pure functions from values to documents; ``routes.py`` has the routes."""

from __future__ import annotations

import json
from collections.abc import Iterable

from financial_assets.serving.local import limits
from financial_assets.serving.local.envoy.documents import Document, discovery_response, document, source
from financial_assets.serving.local.envoy.routes import LARGE_CLUSTER, PROTOCOLS, Topology
from financial_assets.serving.local.layout import Layout, Ports

_RETRIES = 5  # as in the cluster
_MOST_INSIDE_AND_WAITING = {
    "mlserver_http": (limits.INSIDE, limits.WAITING),
    LARGE_CLUSTER: (limits.LARGE_INSIDE, limits.LARGE_WAITING),
    "mlserver_grpc": (limits.GRPC_INSIDE, limits.GRPC_INSIDE),
}


def bootstrap(layout: Layout, ports: Ports) -> Document:
    """The static part: identity, admin port, memory, and the location of the dynamic files."""
    listeners, clusters = (str(layout.envoy / f"{name}.json") for name in ("listeners", "clusters"))
    return document("bootstrap", admin=ports.admin, listeners=listeners, clusters=clusters)


def listeners(layout: Layout, ports: Ports) -> Document:
    """The listeners; they stay the same while routes change."""
    public, agent, mirror = (
        document(
            "listener",
            name=name,
            port=port,
            routes=str(layout.envoy / f"routes-{name}.json"),
            connection_window=4 * limits.BUFFER_BYTES,
        )
        for name, port in (("public", ports.gateway), ("agent", ports.agent), ("mirror", ports.mirror))
    )
    manager = public["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"].insert(0, document("request_filter", code=_request_filter()))
    manager |= document("public_connections", failures=str(layout.logs / "gateway-failures.log"))
    public["ignore_global_conn_limit"] = False
    return discovery_response("static", "config.listener.v3.Listener", [public, agent, mirror])


def _request_filter() -> str:
    # In Lua: the path's model goes into the header only if the client sent neither header: one that did has already
    # chosen. Calling body() buffers a body. A gRPC message is never buffered: MLServer refuses a long one by the length
    # in its first bytes, with RESOURCE_EXHAUSTED; the gateway's own refusal would reach the client as UNKNOWN.
    values = {
        "GRPC": json.dumps(PROTOCOLS["grpc"]),
        "LIMIT": str(limits.REST_BODY_BYTES),
        "LARGE": str(limits.LARGE_BODY_BYTES),
        "TOO_LARGE": json.dumps(json.dumps({"error": limits.TOO_LARGE})),
    }
    return "\n".join([*(f"local {name} = {value}" for name, value in values.items()), "", source("request_filter.lua")])


def clusters(topology: Topology, ports: Ports, *, retiring: Iterable[str] = ()) -> Document:
    """One cluster per model version and protocol, all leading to the agent listener, plus MLServer and the mirror.

    Parameters
    ----------
    topology
        What is served.
    ports
        Where.
    retiring
        Routes that no rule names any more, but whose requests may still be running.
    """
    routes = sorted({topology.route(model) for model in topology.models} | set(retiring))
    resources = [_cluster(f"{route}_{protocol}", ports.agent, protocol) for route in routes for protocol in PROTOCOLS]
    resources += [_cluster(f"mirror_{protocol}", ports.mirror, protocol) for protocol in PROTOCOLS]
    resources += [
        # MLServer closes connections that are idle for 5 s. Envoy closes them earlier, so that no request is sent on a
        # connection that is being closed.
        _cluster("mlserver_http", ports.mlserver_http, "http", idle="3s"),
        _cluster(LARGE_CLUSTER, ports.mlserver_http, "http", idle="3s"),
        _cluster("mlserver_grpc", ports.mlserver_grpc, "grpc"),
    ]
    return discovery_response(str(topology.revision), "config.cluster.v3.Cluster", resources)


def _cluster(name: str, port: int, protocol: str, *, idle: str = "3600s") -> Document:
    version = "http2_protocol_options" if protocol == "grpc" else "http_protocol_options"
    thresholds: Document = {"max_retries": _RETRIES}
    if name in _MOST_INSIDE_AND_WAITING:
        inside, waiting = _MOST_INSIDE_AND_WAITING[name]
        thresholds |= {"max_connections": inside, "max_pending_requests": waiting, "max_requests": inside}
    return document("cluster", name=name, port=port, thresholds=thresholds, idle=idle, protocol={version: {}})
