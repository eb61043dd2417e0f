"""Arms that another registry counts otherwise: followed by their files, dropped or refused; nothing fails for ever."""

from __future__ import annotations

import pandas as pd
import pytest

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.renumbering import follow_registry
from financial_assets.experiment.rollout.state import AvailableModel, Rollout
from financial_assets.tracking import ModelVersion

NUMBERS = {"baseline": 1, "enhanced": 2, "lightweight": 3}
STORAGE = {f"{name}-predictor-v{number}": f"file:///m/{name}/print-{name}/artifact" for name, number in NUMBERS.items()}
MODELS = [
    AvailableModel(f"{name}-predictor-v{number}", name, number, pd.Timestamp("2010-01-29"))
    for name, number in NUMBERS.items()
]


def version(variant: str, number: int, *, fingerprint: str | None = None, cutoff: str = "2010-01-29") -> ModelVersion:
    tags = {"variant": variant, "fingerprint": fingerprint or f"print-{variant}", "data_cutoff": cutoff}
    return ModelVersion("m", number, "run", tags)


SAME = [version(name, number) for name, number in NUMBERS.items()]


@pytest.fixture
def epoch(log: PredictionLog) -> WeightEpoch:
    rollout = Rollout(log, load_policy())
    weights = rollout.reconcile(MODELS).weights
    return rollout.change_weights(weights, "by regime", regimes={"calm": dict(weights)})


def test_a_registry_that_counts_as_before_changes_nothing(log: PredictionLog, epoch: WeightEpoch) -> None:
    assert follow_registry(log, epoch, SAME, STORAGE) == epoch
    assert follow_registry(log, epoch, [*SAME, version("enhanced", 4, fingerprint="newer")], STORAGE) == epoch
    assert follow_registry(log, epoch, SAME, {}) == epoch, "what the target has lost is brought back under its name"
    # Stores outside the state folder name an artefact by the digest of its files.
    for store in ("gs://bucket", "file:///volume", "/volume"):
        stored = {name: f"{store}/{name}-0123456789ab" for name in STORAGE}
        assert follow_registry(log, epoch, SAME, stored) == epoch
    assert log.current_epoch(epoch.experiment) == epoch


def test_the_same_files_under_other_numbers_are_followed(log: PredictionLog, epoch: WeightEpoch) -> None:
    # Number 1 names another model there, 3 is deleted and registered nowhere else.
    found = follow_registry(log, epoch, [version("enhanced", 1), version("baseline", 5)], STORAGE)
    assert found == log.current_epoch(epoch.experiment)
    assert found.number == epoch.number + 1
    assert [(arm.model, arm.version, arm.role) for arm in found.arms] == [
        ("baseline-predictor-v5", 5, "champion"),
        ("enhanced-predictor-v1", 1, "challenger"),
    ]
    assert found.weights == {"baseline-predictor-v5": 70, "enhanced-predictor-v1": 30}
    assert found.regimes == {"calm": {"baseline-predictor-v5": 70, "enhanced-predictor-v1": 30}}
    assert "baseline-predictor-v1 is baseline-predictor-v5 now, and its evidence begins anew" in found.reason
    assert "lightweight-predictor-v3 leaves" in found.reason


@pytest.mark.parametrize(
    "others",
    [
        [],
        SAME[1:],
        [version("baseline", 1, fingerprint="another"), *SAME[1:]],
        [version("baseline", 1, cutoff="2011-01-31"), *SAME[1:]],
        [version("lightweight", 1), version("enhanced", 2)],
    ],
    ids=["empty", "deleted", "other files", "another cut-off", "other variants"],
)
def test_a_routed_arm_that_is_registered_nowhere_says_what_helps(
    log: PredictionLog, epoch: WeightEpoch, others: list[ModelVersion]
) -> None:
    storage = {} if others and others[0].tags["data_cutoff"] != "2010-01-29" else STORAGE
    with pytest.raises(ExperimentError, match=r"names baseline-predictor-v1.*MLFLOW_TRACKING_URI.*onnx/baseline.*ROLL"):
        follow_registry(log, epoch, others, storage)
    assert log.current_epoch(epoch.experiment) == epoch
