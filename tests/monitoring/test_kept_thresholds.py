"""Simulated thresholds on disk: equal to fresh ones, never of other code, whole or absent, whoever writes at once."""

from __future__ import annotations

import multiprocessing
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from financial_assets.errors import StorageError
from financial_assets.kept import code_digest, kept
from financial_assets.monitoring.drift import thresholds
from financial_assets.monitoring.drift.thresholds import drift_free_chance, threshold

CASE = (0.1, 5, 80, 0.2)


@pytest.fixture(autouse=True)
def few_worlds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(thresholds, "_WORLDS", 500)
    forget()
    yield
    forget()


def forget() -> None:
    """As a new process: nothing in memory."""
    thresholds._sorted_peaks.cache_clear()
    thresholds._code.cache_clear()


def simulations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    simulate = thresholds.yearly_peaks

    def counted(reference: int, coefficient: float, *, worlds: int, seed: int) -> np.ndarray:
        made.append(reference)
        return simulate(reference, coefficient, worlds=worlds, seed=seed)

    monkeypatch.setattr(thresholds, "yearly_peaks", counted)
    return made


def test_what_is_kept_is_what_would_be_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = threshold(*CASE), drift_free_chance(6.0, *CASE[1:])
    forget()
    made = simulations(monkeypatch)
    for _ in range(3):
        assert (threshold(*CASE, folder=tmp_path), drift_free_chance(6.0, *CASE[1:], folder=tmp_path)) == fresh
        forget()
    assert made == [80], "simulated once, read twice"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", ["code", "library", "seed", "worlds"])
def test_other_code_does_not_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    threshold(*CASE, folder=tmp_path)
    (before,) = tmp_path.iterdir()
    forget()
    made = simulations(monkeypatch)
    if change == "code":
        edited = tmp_path / "edited.py"
        edited.write_text(f"{Path(str(thresholds.cusum.__file__)).read_text()}\n# changed\n")
        monkeypatch.setattr(thresholds.cusum, "__file__", str(edited))
    elif change == "library":
        monkeypatch.setattr(np, "__version__", "0.0")
    elif change == "seed":
        monkeypatch.setattr(thresholds, "_SEED", 1)
    else:
        monkeypatch.setattr(thresholds, "_WORLDS", 501)
    threshold(*CASE, folder=tmp_path)
    assert made == [80]
    assert not before.exists(), "what nobody can read any more is removed"


@pytest.mark.parametrize("damage", [b"", b"x", "cut", "flipped"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: bytes | str) -> None:
    fresh = threshold(*CASE, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-8])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else b"")
    forget()
    assert threshold(*CASE, folder=tmp_path) == fresh
    assert path.read_bytes() == content


def _work(folder: str) -> float:
    return float(kept(Path(folder), "array", "one", lambda: np.arange(200_000.0)).sum())


def test_processes_that_want_it_at_once_agree(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert len(set(pool.map(_work, [str(tmp_path)] * 12))) == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"], "no temporary file is left"


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        kept(tmp_path / "file" / "below", "array", "one", lambda: np.zeros(3))


def test_the_digest_names_code_and_libraries(tmp_path: Path) -> None:
    module, library = types.ModuleType("one"), types.ModuleType("library")
    (tmp_path / "one.py").write_text("x = 1\n")
    module.__file__, library.__version__ = str(tmp_path / "one.py"), "1"  # type: ignore[attr-defined]
    first = code_digest((module,), (library,))
    assert code_digest((module,), (library,)) == first
    (tmp_path / "one.py").write_text("x = 2\n")
    assert code_digest((module,), (library,)) != first
    assert code_digest((sys.modules[__name__],), ()) != first
