"""Atomic writes: the old file or the new one, and nothing beside it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets import atomic
from financial_assets.atomic import atomic_path, atomic_write_bytes, atomic_write_text


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4))
def test_the_last_content_is_read_back_and_nothing_else_is_left(contents: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.bin"
        for content in contents:
            atomic_write_bytes(path, content)
            assert path.read_bytes() == content
        assert os.listdir(folder) == ["state.bin"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_utf8_without_translation(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.txt"
        atomic_write_text(path, text)
        assert path.read_bytes() == text.encode()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a" / "b" / "state.json", "{}")
    assert (tmp_path / "a" / "b" / "state.json").read_text() == "{}"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_writer_that_fails_half_way_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "state.json"
    atomic_write_text(path, "old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_first_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk is full"), atomic_path(tmp_path / "state.json"):
        raise OSError("the disk is full")
    assert os.listdir(tmp_path) == []


def test_a_rename_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        atomic_write_text(folder, "a file cannot replace a folder that holds something")
    assert sorted(os.listdir(tmp_path)) == ["taken"]
    assert os.listdir(folder) == ["inside"]


def test_the_new_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.csv"
    atomic_write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent, "a rename is atomic within one file system only"
        assert temporary.suffix == ".csv"
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_contents_are_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, rename = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        flush(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(atomic.os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    atomic_write_bytes(tmp_path / "state.bin", b"new")
    assert done == ["file", "rename", "folder"]


def test_other_users_may_read(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "state.json", "{}")
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o644


def test_a_reader_never_sees_half_of_a_file(tmp_path: Path) -> None:
    path, size, stop = tmp_path / "state.bin", 200_000, threading.Event()
    atomic_write_bytes(path, b"0" * size)

    def write() -> None:
        for turn in range(60):
            atomic_write_bytes(path, str(turn % 10).encode() * size)
        stop.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = set()
    while not stop.is_set():
        content = path.read_bytes()
        seen.add((len(content), len(set(content))))
    for writer in writers:
        writer.join()
    assert seen == {(size, 1)}
    assert os.listdir(tmp_path) == ["state.bin"]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    atomic_write_text(path, "old")
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, signal, sys; from pathlib import Path; from financial_assets.atomic import atomic_path\n"
            "with atomic_path(Path(sys.argv[1])) as temporary:\n"
            "    temporary.write_text('half of the n'); os.kill(os.getpid(), signal.SIGKILL)",
            str(path),
        ],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    atomic_write_text(path, "new")
    assert path.read_text() == "new"


_KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from financial_assets.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the n")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("name", ["state.json", "state", "[a] *.json"])
def test_what_killed_writers_left_behind_is_removed_by_the_next_and_nobody_elses(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    command = [sys.executable, "-c", _KILLED_WHILE_WRITING, str(path)]
    assert subprocess.run([*command, "killed"], check=False).returncode == -signal.SIGKILL
    (abandoned,) = os.listdir(tmp_path)
    others = {".state.json.bak", ".states.json.abcdefgh.json", ".state.json.abcdefgh.csv", "abcdefgh"}
    for other in others:
        (tmp_path / other).touch()
    with subprocess.Popen([*command, "slow"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow:
        assert slow.stdout is not None
        assert slow.stdout.readline() == "writing\n"
        assert abandoned not in os.listdir(tmp_path)
        atomic_write_text(path, "new")  # while the other one writes
        assert path.read_text() == "new"
        slow.communicate("end\n")
    assert slow.returncode == 0
    assert path.read_text() == "half of the n"
    assert set(os.listdir(tmp_path)) == {name, *others}
