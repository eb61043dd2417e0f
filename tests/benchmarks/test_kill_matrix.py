"""The kill matrix's own rules: which boundaries are points, and what makes a point fail."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from benchmarks.kill_matrix.boundaries import Boundary, Kind, Side
from benchmarks.kill_matrix.holdings import compare
from benchmarks.kill_matrix.table import choose, print_left_out
from tests.waiting import wait_on

SIDES: tuple[Side, Side] = ("before", "after")
BOUNDARIES = [
    Boundary("rename", f"state-{name}.json", side, occurrence)
    for occurrence in range(1, 8)
    for name in range(5)
    for side in SIDES
]
_WRITER = """
import sys
from pathlib import Path
from benchmarks.kill_matrix.boundaries import Boundary, disk_full_from, kill_at, watch
from financial_assets.atomic import atomic_write_text
home, fault, side, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
if fault == "kill":
    watch(home, kill_at(Boundary("rename", "state.json", side, count)))
else:
    watch(home, disk_full_from(Boundary("write", "state.json", side, count)))
for number in range(1, 4):
    atomic_write_text(home / "state.json", str(number))
"""


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5, 7])
def test_points_lie_on_both_sides_and_cover_the_first_and_the_last_of_a_name(every: int) -> None:
    points = choose(BOUNDARIES, ("rename",), "kill", every, 3)
    assert {point.side for point in points} == set(SIDES)
    assert {point.occurrence for point in points} == {1, 4, 7}
    assert len(points) == pytest.approx(30 / every, abs=1)
    assert choose(BOUNDARIES, ("commit",), "kill", every, 3) == []


def test_a_full_disk_refuses_neither_renames_nor_what_has_been_done() -> None:
    writes = [
        Boundary("write", "a", "before", 1),
        Boundary("commit", "b", "after", 1),
        Boundary("commit", "b", "before", 1),
    ]
    points = choose([*BOUNDARIES, *writes], ("commit", "rename", "write"), "disk full", 1, 9)
    assert points == [writes[0], writes[2]]


def test_rows_that_are_missing_twice_or_unknown_are_told_apart() -> None:
    undisturbed = {"log": Counter({"a": 1, "b": 2}), "prices": Counter({"x": 1})}
    assert not compare(undisturbed, undisturbed)
    found = compare({"log": Counter({"a": 2, "b": 1, "c": 1})}, undisturbed)
    assert found
    assert set(found.lost) == {"log: b", "prices: x"}
    assert found.doubled == ("log: a",)
    assert found.foreign == ("log: c",)


def test_a_panel_may_reach_as_far_as_after_a_further_run_and_nothing_else_may() -> None:
    undisturbed = {"panel": Counter({"day 1": 1}), "log": Counter({"a": 1})}
    further = {"panel": Counter({"day 1": 1, "day 2": 1, "day 3": 1}), "log": Counter({"a": 1, "b": 1})}
    assert not compare({"panel": Counter({"day 1": 1, "day 2": 1}), "log": Counter({"a": 1})}, undisturbed, further)
    assert compare({"panel": Counter({"day 2": 1}), "log": Counter({"a": 1})}, undisturbed, further).lost
    assert compare({"panel": Counter({"day 1": 1, "day 2*": 1})}, undisturbed, further).foreign == ("panel: day 2*",)
    assert compare({**undisturbed, "log": further["log"]}, undisturbed, further).foreign == ("log: b",)


@pytest.mark.parametrize("of_a_part", [1, 2, 3])
def test_of_many_files_of_one_folder_a_few_are_points_the_first_and_the_last_among_them(of_a_part: int) -> None:
    renames = [
        Boundary("rename", f"models/{name}/{file}.json", side, 1)
        for name in ("baseline", "enhanced", "lightweight")
        for file in ("card", "trial")
        for side in SIDES
    ]
    others = [Boundary("commit", "log.db: runs, tags", "before", 1), Boundary("request", "infer a", "after", 1)]
    points = choose([*renames, *others], ("commit", "rename", "request"), "kill", 1, 3, of_a_part)
    assert points[-2:] == others
    assert len(points) == of_a_part + 2
    assert points[0] == renames[0]
    assert of_a_part == 1 or points[of_a_part - 1] == renames[-1]


def test_what_is_left_out_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_left_out("daily", "kill", BOUNDARIES, BOUNDARIES[:-3])
    printed = capsys.readouterr().out
    assert "daily, kill: 3 of 70 boundaries are left out" in printed
    assert "state-4.json 2 of 14" in printed
    assert "state-3.json 1 of 14" in printed
    print_left_out("daily", "kill", BOUNDARIES, BOUNDARIES)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("mlflow.db: _alembic_tmp_tags, alembic_version", "commit", "mlflow.db: schema"),
        ("predictions.db: routed_predictions", "commit", "predictions.db: routed_predictions"),
        ("models/baseline/*/artifact/model.onnx", "rename", "models"),
        ("clock.json", "rename", "clock.json"),
        ("POST /v2/repository/models/a/load", "request", "load"),
        ("infer baseline-predictor-v1", "request", "infer"),
    ],
)
def test_boundaries_have_a_part(name: str, kind: Kind, part: str) -> None:
    assert Boundary(kind, name, "before", 1).part == part


@pytest.mark.parametrize(("side", "expected"), [("before", "1"), ("after", "2")])
def test_a_process_is_killed_on_the_given_side_of_a_rename(tmp_path: Path, side: str, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", _WRITER, str(tmp_path), "kill", side, "2"], check=False)
    assert done.returncode == -9
    assert (tmp_path / "state.json").read_text() == expected


def test_an_interrupted_matrix_kills_the_run_that_it_waits_for(tmp_path: Path) -> None:
    script = """
import signal, sys, time
from pathlib import Path
from benchmarks.kill_matrix import processes
from benchmarks.kill_matrix.__main__ import _interrupt
signal.signal(signal.SIGTERM, _interrupt)
folder = Path(sys.argv[1])
def work():
    import os
    (folder / "child").write_text(str(os.getpid()))
    (folder / "begun").touch()
    time.sleep(600)
processes.run(work, folder / "log")
"""
    matrix = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL)
    wait_on(matrix, "the run has begun", (tmp_path / "begun").exists)
    child = int((tmp_path / "child").read_text())
    matrix.terminate()
    assert matrix.wait(60) != 0
    assert not psutil.pid_exists(child)


def test_a_disk_stays_full_from_a_write_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path), "disk full", "before", "4"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{tmp_path}/state.json cannot be written: no space left" in done.stderr
    assert (tmp_path / "state.json").read_text() == "1"
