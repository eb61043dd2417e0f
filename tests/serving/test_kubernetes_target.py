"""The cluster's target over real HTTP: apply, wait, weigh, delete."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from financial_assets.errors import ManifestError, NotReadyError, TargetError
from financial_assets.serving.kubernetes.target import KubernetesTarget
from financial_assets.serving.manifests import experiment_manifest, model_manifest
from financial_assets.serving.target import ServingTarget
from tests.serving.kube_api import Fault, KubeApi, condition, hiccup, ready_at_once
from tests.serving.kube_target import api, impatient, make_target
from tests.serving.serving_objects import server_manifest, weights_of

__all__ = ["api", "impatient"]  # fixtures

A, B, C = "baseline-predictor-v1", "enhanced-predictor-v2", "lightweight-predictor-v3"
AB = "ab-experiment"


@pytest.fixture
def target(api: KubeApi, tmp_path: Path) -> KubernetesTarget:
    return make_target(api.url, tmp_path)


def model(name: str, **changes: Any) -> dict[str, Any]:
    made = model_manifest(name, f"s3://models/{name}")
    made["spec"] |= changes
    return made


def split(first: int = 70, second: int = 30, **changes: Any) -> dict[str, Any]:
    return experiment_manifest(AB, default=A, weights={A: first, B: second}, **changes)


def patches(api: KubeApi) -> list[tuple[str, dict[str, str]]]:
    return [(content, query) for method, _, content, query in api.calls if method == "PATCH"]


def test_it_is_a_serving_target(target: KubernetesTarget) -> None:
    protocol: ServingTarget = target
    assert protocol.name == "kubernetes"
    assert protocol.endpoint().grpc_target == "mesh:80"


def test_objects_are_applied_by_server_side_apply_in_the_order_that_serves(api: KubeApi, target: Any) -> None:
    target.apply([split(), model(B), server_manifest("mlserver"), model(A)])
    written = [path.split("/")[-2:] for method, path, *_ in api.calls if method == "PATCH"]
    assert written == [["servers", "mlserver"], ["models", B], ["models", A], ["experiments", AB]]
    for content, query in patches(api):
        assert (content, query) == (
            "application/apply-patch+yaml",
            {"fieldManager": "financial-assets", "force": "false"},
        )
    assert api.tokens == {"Bearer secret"}
    assert [body["kind"] for body in api.bodies] == ["Server", "Model", "Model", "Experiment"]
    assert api.get("Model", A)["spec"]["storageUri"] == f"s3://models/{A}"
    assert weights_of(target, AB) == {A: 70, B: 30}
    status = target.status()
    assert status.ready
    assert {item.name: (item.ready, item.storage_uri) for item in status.models} == {
        name: (True, f"s3://models/{name}") for name in (A, B)
    }
    assert status.experiments[0].weights == {A: 70, B: 30}


def test_applying_the_same_again_changes_nothing(api: KubeApi, target: Any) -> None:
    for _ in range(2):
        target.apply([model(A), model(B), split()])
    assert [api.get("Model", A)["metadata"]["generation"], api.get("Experiment", AB)["metadata"]["generation"]] == [
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("manifests", "message"),
    [
        ([split()], f"names {A}, {B}, which is not a Model of the cluster"),
        ([model(A) | {"metadata": {"name": A, "namespace": "other"}}], "is for namespace other"),
        ([model_manifest(A, "file:///tmp/m")], "lies on this machine.*ARTIFACT_STORE_URI"),
        ([model_manifest(A, "/tmp/m")], "lies on this machine"),
        ([model(A, storageUri=f"s3://models/{C}/")], f"Models {C} and {A} share storageUri"),
        ([model(A), model(A)], "given twice"),
        ([model(A), model(A.replace("v1", "v9"), requirements=[])], "must include financial-onnx"),
    ],
)
def test_what_breaks_a_rule_is_never_sent(
    api: KubeApi, target: Any, manifests: list[dict[str, Any]], message: str
) -> None:
    api.put(model(C))
    with pytest.raises(ManifestError, match=message):
        target.apply(manifests)
    assert not patches(api)


def test_one_model_is_the_default_of_one_experiment_of_the_cluster(api: KubeApi, target: Any) -> None:
    target.apply([model(A), model(B), split()])
    other = experiment_manifest("other-experiment", default=A, weights={A: 1})
    with pytest.raises(ManifestError, match=f"{A} is the default of both {AB} and other-experiment"):
        target.apply([other])


def test_a_failed_model_fails_at_once_with_its_reason(api: KubeApi, target: Any) -> None:
    failed = condition("ModelReady", "False", message="ModelFailed", reason="rclone: no such bucket")
    api.operator = lambda api, d: api.set_status(d["kind"], d["metadata"]["name"], [failed])
    start = time.monotonic()
    with pytest.raises(TargetError, match=rf"Model financial-inference/{A}: .*ModelFailed: rclone: no such bucket"):
        target.apply([model(A), model(B), split()])
    assert time.monotonic() - start < 1.5
    assert ("Experiment", AB) not in api.objects


def test_a_model_that_cannot_be_scheduled_yet_is_waited_for(api: KubeApi, target: Any) -> None:
    pending = condition("ModelReady", "False", message="ScheduleFailed", reason="no matching servers are available")
    api.operator = lambda api, d: api.set_status("Model", A, [pending])
    heal = threading.Timer(0.6, lambda: ready_at_once(api, api.get("Model", A)))
    heal.start()
    target.apply([model(A)])
    heal.join()
    assert target.status().ready


def test_the_timeout_says_what_was_waited_for_and_seen_last(api: KubeApi, tmp_path: Path) -> None:
    pending = condition("ModelReady", "False", message="ScheduleFailed", reason="no matching servers are available")
    api.operator = lambda api, d: api.set_status("Model", A, [pending])
    with pytest.raises(NotReadyError, match=rf"waited 0.5 s .*Model {A}: .*ScheduleFailed: no matching servers"):
        make_target(api.url, tmp_path, timeout_s=0.5).apply([model(A)])


def test_ready_means_enough_replicas(api: KubeApi, tmp_path: Path) -> None:
    api.operator = lambda api, d: ready_at_once(api, d | {"spec": {"replicas": 1}})
    with pytest.raises(NotReadyError, match="1 of 2 replicas are available"):
        make_target(api.url, tmp_path, timeout_s=0.5).apply([model(A, replicas=2)])


def test_a_model_must_answer_through_the_mesh_too(api: KubeApi, tmp_path: Path) -> None:
    api.mesh_down.add(A)
    target = make_target(api.url, tmp_path, timeout_s=0.5)
    with pytest.raises(NotReadyError, match=rf"the gateway answers HTTP 503 at .*/v2/models/{A}/ready"):
        target.apply([model(A)])
    assert not target.status().ready
    assert "HTTP 503" in target.status().problems[0]


def test_ready_from_before_a_change_does_not_count(api: KubeApi, tmp_path: Path) -> None:
    target = make_target(api.url, tmp_path, timeout_s=0.6)
    target.apply([model(A)])
    api.operator = lambda api, d: None
    with pytest.raises(NotReadyError, match="that may be from before the change"):
        target.apply([model(A, storageUri="s3://models/other")])
    api.operator = ready_at_once
    target.apply([model(A, storageUri="s3://models/third")])


def test_a_change_of_labels_or_replicas_awaits_no_transition(api: KubeApi, target: Any) -> None:
    target.apply([model(A)])
    api.operator = lambda api, d: None
    labelled = model(A)
    labelled["metadata"]["labels"]["variant"] = "baseline"
    target.apply([labelled])
    assert api.get("Model", A)["metadata"]["labels"]["variant"] == "baseline"
    target.apply([model(A, replicas=1)])


def test_a_rejected_experiment_fails_with_the_schedulers_words(api: KubeApi, target: Any) -> None:
    target.apply([model(A), model(B), split()])
    before = api.get("Experiment", AB)["status"]["conditions"]
    rejected = hiccup("FailedPrecondition", "experiment baseline exists", at=9)
    api.operator = lambda api, d: api.set_status("Experiment", AB, [*before, rejected])
    with pytest.raises(TargetError, match=r"scheduler rejected it: .*experiment baseline exists.*delete the Exp"):
        target.apply([split(50, 50)])
    assert not target.status().ready


def test_a_late_rejection_of_new_weights_is_still_seen(api: KubeApi, tmp_path: Path) -> None:
    target = make_target(api.url, tmp_path, settle_s=1.0)
    target.apply([model(A), model(B), split()])
    before = api.get("Experiment", AB)["status"]["conditions"]
    rejected = hiccup("FailedPrecondition", "not so", at=9)
    late = threading.Timer(0.4, lambda: api.set_status("Experiment", AB, [*before, rejected]))
    late.start()
    with pytest.raises(TargetError, match="not so"):
        target.apply([split(50, 50)])
    late.join()


def test_an_experiment_waits_for_candidates_and_mirror(api: KubeApi, tmp_path: Path) -> None:
    def operator(api: KubeApi, document: dict[str, Any]) -> None:
        ready_at_once(api, document)
        if document["kind"] == "Experiment":
            words = {"ExperimentReady": "True", "CandidatesReady": "True", "MirrorReady": "False"}
            api.set_status("Experiment", AB, [condition(word, value, reason="why") for word, value in words.items()])

    api.operator = operator
    with pytest.raises(NotReadyError, match=rf"Experiment {AB}: MirrorReady=False why"):
        make_target(api.url, tmp_path, timeout_s=0.8).apply([model(A), model(B), model(C), split(mirror=(C, 50))])


def test_weights_that_an_earlier_version_patched_are_taken_over(api: KubeApi, target: Any) -> None:
    target.apply([model(A), model(B)])
    api.put(split(), manager="financial-assets/Update")  # Kubernetes counts a patch as another manager's
    target.apply([split(10, 90)])
    assert weights_of(target, AB) == {A: 10, B: 90}
    assert patches(api)[-1][1]["force"] == "true"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({A: 0, B: 0}, "weights sum to 0"),
        ({A: 1, "unknown": 1}, "names unknown, which is not a Model"),
        ({B: 1}, "must be the first candidate"),
        ({A: -1, B: 2}, "weight of baseline-predictor-v1 is -1"),
    ],
)
def test_weights_that_break_a_rule_are_never_sent(
    api: KubeApi, target: Any, weights: dict[str, int], message: str
) -> None:
    target.apply([model(A), model(B), split()])
    count, changed = len(patches(api)), split()
    changed["spec"]["candidates"] = [{"name": name, "weight": weight} for name, weight in weights.items()]
    with pytest.raises(ManifestError, match=message):
        target.apply([changed])
    assert len(patches(api)) == count


def test_fields_of_another_manager_are_left_to_it(api: KubeApi, target: Any) -> None:
    api.put(model(A, replicas=3), manager="autoscaler/Update")
    with pytest.raises(TargetError, match=r"apply Model .*HTTP 409.*give the fields up there \(autoscaler\)"):
        target.apply([model(A, replicas=1)])
    assert api.get("Model", A)["spec"]["replicas"] == 3


def test_a_model_in_use_is_not_deleted(api: KubeApi, target: Any) -> None:
    target.apply([model(A), model(B), model(C), split(mirror=(C, 5))])
    for name in (A, C):
        with pytest.raises(ManifestError, match=f"Experiment {AB} names Model {name}"):
            target.delete("Model", name)
    target.delete("Experiment", AB)
    for name in (A, B, C, "never-there"):
        target.delete("Model", name)
    assert not api.objects
    with pytest.raises(ManifestError, match="allowed: Model, Experiment, Server"):
        target.delete("Pod", A)


def test_deletion_waits_for_the_finalizer_and_never_strips_it(api: KubeApi, tmp_path: Path) -> None:
    target = make_target(api.url, tmp_path, timeout_s=0.8)
    target.apply([model(A)])
    api.get("Model", A)["metadata"]["finalizers"] = ["seldon.model.finalizer"]
    with pytest.raises(NotReadyError, match=r"to go: finalizers seldon.model.finalizer; ModelReady=True.*nothing was"):
        target.delete("Model", A)
    with pytest.raises(NotReadyError, match="it is being deleted; apply it again once it is gone"):
        target.apply([model(A)])
    with pytest.raises(TargetError, match="is being deleted"):
        target.wait_ready([A], 0.5)
    release = threading.Timer(0.3, lambda: api.release("Model", A))
    release.start()
    target.delete("Model", A)
    release.join()
    assert all(body.get("metadata", {}).get("finalizers") is None for body in api.bodies)


def test_what_was_never_applied_is_never_ready(target: Any) -> None:
    with pytest.raises(NotReadyError, match=rf"Model {A}: was never applied; Experiment {AB}: was never applied"):
        target.wait_ready([A, AB], 2.0)


def test_a_passing_fault_while_waiting_is_outlasted(api: KubeApi, target: Any) -> None:
    target.apply([model(A)])
    api.faults.append(Fault("GET", status=503, body="no backends", times=9))
    target.wait_ready([A], 3.0)


def foreign(manifest: dict[str, Any]) -> dict[str, Any]:
    """The same as somebody else would have written it."""
    return {**manifest, "metadata": {**manifest["metadata"], "labels": {"app.kubernetes.io/managed-by": "Helm"}}}


def test_other_peoples_objects_are_no_business_of_the_status(api: KubeApi, target: Any) -> None:
    target.apply([model(A)])
    api.put(foreign(model("iris")))  # not ready, and with our capability at that
    api.put(foreign(split()))
    unlabelled = model("bare")
    del unlabelled["metadata"]["labels"]
    api.put(unlabelled)
    status = target.status()
    assert status.ready
    assert ([item.name for item in status.models], status.experiments) == ([A], ())


@pytest.mark.parametrize(
    "act",
    [
        lambda target: target.apply([model(B), model(A, storageUri="s3://models/new")]),
        lambda target: target.apply([model(B), split()]),
        lambda target: target.delete("Model", A),
        lambda target: target.delete("Experiment", AB),
        lambda target: target.apply([split(1, 1)]),
    ],
)
def test_other_peoples_objects_are_never_touched(api: KubeApi, target: Any, act: Any) -> None:
    for document in (model(A), model("other"), split()):
        api.put(foreign(document))
    before = {key: dict(value["metadata"]) for key, value in api.objects.items()}
    with pytest.raises(ManifestError, match=r"was not made by this program .*KUBERNETES_NAMESPACE.*kubectl -n"):
        act(target)
    assert {key: dict(value["metadata"]) for key, value in api.objects.items()} == before


def test_a_volume_that_both_sides_mount_is_reachable(api: KubeApi, tmp_path: Path) -> None:
    target = make_target(api.url, tmp_path, volume=Path("/mnt/artifacts"))
    target.apply([model(A, storageUri="/mnt/artifacts/a-123")])
    assert api.get("Model", A)["spec"]["storageUri"] == "/mnt/artifacts/a-123"
    for uri in ("/mnt/artifacts", "/mnt/other/a-123", "file:///mnt/artifacts/a-123", "/mnt/artifacts/../a"):
        with pytest.raises(ManifestError, match="lies on this machine"):
            target.apply([model(B, storageUri=uri)])


def test_no_experiment_is_made_over_a_model_that_is_not_up(api: KubeApi, tmp_path: Path) -> None:
    api.put(model(A), conditions=[condition("ModelReady", "False", message="ScheduleFailed", reason="no servers")])
    with pytest.raises(NotReadyError, match=f"Model {A}: .*ScheduleFailed: no servers"):
        make_target(api.url, tmp_path, timeout_s=0.5).apply([model(B), split()])
    assert ("Experiment", AB) not in api.objects
