"""Trials in a real MLflow: one run each below the run of the search, in the state that the study says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from financial_assets.errors import TrackingError
from financial_assets.models.search import tracked
from financial_assets.models.search.result import SearchResult
from financial_assets.models.search.tracked import NUMBER, STATE, TrialRuns
from financial_assets.models.variants import Variant
from financial_assets.tracking import MlflowTracker
from financial_assets.tracking.owners import OWNER_PID, OWNER_STARTED
from financial_assets.tracking.runs import FAILURE_TAG
from tests.models.search.conftest import FakeFit, loss_of
from tests.tracking.mlflow_store import client_of

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
RunSearch = Callable[..., SearchResult]


@pytest.fixture
def tracker(tmp_path: Path) -> MlflowTracker:
    return MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment", tmp_path / "artifacts")


@pytest.fixture
def runs(tracker: MlflowTracker) -> TrialRuns:
    return TrialRuns(tracker, "parent", {"dagster.run_id": "d"})


@pytest.fixture
def client(tracker: MlflowTracker) -> MlflowClient:
    return client_of(tracker.connection.uri)


def stored(client: MlflowClient) -> dict[int, Any]:
    """Runs of trials by number; each number once."""
    experiment = client.get_experiment_by_name("experiment")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`financial_assets.kind` = 'trial'")
    by_number = {int(run.data.tags[NUMBER]): run for run in found}
    assert len(by_number) == len(found)
    return by_number


def states(client: MlflowClient) -> dict[int, tuple[str, str | None]]:
    return {number: (run.info.status, run.data.tags.get(STATE)) for number, run in sorted(stored(client).items())}


def raising(error: BaseException) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    return broken


def test_each_trial_is_a_run_with_its_settings_its_losses_and_its_state(
    run_search: RunSearch,
    fake_fit: FakeFit,
    searched: Variant,
    runs: TrialRuns,
    client: MlflowClient,
    cutoff: pd.Timestamp,
) -> None:
    fake_fit.diverges = lambda variant: len(fake_fit.asked) == 3
    result = run_search(14, runs=runs)
    found = stored(client)
    assert {"complete", "pruned", "diverged"} == {trial.outcome for trial in result.trials}
    ends = {"complete": "FINISHED", "pruned": "FINISHED", "diverged": "FAILED"}
    assert states(client) == {trial.number: (ends[trial.outcome], trial.outcome) for trial in result.trials}
    first = found[0]
    expected = {"mlflow.parentRunId": "parent", "dagster.run_id": "d", "variant": "tiny", "search.study": result.study}
    assert expected.items() <= first.data.tags.items()
    settings = {"hidden": "16", "dropout": str(searched.dropout), "seed": "7", "data_cutoff": f"{cutoff:%Y-%m-%d}"}
    assert settings.items() <= first.data.params.items()
    assert not {"steps", "members"} & first.data.params.keys()
    assert first.data.metrics["best_stop_loss"] == pytest.approx(loss_of(searched) + 0.1 / 6)
    assert (first.data.metrics["best_epoch"], first.data.metrics["epochs"]) == (6, 6)
    history = client.get_metric_history(first.info.run_id, "stop_loss")
    assert [point.step for point in history] == [1, 2, 3, 4, 5, 6]
    assert "no longer finite" in next(
        run.data.tags[FAILURE_TAG] for run in found.values() if run.data.tags[STATE] == "diverged"
    )


def test_a_search_that_goes_on_tracks_the_new_trials_alone(
    run_search: RunSearch, fake_fit: FakeFit, runs: TrialRuns, client: MlflowClient
) -> None:
    run_search(3, runs=runs)
    before = {number: run.info.run_id for number, run in stored(client).items()}
    run_search(3, runs=replace(runs, parent="today"))
    assert {number: run.info.run_id for number, run in stored(client).items()} == before
    run_search(5, runs=replace(runs, parent="today"))
    assert [run.data.tags["mlflow.parentRunId"] for _, run in sorted(stored(client).items())] == [
        *["parent"] * 3,
        *["today"] * 2,
    ]


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (RuntimeError("out of memory"), "FAILED")]
)
def test_a_trial_that_does_not_finish_is_failed_and_another_run_than_its_repetition(
    run_search: RunSearch,
    fake_fit: FakeFit,
    runs: TrialRuns,
    client: MlflowClient,
    error: BaseException,
    status: str,
) -> None:
    fake_fit.before_epoch = lambda variant, number: raising(error)() if len(fake_fit.asked) == 2 else None
    with pytest.raises(type(error)):
        run_search(3, runs=runs)
    fake_fit.before_epoch = lambda variant, number: None
    result = run_search(3, runs=runs)
    assert result.failed == 1
    done = [("FINISHED", "complete")]
    assert list(states(client).values()) == [*done, (status, "failed"), *done * 2]


def test_a_killed_search_leaves_no_run_open_and_none_doubled(
    run_search: RunSearch, fake_fit: FakeFit, runs: TrialRuns, client: MlflowClient
) -> None:
    """One process dies between the end of a trial and that of its run, another one in a trial."""
    fake_fit.before_epoch = lambda variant, number: raising(KeyboardInterrupt())() if len(fake_fit.asked) == 2 else None
    with pytest.raises(KeyboardInterrupt):
        run_search(2, runs=runs)
    fake_fit.before_epoch = lambda variant, number: None
    for run in stored(client).values():  # as a kill leaves them: open, in no state, and their process gone
        client.update_run(run.info.run_id, status="RUNNING")
        client.delete_tag(run.info.run_id, STATE)
        for tag, value in ((OWNER_PID, "1"), (OWNER_STARTED, "0.00")):
            client.set_tag(run.info.run_id, tag, value)
    result = run_search(2, runs=runs)
    assert (len(result.trials), result.failed) == (2, 1)
    assert states(client) == {0: ("FINISHED", "complete"), 1: ("KILLED", "failed"), 2: ("FINISHED", "complete")}


def test_trials_of_an_earlier_version_are_tracked_without_being_tried_again(
    run_search: RunSearch, fake_fit: FakeFit, runs: TrialRuns, client: MlflowClient
) -> None:
    run_search(4)
    assert len(fake_fit.asked) == 4
    run_search(4, runs=runs)
    assert len(fake_fit.asked) == 4
    assert list(states(client)) == [0, 1, 2, 3]
    assert all(run.data.tags["financial_assets.tracked_again"] == "true" for run in stored(client).values())


def test_a_tracker_that_cannot_be_reached_is_named_and_nothing_is_tried(
    run_search: RunSearch, fake_fit: FakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nowhere = TrialRuns(MlflowTracker("http://127.0.0.1:1", "experiment", Path("unused")), None, {})
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:1"):
        run_search(3, runs=nowhere)
    assert fake_fit.asked == []


def test_a_trial_survives_a_tracker_that_goes_away_in_it(
    run_search: RunSearch, fake_fit: FakeFit, runs: TrialRuns, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(tracked, "_log", raising(TrackingError("gone away")))
        with pytest.raises(TrackingError, match="gone away"):
            run_search(2, runs=runs)
    result = run_search(2, runs=runs)
    assert (len(result.trials), result.failed, len(fake_fit.asked)) == (2, 0, 2)
    assert states(client) == {0: ("FINISHED", "complete"), 1: ("FINISHED", "complete")}
