"""Runs whose process was killed are ended by whoever comes next, and nobody else's run is touched.

The instance is the repository's own: its pools, run monitoring and launcher are part of what is tested.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psutil
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.api import execute_run
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._daemon.monitoring import run_monitoring

from financial_assets.automation import dead_runs
from financial_assets.automation.dead_runs import claim, end_dead_runs, sweeping
from financial_assets.automation.executor import make_owning_executor
from financial_assets.automation.launcher import OwningRunLauncher
from financial_assets.automation.schedules import make_daily_schedule
from financial_assets.errors import OrchestrationError, TrackingError
from financial_assets.tracking.owners import OWNER_HOST, OWNER_LOST, OWNER_PID, OWNER_STARTED, owner_tags
from tests.waiting import wait

ROOT = Path(__file__).parents[2]


@dg.op
def step() -> None:
    """Nothing to do."""


@dg.job(tags={"dagster/max_runtime": 3600})
def job() -> None:
    step()


@pytest.fixture(scope="module")
def dead() -> dict[str, str]:
    """The owner of a run whose process was killed."""
    process = subprocess.Popen(["sleep", "600"])
    tags = owner_tags() | owner_tags_of(process.pid)
    process.kill()
    process.wait()
    return tags


def owner_tags_of(pid: int) -> dict[str, str]:
    return {OWNER_PID: str(pid), OWNER_STARTED: f"{psutil.Process(pid).create_time():.2f}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("instance")
    text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {home}")
    (home / "dagster.yaml").write_text(text)
    return home


@pytest.fixture
def instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(folder)) as opened:
        yield opened
        opened.wipe()


def begun(
    instance: dg.DagsterInstance, tags: Mapping[str, str], status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED
) -> str:
    """A run that somebody else has begun."""
    run = instance.create_run_for_job(job, tags={**job.tags, **tags})
    events = {
        dg.DagsterRunStatus.STARTING: [DagsterEventType.RUN_STARTING],
        dg.DagsterRunStatus.STARTED: [DagsterEventType.RUN_STARTING, DagsterEventType.RUN_START],
        dg.DagsterRunStatus.CANCELING: [DagsterEventType.RUN_START, DagsterEventType.RUN_CANCELING],
    }
    for kind in events.get(status, []):
        instance.report_dagster_event(DagsterEvent(kind.value, run.job_name), run.run_id, logging.INFO)
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


def failures(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    records = instance.all_logs(run_id, of_type=DagsterEventType.RUN_FAILURE)
    return [record.dagster_event.message or "" for record in records if record.dagster_event]


@pytest.mark.parametrize("begun_as", ["STARTING", "STARTED", "CANCELING"])
def test_a_run_without_its_process_fails_with_the_reason_and_frees_its_pool(
    instance: dg.DagsterInstance, dead: dict[str, str], begun_as: str
) -> None:
    killed = begun(instance, dead, dg.DagsterRunStatus[begun_as])
    store = instance.event_log_storage
    store.initialize_concurrency_limit_to_default("training")
    assert store.claim_concurrency_slot("training", killed, "step").is_claimed
    waiting = begun(instance, owner_tags())
    assert not store.claim_concurrency_slot("training", waiting, "step").is_claimed
    (ended,) = end_dead_runs(instance)
    assert (ended.run_id, ended.job, status(instance, killed)) == (killed, "job", "FAILURE")
    (reason,) = failures(instance, killed)
    assert f"its process {dead[OWNER_PID]} on host {dead[OWNER_HOST]} no longer exists" in reason
    assert store.claim_concurrency_slot("training", waiting, "step").is_claimed
    assert status(instance, waiting) == "STARTED"
    assert end_dead_runs(instance) == ()


def test_what_lives_or_cannot_be_judged_is_left_alone(instance: dg.DagsterInstance, dead: dict[str, str]) -> None:
    others = [begun(instance, tags) for tags in (owner_tags(), {}, {**dead, OWNER_HOST: "another-host"})]
    queued = instance.create_run_for_job(job, tags=dead, status=dg.DagsterRunStatus.SUCCESS).run_id
    assert end_dead_runs(instance) == ()
    assert [status(instance, run_id) for run_id in others] == ["STARTED"] * 3
    assert status(instance, queued) == "SUCCESS"


def test_a_run_that_nobody_began_is_ended_when_its_time_to_start_is_over(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = [begun(instance, {}, dg.DagsterRunStatus[name]) for name in ("NOT_STARTED", "STARTING", "STARTED")]
    assert end_dead_runs(instance) == ()
    monkeypatch.setattr(dg.DagsterInstance, "run_monitoring_start_timeout_seconds", -1)
    assert {run.run_id for run in end_dead_runs(instance)} == set(never)
    assert "never began" in failures(instance, never[0])[0]


def test_sweeps_at_the_same_time_end_a_run_once(folder: Path, instance: dg.DagsterInstance, dead: Any) -> None:
    killed = [begun(instance, dead) for _ in range(3)]

    def sweep(_: int) -> int:
        with dg.DagsterInstance.from_config(str(folder)) as another:
            return len(end_dead_runs(another))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sweep, range(4))) == 3
    assert [len(failures(instance, run_id)) for run_id in killed] == [1, 1, 1]


def test_a_process_that_comes_too_late_does_not_take_the_run_up_again(
    instance: dg.DagsterInstance, dead: dict[str, str]
) -> None:
    run_id = begun(instance, dead, dg.DagsterRunStatus.STARTING)  # its launcher died, its own process still imports
    assert end_dead_runs(instance)
    with pytest.raises(OrchestrationError, match="ended before its process began"):
        claim(instance, run_id)
    taken_over = begun(instance, dead, dg.DagsterRunStatus.STARTING)
    claim(instance, taken_over)
    assert end_dead_runs(instance) == ()


def test_a_run_that_its_process_takes_over_during_a_sweep_goes_on(
    instance: dg.DagsterInstance, dead: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begun(instance, dead, dg.DagsterRunStatus.STARTING)

    @contextmanager
    def taken_over(_: dg.DagsterInstance) -> Iterator[None]:
        instance.add_run_tags(run_id, owner_tags())
        yield

    monkeypatch.setattr(dead_runs, "_alone", taken_over)  # the sweep's wait for its turn
    assert end_dead_runs(instance) == ()
    assert status(instance, run_id) == "STARTING"


def test_a_run_that_waits_sees_that_another_died_meanwhile(
    instance: dg.DagsterInstance, dead: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_runs, "SWEEP_INTERVAL_S", 0.05)
    said: list[str] = []
    with sweeping(instance, said.append):
        killed = begun(instance, dead)
        wait("somebody ends it", lambda: status(instance, killed) == "FAILURE", poll_s=0.05)
    assert killed in said[0]


def test_the_executor_claims_the_run_before_anything_else_and_sweeps(
    instance: dg.DagsterInstance, dead: dict[str, str]
) -> None:
    """``in_process`` here; `tests/integration` has both kinds as real processes."""

    class Unreachable:
        def end_stale(self, is_alive: Any) -> int:
            raise TrackingError("no server")

    killed = begun(instance, dead)
    ran = step_job(make_owning_executor(Unreachable))  # type: ignore[arg-type]
    run = instance.create_run_for_job(ran, run_config={"execution": {"config": {"in_process": {}}}})
    assert execute_run(InMemoryJob(ran), run, instance).success  # `execute_in_process` would skip the executor
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert owner_tags().items() <= found.tags.items()
    assert OWNER_LOST not in found.tags
    assert status(instance, killed) == "FAILURE"
    messages = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert any("no server" in message for message in messages), "told, and no reason to stop"


def step_job(executor: dg.ExecutorDefinition) -> dg.JobDefinition:
    @dg.job(executor_def=executor)
    def other() -> None:
        step()

    return other


class Workspace:
    """Stands for the daemon's workspace, which ending a run does not need."""


