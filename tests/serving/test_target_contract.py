"""What every serving target must do alike: one suite over the embedded plane, a Kubernetes API and a Git branch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from financial_assets.errors import ManifestError, NotReadyError
from financial_assets.serving.kubernetes.api import connect
from financial_assets.serving.kubernetes.target import KubernetesTarget
from financial_assets.serving.local import control
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import Manifest, experiment_manifest, model_manifest
from financial_assets.serving.target import ServingTarget
from tests.serving.kube_api import KubeApi, kubeconfig
from tests.serving.serving_objects import server_manifest, weights_of

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Place:
    """A target and a way to make Models that it can load."""

    target: ServingTarget
    model: Callable[[str], Manifest]
    settle: Callable[[], None] = lambda: None
    """Waits until all that was applied is in force, where the target itself cannot tell."""

    def split(self, prefix: str, first: int, second: int) -> tuple[str, str, str, list[Manifest]]:
        """Two models and an experiment over them."""
        a, b, name = f"{prefix}-a", f"{prefix}-b", f"{prefix}-experiment"
        experiment = experiment_manifest(name, default=a, weights={a: first, b: second})
        return a, b, name, [self.model(a), self.model(b), experiment]


@pytest.fixture(scope="module", params=["local", "kubernetes", pytest.param("gitops", marks=pytest.mark.debian("git"))])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> Iterator[Place]:
    root: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "local":
        yield Place(
            LocalTarget(root / "home", timeout_s=30),
            lambda name: model_manifest(name, write_tiny(root / name, 0.0).as_uri()),
        )
        control.stop(root / "home")
        return
    if request.param == "gitops":
        synced: Any = request.getfixturevalue("synced")
        yield Place(
            synced.target,
            lambda name: model_manifest(name, str(write_tiny(synced.volume / name, 0.0))),
            synced.settle,
        )
        return
    with KubeApi() as api:
        connection = connect(kubeconfig=kubeconfig(root, api.url))
        target = KubernetesTarget(connection, http_url=api.url, grpc_target="mesh:80", timeout_s=10, settle_s=0.1)
        yield Place(target, lambda name: model_manifest(name, f"s3://models/{name}"))


def test_what_was_applied_is_ready_and_reported(place: Place) -> None:
    a, b, name, manifests = place.split("applied", 70, 30)
    place.target.apply([*manifests, server_manifest("applied-server")])
    place.target.wait_ready([a, b, name], 30)
    place.settle()
    status = place.target.status()
    assert status.ready, status.problems
    assert status.target == place.target.name
    assert status.endpoint == place.target.endpoint()
    assert {a, b} <= {model.name for model in status.models if model.ready}
    found = next(item for item in status.experiments if item.name == name)
    assert (found.default, dict(found.weights), found.mirror, found.ready) == (a, {a: 70, b: 30}, None, True)


def test_applying_again_and_new_weights(place: Place) -> None:
    a, b, name, manifests = place.split("weights", 1, 9)
    place.target.apply(manifests)
    place.target.apply(manifests[-1:])
    assert weights_of(place.target, name) == {a: 1, b: 9}
    place.target.apply([experiment_manifest(name, default=a, weights={b: 0, a: 5})])
    assert weights_of(place.target, name) == {a: 5, b: 0}


def test_weights_that_break_a_rule_change_nothing(place: Place) -> None:
    a, b, name, manifests = place.split("rules", 3, 4)
    place.target.apply(manifests)
    for weights in ({a: 0, b: 0}, {a: -1, b: 2}, {b: 1}, {}, {a: 1, "nobody": 1}):
        changed = copy.deepcopy(manifests[-1])
        changed["spec"]["candidates"] = [{"name": arm, "weight": weight} for arm, weight in weights.items()]
        with pytest.raises(ManifestError):
            place.target.apply([changed])
        assert weights_of(place.target, name) == {a: 3, b: 4}


def test_further_experiments_over_the_same_models_have_no_default(place: Place) -> None:
    a, b, name, manifests = place.split("regimes", 1, 9)
    regime = "regimes-high-experiment"
    place.target.apply([*manifests, experiment_manifest(regime, default=None, weights={a: 9, b: 1})])
    place.target.wait_ready([name, regime], 30)
    assert weights_of(place.target, regime) == {a: 9, b: 1}
    place.target.apply([experiment_manifest(regime, default=None, weights={a: 2, b: 8})])
    place.settle()
    found = {item.name: (item.default, dict(item.weights)) for item in place.target.status().experiments}
    assert (found[regime], found[name]) == ((None, {a: 2, b: 8}), (a, {a: 1, b: 9}))
    with pytest.raises(ManifestError, match="is the default of both"):
        place.target.apply([experiment_manifest("regimes-low-experiment", default=a, weights={a: 1, b: 1})])


def test_an_experiment_over_unknown_models_is_refused(place: Place) -> None:
    with pytest.raises(ManifestError, match="nobody"):
        place.target.apply([experiment_manifest("lone-experiment", default="nobody", weights={"nobody": 1})])
    assert "lone-experiment" not in {item.name for item in place.target.status().experiments}


def test_deletion_goes_from_the_experiment_to_its_models(place: Place) -> None:
    a, b, name, manifests = place.split("delete", 1, 1)
    place.target.apply(manifests)
    with pytest.raises(ManifestError, match=name):
        place.target.delete("Model", a)
    for kind, gone in (("Experiment", name), ("Model", a), ("Model", b), ("Model", b)):
        place.target.delete(kind, gone)
    left = place.target.status()
    assert not {a, b, name} & {item.name for item in (*left.models, *left.experiments)}
    with pytest.raises(ManifestError, match="allowed: Model, Experiment, Server"):
        place.target.delete("Pod", a)


def test_waiting_for_what_is_not_there_says_so(place: Place) -> None:
    with pytest.raises(NotReadyError, match=r"waited 0.3 s .*never-v1.*was never applied"):
        place.target.wait_ready(["never-v1"], 0.3)
