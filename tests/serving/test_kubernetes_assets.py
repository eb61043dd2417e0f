"""Group serving on a cluster, from the settings on: API server, artefact store and data plane are real processes.

What is a double: the cluster's operator and agents, which drive the embedded plane (``tests/serving/cluster.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from financial_assets.definitions import experiment, predictor_assets
from financial_assets.models.onnx.export import file_sha256
from financial_assets.serving.bar_rules import neutral_bars
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest, model_name
from tests.serving.cluster import Cluster
from tests.serving.kube_api import Fault, status_body
from tests.serving.object_store import BUCKET, ObjectStore, object_store
from tests.serving.registered_home import BASELINE, ENHANCED, MODELS, VARIANTS, RegisteredHome, command

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class World(RegisteredHome):
    """A home with registered models, and a cluster to serve them."""

    cluster: Cluster
    store: ObjectStore

    def spec(self, kind: str, name: str) -> dict[str, Any]:
        return self.cluster.api.get(kind, name)["spec"]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> Iterator[World]:
    """All predictors and the experiment, materialized once."""
    root: Path = tmp_path_factory.mktemp("world")
    (root / "home").mkdir(mode=0o700)
    with (
        pytest.MonkeyPatch.context() as patch,
        object_store(root / "s3.log") as store,
        Cluster(root / "cluster", write_tiny(root / "earlier", 0.5)) as cluster,
    ):
        serving = {"ARTIFACT_STORE_URI": f"s3://{BUCKET}/predictors", **store.environment, **cluster.environment}
        world = World(root / "home", serving, cluster, store)
        for name, value in world.environment.items():
            patch.setenv(name, value)
        world.fill(write_tiny)
        success, said = world.materialize(*predictor_assets, experiment)
        assert success, said
        yield world


@pytest.fixture
def world(deployed: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, with its settings in the environment of this test."""
    for name, value in deployed.environment.items():
        monkeypatch.setenv(name, value)
    return deployed


def test_every_predictor_is_served_from_the_store_by_its_own_route(world: World) -> None:
    for number, (variant, name) in enumerate(zip(VARIANTS, MODELS, strict=True), 1):
        found = world.cluster.api.get("Model", name)
        assert found["spec"]["storageUri"].startswith(f"s3://{BUCKET}/predictors/{name}-")
        assert found["metadata"]["labels"] == {"variant": variant, "app.kubernetes.io/managed-by": "financial-assets"}
        loaded = world.cluster.loaded[name] / "model.onnx"
        assert file_sha256(loaded) == world.resources["models"].registry().get(number).tags["onnx_sha256"]
    routes = world.cluster.target.endpoint().routes
    assert set(routes) == set(MODELS)
    assert not [route for route in routes.values() if route.endswith("_1")]  # so that no number can be guessed
    candidates = world.spec("Experiment", EXPERIMENT_NAME)["candidates"]
    assert candidates == [{"name": BASELINE, "weight": 70}, {"name": ENHANCED, "weight": 30}]


def test_the_default_of_the_experiment_is_asked_alone(world: World) -> None:
    """Its endpoint is shared, and nobody told the client its route."""
    url = world.cluster.target.endpoint().http_url
    drawn = {httpx.get(f"{url}/v2/models/{BASELINE}/ready", headers={"seldon-model": BASELINE}) for _ in range(40)}
    assert {answer.headers["x-seldon-route"][1:-3] for answer in drawn} == {BASELINE, ENHANCED}
    bars = neutral_bars(3, 256)
    for _ in range(8):
        with world.resources["serving"].connect() as client:
            assert dict(client.endpoint.routes) == {}
            for answer in (client.infer(BASELINE, bars[:1]), client.infer_batch(BASELINE, bars)):
                assert answer.route == BASELINE
                np.testing.assert_allclose(answer.probability_up, 1 / (1 + np.exp(-1.0)), atol=1e-6)


def test_a_client_outlives_a_new_version_of_the_default(world: World, write_tiny: Any, tmp_path: Path) -> None:
    bars = neutral_bars(1, 256)
    plane, served = world.cluster.target, world.cluster.loaded[BASELINE]
    try:
        with world.resources["serving"].connect() as client:
            before = {client.infer(BASELINE, bars).route_version for _ in range(12)}
            plane.apply([model_manifest(BASELINE, write_tiny(tmp_path / "new", 3.0).as_uri())])
            answers = [ask(BASELINE, bars) for _ in range(12) for ask in (client.infer, client.infer_batch)]
            assert {(answer.route, answer.route_version) for answer in answers} == {
                (BASELINE, max(before, default=0) + 1)
            }
            np.testing.assert_allclose([a.probability_up[0] for a in answers], 1 / (1 + np.exp(-3.0)), atol=1e-6)
    finally:
        plane.apply([model_manifest(BASELINE, served.as_uri())])


def test_a_second_run_changes_nothing(world: World) -> None:
    before = {key: document["metadata"]["generation"] for key, document in world.cluster.api.objects.items()}
    stored = world.store.client().find(f"{BUCKET}/predictors", detail=True)
    success, said = world.materialize(*predictor_assets, experiment)
    assert success, said
    assert {key: item["metadata"]["generation"] for key, item in world.cluster.api.objects.items()} == before
    assert world.store.client().find(f"{BUCKET}/predictors", detail=True) == stored


