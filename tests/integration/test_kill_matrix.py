"""A sample of the kill matrix: a replay and a rollout killed at places of every kind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.kill_matrix.points import Outcome
from tests.kept_thresholds import share_thresholds
from tests.waiting import run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
MATRIX = [sys.executable, "-m", "benchmarks.kill_matrix"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    share_thresholds(folder / "state", tmp_path_factory)
    return folder


def outcomes(folder: Path) -> list[Outcome]:
    return [Outcome.from_json(line) for line in (folder / "points.jsonl").read_text().splitlines()]


def test_what_is_killed_anywhere_is_finished_by_the_next_run_row_by_row(folder: Path) -> None:
    sample = ("--only", "replay,rollout", "--occurrences", "1", "--every", "3")
    done = run([*MATRIX, "--folder", str(folder), *sample], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    reached = [one for one in outcomes(folder) if one.verdict != "not reached"]
    assert {one.job for one in reached} == {"replay", "rollout"}
    assert {one.boundary.kind for one in reached} == {"commit", "rename", "request"}
    assert {one.boundary.side for one in reached} == {"before", "after"}
    assert [str(one.boundary) for one in reached if one.verdict != "equal"] == []
    assert len(reached) >= 8
    assert f"{len(reached)} points, {len(reached)} equal" in done.stdout
