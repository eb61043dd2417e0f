"""The gateway's routes, made from models and experiments: pure functions from values to documents.

The topology imitates the cluster's data plane, so that a client meets the same headers, the same stickiness and the
same failures:

    public listener -> weighted or sticky cluster <model>_<n> -> MLServer (renames the model)
                   `-> mirror listener (names the shadow model) -> cluster of the shadow model -> MLServer

Copied from there: no route timeout, five retries of 5xx from 0.5 s back-off on, ``x-seldon-route`` absent on weighted
routes, no retries and no mirror on sticky ones, the default model's own endpoint shares the split. The cluster's agent,
a second proxy that puts the chosen model version into the path, is missing: MLServer reads the version from the header
(``local/mlserver.py``), which saves each request one of two passes through Envoy. Our own additions: only inference and
metadata calls of models pass, gRPC is retried when MLServer is unreachable (``unavailable``, which REST sees as 503),
each listener answers ``/-/revision`` with the revision that it runs, the public one passes questions about the server
as a whole, and what no rule fits is a 404 that says what to send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from financial_assets.serving.local.envoy.documents import Document, discovery_response
from financial_assets.serving.local.limits import LARGE_BODY_BYTES
from financial_assets.serving.manifests import ExperimentSpec

REVISION_PATH = "/-/revision"
_HTTP_PREFIX = "/v2"
_GRPC_PREFIX = "/inference.GRPCInferenceService"
PROTOCOLS = {"http": _HTTP_PREFIX, "grpc": _GRPC_PREFIX}

# MLServer also streams, and serves pages about itself; its service also loads and unloads models. The gateway passes
# none of these.
_PASSED_PATHS = {
    "http": r"/v2/models/[^/]+(?:/versions/[^/]+)?(?:/infer|/ready)?",
    "grpc": r"/inference\.GRPCInferenceService/Model(Infer|Ready|Metadata)",
}
_TYPES = "type.googleapis.com/envoy"
_NO_LUA = {"envoy.filters.http.lua": {"@type": f"{_TYPES}.config.route.v3.FilterConfig", "disabled": True}}
# What the request filter does in Lua, Envoy does by itself where the route tells model and size: it collects a small
# body, and leaves a gRPC message alone.
_FILTERS: dict[str, Document] = {
    "http": {
        **_NO_LUA,
        "envoy.filters.http.buffer": {
            "@type": f"{_TYPES}.extensions.filters.http.buffer.v3.BufferPerRoute",
            "buffer": {"max_request_bytes": LARGE_BODY_BYTES},
        },
    },
    "grpc": _NO_LUA,
}
_LARGE_BODY = {"name": "content-length", "range_match": {"start": LARGE_BODY_BYTES, "end": 2**62}}
_ENCODED_BODY = {"name": "content-encoding", "present_match": True}  # a small one may decompress to a large one
_MODEL_HEADER = "seldon-model"
_INTERNAL_HEADER = "seldon-internal-model"
_ROUTE_HEADER = "x-seldon-route"
_SERVER_PATHS = ("/v2", "/v2/health/live", "/v2/health/ready")
_SERVER_METHODS = ("ServerLive", "ServerReady", "ServerMetadata")
_PASSED = (
    "the gateway passes POST /v2/models/<name>/infer, GET /v2/models/<name>, GET /v2/models/<name>/ready, "
    "GET /v2/health/ready, GET /v2/health/live and GET /v2, and over gRPC ModelInfer, ModelMetadata, ModelReady, "
    "ServerMetadata, ServerReady and ServerLive of inference.GRPCInferenceService"
)
# Envoy refuses a direct response of more than 4,096 bytes.
_NAMES_SHOWN = 8


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


def kinds(protocol: str) -> tuple[tuple[str, tuple[Document, ...]], ...]:
    """The kinds of requests of a protocol with clusters of their own, ``<route>_<kind>``, and their header rules.

    Only a few large bodies may be inside at a time. The first kind whose rules fit counts.
    """
    if protocol == "grpc":
        return (("grpc", ()),)
    return (("large", (_LARGE_BODY,)), ("large", (_ENCODED_BODY,)), ("http", ()))


CLUSTER_KINDS = tuple(dict.fromkeys(kind for protocol in PROTOCOLS for kind, _ in kinds(protocol)))
"""``http``, ``large`` and ``grpc``: each model version has a cluster of each."""


def route_configurations(topology: Topology) -> dict[str, Document]:
    """The routes of the listeners ``mirror`` and ``public``, in the order in which they must be published."""
    mirror = [
        _rule(_match(protocol, [_model(header), *sizes]), topology.route(experiment.mirror[0]), kind)
        for experiment in topology.experiments
        if experiment.mirror
        for header in _headers(experiment)
        for protocol in PROTOCOLS
        for kind, sizes in kinds(protocol)
    ]
    # Requests about the server as a whole go to MLServer directly, whatever model they name.
    paths = dict.fromkeys(_SERVER_PATHS, "mlserver_http")
    paths |= {f"{_GRPC_PREFIX}/{method}": "mlserver_grpc" for method in _SERVER_METHODS}
    endpoints = [
        rule
        for header, weights, shadow in _endpoints(topology)
        for protocol in PROTOCOLS
        for rule in _public_routes(header, weights, shadow, protocol)
    ]
    server = [_forward({"path": path}, cluster) for path, cluster in paths.items()]
    # Inference first: Envoy tries the rules in their order.
    public = [*endpoints, *server, *_refusals(topology)]
    return {
        name: _route_configuration(name, topology.revision, rules)
        for name, rules in {"mirror": mirror, "public": public}.items()
    }


def _headers(experiment: ExperimentSpec) -> tuple[str, ...]:
    """Values of ``seldon-model`` that lead to an experiment: its own, and its default model's if it has one."""
    own = f"{experiment.name}.experiment"
    return (own,) if experiment.default is None else (own, experiment.default)


