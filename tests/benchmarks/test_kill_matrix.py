"""The kill matrix's own rules: which boundaries are points, and what makes a point fail."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.kill_matrix.boundaries import Boundary, Side
from benchmarks.kill_matrix.holdings import compare
from benchmarks.kill_matrix.table import choose

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


@pytest.mark.parametrize(("side", "expected"), [("before", "1"), ("after", "2")])
def test_a_process_is_killed_on_the_given_side_of_a_rename(tmp_path: Path, side: str, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", _WRITER, str(tmp_path), "kill", side, "2"], check=False)
    assert done.returncode == -9
    assert (tmp_path / "state.json").read_text() == expected


def test_a_disk_stays_full_from_a_write_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path), "disk full", "before", "4"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{tmp_path}/state.json cannot be written: no space left" in done.stderr
    assert (tmp_path / "state.json").read_text() == "1"
