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
from financial_assets.features import rolling
from financial_assets.features.causality import same_bits
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.primitive import primitive_of
from financial_assets.features.recent import REACH, RecentFeatures, compute_recent
from financial_assets.market import calendar
from financial_assets.market.panel import PricePanel

DAYS = calendar.sessions("2020-01-02", "2020-12-31")[:180]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), sessions=st.integers(1, 40), trouble=st.booleans())
def test_the_last_sessions_are_those_of_the_whole(
    make_bars: Callable[..., Tensor], catalogue_graph: FeatureGraph, seed: int, sessions: int, trouble: bool
) -> None:
    bars = make_bars(seed, sessions=200, trouble=trouble)
    with torch.inference_mode():
        whole = catalogue_graph(bars)[..., -sessions:]
        recent = RecentFeatures(catalogue_graph, sessions)
        assert same_bits(recent(bars), whole).all()
        assert same_bits(recent(bars[..., -recent.depth :]), whole).all(), "they depend on no bar before"


def test_every_feature_alone_says_how_far_it_reaches(
    make_bars: Callable[..., Tensor], catalogue_graph: FeatureGraph
) -> None:
    bars = make_bars(1)
    for feature in catalogue_graph.features:
        graph = FeatureGraph([feature])
        with torch.inference_mode():
            assert same_bits(RecentFeatures(graph, 2)(bars), graph(bars)[..., -2:]).all(), feature.name


def test_every_primitive_says_how_far_it_reaches() -> None:
    declared = {function for function in vars(rolling).values() if primitive_of(function) is not None}
    assert declared == set(REACH)


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