def _endpoints(topology: Topology) -> list[tuple[str, dict[str, int], tuple[str, int] | None]]:
    """``(seldon-model value, weights by route, mirror)`` of every endpoint."""
    split = {experiment.default: experiment for experiment in topology.experiments}
    endpoints: list[tuple[str, dict[str, int], tuple[str, int] | None]] = [
        (model, {topology.route(model): 1}, None) for model in sorted(topology.models) if model not in split
    ]
    for experiment in topology.experiments:
        weights = {topology.route(model): weight for model, weight in experiment.weights.items()}
        endpoints += [(header, weights, experiment.mirror) for header in _headers(experiment)]
    return endpoints


def _public_routes(
    header: str, weights: Mapping[str, int], mirror: tuple[str, int] | None, protocol: str
) -> list[Document]:
    return [
        rule
        for kind, sizes in kinds(protocol)
        for rule in _routes_of_kind([_model(header), *sizes], weights, mirror, protocol, kind)
    ]


def _routes_of_kind(
    headers: list[Document], weights: Mapping[str, int], mirror: tuple[str, int] | None, protocol: str, kind: str
) -> list[Document]:
    sticky = [
        _rule(_match(protocol, [*headers, _header(_ROUTE_HEADER, contains=f":{route}:")]), route, kind)
        for route in weights
    ]
    action: Document = {
        "weighted_clusters": {
            "clusters": [
                {"name": f"{route}_{kind}", "weight": weight, **_attribution(route)}
                for route, weight in weights.items()
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
    unnamed = {"name": _ROUTE_HEADER, "present_match": False}
    return [
        *(sticky if len(weights) > 1 else []),
        {"match": _match(protocol, [*headers, unnamed]), "route": action, **_filters(kind)},
    ]


def _refusals(topology: Topology) -> list[Document]:
    """Answers of the public listener when no earlier rule fits; gRPC clients get the text as the status message."""
    names = sorted({header for header, _, _ in _endpoints(topology)})
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    served = ", ".join(names[:_NAMES_SHOWN]) + more if names else "nothing yet (`financial-assets status` shows why)"
    named = (
        f"the gateway has no such model or experiment: name one in the header {_MODEL_HEADER} (over REST, without "
        f"this header, the name in the path counts). Served: {served}"
    )
    stale = f"{_ROUTE_HEADER} names no arm that {_MODEL_HEADER} has now: leave {_ROUTE_HEADER} out. Else {named}"
    nothing = f"there is nothing at this address: {_PASSED}. Served: {served}"
    known = [_model(header) for header in names]
    is_stale = {"name": _ROUTE_HEADER, "present_match": True}
    return [
        *(_refusal(_match(protocol, [is_stale]), stale) for protocol in PROTOCOLS),
        *(
            _refusal({"prefix": prefix, "headers": [model]}, nothing)
            for model in known
            for prefix in PROTOCOLS.values()
        ),
        *(_refusal({"prefix": prefix}, named) for prefix in (f"{_HTTP_PREFIX}/models/", f"{_GRPC_PREFIX}/Model")),
        _refusal({"prefix": "/"}, nothing),
    ]


def _refusal(match: Document, text: str) -> Document:
    return {"match": match, "direct_response": {"status": 404, "body": {"inline_string": text}}}


def _rule(match: Document, route: str, kind: str) -> Document:
    """The rule that sends what matches to one model version."""
    return {**_forward(match, f"{route}_{kind}"), **_attribution(route), **_filters(kind)}


def _filters(kind: str) -> Document:
    return {"typed_per_filter_config": _FILTERS[kind]} if kind in _FILTERS else {}


def _forward(match: Document, cluster: str) -> Document:
    return {"match": match, "route": {"cluster": cluster, "timeout": "0s"}}


def _match(protocol: str, headers: list[Document]) -> Document:
    """A call about a model whose headers fit."""
    return {"safe_regex": {"regex": _PASSED_PATHS[protocol]}, "headers": headers}


def _model(name: str) -> Document:
    return _header(_MODEL_HEADER, exact=name)


def _header(name: str, **match: str) -> Document:
    return {"name": name, "string_match": match}


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
    hosts = [{"name": name, "domains": ["*"], "routes": [probe, *rules]}]
    configuration = {"name": name, "virtual_hosts": hosts}
    return discovery_response(str(revision), "config.route.v3.RouteConfiguration", [configuration])
