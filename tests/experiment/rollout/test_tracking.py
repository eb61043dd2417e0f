"""A decision in MLflow: its record, its plan and its figures, once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.words import reasons_in_words
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.rollout.tracking import DECISION_TAG, track_decision
from financial_assets.tracking import MlflowTracker
from tests.experiment.decision.builders import EPOCH, QUIET, evidence, plan
from tests.tracking.mlflow_store import client_of

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


def decided(mean: float, days: int) -> Decision:
    return decide(plan(), EPOCH, evidence(mean, days), QUIET, as_of="2010-12-31", deflated_sharpe=lambda: 0.99)


def test_each_decision_is_one_run_with_record_plan_and_figures(tmp_path: Path) -> None:
    tracker = MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "it's an experiment", tmp_path / "artifacts")
    promoted, early = decided(0.05, 252), decided(0.05, 0)
    assert (promoted.action, early.estimate) == ("promote", None)
    ids = {name: track_decision(tracker, plan(), one) for name, one in (("promoted", promoted), ("early", early))}
    assert len(set(ids.values())) == 2
    assert track_decision(tracker, plan(), promoted) == ids["promoted"], "recorded again"
    assert track_decision(tracker, plan(), replace(promoted, as_of="2011-01-03")) not in ids.values()

    client = client_of(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run(ids["promoted"])
    assert run.info.status == "FINISHED"
    assert run.data.tags[DECISION_TAG] == promoted.digest
    assert run.data.tags["decision.plan"] == plan().digest
    assert run.data.tags["decision.action"] == "promote"
    assert run.data.tags["mlflow.note.content"] == "\n".join(reasons_in_words(promoted, plan()))
    assert run.data.metrics["estimate"] == promoted.estimate
    assert run.data.metrics["look_z"] == promoted.looks[-1].z
    assert run.data.metrics["guardrail_missing"] == 0.0
    assert not {"estimate", "look_z"} & set(client.get_run(ids["early"]).data.metrics), "figures that do not exist"
    kept = Path(client.download_artifacts(ids["promoted"], "decision.json", str(tmp_path)))
    assert Decision.from_json(kept.read_text()) == promoted
    kept = Path(client.download_artifacts(ids["promoted"], "plan.json", str(tmp_path)))
    assert ExperimentPlan.from_json(json.dumps(json.loads(kept.read_text()))) == plan()


def test_a_run_that_broke_off_is_no_record(tmp_path: Path) -> None:
    tracker = MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment", tmp_path / "artifacts")
    decision = decided(0.0, 20)
    with pytest.raises(KeyboardInterrupt), tracker.run("broken off", tags={DECISION_TAG: decision.digest}) as broken:
        raise KeyboardInterrupt
    assert tracker.find(DECISION_TAG, decision.digest) is None
    recorded = track_decision(tracker, plan(), decision)
    assert recorded != broken.id
    assert tracker.find(DECISION_TAG, decision.digest) == recorded


def test_decisions_have_an_experiment_of_their_own_and_those_of_earlier_releases_are_found(tmp_path: Path) -> None:
    tracker = MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment", tmp_path / "artifacts")
    client = client_of(f"sqlite:///{tmp_path / 'mlflow.db'}")
    old, new = decided(0.0, 20), decided(0.05, 252)
    with tracker.run("recorded among the trainings", tags={DECISION_TAG: old.digest}) as earlier:
        pass
    assert track_decision(tracker, plan(), old) == earlier.id
    run = client.get_run(track_decision(tracker, plan(), new, {"dagster.run_id": "7"}))
    assert client.get_experiment(run.info.experiment_id).name == "experiment-decisions"
    assert run.data.tags.items() >= {"financial_assets.kind": "decision", "dagster.run_id": "7"}.items()
    trainings = client.search_runs([client.get_experiment_by_name("experiment").experiment_id])
    assert [one.info.run_id for one in trainings] == [earlier.id]
