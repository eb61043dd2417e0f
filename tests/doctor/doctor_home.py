"""A home as a run leaves it, doubles of what serves it, and what the doctor must name first."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.atomic import atomic_write_text
from financial_assets.doctor import Finding, examine, first_broken
from financial_assets.errors import GatewayUnavailableError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.features.graph import FeaturePanel
from financial_assets.installation import ServingAccess
from financial_assets.models.answers import Answers
from financial_assets.models.artifacts.storage import save_training
from financial_assets.models.artifacts.tracked import keep_pointer
from financial_assets.models.baselines.fitted import Baselines
from financial_assets.models.baselines.monthly import write_by_month
from financial_assets.models.calibration import FittedCalibration, PlattScaling, QuantileShifts, ScoreSlope
from financial_assets.models.networks.build import build_network
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training import Training
from financial_assets.models.variants import VARIANTS, Variant
from financial_assets.models.volatility import HarVolatility
from financial_assets.serving.bar_rules import neutral_bars
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.manifests import EXPERIMENT_NAME, model_name
from financial_assets.serving.target import Endpoint, ExperimentStatus, ModelStatus, ProcessStatus, TargetStatus

LAYERS = [
    "settings",
    "state folder",
    "Dagster",
    "price store",
    "MLflow",
    "prediction log",
    "artefacts",
    "state files",
    "served files",
    "trading",
    "serving target",
    "gateway",
    "routing",
    "attribution",
    "alerts",
]
MARKET = {"PRICE_SOURCE": "simulated", "TICKERS": "AAA,BBB", "SIMULATED_SESSIONS": "400"}
CUTOFF = pd.Timestamp("2020-01-02")
BARS = neutral_bars(2, 256)


def _arm(variant: str, version: int, role: Any, weight: int) -> Arm:
    return Arm(model_name(variant, version), variant, version, role, weight, CUTOFF)


ARMS = (
    _arm("baseline", 1, "champion", 70),
    _arm("enhanced", 2, "challenger", 30),
    _arm("lightweight", 3, "shadow", 0),
)
BASELINE, ENHANCED, LIGHTWEIGHT = (arm.model for arm in ARMS)
EPOCH = WeightEpoch(EXPERIMENT_NAME, 1, pd.Timestamp("2024-01-02", tz="UTC"), ARMS, "start")


def onnx_of(home: Path, arm: Arm) -> Path:
    return home / "models" / arm.variant / f"print{arm.version}" / "artifact" / "model.onnx"


@dataclass(frozen=True)
class FakeClient:
    """Answers as the arm ``route``, or not at all over a ``silent`` protocol."""

    route: str | None = BASELINE
    silent: str = ""
    probability: float = 0.5
    score: float | None = 0.1

    def infer(self, target: str, bars: np.ndarray, protocol: str = "HTTP") -> Answer:
        if protocol == self.silent:
            raise GatewayUnavailableError(f"{protocol}: connection refused")
        shape = (len(bars), 5)
        answer = Answer(np.full(len(bars), self.probability), np.zeros(shape), self.route, 1, target, 0.01, "id")
        if self.score is None:  # as a model of an earlier version
            return answer
        return replace(answer, return_quantiles_5d=np.zeros(shape), excess_return=np.full(len(bars), self.score))

    def infer_batch(self, target: str, bars: np.ndarray) -> Answer:
        return self.infer(target, bars, "gRPC")


@dataclass(frozen=True)
class FakeTarget:
    """A target with this status."""

    found: TargetStatus

    def status(self) -> TargetStatus:
        return self.found


def healthy_status(weights: Mapping[str, int] | None = None) -> TargetStatus:
    return TargetStatus(
        "local",
        True,
        Endpoint("http://127.0.0.1:1", "127.0.0.1:1"),
        tuple(ModelStatus(arm.model, f"{arm.model}_1", True, "file:///x") for arm in ARMS),
        (ExperimentStatus(EXPERIMENT_NAME, BASELINE, weights or EPOCH.weights, None, True),),
        (ProcessStatus("envoy", 1, "running", 0, ""), ProcessStatus("mlserver", 2, "running", 0, "")),
    )


def play(patch: pytest.MonkeyPatch, status: TargetStatus | None = None, client: FakeClient | None = None) -> None:
    patch.setattr(ServingAccess, "target", lambda _: FakeTarget(status or healthy_status()))
    patch.setattr(ServingAccess, "connect", lambda _: contextlib.nullcontext(client or FakeClient()))


def named_first(layer: str, *, detail: str, remedy: str) -> tuple[Finding, ...]:
    """Examine; the first broken layer is this one, with these words; all layers before it work."""
    findings = examine()
    assert [finding.layer for finding in findings] == LAYERS
    first = first_broken(findings)
    assert first is not None
    assert (first.layer, detail in first.detail, remedy in first.remedy) == (layer, True, True), first
    assert {finding.state for finding in findings[: LAYERS.index(layer)]} <= {"ok", "warn"}
    return findings


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
        )
        for path in [folder, *folder.rglob("*")]
    }


def keep_derived(resources: Mapping[str, Any]) -> None:
    """What the assets between prices and models keep, of the right kind and tiny."""
    market, models = resources["market"], resources["models"]
    panel = market.panel()
    panel.save(market.panel_path)
    features = np.zeros((len(panel.tickers), 2, len(panel.sessions)), dtype=np.float32)
    FeaturePanel(("a", "b"), panel.tickers, panel.sessions, features, panel.valid).save(market.features_path)
    for cutoff in ("2019-01-02", "2020-01-02"):
        values = (0.5, 0.5, 0.5, ("a",), (0.0,), (1.0,), (0.1,), 0.0, 1.0, (-2.0, -1.0, 0.0, 1.0, 2.0), cutoff)
        models.keep_baselines(Baselines(*values))
    for arm in ARMS:
        folder = models.folder / arm.variant
        save_training(folder / f"print{arm.version}" / "training", _training(VARIANTS[arm.variant]))
        keep_pointer(folder / "current.json", f"print{arm.version}", "run")
        atomic_write_text(folder / f"print{arm.version}" / "registered.json", json.dumps({"version": arm.version}))
    now = f"{market.clock().now():%Y-%m-%d}"
    for name in (now, "2001-01-02"):
        for kind in ("parquet", "csv"):
            path = market.folder / "signals" / f"{name}.{kind}"
            path.parent.mkdir(exist_ok=True)
            frame = pd.DataFrame({"ticker": ["AAA", "BBB"]})
            frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    report = resources["ab_test"].report_path
    atomic_write_text(report, "<html></html>\n")
    evaluation = {"verdict": "none", "experiment": "financial-ab-test-experiment", "as_of": "2020-01-03"}
    atomic_write_text(report.with_suffix(".json"), json.dumps(evaluation))
    write_by_month(resources["ab_test"].rivals_path, pd.DataFrame({"date": [CUTOFF]}), {})
    atomic_write_text(report.parent / "decisions" / "2020-01-03-0123456789ab.json", '{"action": "hold"}')


def _training(variant: Variant) -> Training:
    """An untrained network as a training would be kept."""
    answers = {field.name: np.ones(3) for field in fields(Answers)} | {"ticker": np.array(["AAA"] * 3)}
    return Training(
        variant=variant,
        seed=1,
        sequence_length=5,
        feature_names=("a", "b"),
        tickers=("AAA", "BBB"),
        network=build_network(variant, 2),
        scaler=RobustScaler(torch.zeros(2), torch.ones(2)),
        volatility=HarVolatility.random_walk(),
        fitted_calibration=FittedCalibration(
            PlattScaling(1.0, 0.0, 1.0), (QuantileShifts.none(),) * 2, ScoreSlope(1.0, 1.0)
        ),
        spans={"fit": (CUTOFF, CUTOFF)},
        cutoff=CUTOFF,
        windows={"fit": 3},
        history=(),
        best_epoch=0,
        held_out=Answers(**answers),
        device="cpu",
        seconds=0.0,
    )
