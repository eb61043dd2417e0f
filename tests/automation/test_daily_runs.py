"""``daily`` beside itself, killed and failing: one run at a time brings a session, until that session is complete."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from financial_assets.market import calendar
from tests.waiting import wait_on

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
FORKED = {"forkserver": {"preload_modules": ["financial_assets.assets.signals"]}}
STEPS = ("experiment", "predictions", "daily_signals", "rollout")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("DAILY_WORLD", str(tmp_path))
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("daily_world")
    del sys.modules["daily_world"]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path / "instance"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(folder)) as kept:
        yield kept


def started(world: ModuleType, folder: Path) -> subprocess.Popen[bytes]:
    """``dagster job execute`` with a process for each step."""
    job: dict[str, Any] = world.defs.resolve_job_def("daily").run_config
    execution = {"config": {"multiprocess": {"max_concurrent": 2, "start_method": FORKED}}}
    (folder / "config.json").write_text(json.dumps({**job, "execution": execution}))
    command = ["job", "execute", "-f", str(HERE / "daily_world.py"), "-j", "daily", "-c", str(folder / "config.json")]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dagster", *command],
            env={**os.environ, "DAGSTER_HOME": str(folder / "instance"), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(path: Path, process: subprocess.Popen[bytes], folder: Path) -> None:
    wait_on(process, f"{path.name} is there", path.exists, log=lambda: (folder / "log").read_text()[-4000:])


def said(result: dg.ExecuteInProcessResult) -> str:
    lines: list[str] = []
    for event in result.all_events:
        if event.is_step_failure:
            data: Any = event.event_specific_data
            error = data.error
            while error is not None:
                lines.append(error.message)
                error = error.cause
    return "\n".join(lines)


def test_a_session_is_brought_by_one_run_and_done_again_until_it_is_complete(
    world: ModuleType, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    market = world.market()
    market.ingest()
    market.begin(market.whole_panel().sessions)
    first = market.clock().now()
    second, third = calendar.next_session(first), calendar.next_session(calendar.next_session(first))

    def daily() -> dg.ExecuteInProcessResult:
        return world.defs.resolve_job_def("daily").execute_in_process(instance=instance, raise_on_error=False)

    def notes(run: str) -> list[tuple[str, pd.Timestamp]]:
        rows = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
        return [(asset, pd.Timestamp(day)) for owner, asset, day in rows if owner == run]

    (tmp_path / "hold").touch()
    process = started(world, tmp_path)
    try:
        wait_for(tmp_path / "reached", process, tmp_path)
        held = json.loads((tmp_path / "home" / "days.json").read_text())["claim"]
        assert held["session"] == f"{second:%Y-%m-%d}"
        assert held["owner"]["financial_assets.owner.pid"] == str(process.pid)  # not that of a step, which ends before
        # A second one ends at once, says who is at work, and changes nothing.
        refused = daily()
        assert not refused.success
        assert f"run {held['run']} (process {process.pid} on " in said(refused)
        assert f"at work on session {second:%Y-%m-%d}" in said(refused)
        assert not [event for event in refused.all_events if event.is_step_up_for_retry]
        assert notes(refused.run_id) == []
        assert market.clock().now() == first
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (tmp_path / "hold").unlink()
    assert market.clock().now() == first
    assert notes(held["run"]) == [(step, second) for step in STEPS[:2]]

    # The claim died with its process, although the record says that the run is under way.
    run = instance.get_run_by_id(held["run"])
    assert run is not None
    assert not run.is_finished
    (tmp_path / "fail").touch()
    failed = daily()
    assert not failed.success
    assert "the rollout fails" in said(failed)
    assert notes(failed.run_id) == [(step, second) for step in STEPS]
    assert market.clock().now() == first

    (tmp_path / "fail").unlink()
    for expected in (second, third):
        done = daily()
        assert done.success
        assert notes(done.run_id) == [(step, expected) for step in STEPS]
        assert market.clock().now() == expected
    assert json.loads((tmp_path / "home" / "days.json").read_text())["claim"] is None
