"""The life of a plane: apply, change, refuse, restart, delete."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from financial_assets.errors import InferenceError, ManifestError, NotReadyError, RequestRejectedError, TargetError
from financial_assets.locking import exclusive
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.local import control
from financial_assets.serving.local import target as module
from financial_assets.serving.local.desired import DesiredState
from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.processes.process import SupervisorState
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import experiment_manifest, model_manifest
from tests.serving.serving_objects import server_manifest, weights_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTarget]:
    """A plane on which each test uses names of its own."""
    home = tmp_path_factory.mktemp("target") / "home"
    yield LocalTarget(home, timeout_s=30)
    control.stop(home)


@pytest.fixture
def model(tmp_path: Path, write_tiny: Any, request: pytest.FixtureRequest) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Make a Model manifest of this test: ``model("a", logit)``."""
    prefix = request.node.name.removeprefix("test_").replace("_", "-")[:30].strip("-")

    def make(suffix: str, logit: float = 0.0, folder: str | None = None) -> tuple[str, dict[str, Any]]:
        name = f"{prefix}-{suffix}"
        return name, model_manifest(name, write_tiny(tmp_path / (folder or suffix), logit).as_uri())

    return make


def repository(target: LocalTarget) -> set[str]:
    return {folder.name for folder in Layout(target.home).models.iterdir()}


def arms(target: LocalTarget, name: str, bars_of: Any, count: int = 40) -> Counter[str | None]:
    with InferenceClient(target.endpoint()) as client:
        return Counter(client.infer(name, bars_of(1)).route for _ in range(count))


def test_weights_are_in_force_when_the_call_returns(target: LocalTarget, model: Any, bars_of: Any) -> None:
    (a, first), (b, second) = model("a"), model("b")
    target.apply([first, second, experiment_manifest("w-experiment", default=a, weights={a: 1, b: 0})])
    target.wait_ready([a, b, "w-experiment"], 10)
    for weights in ({a: 0, b: 7}, {a: 3, b: 0}, {a: 0, b: 1}):
        target.apply([experiment_manifest("w-experiment", default=a, weights=weights)])
        assert weights_of(target, "w-experiment") == weights
        [only] = [name for name, weight in weights.items() if weight]
        assert set(arms(target, "w-experiment", bars_of, 15)) == {only}
    with pytest.raises(ManifestError, match="names ghost"):
        target.apply([experiment_manifest("w-experiment", default=a, weights={a: 1, "ghost": 1})])
    assert weights_of(target, "w-experiment") == {a: 0, b: 1}
    assert set(arms(target, "w-experiment", bars_of, 5)) == {b}


def test_a_refused_apply_changes_nothing(target: LocalTarget, model: Any, tmp_path: Path) -> None:
    name, good = model("good")
    target.apply([good])
    before, folders = DesiredState.read(Layout(target.home).desired), repository(target)
    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    (corrupt / "model.onnx").write_bytes(b"no model")
    with pytest.raises(TargetError, match=r"corrupt-model_1 cannot be loaded: .*not an ONNX model"):
        target.apply([model_manifest("corrupt-model", str(corrupt))])
    for manifests, message in [
        ([model_manifest("m", str(tmp_path / "missing"))], "does not exist or holds no"),
        ([model_manifest("m", "s3://bucket/m")], "file:// URIs only"),
        ([model_manifest("m", good["spec"]["storageUri"])], "share storageUri"),
        ([experiment_manifest("x-experiment", default="ghost", weights={"ghost": 1})], "no Model manifest defines"),
        ([{**good, "kind": "Pipeline"}], "Pipeline"),
        ([good, good], "is given twice"),
    ]:
        with pytest.raises(ManifestError, match=message):
            target.apply(manifests)
    assert DesiredState.read(Layout(target.home).desired) == before
    assert repository(target) == folders
    assert {m.name: m.ready for m in target.status().models}[name]


