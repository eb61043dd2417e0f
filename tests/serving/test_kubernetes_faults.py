"""What a cluster's API server can do to a call: each fault names the object, the verb and what mends it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from financial_assets.errors import NotReadyError, TargetError
from financial_assets.serving.kubernetes.api import connect
from financial_assets.serving.kubernetes.target import KubernetesTarget
from financial_assets.serving.manifests import experiment_manifest, model_manifest
from tests.serving.kube_api import Fault, KubeApi, kubeconfig, status_body
from tests.serving.kube_target import api, impatient

__all__ = ["api", "impatient"]  # fixtures

A = "baseline-predictor-v1"
MODEL = model_manifest(A, f"s3://models/{A}")
SPLIT = experiment_manifest("ab-experiment", default=A, weights={A: 1})
NEW_SPLIT = experiment_manifest("ab-experiment", default=A, weights={A: 2})
FORBIDDEN = status_body(403, "Forbidden", 'models.mlops.seldon.io is forbidden: User "dagster" cannot patch resource')
INVALID = status_body(422, "Invalid", "spec.memory: Invalid value", causes=[{"field": "spec.memory"}])
NO_NAMESPACE = status_body(404, "NotFound", 'namespaces "x" not found', name="x", kind="namespaces")
OBJECT = f"Model financial-inference/{A}"


@pytest.fixture
def target(api: KubeApi, tmp_path: Path) -> KubernetesTarget:
    connection = connect(kubeconfig=kubeconfig(tmp_path, api.url))
    return KubernetesTarget(
        connection, http_url=api.url, grpc_target="mesh:80", timeout_s=2.0, request_timeout_s=0.3, settle_s=0.1
    )


@pytest.mark.parametrize(
    ("fault", "message", "calls"),
    [
        (Fault("PATCH", 401, status_body(401, "Unauthorized", "Unauthorized")), "HTTP 401.*renew those of the kube", 1),
        (Fault("PATCH", 403, FORBIDDEN), "HTTP 403.*dagster.*allow patch and create on models.mlops.seldon.io", 1),
        (Fault("PATCH", 404, "404 page not found\n"), "HTTP 404.*Seldon Core v2 is not installed in this cluster", 1),
        (Fault("PATCH", 404, NO_NAMESPACE), "HTTP 404.*kubectl create namespace financial-inference", 1),
        (Fault("PATCH", 409, status_body(409, "Conflict", "modified")), "HTTP 409, modified; somebody else changed", 1),
        (Fault("PATCH", 422, INVALID), "HTTP 422, spec.memory: Invalid value; .*correct the field named", 1),
        (Fault("PATCH", 429, "slow down", {"Retry-After": "3600"}), "HTTP 429, slow down; .*overloaded", 1),
        (Fault("PATCH", 429, "slow down"), "HTTP 429, slow down; .*overloaded", None),
        (Fault("PATCH", 500, status_body(500, "InternalError", "etcd")), "HTTP 500, etcd; .*look at its log", None),
        (Fault("PATCH", 502, "<html>bad gateway</html>"), "HTTP 502, <html>bad gateway", None),
        (Fault("PATCH", hang_s=0.5), "no answer within .* s .*KUBERNETES_CONTEXT.* is up and reachable", None),
        (Fault("PATCH", drop=True), "no answer within .*(aborted|closed)", None),
        (Fault("PATCH", 200, "[1, 2]"), "the answer is no JSON object", 1),
        (Fault("PATCH", 403, '{"kind": "Status", "details": null}'), "HTTP 403", 1),
    ],
)
def test_a_refused_write(api: KubeApi, target: Any, fault: Fault, message: str, calls: int | None) -> None:
    api.faults.append(fault)
    start = time.monotonic()
    with pytest.raises(TargetError, match=rf"(?s)apply {OBJECT}: .*{message}"):
        target.apply([MODEL])
    assert time.monotonic() - start < 3.0
    made = sum(method == "PATCH" for method, *_ in api.calls)
    assert made == calls if calls is not None else made > 1


@pytest.mark.parametrize(
    ("verb", "method", "call"),
    [
        ("list Model financial-inference/\\*.*allow list on models", "GET", lambda t: t.apply([MODEL])),
        ("delete Model .*allow delete on models", "DELETE", lambda t: t.delete("Model", A)),
        ("apply Experiment .*allow patch and create on experiments", "PATCH", lambda t: t.apply([NEW_SPLIT])),
        ("read Model .*allow get on models", "GET", lambda t: t.wait_ready([A], 1.0)),
        ("read Experiment .*allow get on experiments", "GET", lambda t: t.delete("Experiment", "ab-experiment")),
    ],
)
def test_each_verb_names_the_right_it_lacks(
    api: KubeApi, target: Any, verb: str, method: str, call: Callable[[Any], None]
) -> None:
    target.apply([MODEL, SPLIT])
    if method == "DELETE":
        api.release("Experiment", "ab-experiment")
    api.faults.append(Fault(method, 403, FORBIDDEN))
    with pytest.raises(TargetError, match=rf"{verb}.* in namespace financial-inference \(Role and RoleBinding\)"):
        call(target)


EVERY_FAULT = {
    "401": (Fault("?", 401, status_body(401, "Unauthorized", "Unauthorized")), "HTTP 401, Unauthorized; .*renew"),
    "403": (Fault("?", 403, FORBIDDEN), "HTTP 403, .*Role and RoleBinding"),
    "404": (Fault("?", 404, "404 page not found"), "HTTP 404, .*Seldon Core v2 is not installed"),
    "409": (Fault("?", 409, status_body(409, "AlreadyExists", "is there")), "HTTP 409, is there; .*run it again"),
    "422": (Fault("?", 422, INVALID), "HTTP 422, .*correct the field named"),
    "429": (Fault("?", 429, "slow down"), "HTTP 429, slow down; .*run it again later"),
    "500": (Fault("?", 500, "etcd"), "HTTP 500, etcd; .*look at its log"),
    "503": (Fault("?", 503, "no leader"), "HTTP 503, no leader"),
    "hangs": (Fault("?", hang_s=0.5), "no answer within .*KUBERNETES_CONTEXT"),
    "drops": (Fault("?", drop=True), "no answer within .*KUBERNETES_CONTEXT"),
}


@pytest.mark.parametrize("fault", EVERY_FAULT)
@pytest.mark.parametrize(
    ("method", "named", "call"),
    [
        (
            "GET",
            "read Experiment financial-inference/ab-experiment",
            lambda t: t.delete("Experiment", "ab-experiment"),
        ),
        (
            "PATCH",
            "apply Experiment financial-inference/ab-experiment",
            lambda t: t.apply([NEW_SPLIT]),
        ),
        (
            "DELETE",
            "delete Experiment financial-inference/ab-experiment",
            lambda t: t.delete("Experiment", "ab-experiment"),
        ),
    ],
    ids=["read", "apply", "delete"],
)
def test_every_fault_of_every_verb_names_it_and_changes_nothing(
    api: KubeApi, target: Any, method: str, named: str, call: Callable[[Any], None], fault: str
) -> None:
    target.apply([MODEL, SPLIT])
    before = json.dumps(api.get("Experiment", "ab-experiment"))
    planted, message = EVERY_FAULT[fault]
    api.faults.append(replace(planted, method=method))
    with pytest.raises(TargetError, match=rf"(?s){named}: {message}"):
        call(target)
    assert json.dumps(api.get("Experiment", "ab-experiment")) == before


@pytest.mark.parametrize(
    "fault",
    [
        Fault("*", 429, "wait", {"Retry-After": "1"}, times=1),
        Fault("*", 500, "etcd leader changed", times=2),
        Fault("*", drop=True, times=2),
        Fault("*", hang_s=0.4, times=1),
    ],
)
def test_a_fault_that_passes_is_tried_again(api: KubeApi, target: Any, fault: Fault) -> None:
    api.faults.append(fault)
    start = time.monotonic()
    target.apply([MODEL])
    assert target.status().ready
    if fault.headers:
        assert 1.0 <= time.monotonic() - start < 2.0


def test_a_dropped_answer_to_a_patch_does_not_write_twice(api: KubeApi, target: Any) -> None:
    target.apply([MODEL])
    api.faults.append(Fault("PATCH", drop=True, times=1))
    target.apply([MODEL])
    assert api.get("Model", A)["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault("*", 401, ""), "HTTP 401"),
        (Fault("*", 404, "404 page not found"), "Seldon Core v2 is not installed"),
        (Fault("*", 500, ""), "HTTP 500"),
        (Fault("*", drop=True), "no answer within"),
        (Fault("*", hang_s=0.4), "no answer within"),
        (Fault("*", 200, "nonsense"), "no JSON object"),
    ],
)
def test_status_never_raises(api: KubeApi, target: Any, fault: Fault, problem: str) -> None:
    api.faults.append(fault)
    status = target.status()
    assert not status.ready
    assert problem in status.problems[0]
    assert status.models == ()


def test_nothing_listens(tmp_path: Path, unused_port: int) -> None:
    server = f"http://127.0.0.1:{unused_port}"
    connection = connect(kubeconfig=kubeconfig(tmp_path, server))
    target = KubernetesTarget(connection, http_url=server, grpc_target="x:1", timeout_s=1.0)
    with pytest.raises(TargetError, match=r"list Model .*no answer .*refused"):
        target.apply([MODEL])
    assert not target.status().ready


def test_waiting_for_a_server_that_hangs_ends_in_time(api: KubeApi, target: Any) -> None:
    target.apply([MODEL])
    api.faults.append(Fault("GET", hang_s=0.4))
    start = time.monotonic()
    with pytest.raises(NotReadyError, match=rf"waited 0.7 s .*Model {A}: read {OBJECT}: no answer within"):
        target.wait_ready([A], 0.7)
    assert time.monotonic() - start < 1.5


@pytest.mark.parametrize(
    ("context", "text", "message"),
    [
        (
            "elsewhere",
            None,
            "no credentials for Kubernetes context elsewhere: .*KUBERNETES_CONTEXT.*kubectl config get-contexts",
        ),
        (None, "{", "no credentials for Kubernetes context \\(current\\)"),
        (None, "", "no credentials"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, context: str | None, text: str | None, message: str) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:1")
    if text is not None:
        file.write_text(text)
    with pytest.raises(TargetError, match=rf"(?s){message}"):
        connect(context, kubeconfig=file)


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no credentials"):
        connect(kubeconfig=tmp_path / "none")
