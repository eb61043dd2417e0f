"""Envoy's bootstrap, listeners and clusters: pure functions from values to documents; ``routes.py`` has the routes."""

from __future__ import annotations

import json
from collections.abc import Iterable

from financial_assets.serving.local import limits
from financial_assets.serving.local.envoy.documents import Document, discovery_response, document, source
from financial_assets.serving.local.envoy.routes import CLUSTER_KINDS, PROTOCOLS, Topology
from financial_assets.serving.local.layout import Layout, Ports

_RETRIES = 5  # as in the cluster
# Requests inside MLServer and in front of it, by kind of cluster.
_MOST = {
    "http": (limits.INSIDE, limits.WAITING),
    "large": (limits.LARGE_INSIDE, limits.LARGE_WAITING),
    "grpc": (limits.GRPC_INSIDE, limits.WAITING),
}


def bootstrap(layout: Layout, ports: Ports) -> Document:
    """The static part: identity, admin port, memory, and the location of the dynamic files."""
    listeners, clusters = (str(layout.envoy / f"{name}.json") for name in ("listeners", "clusters"))
    return document("bootstrap", admin=ports.admin, listeners=listeners, clusters=clusters)


def listeners(layout: Layout, ports: Ports) -> Document:
    """The listeners; they stay the same while routes change."""
    public, mirror = (
        document(
            "listener",
            name=name,
            port=port,
            routes=str(layout.envoy / f"routes-{name}.json"),
            connection_window=4 * limits.BUFFER_BYTES,
        )
        for name, port in (("public", ports.gateway), ("mirror", ports.mirror))
    )
    manager = public["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"][:0] = [document("request_filter", code=_request_filter()), document("body_filter")]
    manager |= document("public_connections", failures=str(layout.logs / "gateway-failures.log"))
    public["ignore_global_conn_limit"] = False
    return discovery_response("static", "config.listener.v3.Listener", [public, mirror])


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
    """Three clusters per model version, all leading to MLServer, plus MLServer as a whole and the mirror.

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
    server = {"http": ports.mlserver_http, "large": ports.mlserver_http, "grpc": ports.mlserver_grpc}
    resources = [_cluster(f"{route}_{kind}", server[kind], kind) for route in routes for kind in CLUSTER_KINDS]
    resources += [_cluster(f"mlserver_{protocol}", server[protocol], protocol) for protocol in PROTOCOLS]
    resources += [_mirror_cluster(protocol, ports.mirror) for protocol in PROTOCOLS]
    return discovery_response(str(topology.revision), "config.cluster.v3.Cluster", resources)


def _cluster(name: str, port: int, kind: str) -> Document:
    inside, waiting = _MOST[kind]
    # What does not fit waits. Over HTTP/2 the limit is that of the streams on the only connection; that of requests
    # must not be met before it, because it refuses.
    connections, requests = (1, inside + waiting) if kind == "grpc" else (inside, inside)
    thresholds = {
        "max_connections": connections,
        "max_pending_requests": waiting,
        "max_requests": requests,
        "max_retries": _RETRIES,
    }
    protocol: Document = {"http_protocol_options": {}}
    if kind == "grpc":
        protocol = {"http2_protocol_options": {"max_concurrent_streams": inside}}
    # MLServer closes HTTP connections that are idle for 5 s. Envoy closes them earlier, so that no request is sent on a
    # connection that is being closed.
    idle = "3600s" if kind == "grpc" else "3s"
    return document("cluster", name=name, port=port, thresholds=thresholds, idle=idle, protocol=protocol)


def _mirror_cluster(protocol: str, port: int) -> Document:
    version = "http2_protocol_options" if protocol == "grpc" else "http_protocol_options"
    thresholds = {"max_retries": _RETRIES}
    name = f"mirror_{protocol}"
    return document("cluster", name=name, port=port, thresholds=thresholds, idle="3600s", protocol={version: {}})
