"""Envoy's bootstrap, listeners and clusters: pure functions from values to documents; ``routes.py`` has the routes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from financial_assets.serving.local import limits
from financial_assets.serving.local.envoy import protections
from financial_assets.serving.local.envoy.documents import (
    Document,
    at_status,
    discovery_response,
    extension,
    message,
)
from financial_assets.serving.local.envoy.routes import LARGE_CLUSTER, PROTOCOLS, Topology
from financial_assets.serving.local.layout import LOOPBACK, Layout, Ports

__all__ = ["bootstrap", "clusters", "listeners"]


def bootstrap(layout: Layout, ports: Ports) -> Document:
    """The static part: identity, admin port, and the location of the dynamic files."""
    return {
        "node": {"id": "financial-assets-local", "cluster": "financial-assets"},
        # The supervisor's health check must be answered however many connections clients hold.
        "admin": {"address": _address(ports.admin), "ignore_global_conn_limit": True},
        "dynamic_resources": {
            "lds_config": _file(layout.envoy / "listeners.json"),
            "cds_config": _file(layout.envoy / "clusters.json"),
        },
        **protections.memory_protections(),
    }


def listeners(layout: Layout, ports: Ports) -> Document:
    """The listeners; they stay the same while routes change."""
    code = {"inline_string": protections.request_filter()}
    lua = extension("envoy.filters.http.lua", "filters.http.lua.v3.Lua", default_source_code=code)
    public = _listener(layout, "public", ports.gateway, [lua])
    manager = public["filter_chains"][0]["filters"][0]["typed_config"]
    manager |= protections.http_protections()
    manager["access_log"] = [_failure_log(layout.logs / "gateway-failures.log")]
    public["ignore_global_conn_limit"] = False
    return discovery_response(
        "static",
        "config.listener.v3.Listener",
        [public, _listener(layout, "agent", ports.agent), _listener(layout, "mirror", ports.mirror)],
    )


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


def _listener(layout: Layout, name: str, port: int, filters: Sequence[Document] = ()) -> Document:
    request_id = message("extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        codec_type="AUTO",
        rds={"route_config_name": name, "config_source": _file(layout.envoy / f"routes-{name}.json")},
        http_filters=[*filters, extension("envoy.filters.http.router", "filters.http.router.v3.Router")],
        # The client's x-request-id is the key of the prediction log: keep it as it is, and give it back.
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_id_extension={"typed_config": request_id},
        http2_protocol_options=protections.http2_options(),
        **protections.local_replies(),
    )
    return {
        "name": name,
        "address": _address(port),
        # A second plane on the same port must fail to start, not share the traffic.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": limits.BUFFER_BYTES,
        # Only clients count: a request that was let in must find its way through the inner listeners.
        "ignore_global_conn_limit": True,
        "filter_chains": [{"filters": [manager]}],
    }


def _failure_log(path: Path) -> Document:
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "path": "%REQ(:PATH)%",
        "model": "%REQ(SELDON-MODEL)%",
        "route": "%RESP(X-SELDON-ROUTE)%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "flags": "%RESPONSE_FLAGS%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "milliseconds": "%DURATION%",
    }
    filters = [at_status("GE", 400, "failure_status"), {"response_flag_filter": {}}]
    kind = "extensions.access_loggers.file.v3.FileAccessLog"
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"or_filter": {"filters": filters}},
        "typed_config": message(kind, path=str(path), log_format={"json_format": fields}),
    }


def _cluster(name: str, port: int, protocol: str, *, idle: str = "3600s") -> Document:
    version = "http2_protocol_options" if protocol == "grpc" else "http_protocol_options"
    protocols = message(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        common_http_protocol_options={"idle_timeout": idle},
        explicit_http_config={version: {}},
    )
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": limits.BUFFER_BYTES,
        "circuit_breakers": protections.circuit_breakers(name),
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocols},
    }


def _address(port: int) -> Document:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _file(path: Path) -> Document:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}