def test_artefacts_are_immutable(
    target: LocalTarget, model: Any, tmp_path: Path, write_tiny: Any, bars_of: Any
) -> None:
    name, manifest = model("a", 0.0)
    target.apply([manifest])
    revision = DesiredState.read(Layout(target.home).desired).models[name]
    target.apply([manifest])
    assert DesiredState.read(Layout(target.home).desired).models[name] == revision
    labelled = {**manifest, "metadata": {**manifest["metadata"], "labels": {"variant": "a"}}}
    target.apply([labelled])
    served = DesiredState.read(Layout(target.home).desired).models[name]
    assert (served.version, served.manifest) == (1, labelled)
    other = write_tiny(tmp_path / "other", 1.0)
    (tmp_path / "a" / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    with pytest.raises(TargetError, match=r"was overwritten.*new storageUri"):
        target.apply([manifest])
    with InferenceClient(target.endpoint()) as client:
        assert client.infer(name, bars_of(1)).probability_up[0] == 0.5


def test_a_new_storage_uri_is_a_new_version_and_stale_routes_heal(
    target: LocalTarget, model: Any, bars_of: Any, tmp_path: Path, write_tiny: Any
) -> None:
    (a, first), (b, second) = model("a", 0.0), model("b", 0.0)
    target.apply([first, second, experiment_manifest("v-experiment", default=a, weights={a: 1, b: 1})])
    with InferenceClient(target.endpoint()) as client:
        old = client.infer(a, bars_of(1), route=a)
        assert old.sticky == f":{a}_1:"
        target.apply([model_manifest(a, str(write_tiny(tmp_path / "next", 1.0)))])
        assert f"{a}_2" in repository(target)
        assert f"{a}_1" not in repository(target)
        assert client.infer("v-experiment", bars_of(1), route=old.sticky).route in {a, b}
        with pytest.raises(RequestRejectedError, match="404"):
            client._rest.send(a, bars_of(1), {"seldon-model": a, "x-seldon-route": f":{a}_1:", "x-request-id": "r"})
    with InferenceClient(target.endpoint()) as client:
        healed = client.infer(a, bars_of(1))
        assert (healed.route, healed.route_version) == (a, 2)
        assert healed.probability_up[0] > 0.7
    # A version number is never used again, not even after deletion.
    target.delete("Experiment", "v-experiment")
    target.delete("Model", a)
    target.apply([first])
    assert DesiredState.read(Layout(target.home).desired).models[a].version == 3


def test_experiments_without_a_default_split_beside_the_one_that_has_it(
    target: LocalTarget, model: Any, bars_of: Any
) -> None:
    (a, first), (b, second) = model("a"), model("b")
    base = experiment_manifest("r-experiment", default=a, weights={a: 1, b: 0})
    high = experiment_manifest("r-high-experiment", default=None, weights={a: 0, b: 1})
    target.apply([first, second, base, high])
    target.wait_ready(["r-experiment", "r-high-experiment"], 10)
    assert set(arms(target, "r-experiment", bars_of, 10)) == set(arms(target, a, bars_of, 10)) == {a}
    assert set(arms(target, "r-high-experiment", bars_of, 10)) == set(arms(target, b, bars_of, 10)) == {b}
    target.apply([experiment_manifest("r-high-experiment", default=None, weights={a: 1, b: 0})])
    assert set(arms(target, "r-high-experiment", bars_of, 10)) == {a}
    [found] = [one for one in target.status().experiments if one.name == "r-high-experiment"]
    assert (found.default, dict(found.weights), found.ready) == (None, {a: 1, b: 0}, True)


def test_deleting_goes_outside_in(target: LocalTarget, model: Any, bars_of: Any) -> None:
    (a, first), (b, second) = model("a"), model("b")
    target.apply([first, second, experiment_manifest("d-experiment", default=a, weights={a: 1, b: 1})])
    with pytest.raises(ManifestError, match=r"d-experiment names .*-b"):
        target.delete("Model", b)
    assert set(arms(target, "d-experiment", bars_of)) == {a, b}
    target.delete("Experiment", "d-experiment")
    with InferenceClient(target.endpoint()) as client, pytest.raises(RequestRejectedError, match="404"):
        client.infer("d-experiment", bars_of(1))
    assert set(arms(target, a, bars_of, 10)) == {a}
    target.delete("Model", b)
    target.delete("Model", b)
    target.delete("Server", "whatever")
    assert f"{b}_1" not in repository(target)
    with InferenceClient(target.endpoint()) as client, pytest.raises(RequestRejectedError, match="404"):
        client.infer(b, bars_of(1))
    with pytest.raises(ManifestError, match="kind is 'Pod'"):
        target.delete("Pod", b)


def test_a_default_whose_route_is_unknown_is_not_mistaken_for_another(
    target: LocalTarget, model: Any, bars_of: Any
) -> None:
    (a, first), (b, second) = model("a"), model("b")
    target.apply([first, second, experiment_manifest("u-experiment", default=a, weights={a: 0, b: 1})])
    endpoint = target.endpoint()
    with InferenceClient(endpoint) as client:
        assert client.infer(a, bars_of(1)).route == a
    bare = type(endpoint)(endpoint.http_url, endpoint.grpc_target)
    with InferenceClient(bare) as client, pytest.raises(InferenceError, match=f"route of {a} is not known"):
        client.infer(a, bars_of(1))


def test_concurrent_appliers_both_take_effect(target: LocalTarget, model: Any) -> None:
    made = [model(str(number)) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: LocalTarget(target.home, timeout_s=60).apply([item[1]]), made))
    ready = {m.name: m.ready for m in target.status().models}
    assert all(ready[name] for name, _ in made)
    target.apply([server_manifest("mlserver-financial")])


