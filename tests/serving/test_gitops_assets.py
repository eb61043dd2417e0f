"""Group serving by commits, from the settings on: Git, a volume and the data plane are real, Argo CD is a double."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from financial_assets.definitions import experiment, predictor_assets
from financial_assets.serving.local import control
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, model_manifest, model_name
from tests.serving.git_remote import PATH, GitRemote
from tests.serving.git_syncer import Syncer
from tests.serving.registered_home import BASELINE, ENHANCED, MODELS, RegisteredHome, command

pytestmark = [pytest.mark.integration, pytest.mark.debian("git")]


@dataclass(frozen=True)
class World(RegisteredHome):
    """A home with registered models, and a branch that a plane follows."""

    remote: GitRemote
    plane: LocalTarget
    volume: Path


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> Iterator[World]:
    root: Path = tmp_path_factory.mktemp("world")
    for name in ("home", "volume"):
        (root / name).mkdir(mode=0o700)
    remote, plane = GitRemote(root / "git"), LocalTarget(root / "plane", timeout_s=60)
    url = f"http://127.0.0.1:{control.start(plane.home, timeout_s=60).gateway}"
    serving = {"SERVING_TARGET": "gitops", "GITOPS_REPOSITORY": str(remote.bare), "SERVING_GATEWAY_URL": url}
    store = {"ARTIFACT_STORE_URI": (root / "volume").as_uri()}
    try:
        with pytest.MonkeyPatch.context() as patch, Syncer(remote, plane):
            world = World(root / "home", {**serving, **store}, remote, plane, root / "volume")
            for name, value in world.environment.items():
                patch.setenv(name, value)
            world.fill(write_tiny)
            success, said = world.materialize(*predictor_assets, experiment)
            assert success, said
            yield world
    finally:
        control.stop(plane.home)


@pytest.fixture
def world(deployed: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, with its settings in the environment of this test."""
    for name, value in deployed.environment.items():
        monkeypatch.setenv(name, value)
    return deployed


def test_predictors_and_experiment_are_files_of_the_branch(world: World) -> None:
    models = [f"model-{name}.yaml" for name in MODELS]
    assert world.remote.files() == [f"experiment-{EXPERIMENT_NAME}.yaml", "kustomization.yaml", *models]
    for name, file in zip(MODELS, models, strict=True):
        address = yaml.safe_load(world.remote.show(f"{PATH}/{file}"))["spec"]["storageUri"]
        assert address.startswith(f"{world.volume}/{name}-")
        assert {path.name for path in Path(address).iterdir()} >= {"model.onnx", "model-settings.json"}
    status = world.plane.status()
    assert status.ready
    assert dict(status.experiments[0].weights) == {BASELINE: 70, ENHANCED: 30}
    assert command("status").exit_code == 0
    healthy = command("doctor", "--json")
    states = {layer["layer"]: layer["state"] for layer in json.loads(healthy.output)["layers"]}
    assert states.pop("state files") == "warn", "this machine serves what was trained elsewhere"
    assert set(states.values()) == {"ok"}, healthy.output


def test_a_second_run_makes_no_commit(world: World) -> None:
    head = world.remote.head()
    success, said = world.materialize(*predictor_assets, experiment)
    assert success, said
    assert world.remote.head() == head


def test_only_what_is_ours_and_unused_is_removed(world: World, write_tiny: Any) -> None:
    unused = model_name("baseline", 98)
    world.resources["serving"].target().apply([model_manifest(unused, str(write_tiny(world.volume / "u", 0.0)))])
    theirs = f"{PATH}/model-iris.yaml"
    iris = model_manifest("iris", str(write_tiny(world.volume / "iris", 0.0)))
    iris["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "people"}
    listed = yaml.safe_load(world.remote.show(f"{PATH}/kustomization.yaml"))
    listed["resources"].append("model-iris.yaml")
    world.remote.person({theirs: yaml.safe_dump(iris), f"{PATH}/kustomization.yaml": yaml.safe_dump(listed)})
    success, said = world.materialize(experiment)
    assert success, said
    files = world.remote.files()
    assert f"model-{unused}.yaml" not in files
    assert theirs.rsplit("/", 1)[-1] in files


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("GITOPS_REPOSITORY", "/nowhere/at/all.git", "GITOPS_REPOSITORY"),
        ("GITOPS_BRANCH", "absent", "GITOPS_BRANCH"),
        ("ARTIFACT_STORE_URI", "file:///proc/nowhere", "ARTIFACT_STORE_URI"),
    ],
)
def test_a_wrong_setting_fails_the_asset_by_name(
    world: World, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    monkeypatch.setenv(setting, value)
    monkeypatch.setenv("READY_TIMEOUT", "5")
    head = world.remote.head()
    success, said = world.materialize(predictor_assets[0])
    assert not success
    assert message in said
    assert world.remote.head() == head
