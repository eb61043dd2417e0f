"""The gateway's routes, made from models and experiments: pure functions from values to documents.

The topology imitates the cluster's data plane, so that a client meets the same headers, the same stickiness and the
same failures:

    public listener -> weighted or sticky cluster <model>_<n> -> agent listener (rewrites the path) -> MLServer
                   `-> mirror listener (names the shadow model) -> cluster of the shadow model -> agent listener ...

Copied from there: no route timeout, five retries of 5xx from 0.5 s back-off on, ``x-seldon-route`` absent on weighted
routes, no retries and no mirror on sticky ones, the default model's own endpoint shares the split. Our own additions:
the agent only passes inference and metadata calls of models, gRPC is retried when MLServer is unreachable
(``unavailable``, which REST sees as 503), each listener answers ``/-/revision`` with the revision that it runs, the
public one passes questions about the server as a whole, and what no rule fits is a 404 that says what to send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from financial_assets.serving.local.envoy.documents import Document, discovery_response
from financial_assets.serving.local.limits import LARGE_BODY_BYTES
from financial_assets.serving.manifests import ExperimentSpec

REVISION_PATH = "/-/revision"
_HTTP_PREFIX = "/v2"
_GRPC_PREFIX = "/inference.GRPCInferenceService"
PROTOCOLS = {"http": _HTTP_PREFIX, "grpc": _GRPC_PREFIX}
LARGE_CLUSTER = "mlserver_large"
"""MLServer's HTTP port for requests with large bodies, only a few of which may be inside at a time."""

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
    agent = [rule for route in routes for rule in _agent_routes(route)] + [_refusal("/", _PASSED)]
    mirror = [
        _rule(_prefix(protocol, _model(header)), topology.route(experiment.mirror[0]), protocol)
        for experiment in topology.experiments
        if experiment.mirror
        for header in _headers(experiment)
        for protocol in PROTOCOLS
    ]
    # Requests about the server as a whole go to MLServer directly, whatever model they name.
    paths = dict.fromkeys(_SERVER_PATHS, "mlserver_http")
    paths |= {f"{_GRPC_PREFIX}/{method}": "mlserver_grpc" for method in _SERVER_METHODS}
    public = [_forward({"path": path}, cluster) for path, cluster in paths.items()]
    public += [
        rule
        for header, weights, shadow in _endpoints(topology)
        for protocol in PROTOCOLS
        for rule in _public_routes(header, weights, shadow, protocol)
    ]
    public += _refusals(topology)
    return {
        name: _route_configuration(name, topology.revision, rules)
        for name, rules in {"agent": agent, "mirror": mirror, "public": public}.items()
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
    model = _model(header)
    sticky = [
        _rule(_prefix(protocol, model, _header(_ROUTE_HEADER, contains=f":{route}:")), route, protocol)
        for route in weights
    ]
    action: Document = {
        "weighted_clusters": {
            "clusters": [
                {"name": f"{route}_{protocol}", "weight": weight, **_attribution(route)}
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
    weighted = {"match": _prefix(protocol, model, {"name": _ROUTE_HEADER, "present_match": False}), "route": action}
    return [*(sticky if len(weights) > 1 else []), weighted]


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
    return [
        *(
            _refusal(prefix, text, headers)
            for text, headers in ((stale, [{"name": _ROUTE_HEADER, "present_match": True}]), (named, []))
            for prefix in (f"{_HTTP_PREFIX}/models/", f"{_GRPC_PREFIX}/Model")
        ),
        _refusal("/", f"there is nothing at this address: {_PASSED}. Served: {served}"),
    ]


def _refusal(prefix: str, text: str, headers: Sequence[Document] = ()) -> Document:
    match: Document = {"prefix": prefix, "headers": list(headers)} if headers else {"prefix": prefix}
    return {"match": match, "direct_response": {"status": 404, "body": {"inline_string": text}}}


def _agent_routes(route: str) -> list[Document]:
    chosen = _header(_INTERNAL_HEADER, exact=route)
    # Only the name is replaced, as in the cluster: a stray suffix such as ".experiment" stays and is refused.
    rewrite = {"pattern": {"regex": r"^/v2/models/[\w-]+(?:/versions/\w+)?"}, "substitution": f"/v2/models/{route}"}
    # MLServer also streams, and serves pages about itself; its service also loads and unloads models. The gateway
    # passes none of these.
    passed = {"safe_regex": {"regex": r"/v2/models/[^/]+(?:/versions/[^/]+)?(?:/infer|/ready)?"}}
    passed_methods = {"safe_regex": {"regex": rf"{_GRPC_PREFIX}/Model(Infer|Ready|Metadata)".replace(".", r"\.")}}
    servers = (([_LARGE_BODY], LARGE_CLUSTER), ([_ENCODED_BODY], LARGE_CLUSTER), ([], "mlserver_http"))
    return [
        *(
            _forward({**passed, "headers": [chosen, *sizes]}, server, regex_rewrite=rewrite)
            for sizes, server in servers
        ),
        _forward({**passed_methods, "headers": [chosen]}, "mlserver_grpc"),
    ]


def _rule(match: Document, route: str, protocol: str) -> Document:
    """The rule that sends what matches to one model version."""
    return {**_forward(match, f"{route}_{protocol}"), **_attribution(route)}


def _forward(match: Document, cluster: str, **more: object) -> Document:
    return {"match": match, "route": {"cluster": cluster, "timeout": "0s", **more}}


def _prefix(protocol: str, *headers: Document) -> Document:
    return {"prefix": PROTOCOLS[protocol], "headers": list(headers)}


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
