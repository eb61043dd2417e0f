"""Folds in a real MLflow: one run each below the run that asked, ended as the fold was, and never one too many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from financial_assets.errors import LeakAlarmError, TrackingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.variants import Variant
from financial_assets.models.walk_forward.run import BASELINES, WalkForward
from financial_assets.models.walk_forward.scores import score_table
from financial_assets.models.walk_forward.tracked import FoldRuns, fold_metrics
from financial_assets.tracking import MlflowTracker
from financial_assets.tracking.owners import OWNER_PID, OWNER_STARTED
from financial_assets.tracking.runs import FAILURE_TAG
from tests.models.walk_forward.conftest import walk_of
from tests.tracking.mlflow_store import client_of

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@dataclass
class Setting:
    """A walk-forward whose fits take no time, a tracker, and what the store holds."""

    walk: WalkForward
    tracker: MlflowTracker
    client: MlflowClient

    def runs(self, parent: str | None = "parent", tracker: MlflowTracker | None = None) -> FoldRuns:
        return FoldRuns(self.walk, tracker or self.tracker, parent, {"dagster.run_id": "d"})

    def stored(self, kind: str = "fold") -> list[Any]:
        """Runs of a kind, the earliest first."""
        experiment = self.client.get_experiment_by_name("experiment")
        assert experiment is not None
        found = self.client.search_runs([experiment.experiment_id], f"tags.`financial_assets.kind` = '{kind}'")
        return sorted(found, key=lambda run: run.info.start_time)


@pytest.fixture(scope="module")
def forecasts(
    tmp_path_factory: pytest.TempPathFactory,
    universe: PricePanel,
    universe_features: FeaturePanel,
    graph: FeatureGraph,
    tiny: Variant,
) -> pd.DataFrame:
    """What one real fit forecasts in the first fold."""
    walk = walk_of(tmp_path_factory.mktemp("fit"), universe, universe_features, graph, tiny)
    return walk.run("tiny", walk.folds[0]).forecasts


@pytest.fixture
def setting(
    tmp_path: Path,
    universe: PricePanel,
    universe_features: FeaturePanel,
    graph: FeatureGraph,
    tiny: Variant,
    forecasts: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> Setting:
    monkeypatch.setattr(
        WalkForward, "_of_variant", lambda self, variant, fold: forecasts.assign(fold=fold.name, model=variant.name)
    )
    tracker = MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment", tmp_path / "artifacts")
    walk = walk_of(tmp_path / "walk", universe, universe_features, graph, tiny)
    return Setting(walk, tracker, client_of(tracker.connection.uri))


def test_a_fold_is_a_run_below_the_one_that_asked_with_its_span_and_all_its_scores(setting: Setting) -> None:
    fold = setting.walk.folds[0]
    found, run_id = setting.runs().run("tiny", fold)
    (run,) = setting.stored()
    assert run.info.run_id == run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"tiny fold-1 to {found.provenance.cutoff}")
    tags = {"mlflow.parentRunId": "parent", "dagster.run_id": "d", "variant": "tiny", "fold": "fold-1"}
    assert tags.items() <= run.data.tags.items()
    assert run.data.tags["fingerprint"] == found.provenance.fingerprint
    sessions = setting.walk.panel.sessions
    expected = {
        "hidden": "8",
        "seed": "7",
        "first_session": f"{sessions[0]:%Y-%m-%d}",
        "data_cutoff": f"{sessions[fold.cutoff]:%Y-%m-%d}",
        "first_test": found.provenance.first,
        "last_test": found.provenance.last,
        "test_sessions": "20",
        "splits": "2",
    }
    assert expected.items() <= run.data.params.items()
    assert not {"steps", "members"} & run.data.params.keys()
    scores = score_table(found.forecasts)
    accuracy = scores[(scores["score"] == "accuracy") & (scores["fold"] == "fold-1")]["estimate"].item()
    assert run.data.metrics["direction/accuracy"] == pytest.approx(accuracy)
    assert {"return_quantiles/qlike", "return_quantiles/coverage_5pct", "fold_seconds"} <= run.data.metrics.keys()
    named = scores[(scores["fold"] == "fold-1") & scores["estimate"].notna()]
    assert len(run.data.metrics) == len(named) + 2
    (artefact,) = setting.client.list_artifacts(run_id)
    assert artefact.path == "scores.csv"


def test_folds_that_are_there_are_not_tracked_again(setting: Setting) -> None:
    first, second = setting.walk.folds
    _, before = setting.runs("yesterday").run("tiny", first)
    found, again = setting.runs("today").run("tiny", first)
    assert (found.reused, again) == (True, before)
    setting.runs("today").run("tiny", second)
    assert [(run.data.tags["fold"], run.data.tags["mlflow.parentRunId"]) for run in setting.stored()] == [
        ("fold-1", "yesterday"),
        ("fold-2", "today"),
    ]


def test_a_fold_ends_as_it_was_and_is_tracked_once_it_is_finished(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = setting.walk.folds[0]
    for error in (LeakAlarmError("target in features"), KeyboardInterrupt()):
        with monkeypatch.context() as broken:
            broken.setattr(WalkForward, "_of_variant", raising(error))
            with pytest.raises(type(error)):
                setting.runs().run("tiny", fold)
    assert not setting.runs().run("tiny", fold)[0].reused
    setting.runs().run("tiny", fold)
    failed, killed, finished = setting.stored()
    assert [run.info.status for run in (failed, killed, finished)] == ["FAILED", "KILLED", "FINISHED"]
    assert "target in features" in failed.data.tags[FAILURE_TAG]


def raising(error: BaseException) -> Callable[..., Any]:
    def broken(*_: Any) -> Any:
        raise error

    return broken


def test_a_process_that_dies_after_the_fit_leaves_a_run_that_is_completed_and_not_doubled(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = setting.walk.folds[0]
    with monkeypatch.context() as dying:
        dying.setattr(FoldRuns, "_log", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            setting.runs().run("tiny", fold)
    (left,) = setting.stored()
    # As a kill leaves it: open, and its process gone.
    setting.client.update_run(left.info.run_id, status="RUNNING")
    for tag, value in ((OWNER_PID, "1"), (OWNER_STARTED, "0.00")):
        setting.client.set_tag(left.info.run_id, tag, value)
    found, run_id = setting.runs().run("tiny", fold)
    (run,) = setting.stored()
    assert (found.reused, run_id) == (True, left.info.run_id)
    assert run.info.status == "FINISHED"
    assert FAILURE_TAG not in run.data.tags
    assert "direction/accuracy" in run.data.metrics


def test_a_run_that_goes_on_elsewhere_is_left_alone(setting: Setting) -> None:
    fold = setting.walk.folds[0]
    _, run_id = setting.runs().run("tiny", fold)
    setting.client.update_run(run_id, status="RUNNING")  # of this process, which lives
    assert setting.runs().run("tiny", fold)[1] == run_id
    assert [run.info.status for run in setting.stored()] == ["RUNNING"]


def test_a_run_that_was_deleted_is_tracked_anew_without_a_fit(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = setting.walk.folds[0]
    _, before = setting.runs().run("tiny", fold)
    setting.client.delete_run(before)
    monkeypatch.setattr(WalkForward, "_of_variant", raising(AssertionError("fitted again")))
    found, after = setting.runs().run("tiny", fold)
    assert found.reused
    (run,) = setting.stored()
    assert run.info.run_id == after != before
    assert run.data.tags["financial_assets.tracked_again"] == "true"


def test_a_tracker_that_cannot_be_reached_is_named_before_anything_is_fitted(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(WalkForward, "_of_variant", raising(AssertionError("fitted")))
    nowhere = MlflowTracker("http://127.0.0.1:1", "experiment", Path("unused"))
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:1"):
        setting.runs(tracker=nowhere).run("tiny", setting.walk.folds[0])
    assert setting.walk.kept("tiny", setting.walk.folds[0]) is None


def test_metrics_of_baselines_name_the_model_and_scores_without_an_estimate_are_none() -> None:
    scores = pd.DataFrame(
        {
            "model": ["garch", "garch", "majority"],
            "head": ["return_quantiles", "return_quantiles", "direction"],
            "score": ["coverage_5%", "qlike", "mcc"],
            "estimate": [0.04, math.inf, math.nan],
        }
    )
    assert fold_metrics(scores, BASELINES) == {"garch/return_quantiles/coverage_5pct": 0.04}
    assert fold_metrics(scores, "garch") == {"return_quantiles/coverage_5pct": 0.04}
