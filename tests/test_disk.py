"""What a disk refuses is one kind of error, which names path, need and remedy; nothing is left half-written."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sqlite3
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from financial_assets.atomic import atomic_path, atomic_write_bytes
from financial_assets.cli.main import main
from financial_assets.disk import database_remedy, disk_errors, explain
from financial_assets.errors import FinancialAssetsError, LogError, MarketDataError, StorageError
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.locking import exclusive


@contextlib.contextmanager
def largest_file(size: int) -> Generator[None]:
    """As if the disk ended there: the kernel refuses to write further, to root as well."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_array(path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, values=np.random.default_rng(0).random(100_000))


def write_table(path: Path) -> None:
    with atomic_path(path) as temporary:
        pd.DataFrame({"values": np.random.default_rng(0).random(100_000)}).to_parquet(temporary)


def write_bytes(path: Path) -> None:
    atomic_write_bytes(path, b"1" * 100_000)


@pytest.mark.parametrize("write", [write_bytes, write_array, write_table])
def test_a_writer_that_the_disk_stops_half_way_leaves_the_old_file(tmp_path: Path, write: object) -> None:
    assert callable(write)
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    with largest_file(5000), pytest.raises(StorageError, match=f"{path} cannot be written: .*`ulimit -f`") as caught:
        write(path)
    assert caught.value.errno == errno.EFBIG
    assert isinstance(caught.value, FinancialAssetsError)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.bin"]


def test_a_full_disk_names_free_and_needed_bytes(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=rf"disk of {tmp_path} has [\d,]+ bytes free, 123,456 are needed; make room"),
        disk_errors(tmp_path / "state.bin", "written", needed=123_456),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room there"),
        (errno.EROFS, "read-only file system: mount it for writing"),
        (errno.EACCES, "may not write to .*`ch(own|mod) "),
        (errno.EPERM, "may not write to .*`ch(own|mod) "),
        (errno.EIO, "on a healthy disk"),
    ],
)
def test_each_refusal_has_its_remedy(tmp_path: Path, code: int, remedy: str) -> None:
    path = tmp_path / "new" / "state.json"

    def refuse() -> None:
        with atomic_path(path):
            raise OSError(code, os.strerror(code))

    with pytest.raises(StorageError, match=f"{path} cannot be written: .*{remedy}.*FINANCIAL_ASSETS_HOME"):
        refuse()
    assert os.listdir(path.parent) == []


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for place, said in (
        (tmp_path / "file" / "state.json", f"{tmp_path / 'file'} is a file where a folder is needed: move it away"),
        (tmp_path / "folder", f"{tmp_path / 'folder'} is a folder where a file is needed: move it away"),
        (tmp_path / "link" / "state.json", f"is a symbolic link to {tmp_path / 'gone'}, which does not exist"),
    ):
        with pytest.raises(StorageError, match=said):
            atomic_write_bytes(place, b"")
        if place.parent != tmp_path:
            with pytest.raises(StorageError, match=said):
                exclusive(place, 1, error=MarketDataError, purpose="x").__enter__()
            with pytest.raises(LogError, match=said):
                PredictionLog(f"sqlite:///{place}")


def test_an_error_about_something_else_stays_what_it_was(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "state.json"):
        Path("/nowhere/at/all").read_bytes()
    assert not isinstance(caught.value, StorageError)
    assert explain(ValueError("x"), tmp_path) is None
    assert explain(ConnectionResetError(errno.ECONNRESET, "reset"), tmp_path) is None


def test_a_database_that_is_held_or_full(tmp_path: Path) -> None:
    path = tmp_path / "predictions.db"
    PredictionLog(f"sqlite:///{path}").close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        log = PredictionLog(f"sqlite:///{path}", busy_timeout_s=0.05)
        with log, pytest.raises(LogError, match=f"locked; another process holds it: `fuser {path}`"):
            log.approve("digest", "somebody")
    assert "make room" in database_remedy(path, "database or disk is full")
    assert "`chmod" in database_remedy(path, "attempt to write a readonly database")
    assert f"put {path} back from a copy" in database_remedy(path, "file is not a database")
    assert database_remedy(path, "no such column: x") == ""
    assert "make room" in (explain(RuntimeError("x"), path) or explain(_caused(), path) or "")


def _caused() -> Exception:
    error = RuntimeError("a library's own error")
    error.__cause__ = sqlite3.OperationalError("database or disk is full")
    return error


@pytest.mark.parametrize("kind", ["file", "dangling link", "folders in place of files"])
def test_every_command_says_so_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    home = tmp_path / "home"
    if kind == "file":
        home.write_text("x")
    elif kind == "dangling link":
        home.mkdir()
        for name in ("serving", "prices", "predictions.db", "mlflow.db", "market.json", "clock.json"):
            (home / name).symlink_to(tmp_path / "gone" / name)
    else:
        for name in ("market.json", "clock.json", "training.json", "predictions.db", "serving/desired.json"):
            (home / name).mkdir(parents=True)
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    for command in (["status"], ["serve"], ["signal", "AAPL"], ["decide"], ["replay"], ["doctor"]):
        result = CliRunner().invoke(main, command, env={"COLUMNS": "1000"})
        assert isinstance(result.exception, SystemExit), (command, result.exception)
        assert result.exit_code == 1, (command, result.output)
        assert str(home) in result.output, (command, result.output)
        assert "Traceback" not in result.output
