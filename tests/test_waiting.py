"""The limits of the tests themselves: a busy machine gets more time, a hang does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import waiting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only sleeping moves, on a machine that runs one thread per core."""
    now = [0.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(waiting.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 1.0, 1.0))
    return now


def test_seconds_of_a_machine_with_three_times_as_many_threads_as_cores_count_a_third(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = waiting.FreeSeconds()
    clock[0] = 10.0
    assert seconds.read() == 10.0
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0 * len(os.sched_getaffinity(0)), 1.0, 1.0))
    clock[0] = 40.0
    assert seconds.read() == pytest.approx(20.0)


def test_a_wait_goes_on_as_long_as_there_is_progress_and_then_fails_by_name(clock: list[float]) -> None:
    with pytest.raises(AssertionError, match="ten rows: no progress in 5 s; last seen 7"):
        waiting.wait("ten rows", lambda: False, progress=lambda: min(int(clock[0] / 4), 7), patience_s=5)
    assert clock[0] == pytest.approx(7 * 4 + 5, abs=0.3)


def test_a_wait_on_a_process_that_has_ended_shows_its_log() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(AssertionError, match="ended before it is ready\nthe log"):
        waiting.wait_on(process, "it is ready", lambda: False, log=lambda: "the log")


def test_a_process_that_stops_working_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.5)
    with pytest.raises(AssertionError, match=r"(?s)hangs after .*before the hang"):
        waiting.run([sys.executable, "-c", "import time; print('before the hang', flush=True); time.sleep(3600)"])
    done = waiting.run([sys.executable, "-c", "import sys; print('out'); sys.exit('err')"])
    assert (done.returncode, done.stdout, done.stderr) == (1, "out\n", "err\n")


def test_the_limit_of_a_test_ends_a_hang(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {Path(__file__).parents[1]}\n")
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_timeout_set_timer\n")
    (tmp_path / "test_hang.py").write_text(
        "import time, pytest\n@pytest.mark.timeout(0.2)\ndef test_hang():\n    time.sleep(3600)\n"
    )
    done = waiting.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider"], cwd=tmp_path)
    assert done.returncode == 1
    assert "Timeout (>0.2s) from pytest-timeout" in done.stdout
