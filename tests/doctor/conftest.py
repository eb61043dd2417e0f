"""A home with tiny models, made once and copied for each test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.models.onnx.export import file_sha256
from financial_assets.resources import make_resources
from financial_assets.serving.manifests import EXPERIMENT_NAME
from financial_assets.settings import load_settings
from tests.doctor.doctor_home import ARMS, BASELINE, MARKET, keep_derived, onnx_of, play
from tests.serving.tiny_models import write_model


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as a run leaves it, with tiny models and without a plane."""
    home = tmp_path_factory.mktemp("made") / "home"
    home.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**MARKET, "FINANCIAL_ASSETS_HOME": str(home)}.items():
            patch.setenv(name, value)
        resources = make_resources(load_settings())
    market = resources["market"]
    market.ingest()
    market.begin(market.whole_panel().sessions)
    keep_derived(resources)
    registry, tracker = resources["models"].registry(), resources["models"].tracker()
    for arm in ARMS:
        path = write_model(onnx_of(home, arm).parent, float(arm.version)) / "model.onnx"
        (path.parent / "model-card.json").write_text(json.dumps({"onnx_sha256": file_sha256(path)}))
        with tracker.run(arm.variant, tags={}, params={}) as run:
            run.log_artifacts(path.parent, "model")
        tags = {"variant": arm.variant, "fingerprint": f"print{arm.version}", "onnx_sha256": file_sha256(path)}
        assert registry.register(run.id, "model", tags).version == arm.version
    registry.set_alias("champion", 1)
    registry.set_alias("challenger", 2)
    with resources["ab_test"].log() as log:
        epoch = log.open_epoch(EXPERIMENT_NAME, ARMS, "start", after=0)
        days = market.whole_panel().sessions[-2:]
        intents = log.begin_routed(epoch, days[0], days[1], ["AAA", "BBB"])
        forecast = Forecast(0.5, (-0.02, -0.01, 0.0, 0.01, 0.02))
        log.complete_routed([Result(intent.id, forecast, route=BASELINE, latency_s=0.01) for intent in intents])
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the home that the environment names; serving is played by doubles."""
    copy = tmp_path / "home"
    shutil.copytree(made, copy)
    for name, value in {**MARKET, "FINANCIAL_ASSETS_HOME": str(copy)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))  # no instance there; not that of the repository
    # One client a database: opening MLflow takes most of the time.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{made / 'mlflow.db'}")
    play(monkeypatch)
    return copy
