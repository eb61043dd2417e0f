"""The hash chain: whole or named broken, whatever is done to its file, and whenever its writer dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from financial_assets.chain import GENESIS, HashChain
from financial_assets.errors import ChainError
from financial_assets.locking import exclusive

ENTRIES = [{"kind": "a", "value": 0.1 + 0.2}, {"kind": "b", "value": None}, {"kind": "ü", "value": [1, 2]}]


@pytest.fixture
def chain(tmp_path: Path) -> HashChain:
    chain = HashChain(tmp_path / "folder" / "chain.jsonl")
    for entry in ENTRIES:
        chain.append(entry)
    return chain


def test_what_was_appended_is_read_back_in_order(chain: HashChain) -> None:
    links = chain.read()
    assert [dict(link.values) for link in links] == ENTRIES
    assert [link.number for link in links] == [1, 2, 3]
    assert len({link.digest for link in links}) == 3
    first = chain.path.read_text().splitlines()[0]
    assert f'"previous":"{GENESIS}"' in first


def test_a_missing_file_is_an_empty_chain(tmp_path: Path) -> None:
    assert HashChain(tmp_path / "none").read() == ()


@pytest.mark.parametrize("place", [0, 1])
def test_an_edited_line_is_named(chain: HashChain, place: int) -> None:
    lines = chain.path.read_text().splitlines(keepends=True)
    lines[place] = lines[place].replace('"kind":"', '"kind":"x')
    chain.path.write_text("".join(lines))
    with pytest.raises(ChainError, match=f"line {place + 2} of .* does not follow"):
        chain.read()
    before = chain.path.read_bytes()
    with pytest.raises(ChainError):
        chain.append({"kind": "more"})
    assert chain.path.read_bytes() == before


@pytest.mark.parametrize("order", [(0, 2), (1, 2), (1, 0, 2), (0, 1, 1, 2)])
def test_removed_exchanged_and_doubled_lines_are_found(chain: HashChain, order: tuple[int, ...]) -> None:
    lines = chain.path.read_text().splitlines(keepends=True)
    chain.path.write_text("".join(lines[place] for place in order))
    with pytest.raises(ChainError, match="does not follow"):
        chain.read()


@pytest.mark.parametrize("rubbish", [b"not json\n", b"[1]\n", b"\n", b"\xff\xfe\n", b"{}\n"])
def test_a_line_that_is_no_record_is_named(chain: HashChain, rubbish: bytes) -> None:
    chain.path.write_bytes(chain.path.read_bytes() + rubbish)
    with pytest.raises(ChainError, match="line 4 of"):
        chain.read()


@pytest.mark.parametrize("half", [b'{"kind":"c"', b"\xff", b'{"kind":"c","number":4}'])
def test_half_a_line_never_counted_and_the_next_writer_cuts_it_off(chain: HashChain, half: bytes) -> None:
    chain.path.write_bytes(chain.path.read_bytes() + half)
    assert len(chain.read()) == 3
    assert chain.append({"kind": "d"}).number == 4
    assert [link.values["kind"] for link in chain.read()] == ["a", "b", "ü", "d"]


def test_numbers_that_are_none_are_refused(chain: HashChain) -> None:
    before = chain.path.read_bytes()
    with pytest.raises(ValueError, match="Out of range"):
        chain.append({"value": float("nan")})
    assert chain.path.read_bytes() == before


def append_many(path: Path, name: str) -> None:
    for number in range(20):
        with exclusive(path.with_suffix(".lock"), 30.0, error=ChainError, purpose="appending"):
            HashChain(path).append({"by": name, "turn": number})


def test_writers_that_hold_the_lock_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "chain.jsonl"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=append_many, args=(path, name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    links = HashChain(path).read()
    assert len(links) == 40
    for name in ("one", "two"):
        assert [link.values["turn"] for link in links if link.values["by"] == name] == list(range(20))


_WRITER = """
import sys
from pathlib import Path
from financial_assets.chain import HashChain
chain = HashChain(Path(sys.argv[1]))
while True:
    chain.append({"value": "x" * 20000})
"""


def test_a_writer_that_is_killed_leaves_a_whole_chain(tmp_path: Path) -> None:
    path, before = tmp_path / "chain.jsonl", 0
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
        size = path.stat().st_size if path.exists() else 0
        deadline = time.monotonic() + 60
        while not path.exists() or path.stat().st_size < size + 200_000:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        before = len(HashChain(path).read())
        assert HashChain(path).append({"value": "after"}).number == before + 1
    assert len(HashChain(path).read()) == before + 1
