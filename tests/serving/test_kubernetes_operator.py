"""What real API servers and the real operator do, beyond what their documentation says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from financial_assets.errors import NotReadyError, TargetError
from financial_assets.serving.deployment import deploy
from financial_assets.serving.kubernetes import waiting
from financial_assets.serving.kubernetes.target import KubernetesTarget
from financial_assets.serving.manifests import experiment_manifest, model_manifest
from tests.serving import kube_target
from tests.serving.kube_api import Document, Fault, KubeApi, condition, hiccup, ready_at_once, status_body
from tests.serving.kube_target import api, impatient
from tests.serving.serving_objects import weights_of

__all__ = ["api", "impatient"]  # fixtures

A, B, C = "baseline-predictor-v1", "enhanced-predictor-v2", "lightweight-predictor-v3"
AB = "ab-experiment"
make_target = partial(kube_target.make_target, timeout_s=30.0, request_timeout_s=5.0)
FORBIDDEN = status_body(403, "Forbidden", 'User "runs" cannot get resource: RBAC: role.rbac not found')
PASSING = ["Unavailable", "DeadlineExceeded", "Canceled", "Internal", "Unknown", "Aborted"]
READY = [condition(word, "True") for word in ("ExperimentReady", "CandidatesReady", "MirrorReady")]


@pytest.fixture
def target(api: KubeApi, tmp_path: Path) -> KubernetesTarget:
    return make_target(api.url, tmp_path)


def models() -> list[Document]:
    return [model_manifest(name, f"s3://models/{name}") for name in (A, B)]


def split(first: int = 70, second: int = 30, **changes: Any) -> Document:
    return experiment_manifest(AB, default=A, weights={A: first, B: second}, **changes)


def with_hiccup(error: Document) -> Callable[[KubeApi, Document], None]:
    """An operator that meets an error first, tries again, and leaves the condition where it wrote it."""

    def operate(api: KubeApi, document: Document) -> None:
        ready_at_once(api, document)
        if document["kind"] == "Experiment":
            api.set_status("Experiment", AB, [*READY, error])

    return operate


@pytest.mark.parametrize("code", PASSING)
def test_an_error_that_has_passed_is_no_rejection(api: KubeApi, target: Any, code: str) -> None:
    api.operator = with_hiccup(hiccup(code, "connection refused"))
    target.apply([*models(), split()])
    target.apply([split(50, 50)])
    target.wait_ready([AB], 1.0)
    assert target.status().ready
    assert weights_of(target, AB) == {A: 50, B: 50}


@pytest.mark.parametrize("code", ["FailedPrecondition", "Unimplemented"])
def test_an_error_after_which_the_operator_gives_up_is_a_rejection(api: KubeApi, target: Any, code: str) -> None:
    target.apply([*models(), split()])
    api.operator = with_hiccup(hiccup(code, "not among the candidates", at=9))
    with pytest.raises(TargetError, match=rf"scheduler rejected it: .*{code}.*not among the candidates"):
        target.apply([split(50, 50)])
    assert "rejected" in target.status().problems[0]


def test_while_the_operator_tries_again_the_experiment_is_waited_for_with_its_error(
    api: KubeApi, target: Any, tmp_path: Path
) -> None:
    def operate(api: KubeApi, document: Document) -> None:
        ready_at_once(api, document)
        if document["kind"] == "Experiment":
            api.set_status("Experiment", AB, [hiccup("Unavailable", "scheduler is starting")])

    api.operator = operate
    late = threading.Timer(0.8, lambda: api.set_status("Experiment", AB, READY))
    late.start()
    target.apply([*models(), split()])
    late.join()
    api.release("Experiment", AB)
    with pytest.raises(
        NotReadyError, match=r"no condition ExperimentReady.*tries again after: .*scheduler is starting"
    ):
        make_target(api.url, tmp_path, timeout_s=0.5).apply([split()])


def test_a_change_that_met_an_error_settles_anew(api: KubeApi, tmp_path: Path) -> None:
    """The running Experiment's conditions stay true while the change is on its way: each attempt may be refused yet."""
    target = make_target(api.url, tmp_path, settle_s=0.6)
    target.apply([*models(), split()])
    steps = [
        (0.3, hiccup("Unavailable", "no leader", at=5)),
        (0.8, hiccup("FailedPrecondition", "baseline exists", at=9)),
    ]
    timers = [threading.Timer(s, api.set_status, ("Experiment", AB, [*READY, error])) for s, error in steps]
    for timer in timers:
        timer.start()
    with pytest.raises(TargetError, match="baseline exists"):
        target.apply([split(50, 50)])
    for timer in timers:
        timer.join()


