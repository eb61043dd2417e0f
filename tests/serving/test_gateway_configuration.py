from __future__ import annotations

import copy
import gc
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.serving.local import limits, mlserver
from financial_assets.serving.local.configuration import envoy_binary, plane_specs, static_files
from financial_assets.serving.local.envoy.config import bootstrap, clusters, listeners
from financial_assets.serving.local.envoy.routes import CLUSTER_KINDS, Topology, route_configurations
from financial_assets.serving.local.layout import Layout, Ports
from financial_assets.serving.manifests import ExperimentSpec

PORTS = Ports(*range(20001, 20007))
SPLIT = ExperimentSpec("ab-experiment", "a", {"a": 70, "b": 30}, ("c", 25))
TOPOLOGY = Topology(7, {"a": 1, "b": 4, "c": 2}, [SPLIT])


def rules(name: str, topology: Topology = TOPOLOGY) -> list[dict[str, Any]]:
    document = route_configurations(topology)[name]
    [configuration] = document["resources"]
    assert configuration["name"] == name
    [host] = configuration["virtual_hosts"]
    return host["routes"][1:]  # the first tells the revision


def header(rule: dict[str, Any], name: str) -> dict[str, Any] | None:
    found = [h for h in rule["match"].get("headers", []) if h["name"] == name]
    return found[0] if found else None


CALLS = {"http": "/v2/models/x/infer", "grpc": "/inference.GRPCInferenceService/ModelInfer"}
SIZES = ("content-length", "content-encoding")


def passes(rule: dict[str, Any], path: str) -> bool:
    regex = rule["match"].get("safe_regex", {}).get("regex")
    return regex is not None and re.fullmatch(regex, path) is not None


def for_model(
    value: str, protocol: str, topology: Topology = TOPOLOGY, *, size: str | None = None
) -> list[dict[str, Any]]:
    """The rules for inference with a model, those with a rule about a header of the body's size, or without any."""

    def matches(rule: dict[str, Any]) -> bool:
        model = header(rule, "seldon-model")
        sizes = [name for name in SIZES if header(rule, name)]
        return model is not None and model["string_match"]["exact"] == value and sizes == ([size] if size else [])

    return [rule for rule in rules("public", topology) if passes(rule, CALLS[protocol]) and matches(rule)]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("endpoint", ["ab-experiment.experiment", "a"])
def test_an_experiment_answers_on_its_own_and_its_defaults_endpoint(endpoint: str, protocol: str) -> None:
    *sticky, weighted = for_model(endpoint, protocol)
    assert [header(rule, "x-seldon-route") for rule in sticky] == [
        {"name": "x-seldon-route", "string_match": {"contains": ":a_1:"}},
        {"name": "x-seldon-route", "string_match": {"contains": ":b_4:"}},
    ]
    assert header(weighted, "x-seldon-route") == {"name": "x-seldon-route", "present_match": False}
    arms = weighted["route"]["weighted_clusters"]["clusters"]
    assert [(arm["name"], arm["weight"]) for arm in arms] == [(f"a_1_{protocol}", 70), (f"b_4_{protocol}", 30)]
    assert arms[1]["request_headers_to_remove"] == ["seldon-internal-model"]
    assert arms[1]["request_headers_to_add"][0]["header"] == {"key": "seldon-internal-model", "value": "b_4"}
    assert arms[1]["response_headers_to_add"][0]["header"] == {"key": "x-seldon-route", "value": ":b_4:"}


def test_an_experiment_without_a_default_leaves_the_models_endpoints_alone() -> None:
    def split(endpoint: str, *experiments: ExperimentSpec) -> list[tuple[str, int]]:
        plane = Topology(1, {"a": 1, "b": 4, "c": 2}, experiments)
        weighted = for_model(endpoint, "http", plane)[-1]["route"]["weighted_clusters"]["clusters"]
        return [(arm["name"], arm["weight"]) for arm in weighted]

    regime = ExperimentSpec("high-experiment", None, {"a": 20, "b": 80}, ("c", 25))
    assert split("high-experiment.experiment", regime) == [("a_1_http", 20), ("b_4_http", 80)]
    assert split("a", regime) == [("a_1_http", 1)]
    assert split("a", SPLIT, regime) == [("a_1_http", 70), ("b_4_http", 30)], "that of the experiment it is default of"


