"""Envoy's configuration, made from models and experiments: pure functions from values to documents.

The topology imitates the cluster's data plane, so that a client meets the same headers, the same stickiness and the same failures:

    public listener -> weighted or sticky cluster <model>_<n> -> agent listener (rewrites the path) -> MLServer
                                      \\-> mirror listener (names the shadow model) -> cluster of the shadow model -> agent ...

Numbers copied from there: no route timeout, five retries of 5xx from 0.5 s back-off, at most five concurrent retries a cluster,
``x-seldon-route`` absent on weighted routes, no retries and no mirror on sticky ones. Our own additions: the agent only passes
inference and metadata calls of models, gRPC is retried when MLServer is unreachable (``unavailable``, which HTTP sees as 503), bodies
are bounded, and each listener answers ``/-/revision`` with the revision that it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from financial_assets.serving.local.layout import LOOPBACK, Layout, Ports
from financial_assets.serving.manifests import ExperimentSpec

__all__ = ["MAX_BODY_BYTES", "REVISION_PATH", "Topology", "bootstrap", "clusters", "listeners", "route_configurations"]

Document = dict[str, Any]

MAX_BODY_BYTES = 64 * 2**20
REVISION_PATH = "/-/revision"
_MODEL_HEADER = "seldon-model"
_INTERNAL_HEADER = "seldon-internal-model"
_ROUTE_HEADER = "x-seldon-route"
_TYPE = "type.googleapis.com/envoy."
_HTTP_PREFIX = "/v2"
_GRPC_PREFIX = "/inference.GRPCInferenceService"
_PROTOCOLS = {"http": _HTTP_PREFIX, "grpc": _GRPC_PREFIX}
# The path's model goes into the header only if the client sent neither header: one that did has already chosen.
_HEADER_FILTER = """
function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get("seldon-model") == nil and headers:get("x-seldon-route") == nil then
    local model = string.match(headers:get(":path") or "", "^/v2/models/([^/?]+)")
    if model ~= nil then
      headers:add("seldon-model", model)
    end
  end