def test_only_what_is_ours_and_unused_is_removed(world: World) -> None:
    unused, shared = model_name("baseline", 98), model_name("baseline", 99)
    target = world.resources["serving"].target()
    address = world.spec("Model", BASELINE)["storageUri"]
    for name in (unused, shared):
        copy = address.replace(BASELINE, name)
        world.store.client().copy(address, copy, recursive=True)
        target.apply([model_manifest(name, copy)])
    foreign = model_manifest("iris", "s3://elsewhere/iris")
    theirs = experiment_manifest("their-experiment", default=shared, weights={shared: 1})
    for document in (foreign, theirs):
        document["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
        world.cluster.api.put(document)
    try:
        success, said = world.materialize(experiment)
        assert success, said
        assert f"{shared} is kept: Experiment their-experiment names Model {shared}" in said
        left = {name for kind, name in world.cluster.api.objects if kind == "Model"}
        assert left == {*MODELS, shared, "iris"}
        assert set(world.cluster.target.endpoint().routes) == {*MODELS, shared}
    finally:
        world.cluster.api.release("Experiment", "their-experiment")
        world.cluster.api.release("Model", "iris")
        target.delete("Model", shared)


def test_an_arm_that_the_cluster_has_lost_is_brought_back_from_the_registry(world: World) -> None:
    lost, before = MODELS[2], world.spec("Model", MODELS[2])
    world.resources["serving"].target().delete("Model", lost)
    assert ("Model", lost) not in world.cluster.api.objects
    success, said = world.materialize(experiment)
    assert success, said
    assert world.spec("Model", lost) == before
    assert lost in world.cluster.target.endpoint().routes


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("KUBERNETES_CONTEXT", "elsewhere", "no credentials for Kubernetes context elsewhere.*KUBERNETES_CONTEXT"),
        ("ARTIFACT_STORE_URI", "s3://nobodys/x", "ARTIFACT_STORE_URI: s3://nobodys/x/.*make the bucket"),
        ("SERVING_GATEWAY_URL", "http://127.0.0.1:1", "no answer from the gateway at http://127.0.0.1:1/.*"),
        ("SERVING_GATEWAY_GRPC", "127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_a_wrong_setting_fails_the_asset_by_name(
    world: World, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    monkeypatch.setenv(setting, value)
    monkeypatch.setenv("READY_TIMEOUT", "2")
    before = json.dumps(world.cluster.api.get("Model", BASELINE))
    success, said = world.materialize(predictor_assets[0])
    assert not success
    assert re.search(message, said), said
    assert json.loads(before)["spec"] == world.spec("Model", BASELINE)


def test_a_refusal_of_the_api_server_fails_the_asset_and_status_with_the_right_to_grant(world: World) -> None:
    body = status_body(403, "Forbidden", 'User "dagster" cannot list resource "models"')
    world.cluster.api.faults.append(Fault("GET", 403, body))
    try:
        success, said = world.materialize(experiment)
        found = command("status")
    finally:
        world.cluster.api.faults.clear()
    assert not success
    for text in (said, found.output):
        assert "allow list on models.mlops.seldon.io in namespace financial-inference" in " ".join(text.split())
    assert found.exit_code == 1


def test_status_and_doctor_of_a_cluster(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = command("status")
    assert found.exit_code == 0, found.output
    assert "processes" not in found.output
    for text in (
        *MODELS,
        f"{ENHANCED}_2",
        "70",
        EXPERIMENT_NAME,
        f"{world.environment['SERVING_GATEWAY_URL']} (kubern",
    ):
        assert text in found.output
    healthy = command("doctor", "--json")
    assert healthy.exit_code == 0, healthy.output
    states = {layer["layer"]: layer["state"] for layer in json.loads(healthy.output)["layers"]}
    assert states.pop("state files") == "warn", "this machine serves what was trained elsewhere"
    assert set(states.values()) == {"ok"}
    monkeypatch.setenv("SERVING_GATEWAY_URL", "http://127.0.0.1:1")
    broken = command("doctor", "--json")
    first = next(one for one in json.loads(broken.output)["layers"] if one["state"] == "broken")
    assert (broken.exit_code, first["layer"]) == (1, "serving target")
    assert "SERVING_GATEWAY_URL" in first["said"]
    assert "kubectl get models,experiments,pods" in first["remedy"]
    monkeypatch.setenv("KUBERNETES_CONTEXT", "elsewhere")
    lost = command("status")
    assert (lost.exit_code, "KUBERNETES_CONTEXT" in lost.output) == (1, True)


@pytest.mark.parametrize("name", ["serve", "stop"])
def test_commands_of_the_local_plane_refuse_with_a_sentence(world: World, name: str) -> None:
    found = command(name)
    assert found.exit_code == 1
    assert f"`financial-assets {name}` is for the plane of this machine" in " ".join(found.output.split())
    assert world.cluster.target.status().ready