def test_numbers_are_those_of_the_cluster() -> None:
    *sticky, weighted = for_model("a", "http")
    assert weighted["route"]["timeout"] == "0s"
    assert weighted["route"]["retry_policy"] == {
        "retry_on": "5xx,connect-failure",
        "num_retries": 5,
        "retry_back_off": {"base_interval": "0.5s"},
    }
    for rule in sticky:
        assert set(rule["route"]) == {"cluster", "timeout"}, "sticky routes have neither retries nor a mirror"
    document = clusters(TOPOLOGY, PORTS)
    assert all(c["circuit_breakers"]["thresholds"][0]["max_retries"] == 5 for c in document["resources"])


def test_the_mirror_gets_its_share_and_names_the_shadow() -> None:
    *_, weighted = for_model("ab-experiment.experiment", "http")
    [mirror] = weighted["route"]["request_mirror_policies"]
    assert mirror["cluster"] == "mirror_http"
    assert mirror["runtime_fraction"]["default_value"] == {"numerator": 25, "denominator": "HUNDRED"}
    assert {rule["route"]["cluster"] for rule in rules("mirror")} == {"c_2_http", "c_2_large", "c_2_grpc"}
    for rule in rules("mirror"):
        assert rule["request_headers_to_remove"] == ["seldon-internal-model"]
        assert rule["request_headers_to_add"][0]["header"]["value"] == "c_2"
    assert {header(r, "seldon-model")["string_match"]["exact"] for r in rules("mirror")} == {  # type: ignore[index]
        "ab-experiment.experiment",
        "a",
    }
    assert rules("mirror", Topology(1, {"a": 1})) == []


def test_a_model_outside_an_experiment_has_one_route_without_stickiness() -> None:
    [only] = for_model("c", "http")
    assert [arm["name"] for arm in only["route"]["weighted_clusters"]["clusters"]] == ["c_2_http"]
    assert "request_mirror_policies" not in only["route"]


@pytest.mark.parametrize(
    ("path", "passed"),
    [
        ("/v2/models/a/infer", True),
        ("/v2/models/a/versions/9/infer", True),
        ("/v2/models/a/ready", True),
        ("/v2/models/a", True),
        ("/inference.GRPCInferenceService/ModelReady", True),
        ("/inference.GRPCInferenceService/ModelMetadata", True),
        ("/v2/models/a/infer_stream", False),
        ("/v2/models/a/infer/", False),
        ("/v2/models/a/b/infer", False),
        ("/v2/repository/models/a/unload", False),
        ("/inference.GRPCInferenceService/ModelStreamInfer", False),
        ("/inference.GRPCInferenceService/RepositoryModelUnload", False),
        ("/inferenceXGRPCInferenceService/ModelInfer", False),
    ],
)
def test_only_calls_about_a_model_are_forwarded(path: str, passed: bool) -> None:
    for listener in ("public", "mirror"):
        forwarding = [rule for rule in rules(listener) if "route" in rule and header(rule, "seldon-model")]
        assert any(passes(rule, path) for rule in forwarding) == passed
        assert all("safe_regex" in rule["match"] for rule in forwarding)


@pytest.mark.parametrize("size", SIZES)
def test_bodies_that_are_or_may_become_large_have_clusters_of_their_own(size: str) -> None:
    *sticky, weighted = for_model("a", "http", size=size)
    assert [rule["route"]["cluster"] for rule in sticky] == ["a_1_large", "b_4_large"]
    arms = weighted["route"]["weighted_clusters"]["clusters"]
    assert [(arm["name"], arm["weight"]) for arm in arms] == [("a_1_large", 70), ("b_4_large", 30)]
    everything = rules("public")
    assert everything.index(sticky[0]) < everything.index(for_model("a", "http")[0]), "the first that fits counts"


