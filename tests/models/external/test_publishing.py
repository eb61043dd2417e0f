"""An external model in the registry: once per file and card, whole after a crash, refused without a trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts import mlflow_model
from financial_assets.models.external import publishing
from financial_assets.models.external.answers import ExternalGraph
from financial_assets.models.external.card import ExternalModel
from financial_assets.models.external.publishing import Admission, admit
from financial_assets.models.lifecycle import ModelLifecycle
from financial_assets.models.onnx.export import file_sha256
from financial_assets.tracking import MlflowTracker, ModelRegistry
from tests.models.external.graphs import External, write_graph

Admit = Callable[[Path], Admission]


@pytest.fixture(scope="module")
def bars(make_walk: Callable[..., PricePanel]) -> PricePanel:
    return make_walk(seed=5, tickers=2)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def admit_file(tmp_path: Path, bars: PricePanel, registry: ModelRegistry) -> Admit:
    tracker = MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "experiment", tmp_path / "artifacts")

    def run(path: Path) -> Admission:
        return admit(ExternalModel(path), bars, tmp_path / "models", tracker, registry, tags={"who": "test"})

    return run


def test_a_good_model_is_registered_once(tmp_path: Path, admit_file: Admit, registry: ModelRegistry) -> None:
    path = write_graph(tmp_path / "given")
    first, again = admit_file(path).artifact, admit_file(path).artifact
    assert first is not None
    assert again is not None
    assert (first.version, first.reused, again.version, again.reused) == (1, False, 1, True)
    (version,) = registry.versions()
    assert version.tags["variant"] == first.variant == "house"
    assert version.tags["data_cutoff"] == "2002-12-31" == f"{first.data_cutoff:%Y-%m-%d}"
    assert version.tags["licence"] == "Apache-2.0"
    assert version.tags["onnx_sha256"] == file_sha256(path) == file_sha256(first.onnx_path)
    assert [finding["passed"] for finding in first.card["examination"]] == [True] * 8  # type: ignore[attr-defined]


def test_a_registered_model_is_known_by_its_graph(tmp_path: Path, admit_file: Admit, registry: ModelRegistry) -> None:
    """It has no training; its answers on past sessions are asked for."""
    artifact = admit_file(write_graph(tmp_path / "given")).artifact
    assert artifact is not None
    tracker = MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "experiment", tmp_path / "artifacts")
    lifecycle = ModelLifecycle(tmp_path / "models", tracker, registry, sequence_length=10, seed=0)
    known = lifecycle.known_model(artifact.version)
    assert known == ExternalGraph(artifact.onnx_path, artifact.data_cutoff)
    artifact.onnx_path.unlink()
    again = lifecycle.known_model(artifact.version)
    assert isinstance(again, ExternalGraph)
    assert again.path.is_file(), "fetched from the registry"


def test_another_file_or_another_card_is_another_version(
    tmp_path: Path, admit_file: Admit, registry: ModelRegistry
) -> None:
    path = write_graph(tmp_path / "given")
    admit_file(path)
    path.with_suffix(".yaml").write_text("name: house\ndata_cutoff: 2002-11-29\nlicence: Apache-2.0\n")
    admit_file(path)
    write_graph(tmp_path / "given", module=External(lambda window: window[:, -1, 3:4] / window[:, -2, 3:4] - 1.0))
    admit_file(path)
    assert [version.tags["data_cutoff"] for version in registry.versions()] == [
        "2002-12-31",
        "2002-11-29",
        "2002-12-31",
    ]


def test_a_refused_model_leaves_nothing_behind(tmp_path: Path, admit_file: Admit, registry: ModelRegistry) -> None:
    path = write_graph(tmp_path / "given", module=External(lambda window: window[:, -1, 3:4] * 0.01))
    refused = admit_file(path)
    assert refused.artifact is None
    assert "any unit" in refused.examination.reason
    assert registry.versions() == ()
    assert not (tmp_path / "models").exists()


def test_a_card_is_needed(tmp_path: Path, admit_file: Admit) -> None:
    refused = admit_file(write_graph(tmp_path / "given", card=""))
    assert refused.artifact is None
    assert "no card" in refused.reason


def test_a_half_written_artefact_is_written_again(
    tmp_path: Path, admit_file: Admit, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_graph(tmp_path / "given")

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "save_mlflow_model", dies)
        with pytest.raises(KeyboardInterrupt):
            admit_file(path)
    assert mlflow_model.save_mlflow_model is publishing.save_mlflow_model
    artifact = admit_file(path).artifact
    assert artifact is not None
    assert json.loads((artifact.folder / "model-card.json").read_text())["onnx_sha256"] == file_sha256(path)


def test_a_damaged_copy_is_fetched_from_the_registry(tmp_path: Path, admit_file: Admit) -> None:
    path = write_graph(tmp_path / "given")
    artifact = admit_file(path).artifact
    assert artifact is not None
    artifact.onnx_path.write_bytes(np.random.default_rng(0).bytes(100))
    again = admit_file(path).artifact
    assert again is not None
    assert file_sha256(again.onnx_path) == file_sha256(path)
