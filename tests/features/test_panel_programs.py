"""A graph as the program of a panel, run by numpy and torch and as compiled loops."""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.errors import FeatureError
from financial_assets.features import rolling
from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.feature import Feature
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.panels.eager import EagerProgram
from financial_assets.features.panels.loops import TILE, write_loops
from financial_assets.features.panels.native import NativeProgram
from financial_assets.features.panels.program import read_program
from financial_assets.market.panel import PricePanel

COMPILED_TOLERANCE = 1e-4
FEW = FeatureGraph([feature for feature in CATALOGUE if feature.name in ("rsi_14", "volatility_20", "season_sine")])

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++"))), reason="needs a C++ compiler (g++)")


def plant(function, lookback: int = 1, bounds: tuple[float, float] = (-10.0, 10.0)) -> FeatureGraph:
    return FeatureGraph([Feature("trend", "planted", lookback, "planted", "this test", function, bounds=bounds)])


def by_program(graph: FeatureGraph, bars: torch.Tensor) -> np.ndarray:
    tickers, _, sessions = bars.shape
    known = sessions - graph.lookback + 1
    out = np.empty((tickers, len(graph.names), known), dtype=np.float32)
    EagerProgram(graph.program(), graph.bounds, (tickers, sessions, known)).run(bars.numpy(), out)
    return out


def by_graph(graph: FeatureGraph, bars: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return graph(bars).numpy()[..., graph.lookback - 1 :]


@pytest.mark.parametrize("trouble", [False, True])
def test_the_program_computes_the_graph_bit_for_bit(make_bars, catalogue_graph, trouble):
    bars = make_bars(1, tickers=5, sessions=catalogue_graph.lookback + 150, trouble=trouble)
    assert np.array_equal(by_program(catalogue_graph, bars), by_graph(catalogue_graph, bars))


def test_memory_that_was_used_before_does_not_matter(make_bars, catalogue_graph):
    sessions = catalogue_graph.lookback + 20
    bars, out = make_bars(2, sessions=sessions), np.empty((3, len(CATALOGUE), 21), dtype=np.float32)
    program = EagerProgram(catalogue_graph.program(), catalogue_graph.bounds, (3, sessions, 21))
    program.run(np.full((3, 7, sessions), np.nan, dtype=np.float32), out)
    program.run(bars.numpy(), out)
    assert np.array_equal(out, by_graph(catalogue_graph, bars))


def test_every_feature_is_known_from_its_lookback_on(catalogue_graph):
    ends = catalogue_graph.program().outputs
    assert [step.before + lag + 1 for step, lag in ends] == [feature.lookback for feature in CATALOGUE]


def test_common_windows_are_summed_once():
    def means(*windows: int) -> int:
        functions = tuple(lambda bars, w=window: rolling.mean(bars.close, w) for window in windows)
        return len(read_program(functions).steps)

    shared = 1 + 4  # the channel, and sums of 2, 4, 8 and 16 bars
    assert means(20, 100) == means(20) + means(100) - shared


def test_a_program_is_the_same_in_every_process():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        sources = [pool.submit(written).result() for _ in range(2)]
    assert sources == [written()] * 2


def written() -> str:
    return write_loops(FEW.program(), FEW.bounds)[0]


def test_an_operation_without_a_step_is_named():
    with pytest.raises(FeatureError, match="erfinv"):
        plant(lambda bars: torch.erfinv(bars.close)).program()


def test_a_panel_with_such_a_feature_is_that_of_the_graph(make_bars, caplog):
    values = make_bars(6, sessions=200).numpy().copy()
    values[1, :, :50] = np.nan
    sessions = pd.bdate_range("2020-01-01", periods=200)
    panel = PricePanel(("A", "B", "C"), sessions, values, np.isfinite(values[:, 3]))
    graph = plant(lambda bars: torch.exp2(bars.volume / rolling.mean(bars.volume, 20) - 1.0), lookback=20)
    with caplog.at_level("WARNING"):
        computed = compute_panel(panel, graph)
    assert "exp2" in caplog.text
    known = panel.listed_bars() >= 20
    expected = graph(torch.from_numpy(panel.values)).numpy()
    assert np.array_equal(computed.values.transpose(0, 2, 1)[known], expected.transpose(0, 2, 1)[known])
    assert np.isnan(computed.values.transpose(0, 2, 1)[~known]).all()


@needs_compiler
def test_compiled_features_agree_with_eager_ones(make_bars, catalogue_graph, tmp_path):
    bars = make_bars(3, tickers=4, sessions=catalogue_graph.lookback + 2 * TILE + 7)
    compiled = NativeProgram(catalogue_graph, tmp_path).run(bars.numpy())
    assert np.abs(compiled - by_graph(catalogue_graph, bars)).max() <= COMPILED_TOLERANCE
    # Every value is computed alike wherever its bar stands in a panel.
    later = NativeProgram(catalogue_graph, tmp_path).run(bars[..., 5:].numpy())
    assert np.array_equal(later, compiled[..., 5:])


@needs_compiler
def test_a_compiled_program_is_found_again(make_bars, tmp_path, monkeypatch):
    bars = make_bars(4).numpy()
    first = NativeProgram(FEW, tmp_path).run(bars)
    (library,) = tmp_path.iterdir()
    made = library.stat().st_mtime_ns
    assert np.array_equal(NativeProgram(FEW, tmp_path).run(bars), first)
    assert library.stat().st_mtime_ns == made
    NativeProgram(plant(lambda bars: bars.close / bars.high), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@needs_compiler
def test_processes_may_compile_at_a_time(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        sums = list(pool.map(compiled_sum, [tmp_path] * 2))
    assert sums[0] == sums[1]
    assert len(list(tmp_path.iterdir())) == 1


def compiled_sum(cache: Path) -> float:
    bars = np.abs(np.random.default_rng(0).normal(50.0, 1.0, (2, 7, 200))).astype(np.float32)
    return float(NativeProgram(FEW, cache).run(bars).sum())


@needs_compiler
def test_bars_and_places_that_do_not_fit_are_refused(make_bars, tmp_path):
    program, bars = NativeProgram(FEW, tmp_path), make_bars(5).numpy()
    with pytest.raises(FeatureError, match="7 channels"):
        program.run(bars[:, :6])
    with pytest.raises(FeatureError, match="sessions or more"):
        program.run(bars[..., :10])
    with pytest.raises(FeatureError, match="contiguous float32"):
        program.run(bars, np.empty((3, 3, 5), dtype=np.float32))


def test_without_a_compiler_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(FeatureError, match=r"no C\+\+ compiler.*g\+\+.*CXX.*compute_panel"):
        NativeProgram(FEW, tmp_path)


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of registers >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(FeatureError, match="out of registers"):
        NativeProgram(FEW, tmp_path / "cache")