@pytest.mark.parametrize("manager", ["kubectl-edit/Update", "kubectl-create/Update", "before-first-apply/Update"])
def test_weights_that_somebody_wrote_by_hand_block_no_later_change(
    api: KubeApi, target: Any, manager: str, caplog: pytest.LogCaptureFixture
) -> None:
    target.apply([*models(), split()])
    by_hand = split(1, 99)
    api.put(by_hand, manager=manager, conditions=READY)
    target.apply([split(60, 40)])
    assert weights_of(target, AB) == {A: 60, B: 40}
    assert f"Experiment {AB}: what {manager.split('/')[0]} had written is overwritten" in caplog.text
    api.put(split(60, 40), manager=manager, conditions=READY)  # put back: the field is somebody else's all the same
    target.apply([split(50, 50)])
    assert weights_of(target, AB) == {A: 50, B: 50}


def test_a_mirror_that_somebody_added_is_removed_and_reported(
    api: KubeApi, target: Any, caplog: pytest.LogCaptureFixture
) -> None:
    target.apply([*models(), model_manifest(C, f"s3://models/{C}"), split()])
    api.put(split(mirror=(C, 50)), manager="kubectl-edit/Update", conditions=READY)
    target.apply([split()])
    assert "mirror" not in api.get("Experiment", AB)["spec"]
    assert f"Experiment {AB}: a mirror that was added by hand is removed" in caplog.text
    target.apply([split(mirror=(C, 10))])  # our own stays
    assert api.get("Experiment", AB)["spec"]["mirror"] == {"name": C, "percent": 10}
    target.apply([split()])
    assert "mirror" not in api.get("Experiment", AB)["spec"]


def test_fields_of_a_model_stay_those_of_who_wrote_them(api: KubeApi, target: Any) -> None:
    target.apply(models())
    api.put({**models()[0], "spec": {**models()[0]["spec"], "memory": "9Gi"}}, manager="autoscaler/Update")
    changed = models()[0]
    changed["spec"]["memory"] = "1Gi"
    with pytest.raises(TargetError, match=r"give the fields up there \(autoscaler\)"):
        target.apply([changed])


def test_a_403_of_an_api_server_that_has_just_started_is_outlasted(api: KubeApi, target: Any) -> None:
    target.apply(models())
    api.faults.append(Fault("GET", 403, FORBIDDEN, times=8))
    target.wait_ready([A, B], 3.0)
    api.faults.append(Fault("GET", 403, FORBIDDEN, times=8))
    waiting.wait_absent(target._api, "Model", C, waiting.Deadline(3.0))


def test_a_403_that_stays_is_believed(api: KubeApi, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_UNBELIEVED_S", 0.3)
    target.apply(models())
    api.faults.append(Fault("GET", 403, FORBIDDEN))
    start = time.monotonic()
    with pytest.raises(TargetError, match=r"HTTP 403.*allow get on models"):
        target.wait_ready([A], 30.0)
    assert 0.3 <= time.monotonic() - start < 20


def test_refused_connections_are_outlasted_until_the_deadline(unused_port: int, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    target = make_target(url, tmp_path, timeout_s=20.0)
    with ExitStack() as stack:
        # Later than four attempts take.
        later = threading.Timer(1.0, lambda: stack.enter_context(KubeApi(unused_port)))
        later.start()
        target.apply(models())
        later.join()
        assert {item.name for item in target.status().models} == {A, B}


def test_a_live_model_stays_when_it_could_not_be_seen_before(api: KubeApi, tmp_path: Path) -> None:
    target = make_target(api.url, tmp_path, timeout_s=3.0)
    target.apply(models())

    class Unreadable:
        """The target whose status cannot be read this once."""

        def __getattr__(self, name: str) -> Any:
            return getattr(target, name)

        def status(self) -> Any:
            api.faults.append(Fault("GET", 500, "etcd", times=10**9))
            found = target.status()
            api.faults.clear()
            return found

    def check() -> float:
        raise TargetError("another answer than its file gives")

    with pytest.raises(TargetError, match="another answer") as raised:
        deploy(Unreadable(), models()[0], 2.0, check)  # pyright: ignore[reportArgumentType]
    assert ("Model", A) in api.objects
    assert "could not be read" in raised.value.__notes__[0]