end
"""


@dataclass(frozen=True)
class Topology:
    """What the gateway routes to.

    Attributes
    ----------
    revision
        Increases with every publication.
    models
        Version number ``n`` of each served Model, by name.
    experiments
        The splits; every member must be among ``models``.
    """

    revision: int
    models: Mapping[str, int]
    experiments: Sequence[ExperimentSpec] = ()

    def route(self, model: str) -> str:
        """``<model>_<n>``."""
        return f"{model}_{self.models[model]}"


def bootstrap(layout: Layout, ports: Ports) -> Document:
    """The static part: who we are, the admin port, and where the dynamic files lie."""
    return {
        "node": {"id": "financial-assets-local", "cluster": "financial-assets"},
        "admin": {"address": _address(ports.admin)},
        "dynamic_resources": {
            "lds_config": _file(layout.envoy / "listeners.json"),
            "cds_config": _file(layout.envoy / "clusters.json"),
        },
    }


def listeners(layout: Layout, ports: Ports) -> Document:
    """The listeners; they stay the same while routes change."""
    lua = {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": f"{_TYPE}extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": _HEADER_FILTER},
        },
    }
    bounded = {
        "name": "envoy.filters.http.buffer",
        "typed_config": {"@type": f"{_TYPE}extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": MAX_BODY_BYTES},
    }
    public = _listener(layout, "public", ports.gateway, [lua, bounded])
    manager = public["filter_chains"][0]["filters"][0]["typed_config"]
    manager["access_log"] = [_failure_log(layout.logs / "gateway-failures.log")]
    return _response(
        "static",
        "config.listener.v3.Listener",
        [public, _listener(layout, "agent", ports.agent), _listener(layout, "mirror", ports.mirror)],
    )


def clusters(topology: Topology, ports: Ports, *, retiring: Iterable[str] = ()) -> Document:
    """One cluster a model version and protocol, all leading to the agent listener; MLServer and the mirror beside them.

    Parameters
    ----------
    topology
        What is served.
    ports
        Where.
    retiring
        Routes that no rule names any more but whose requests may still be under way.
    """
    routes = sorted({topology.route(model) for model in topology.models} | set(retiring))
    resources = [_cluster(f"{route}_{protocol}", ports.agent, protocol) for route in routes for protocol in _PROTOCOLS]
    resources += [_cluster(f"mirror_{protocol}", ports.mirror, protocol) for protocol in _PROTOCOLS]
    resources += [
        # MLServer's HTTP server closes connections that idle for 5 s: close them first, lest a request meet the closing.
        _cluster("mlserver_http", ports.mlserver_http, "http", idle="3s"),
        _cluster("mlserver_grpc", ports.mlserver_grpc, "grpc"),
    ]
    return _response(str(topology.revision), "config.cluster.v3.Cluster", resources)


def route_configurations(topology: Topology, *, retiring: Iterable[str] = ()) -> dict[str, Document]:
    """The routes of the listeners ``agent``, ``mirror`` and ``public``, in the order in which they must be published.

    Parameters
    ----------
    topology
        What is served.
    retiring
        Routes that the agent must still know while their last requests run.
    """
    routes = sorted({topology.route(model) for model in topology.models} | set(retiring))
    agent = [rule for route in routes for rule in _agent_routes(route)]
    mirror = [
        _mirror_route(header, topology.route(experiment.mirror[0]), protocol)
        for experiment in topology.experiments
        if experiment.mirror
        for header in _headers(experiment)
        for protocol in _PROTOCOLS
    ]
    public = [
        rule
        for header, weights, shadow in _endpoints(topology)
        for protocol in _PROTOCOLS
        for rule in _public_routes(header, weights, shadow, protocol)
    ]
    return {
        name: _route_configuration(name, topology.revision, rules)
        for name, rules in {"agent": agent, "mirror": mirror, "public": public}.items()
    }


def _headers(experiment: ExperimentSpec) -> tuple[str, str]:
    """Values of ``seldon-model`` that lead to an experiment: its own, and its default model's."""
    return f"{experiment.name}.experiment", experiment.default


def _endpoints(topology: Topology) -> list[tuple[str, dict[str, int], tuple[str, int] | None]]:
    """``(seldon-model value, weights by route, mirror)`` of every endpoint."""
    split = {experiment.default: experiment for experiment in topology.experiments}
    found: list[tuple[str, dict[str, int], tuple[str, int] | None]] = [
        (model, {topology.route(model): 1}, None) for model in sorted(topology.models) if model not in split
    ]
    for experiment in topology.experiments:
        weights = {topology.route(model): weight for model, weight in experiment.weights.items()}
        found += [(header, weights, experiment.mirror) for header in _headers(experiment)]
    return found


def _public_routes(header: str, weights: Mapping[str, int], mirror: tuple[str, int] | None, protocol: str) -> list[Document]:
    model = {"name": _MODEL_HEADER, "string_match": {"exact": header}}
    sticky = [
        {
            "match": {
                "prefix": _PROTOCOLS[protocol],
                "headers": [model, {"name": _ROUTE_HEADER, "string_match": {"contains": f":{route}:"}}],
            },
            "route": {"cluster": f"{route}_{protocol}", "timeout": "0s"},
            **_attribution(route),
        }
        for route in weights
    ]
    action: Document = {
        "weighted_clusters": {
            "clusters": [
                {"name": f"{route}_{protocol}", "weight": weight, **_attribution(route)} for route, weight in weights.items()
            ]
        },
        "timeout": "0s",
        "retry_policy": {
            "retry_on": "5xx,connect-failure" + (",unavailable" if protocol == "grpc" else ""),
            "num_retries": 5,
            "retry_back_off": {"base_interval": "0.5s"},
        },
    }
    if mirror is not None:
        fraction = {"default_value": {"numerator": mirror[1], "denominator": "HUNDRED"}}
        action["request_mirror_policies"] = [{"cluster": f"mirror_{protocol}", "runtime_fraction": fraction}]
    weighted = {
        "match": {
            "prefix": _PROTOCOLS[protocol],
            "headers": [model, {"name": _ROUTE_HEADER, "present_match": False}],
        },
        "route": action,
    }
    return [*(sticky if len(weights) > 1 else []), weighted]


