"""Features of the last sessions alone are those of the whole panel, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from financial_assets.errors import FeatureError
from financial_assets.features import recent, rolling
from financial_assets.features.bars import Bars
from financial_assets.features.feature import Feature
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.panels.program import PRIMITIVES
from financial_assets.features.panels.recent import RecentProgram
from financial_assets.features.primitive import primitive_of
from financial_assets.features.recent import compute_recent
from financial_assets.market import calendar
from financial_assets.market.panel import PricePanel

DAYS = calendar.sessions("2020-01-02", "2020-12-31")[:180]


def by_program(graph: FeatureGraph, bars: Tensor, sessions: int) -> np.ndarray:
    """The last sessions from the bars that they depend on, and from no others."""
    program = RecentProgram(graph.program(), graph.bounds, (len(bars), sessions))
    out = np.empty((len(bars), len(graph.names), sessions), dtype=np.float32)
    program.run(bars[..., bars.shape[-1] - program.depth :].numpy(), out)
    return out


def by_graph(graph: FeatureGraph, bars: Tensor, sessions: int) -> np.ndarray:
    with torch.inference_mode():
        return graph(bars)[..., -sessions:].numpy()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), sessions=st.integers(1, 40), trouble=st.booleans())
def test_the_last_sessions_are_those_of_the_whole(
    make_bars: Callable[..., Tensor], catalogue_graph: FeatureGraph, seed: int, sessions: int, trouble: bool
) -> None:
    bars = make_bars(seed, sessions=200, trouble=trouble)
    found = by_program(catalogue_graph, bars, sessions)
    assert np.array_equal(found, by_graph(catalogue_graph, bars, sessions))


def test_every_feature_alone_looks_back_as_far_as_it_says(
    make_bars: Callable[..., Tensor], catalogue_graph: FeatureGraph
) -> None:
    bars = make_bars(1)
    for feature in catalogue_graph.features:
        graph = FeatureGraph([feature])
        assert RecentProgram(graph.program(), graph.bounds, (1, 2)).depth <= feature.lookback + 1, feature.name
        assert np.array_equal(by_program(graph, bars, 2), by_graph(graph, bars, 2)), feature.name


def test_every_primitive_has_its_steps() -> None:
    declared = {function for function in vars(rolling).values() if primitive_of(function) is not None}
    assert declared == set(PRIMITIVES)


def test_memory_that_was_used_before_does_not_matter(
    make_bars: Callable[..., Tensor], catalogue_graph: FeatureGraph
) -> None:
    bars, out = make_bars(2).numpy(), np.empty((3, len(catalogue_graph.names), 3), dtype=np.float32)
    program = RecentProgram(catalogue_graph.program(), catalogue_graph.bounds, (3, 3))
    program.run(np.full((3, 7, program.depth), np.nan, dtype=np.float32), out)
    program.run(bars[..., -program.depth :], out)
    assert np.array_equal(out, by_graph(catalogue_graph, make_bars(2), 3))


@pytest.mark.parametrize("tickers", [0, 1, 7, 8])
def test_tickers_are_computed_a_few_at_a_time(
    make_bars: Callable[..., Tensor], catalogue_graph: FeatureGraph, monkeypatch: pytest.MonkeyPatch, tickers: int
) -> None:
    monkeypatch.setattr(recent, "_MOST", 3)
    values = make_bars(4, tickers=8, sessions=len(DAYS)).numpy()[:tickers]
    panel = PricePanel(tuple("ABCDEFGH"[:tickers]), DAYS, values, np.ones((tickers, len(DAYS)), dtype=bool))
    whole = compute_panel(panel, catalogue_graph).values[:, :, -2:]
    assert np.array_equal(compute_recent(panel, catalogue_graph, 2), whole)


def test_a_feature_that_no_program_computes_is_that_of_the_graph(
    make_bars: Callable[..., Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    def surge(bars: Bars) -> Tensor:
        return torch.exp2(bars.volume / rolling.mean(bars.volume, 20) - 1.0)

    graph = FeatureGraph([Feature("volume", "surge", 20, "planted", "this test", surge, bounds=(0.0, 1e6))])
    values = make_bars(6, sessions=len(DAYS)).numpy()
    panel = PricePanel(tuple("ABC"), DAYS, values, np.ones((3, len(DAYS)), dtype=bool))
    with caplog.at_level("WARNING"):
        found = compute_recent(panel, graph, 5)
    assert "exp2" in caplog.text
    assert np.array_equal(found, by_graph(graph, torch.from_numpy(values), 5))


def test_a_panel_knows_who_is_too_young(make_bars: Callable[..., Tensor], catalogue_graph: FeatureGraph) -> None:
    values = make_bars(3, tickers=4, sessions=len(DAYS)).numpy().copy()
    valid = np.ones((4, len(DAYS)), dtype=bool)
    values[0, :5, :45], valid[0, :45] = np.nan, False  # old enough for the last sessions only
    values[1, :5, :160], valid[1, :160] = np.nan, False
    panel = PricePanel(tuple("ABCD"), DAYS, values, valid)
    found = compute_recent(panel, catalogue_graph, 12)
    assert np.array_equal(found, compute_panel(panel, catalogue_graph).values[:, :, -12:], equal_nan=True)
    assert np.isnan(found[0]).any()
    assert not np.isnan(found[0]).all()
    broken = values.copy()
    broken[2, 3, 175] = np.inf
    with pytest.raises(FeatureError, match=r"feature values are not finite, first .* of C on"):
        compute_recent(replace(panel, values=broken), catalogue_graph, 12)
    with pytest.raises(FeatureError, match="60 sessions of features need 188 bars, not 180"):
        compute_recent(panel, catalogue_graph, 60)
