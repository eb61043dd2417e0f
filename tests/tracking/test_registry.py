"""The model registry on a sqlite store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from financial_assets.errors import TrackingError
from financial_assets.tracking import REGISTERED_MODEL, MlflowTracker, ModelRegistry, ModelVersion

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def store_with_a_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store holding one run with a model in ``model/``, and that run's id; a copy refers to the same artefacts."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "built" / "data").mkdir(parents=True)
    (folder / "built" / "model.onnx").write_bytes(b"onnx")
    (folder / "built" / "data" / "MLmodel").write_text("flavors: {}")
    with MlflowTracker(f"sqlite:///{folder / 'mlflow.db'}", "experiment", folder / "artifacts").run("train") as run:
        run.log_artifacts(folder / "built", "model")
    return folder / "mlflow.db", run.id


@pytest.fixture
def registry(store_with_a_run: tuple[Path, str], tmp_path: Path) -> ModelRegistry:
    shutil.copy(store_with_a_run[0], tmp_path / "mlflow.db")
    return ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def run_id(store_with_a_run: tuple[Path, str]) -> str:
    return store_with_a_run[1]


def test_an_empty_registry_has_no_versions(registry: ModelRegistry) -> None:
    assert registry.versions() == ()
    assert registry.find("abc") is None
    assert registry.by_alias("champion") is None


def test_a_version_carries_run_tags_and_description(registry: ModelRegistry, run_id: str) -> None:
    made = registry.register(run_id, "model", {"variant": "baseline", "fingerprint": "abc"}, "the first")
    assert made == registry.get(1) == registry.find("abc")
    assert registry.versions() == (made,)
    assert (made.name, made.version, made.run_id, made.description) == (REGISTERED_MODEL, 1, run_id, "the first")
    assert made.tags == {"variant": "baseline", "fingerprint": "abc"}
    assert registry.find("ab") is None, "a fingerprint is matched whole"


def test_a_known_fingerprint_is_not_registered_again(registry: ModelRegistry, run_id: str) -> None:
    first = registry.register(run_id, "model", {"fingerprint": "abc"})
    assert registry.register(run_id, "model", {"fingerprint": "abc"}) == first
    assert registry.register(run_id, "model", {"fingerprint": "def"}).version == 2
    assert registry.register(run_id, "model", {}).version == 3
    assert registry.register(run_id, "model", {}).version == 4, "without a fingerprint nothing can be known again"


def test_versions_are_ordered_by_number(registry: ModelRegistry, run_id: str) -> None:
    for number in range(1, 12):
        registry.register(run_id, "model", {"fingerprint": str(number)})
    assert [one.version for one in registry.versions()] == list(range(1, 12))


def test_an_alias_moves_from_version_to_version(registry: ModelRegistry, run_id: str) -> None:
    registry.register(run_id, "model", {"fingerprint": "a"})
    registry.register(run_id, "model", {"fingerprint": "b"})
    registry.set_alias("champion", 1)
    registry.set_alias("challenger", 2)
    champion = registry.by_alias("champion")
    assert champion is not None
    assert champion.version == 1
    registry.set_alias("champion", 2)
    assert registry.get(1).aliases == ()
    assert registry.get(2).aliases == ("challenger", "champion")
    assert [one.aliases for one in registry.versions()] == [(), ("challenger", "champion")]
    assert registry.find("b") == registry.get(2)


def test_a_download_replaces_what_was_there(registry: ModelRegistry, run_id: str, tmp_path: Path) -> None:
    registry.register(run_id, "model", {})
    folder = tmp_path / "models" / "baseline"
    folder.mkdir(parents=True)
    (folder / "left over").write_text("from before")
    assert registry.download(1, folder) == folder
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        "data",
        "data/MLmodel",
        "model.onnx",
    ]
    assert (folder / "model.onnx").read_bytes() == b"onnx"
    assert list(folder.parent.iterdir()) == [folder], "nothing temporary remains"
    assert folder.stat().st_mode == folder.parent.stat().st_mode, "others may read it"


def test_a_download_that_fails_leaves_what_was_there(registry: ModelRegistry, run_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "baseline"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text("from before")
    made = registry.register(run_id, "model", {})
    artifacts = Path(made.source.removeprefix("file://"))
    artifacts.rename(artifacts.with_name("hidden"))
    try:
        with pytest.raises(TrackingError, match=r"version 1 .*deleted"):
            registry.download(1, folder)
    finally:
        artifacts.with_name("hidden").rename(artifacts)
    assert (folder / "model.onnx").read_text() == "from before"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda registry, run_id, folder: registry.get(7), "version 7 of financial-direction-predictor"),
        (lambda registry, run_id, folder: registry.set_alias("champion", 7), "alias 'champion' .*version 7"),
        (lambda registry, run_id, folder: registry.download(7, folder), "download version 7"),
        (lambda registry, run_id, folder: registry.register(run_id, "absent", {}), "no artefacts in 'absent'"),
        (lambda registry, run_id, folder: registry.register("0" * 32, "model", {}), "of run 0{32}"),
    ],
)
def test_what_does_not_exist_is_named(
    registry: ModelRegistry, run_id: str, tmp_path: Path, call: Callable[..., object], named: str
) -> None:
    with pytest.raises(TrackingError, match=named):
        call(registry, run_id, tmp_path / "folder")
    assert registry.versions() == ()
    assert not (tmp_path / "folder").exists()


def test_a_model_version_is_a_value() -> None:
    assert ModelVersion("model", 1, "run") == ModelVersion("model", 1, "run", {}, ())
