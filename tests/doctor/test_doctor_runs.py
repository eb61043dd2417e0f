"""The doctor's layer of Dagster: dead runs are ended and told, others are told, no instance is no fault."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from financial_assets.doctor.runs import check_dagster, end_tracked_runs
from financial_assets.doctor.walk import Checked, LayerError
from financial_assets.tracking import MlflowTracker
from financial_assets.tracking.owners import OWNER_HOST, OWNER_PID, OWNER_STARTED, owner_tags
from tests.tracking.mlflow_store import client_of, experiment_of

ORIGIN = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__").get_job_origin("daily")
ROOT = Path(__file__).parents[2]


@dg.job
def daily() -> None:
    """No steps are needed to be dead."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {tmp_path}")
    (tmp_path / "dagster.yaml").write_text(text)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def killed_owner() -> dict[str, str]:
    with subprocess.Popen(["sleep", "600"]) as process:
        started = psutil.Process(process.pid).create_time()
        process.kill()
    return owner_tags() | {OWNER_PID: str(process.pid), OWNER_STARTED: f"{started:.2f}"}


def test_dead_runs_are_ended_and_told_and_others_left(folder: Path) -> None:
    dead, started, queued = killed_owner(), dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.QUEUED
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        kinds = [(dead, started), (dead, started), (owner_tags(), started), ({}, queued)]
        ids = [
            instance.create_run_for_job(daily, tags=tags, status=status, remote_job_origin=ORIGIN).run_id
            for tags, status in kinds
        ]
        found = check_dagster()
        statuses = [run.status.value for run in map(instance.get_run_by_id, ids) if run is not None]
        assert statuses == ["FAILURE", "FAILURE", "STARTED", "QUEUED"]
        assert "1 runs open, 1 queued" in found.detail
        assert f"2 runs were ended as failed: its process {dead[OWNER_PID]} on host" in found.detail
        assert found.remedy == ""
        for tags in ({}, {**dead, OWNER_HOST: "elsewhere"}):
            instance.create_run_for_job(daily, tags=tags, status=started)
        again = check_dagster()
        assert "3 runs open" in again.detail
        assert "of daily has no known process" in again.detail
        assert f"of daily has process {dead[OWNER_PID]} on host elsewhere" in again.detail
        assert "dagster/max_runtime" in again.remedy


def test_dead_runs_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, elsewhere, dead = tmp_path / "home", tmp_path / "elsewhere", killed_owner()
    for folder in (home, elsewhere):
        folder.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.create_run_for_job(daily, tags=dead, status=dg.DagsterRunStatus.STARTED)
    monkeypatch.chdir(elsewhere)
    assert f"1 run was ended as failed: its process {dead[OWNER_PID]} on host" in check_dagster().detail
    assert list(elsewhere.iterdir()) == []  # no second, empty instance


def test_without_an_instance_there_is_nothing_to_examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert "no Dagster instance here" in check_dagster().detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("dagster.yaml", "storage: [nothing"),
        ("dagster.yaml", "storag: {}\n"),
        ("dagster.yaml", "run_launcher: {module: not.there, class: Launcher}\n"),
        ("history/runs.db", "no database" * 100),
    ],
)
def test_an_instance_that_cannot_be_read_is_broken(folder: Path, file: str, text: str) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(text)
    with pytest.raises(LayerError, match="cannot be read") as raised:
        check_dagster()
    assert "DAGSTER_HOME" in raised.value.remedy


def test_tracked_runs_of_dead_processes_are_told_with_the_registry(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker, client = MlflowTracker(uri, "experiment", tmp_path / "artifacts"), client_of(uri)
    healthy = Checked((), "3 model versions")
    assert end_tracked_runs(healthy, tracker) == healthy
    client.create_run(experiment_of(client), tags=killed_owner())
    assert "1 runs whose process no longer exists were ended" in end_tracked_runs(healthy, tracker).detail
    assert end_tracked_runs(healthy, tracker) == healthy