def look(instance: dg.DagsterInstance, run_id: str) -> None:
    """What the daemon's run monitoring does with a started run."""
    record = instance.get_run_record_by_id(run_id)
    assert record is not None
    run_monitoring.monitor_started_run(instance, Workspace(), record, logging.getLogger("monitor"))  # type: ignore[arg-type]


def test_the_daemon_ends_dead_runs_and_those_that_take_too_long(
    instance: dg.DagsterInstance, dead: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(instance.run_launcher, OwningRunLauncher)
    assert instance.run_monitoring_enabled
    alive, killed, ownerless = (begun(instance, tags) for tags in (owner_tags(), dead, {}))
    for run_id in (alive, killed, ownerless):
        look(instance, run_id)
    assert [status(instance, run_id) for run_id in (alive, killed, ownerless)] == ["STARTED", "FAILURE", "STARTED"]
    (reason,) = failures(instance, killed)
    assert "no longer exists (killed, out of memory, or power cut)" in reason
    monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda: time.time() + 3700)
    look(instance, ownerless)
    assert status(instance, ownerless) == "FAILURE"


def test_a_tick_of_the_schedule_ends_dead_runs(instance: dg.DagsterInstance, dead: dict[str, str]) -> None:
    killed = begun(instance, dead)
    at = datetime(2026, 11, 25, 17, 30, tzinfo=ZoneInfo("America/New_York"))
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=at) as context:
        make_daily_schedule()(context)
    assert status(instance, killed) == "FAILURE"


def test_a_run_of_the_command_line_can_be_ended_from_the_browser(instance: dg.DagsterInstance) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        run_id = begun(instance, owner_tags() | owner_tags_of(process.pid))
        assert instance.run_launcher.terminate(run_id)
        assert process.wait(timeout=60) == -signal.SIGINT
    assert not instance.run_launcher.terminate(run_id), "its process is gone: the next sweep ends the run"
    launched = begun(instance, {**owner_tags(), GRPC_INFO_TAG: '{"host": "localhost", "port": 1}'})
    with pytest.raises(DagsterUserCodeUnreachableError):
        instance.run_launcher.terminate(launched)  # asks the code server, and interrupts no process itself
