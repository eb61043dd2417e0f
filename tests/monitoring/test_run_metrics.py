"""Runs of a real Dagster instance as metrics: durations of what succeeded, counts of what did not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from financial_assets.errors import NotMadeYetError, OrchestrationError
from financial_assets.workflows.dagster_runs import LOOK_BACK, run_metrics
from tests.monitoring.test_exported import Values, values


@dg.op
def fine() -> None:
    """Does nothing."""


@dg.op
def broken() -> None:
    raise ValueError("broken on purpose")


@dg.job
def daily() -> None:
    fine()


@dg.job
def retrain() -> None:
    broken()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance that was configured, and has run nothing."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\nstorage: {sqlite: {base_dir: store}}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seen(now: datetime | None = None) -> Values:
    return values(run_metrics(now or datetime.now(UTC)))


def test_runs_by_job_and_state_and_the_duration_of_the_latest_success(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for job in (daily, daily, retrain):
            job.execute_in_process(instance=instance, raise_on_error=False)
        latest = next(iter(instance.get_run_records(dg.RunsFilter(job_name="daily"), limit=1)))
    found = seen()
    counts = {labels: value for (name, labels), value in found.items() if name == "runs"}
    assert {labels: count for labels, count in counts.items() if count} == {
        ("daily", "succeeded"): 2,
        ("retrain", "failed"): 1,
    }
    assert counts["daily", "failed"] == 0  # the first failure must count as an increase
    assert latest.start_time is not None
    assert latest.end_time is not None
    assert found["run_duration_seconds", ("daily",)] == latest.end_time - latest.start_time
    assert found["run_last_success_timestamp_seconds", ("daily",)] == latest.end_time
    assert ("run_duration_seconds", ("retrain",)) not in found
    assert ("run_last_failure_timestamp_seconds", ("retrain",)) in found
    assert not any(value for value in seen(datetime.now(UTC) + LOOK_BACK + timedelta(days=1)).values())


def test_reading_makes_no_instance(home: Path) -> None:
    with pytest.raises(NotMadeYetError, match="has not run anything"):
        seen()
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]


def test_without_an_instance_it_says_what_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotMadeYetError, match="DAGSTER_HOME is not set"):
        seen()


def test_an_instance_that_cannot_be_read_is_named(home: Path) -> None:
    (home / "store").mkdir()
    (home / "dagster.yaml").write_text("storage: {sqlite: {base_dir: store}}\nnonsense: 1\n")
    with pytest.raises(OrchestrationError, match=f"instance of {home} cannot be read"):
        seen()
