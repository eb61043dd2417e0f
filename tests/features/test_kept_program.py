"""The catalogue's program kept on disk: the recorded one, step by step, and recorded anew where the file is not it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph
from financial_assets.features.panels import kept_program
from financial_assets.features.panels.eager import EagerProgram
from financial_assets.features.panels.program import Program

MakeBars = Callable[..., Tensor]


def shape(program: Program) -> tuple[list[object], list[object]]:
    """The program with places instead of steps: two of the same shape compute the same, operation by operation."""
    place = {step: at for at, step in enumerate(program.steps)}

    def named(operand: object) -> object:
        return (place[operand[0]], operand[1]) if isinstance(operand, tuple) else operand

    steps: list[object] = [
        (step.operation, tuple(map(named, step.operands)), step.before, step.number) for step in program.steps
    ]
    return steps, [named(output) for output in program.outputs]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each time that a program was recorded."""
    times: list[object] = []
    record = kept_program._written

    def counted(program: Program) -> np.ndarray:
        times.append(program)
        return record(program)

    monkeypatch.setattr(kept_program, "_written", counted)
    return times


@pytest.mark.parametrize("covariates", [(), ("vix",)])
def test_the_kept_program_is_the_recorded_one(
    tmp_path: Path, recorded: list[object], covariates: tuple[str, ...]
) -> None:
    wanted = shape(FeatureGraph(covariates=covariates).program())
    for _ in range(2):
        assert shape(FeatureGraph(covariates=covariates, programs=tmp_path).program()) == wanted
    assert len(recorded) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_it_computes_the_same_bits(tmp_path: Path, make_bars: MakeBars) -> None:
    bars = make_bars(3, trouble=True).numpy()
    results: list[np.ndarray] = []
    FeatureGraph(programs=tmp_path).program()
    for graph in (FeatureGraph(), FeatureGraph(programs=tmp_path)):
        out = np.empty((len(bars), len(graph.names), 40), dtype=np.float32)
        EagerProgram(graph.program(), graph.bounds, (len(bars), bars.shape[-1], 40)).run(bars, out)
        results.append(out)
    assert results[0].tobytes() == results[1].tobytes()


def test_a_damaged_foreign_or_older_file_is_recorded_anew(
    tmp_path: Path, recorded: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = shape(FeatureGraph(programs=tmp_path).program())
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for number, other in enumerate((b"", b"\x80\x04N.", content[:-5], flipped), start=2):
        path.write_bytes(other)
        assert shape(FeatureGraph(programs=tmp_path).program()) == wanted
        assert len(recorded) == number
        assert path.read_bytes() == content
    monkeypatch.setattr(kept_program, "_code", lambda: "of another version")
    assert shape(FeatureGraph(programs=tmp_path).program()) == wanted
    assert len(recorded) == 6
    assert [each.name for each in tmp_path.iterdir()] != [path.name]
    assert len(list(tmp_path.iterdir())) == 1, "that of the other version is removed"


def test_only_the_catalogues_program_is_kept(tmp_path: Path) -> None:
    """Nobody knows what code the functions of others depend on."""
    FeatureGraph(CATALOGUE[:2], programs=tmp_path).program()
    assert not list(tmp_path.iterdir())