def test_bodies_are_collected_without_lua_where_the_route_tells_their_size() -> None:
    def filters(rule: dict[str, Any]) -> dict[str, Any]:
        return {name.rpartition(".")[2]: settings for name, settings in rule["typed_per_filter_config"].items()}

    for rule in for_model("a", "http"):
        assert filters(rule)["buffer"]["buffer"] == {"max_request_bytes": limits.LARGE_BODY_BYTES}
        assert filters(rule)["lua"]["disabled"]
    assert all(list(filters(rule)) == ["lua"] for rule in for_model("a", "grpc")), "a message is not collected"
    for size in SIZES:
        assert all("typed_per_filter_config" not in rule for rule in for_model("a", "http", size=size))


def test_what_does_not_fit_into_the_server_waits() -> None:
    found = {cluster["name"]: cluster for cluster in clusters(TOPOLOGY, PORTS)["resources"]}
    for name, inside in (("a_1_http", limits.INSIDE), ("a_1_large", limits.LARGE_INSIDE), ("a_1_grpc", 1)):
        [most] = found[name]["circuit_breakers"]["thresholds"]
        assert most["max_connections"] == inside
        assert most["max_pending_requests"] == (limits.LARGE_WAITING if "large" in name else limits.WAITING)
    protocol = found["a_1_grpc"]["typed_extension_protocol_options"].popitem()[1]["explicit_http_config"]
    assert protocol == {"http2_protocol_options": {"max_concurrent_streams": limits.GRPC_INSIDE}}
    [most] = found["a_1_grpc"]["circuit_breakers"]["thresholds"]
    assert most["max_requests"] >= limits.GRPC_INSIDE + limits.WAITING, "streams are limited, requests are not refused"


def test_what_no_rule_fits_is_a_404_that_names_the_header_and_what_is_served() -> None:
    def texts(topology: Topology) -> list[str]:
        found = [rule for rule in rules("public", topology) if "direct_response" in rule]
        assert found == rules("public", topology)[-len(found) :], "they must come last"
        assert {rule["direct_response"]["status"] for rule in found} == {404}
        return [rule["direct_response"]["body"]["inline_string"] for rule in found]

    for text in texts(TOPOLOGY):
        assert "Served: a, ab-experiment.experiment, b, c" in text
    assert sum("name one in the header seldon-model" in text for text in texts(TOPOLOGY)) == 4
    assert "nothing yet" in texts(Topology(1, {}))[0]
    # Envoy takes no direct response of more than 4,096 bytes.
    many = texts(Topology(1, {f"{'long' * 50}-{number}": 1 for number in range(500)}))
    assert max(map(len, many)) < 4096
    assert all("and 492 more" in text for text in many)


def test_retiring_routes_keep_their_clusters_but_no_rule_names_them() -> None:
    document = clusters(TOPOLOGY, PORTS, retiring=["b_3"])
    names = {cluster["name"] for cluster in document["resources"]}
    assert {"b_3_http", "b_3_large", "b_3_grpc", "b_4_http", "mirror_http", "mlserver_http"} <= names
    assert "b_3" not in json.dumps(route_configurations(TOPOLOGY))


def test_every_port_is_on_loopback() -> None:
    layout = Layout(Path("/home/user/state"))
    documents = [bootstrap(layout, PORTS), listeners(layout, PORTS), clusters(TOPOLOGY, PORTS)]
    addresses = {found["address"] for document in documents for found in walk(document) if "port_value" in found}
    assert addresses == {"127.0.0.1"}


names = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@settings(deadline=None)
@given(st.dictionaries(names, st.integers(1, 99), min_size=2, max_size=6), st.data())
def test_every_cluster_named_by_a_route_exists(models: dict[str, int], data: st.DataObject) -> None:
    members = data.draw(st.lists(st.sampled_from(sorted(models)), unique=True, min_size=2))
    split = ExperimentSpec("x-experiment", members[0], dict.fromkeys(members[:-1], 1), (members[-1], 10))
    topology = Topology(1, models, [split])
    existing = {cluster["name"] for cluster in clusters(topology, PORTS)["resources"]}
    named: set[str] = set()
    for document in route_configurations(topology).values():
        for found in walk(document):
            if isinstance(found.get("cluster"), str):
                named.add(found["cluster"])
            named.update(arm["name"] for arm in found.get("weighted_clusters", {}).get("clusters", []))
    assert named <= existing
    assert {f"{topology.route(model)}_{kind}" for model in models for kind in CLUSTER_KINDS} <= named


@pytest.mark.integration
def test_envoy_itself_finds_the_configuration_valid(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.logs.mkdir(parents=True)
    routes = {name: document["resources"][0] for name, document in route_configurations(TOPOLOGY).items()}
    static = bootstrap(layout, PORTS)
    del static["dynamic_resources"]
    inline = copy.deepcopy(listeners(layout, PORTS)["resources"])
    for listener in inline:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["rds"]
        manager["route_config"] = {**without_type(routes[listener["name"]]), "validate_clusters": True}
    untyped = [without_type(resource) for resource in clusters(TOPOLOGY, PORTS)["resources"]]
    static["static_resources"] = {"listeners": [without_type(listener) for listener in inline], "clusters": untyped}
    found = validate(static, tmp_path)
    assert found.returncode == 0, found.stderr.decode()[-2000:]
    # The same check notices a mistake.
    static["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["codec"] = "AUTO"
    assert validate(static, tmp_path).returncode != 0


def test_the_gateway_is_the_first_process_and_foreign_settings_stay_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSERVER_HTTP_PORT", "1")
    envoy, server = plane_specs(Layout(tmp_path), PORTS)
    assert (envoy.name, server.name) == ("envoy", "mlserver")
    assert server.environment["MLSERVER_HTTP_PORT"] == ""
    # One heap for all threads: with one for each, the memory grows for hours.
    assert server.environment["MALLOC_ARENA_MAX"] == "1"
    # Memory of the largest message stays in the heap; glibc ignores larger limits than half of its largest heap.
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        assert limits.GRPC_MESSAGE_BYTES < int(server.environment[name]) <= 32 * 2**20


def test_what_the_imports_made_is_frozen_before_the_server_loads_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[int] = []

    class Server:
        def __init__(self, settings: object) -> None:
            frozen.append(gc.get_freeze_count())

        async def start(self, models: object) -> None:
            frozen.append(gc.get_freeze_count())

    layout = Layout(tmp_path)
    for path in (layout.models, layout.mlserver):
        path.mkdir(parents=True)
    settings = layout.mlserver / "settings.json"
    settings.write_text(static_files(layout, PORTS)[settings])
    monkeypatch.setattr(mlserver, "PlaneServer", Server)
    monkeypatch.setattr(mlserver, "install_uvloop_event_loop", lambda: None)
    monkeypatch.setattr("sys.argv", ["mlserver", str(settings)])
    gc.unfreeze()  # what the suite froze; the server does it again
    mlserver.main()
    before, after = frozen
    assert before == 0
    assert after > 10_000


def validate(document: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "static.json"
    path.write_text(json.dumps(document))
    command = [envoy_binary(), "--mode", "validate", "-c", str(path), "--disable-hot-restart"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def without_type(resource: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "@type"}


def walk(document: Any) -> list[dict[str, Any]]:
    if isinstance(document, dict):
        return [document, *(found for value in document.values() for found in walk(value))]
    if isinstance(document, list):
        return [found for value in document for found in walk(value)]
    return []