def test_waiting_says_what_it_waited_for(target: LocalTarget, model: Any) -> None:
    _, manifest = model("a")
    target.apply([manifest])
    with pytest.raises(NotReadyError, match="ghost was never applied"):
        target.wait_ready(["ghost"], 0.1)
    hasty = LocalTarget(target.home, timeout_s=0.2)
    with (
        exclusive(Layout(target.home).apply_lock, 5, error=NotReadyError, purpose="the test"),
        pytest.raises(NotReadyError, match="applying manifests"),
    ):
        hasty.apply([manifest])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home with a space"
    yield folder
    control.stop(folder)


def test_the_whole_plane_comes_back_after_a_stop(home: Path, tmp_path: Path, write_tiny: Any, bars_of: Any) -> None:
    target = LocalTarget(home, timeout_s=30)
    nothing = target.status()
    assert not nothing.ready
    assert nothing.endpoint is None
    assert "financial-assets serve" in nothing.problems[0]
    with pytest.raises(NotReadyError, match="financial-assets serve"):
        target.endpoint()
    manifests = [model_manifest(name, str(write_tiny(tmp_path / name, 0.0))) for name in "ab"]
    target.apply([*manifests, experiment_manifest("x-experiment", default="a", weights={"a": 1, "b": 0})])
    endpoint = target.endpoint()
    assert control.stop(home)
    assert not LocalTarget(home).status().ready
    # Several callers start at once; one supervisor results.
    with ThreadPoolExecutor(4) as pool:
        ports = set(pool.map(lambda _: control.start(home), range(4)))
    assert len(ports) == 1
    assert target.endpoint() == endpoint, "ports and routes are kept"
    assert target.status().ready
    assert set(arms(target, "x-experiment", bars_of, 10)) == {"a"}
    assert (Layout(home).logs / "supervisor.log").read_text().count("supervisor ") >= 2
    # A served file that is damaged comes back from its artefact at the next start, whoever starts; one that is lost
    # with its artefact is named, with what to materialize, and the other one serves on.
    for served in ("a_1", "b_1"):
        (Layout(home).models / served / "model.onnx").write_bytes(b"damaged")
    original = (tmp_path / "b" / "model.onnx").read_bytes()
    (tmp_path / "b" / "model.onnx").write_bytes(original[:100])
    control.stop(home)
    control.start(home)
    state = target.status()
    assert "materialize onnx/" in target.mend()["b"]
    assert {m.name: m.ready for m in state.models} == {"a": True, "b": False}
    assert state.problems == ("Model b does not answer",)
    assert set(arms(target, "x-experiment", bars_of, 10)) == {"a"}
    with pytest.raises(TargetError, match=r"Model b: .* is lost: .*materialize onnx/"):
        target.apply([experiment_manifest("x-experiment", default="a", weights={"a": 1, "b": 1})])
    # Put back by the registry, the next apply, whatever it is about, heals it.
    mended = LocalTarget(home, timeout_s=30, restore=lambda folder, _: (folder / "model.onnx").write_bytes(original))
    mended.apply([])
    assert target.status().ready
    processes = SupervisorState.read(Layout(home).supervisor_state)
    control.stop(home)
    assert processes is not None
    assert [child for child in processes.children if child.identity and child.identity.find()] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(endpoint.http_url, verify=False)


def test_a_plane_that_another_version_configured_is_restarted(target: LocalTarget, model: Any, bars_of: Any) -> None:
    """Its processes would not understand what this version publishes; those beside them stay."""
    name, manifest = model("a", 1.0)
    target.apply([manifest])
    listeners = Layout(target.home).envoy / "listeners.json"
    before = {process.name: process.pid for process in target.status().processes}
    target.apply([manifest])
    assert {process.name: process.pid for process in target.status().processes} == before
    listeners.write_text(listeners.read_text() + " ")
    target.apply([manifest])
    after = {process.name: process.pid for process in target.status().processes}
    assert set(after) == set(before)
    assert set(after.values()).isdisjoint(before.values())
    assert set(arms(target, name, bars_of, 3)) == {name}


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.root.mkdir()
    for content in ("{", "[]", json.dumps({"revision": 1})):
        layout.desired.write_text(content)
        with pytest.raises(TargetError, match=r"desired\.json is damaged.*apply the manifests again"):
            LocalTarget(tmp_path).status()


def test_an_apply_that_died_half_way_is_completed_by_the_next(
    target: LocalTarget, model: Any, bars_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a, first), (b, second) = model("a"), model("b")
    target.apply([first])

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.EnvoyPublisher, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            target.apply([second, experiment_manifest("h-experiment", default=a, weights={a: 0, b: 1})])
    assert not target.status().ready
    assert "revision" in target.status().problems[0]
    target.apply([])
    assert target.status().ready
    assert set(arms(target, "h-experiment", bars_of, 5)) == {b}