def _agent_routes(route: str) -> list[Document]:
    chosen = [{"name": _INTERNAL_HEADER, "string_match": {"exact": route}}]
    # Only the name is replaced, as in the cluster: what follows it, such as a stray ".experiment", stays and is refused.
    rewrite = {"pattern": {"regex": r"^/v2/models/[\w-]+(?:/versions/\w+)?"}, "substitution": f"/v2/models/{route}"}
    return [
        {
            "match": {"prefix": "/v2/models/", "headers": chosen},
            "route": {"cluster": "mlserver_http", "timeout": "0s", "regex_rewrite": rewrite},
        },
        {
            "match": {
                # MLServer's service also loads and unloads models; that is not the gateway's business.
                "safe_regex": {"regex": rf"{_GRPC_PREFIX}/Model(Infer|Ready|Metadata)".replace(".", r"\.")},
                "headers": chosen,
            },
            "route": {"cluster": "mlserver_grpc", "timeout": "0s"},
        },
    ]


def _mirror_route(header: str, route: str, protocol: str) -> Document:
    return {
        "match": {
            "prefix": _PROTOCOLS[protocol],
            "headers": [{"name": _MODEL_HEADER, "string_match": {"exact": header}}],
        },
        "route": {"cluster": f"{route}_{protocol}", "timeout": "0s"},
        **_attribution(route),
    }


def _attribution(route: str) -> Document:
    return {
        "request_headers_to_remove": [_INTERNAL_HEADER],
        "request_headers_to_add": [{"header": {"key": _INTERNAL_HEADER, "value": route}}],
        "response_headers_to_add": [{"header": {"key": _ROUTE_HEADER, "value": f":{route}:"}}],
    }


def _route_configuration(name: str, revision: int, rules: list[Document]) -> Document:
    probe = {
        "match": {"path": REVISION_PATH},
        "direct_response": {"status": 200, "body": {"inline_string": str(revision)}},
    }
    configuration = {
        "name": name,
        "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [probe, *rules]}],
    }
    return _response(str(revision), "config.route.v3.RouteConfiguration", [configuration])


def _listener(layout: Layout, name: str, port: int, filters: Sequence[Document] = ()) -> Document:
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPE}extensions.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "rds": {"route_config_name": name, "config_source": _file(layout.envoy / f"routes-{name}.json")},
        "http_filters": [*filters, router],
        # The client's x-request-id is the key of the prediction log: keep it as it is, and give it back.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{_TYPE}extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
            }
        },
    }
    return {
        "name": name,
        "address": _address(port),
        # A second plane on the same port must fail to start, not share the traffic.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": MAX_BODY_BYTES,
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
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
    http_failure = {
        "status_code_filter": {
            "comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "financial_assets.failure_status"}}
        }
    }
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"or_filter": {"filters": [http_failure, {"response_flag_filter": {}}]}},
        "typed_config": {
            "@type": f"{_TYPE}extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": fields},
        },
    }


def _cluster(name: str, port: int, protocol: str, *, idle: str = "3600s") -> Document:
    version = "http2_protocol_options" if protocol == "grpc" else "http_protocol_options"
    return {
        "@type": f"{_TYPE}config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": MAX_BODY_BYTES,
        "circuit_breakers": {"thresholds": [{"max_retries": 5}]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": idle},
                "explicit_http_config": {version: {}},
            }
        },
    }


def _response(version: str, resource_type: str, resources: Sequence[Document]) -> Document:
    typed = [{"@type": f"{_TYPE}{resource_type}", **resource} for resource in resources]
    return {"version_info": version, "resources": typed}


def _address(port: int) -> Document:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _file(path: Path) -> Document:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}
