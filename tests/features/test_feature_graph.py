"""The feature graph, fused and exported, and the features of a whole panel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.errors import FeatureError
from financial_assets.features import rolling
from financial_assets.features.bars import split_channels
from financial_assets.features.catalogue import CATALOGUE, MAX_LOOKBACK
from financial_assets.features.causality import causality_violations, spot_violations
from financial_assets.features.feature import Feature
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel

LISTED = 40
"""Session at which the second ticker of the panel is listed."""


@pytest.fixture
def panel(make_bars) -> PricePanel:
    values = make_bars(21, sessions=MAX_LOOKBACK + 60).numpy()
    values[1, :5, :LISTED] = np.nan
    valid = np.ones((3, values.shape[-1]), dtype=bool)
    valid[1, :LISTED] = False
    valid[2, -5] = False
    sessions = pd.bdate_range("2015-01-01", periods=values.shape[-1])
    return PricePanel(("AAA", "BBB", "CCC"), sessions, np.ascontiguousarray(values), valid)


def test_fusing_changes_no_bit(make_bars, catalogue_graph):
    bars = make_bars(7, tickers=5, trouble=True)
    fused, split = catalogue_graph(bars), split_channels(bars)
    for row, feature in enumerate(CATALOGUE):
        assert torch.equal(fused[:, row], feature.compute(split)), feature.name


def test_fusing_evaluates_windows_together(catalogue_graph):
    separate = sum(len(FeatureGraph([feature]).fused.graph.nodes) for feature in CATALOGUE)
    assert len(catalogue_graph.fused.graph.nodes) < 0.4 * separate


@pytest.mark.parametrize("shape", [(7, 180), (1, 7, 180), (2, 3, 7, 180)])
def test_any_leading_axes(make_bars, catalogue_graph, shape):
    bars = make_bars(8, tickers=6, sessions=180)
    values = catalogue_graph(bars)
    leading = shape[:-2]
    chosen = bars[: int(np.prod(leading))].reshape(shape)
    assert torch.equal(catalogue_graph(chosen), values[: int(np.prod(leading))].reshape(*leading, -1, 180))


def test_memory_layout_does_not_matter(make_bars, catalogue_graph):
    bars = make_bars(9)
    oldest_first_rows = bars.transpose(1, 2).contiguous().transpose(1, 2)
    assert not oldest_first_rows.is_contiguous()
    assert torch.equal(catalogue_graph(oldest_first_rows), catalogue_graph(bars))


def test_a_wrong_number_of_channels_is_refused(catalogue_graph):
    for shape in ((2, 6, 100), (7,)):
        with pytest.raises(FeatureError, match="7 channels"):
            catalogue_graph(torch.ones(shape))
    with pytest.raises(ValueError, match="7 channels"):
        split_channels(torch.ones(6, 10))


def test_features_are_distinct():
    with pytest.raises(FeatureError, match=f"more than once: {CATALOGUE[0].name}[.]"):
        FeatureGraph([CATALOGUE[0], CATALOGUE[0]])
    with pytest.raises(FeatureError, match="at least one feature"):
        FeatureGraph([])


def test_a_covariate_with_the_name_of_a_feature_is_told_which():
    with pytest.raises(FeatureError, match=r"more than once: market_correlation_60\. .* rename the covariate"):
        FeatureGraph(covariates=("market",))


def test_a_subset_has_its_own_lookback_and_the_same_values(make_bars, catalogue_graph):
    rows = [3, 50, 90]
    subset = FeatureGraph([CATALOGUE[row] for row in rows])
    assert subset.lookback == max(CATALOGUE[row].lookback for row in rows)
    bars = make_bars(10)
    assert torch.equal(subset(bars), catalogue_graph(bars)[:, rows])


def test_a_panel_knows_features_once_there_are_enough_bars(panel, catalogue_graph):
    computed = compute_panel(panel, catalogue_graph)
    first = catalogue_graph.lookback - 1
    assert computed.values.shape == (3, len(CATALOGUE), len(panel.sessions))
    assert np.isnan(computed.values[0, :, :first]).all()
    assert np.isfinite(computed.values[0, :, first:]).all()
    assert np.isnan(computed.values[1, :, : LISTED + first]).all()
    assert np.isfinite(computed.values[1, :, LISTED + first :]).all()
    assert not computed.valid[1, : LISTED + first].any()
    assert computed.valid[1, LISTED + first :].all()
    # A halted session has values, since later windows read them, but no row of its own.
    assert np.isfinite(computed.values[2, :, -5]).all()
    assert not computed.valid[2, -5]


@pytest.mark.parametrize("ticker", ["AAA", "BBB", "CCC"])
def test_panel_and_window_agree_bit_for_bit(panel, catalogue_graph, ticker):
    computed = compute_panel(panel, catalogue_graph)
    window = panel.window(ticker, panel.sessions[-1], catalogue_graph.lookback)
    served = catalogue_graph(torch.from_numpy(window).T)[:, -1]
    assert np.array_equal(served.numpy(), computed.values[panel.tickers.index(ticker), :, -1])


@pytest.mark.parametrize("chunk", [1, 2, 3, 50])
def test_chunks_do_not_matter(panel, catalogue_graph, chunk):
    whole = compute_panel(panel, catalogue_graph)
    assert compute_panel(panel, catalogue_graph, chunk=chunk).content_hash() == whole.content_hash()


def test_an_empty_chunk_is_refused(panel, catalogue_graph):
    with pytest.raises(FeatureError, match="at least 1"):
        compute_panel(panel, catalogue_graph, chunk=0)


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_a_missing_price_is_named(panel, catalogue_graph, damage):
    values = panel.values.copy()
    values[0, 1, -3] = damage
    with pytest.raises(FeatureError, match=r"not finite, first \w+ of AAA on 20"):
        compute_panel(replace(panel, values=values), catalogue_graph)


def test_the_frame_holds_the_valid_rows_in_order(panel, catalogue_graph):
    computed = compute_panel(panel, catalogue_graph)
    frame = computed.to_frame()
    assert list(frame.columns) == ["date", "ticker", *catalogue_graph.names]
    assert len(frame) == computed.valid.sum()
    assert frame.equals(frame.sort_values(["date", "ticker"], ignore_index=True))
    row = frame[(frame["ticker"] == "BBB") & (frame["date"] == panel.sessions[-1])].iloc[0]
    assert np.array_equal(row[list(catalogue_graph.names)].to_numpy(np.float32), computed.values[1, :, -1])


def test_saved_and_loaded_panels_are_equal(panel, catalogue_graph, tmp_path):
    computed = compute_panel(panel, catalogue_graph)
    path = tmp_path / "deep" / "features.npz"
    computed.save(path)
    loaded = FeaturePanel.load(path)
    assert loaded.names == computed.names
    assert loaded.sessions.equals(computed.sessions)
    assert loaded.content_hash() == computed.content_hash()
    assert [file.name for file in path.parent.iterdir()] == ["features.npz"]


def test_a_file_that_is_no_feature_panel_is_named(panel, catalogue_graph, tmp_path):
    path = tmp_path / "features.npz"
    compute_panel(panel, catalogue_graph).save(path)
    stored = path.read_bytes()
    for content in (b"", b"not a panel", stored[: len(stored) // 2]):
        path.write_bytes(content)
        with pytest.raises(FeatureError, match=r"features\.npz is not a readable feature panel"):
            FeaturePanel.load(path)
    np.savez(path, other=np.ones(3))
    with pytest.raises(FeatureError, match="not a readable"):
        FeaturePanel.load(path)
    with pytest.raises(FeatureError, match="materialise `features` first"):
        FeaturePanel.load(tmp_path / "missing.npz")


def test_the_hash_sees_every_part(panel, catalogue_graph):
    computed = compute_panel(panel, catalogue_graph)
    values, valid = computed.values.copy(), computed.valid.copy()
    values[0, 0, -1] += 1e-3
    valid[0, -1] = False
    changed = [
        replace(computed, values=values),
        replace(computed, valid=valid),
        replace(computed, tickers=("AAA", "BBB", "DDD")),
        replace(computed, names=("renamed", *computed.names[1:])),
        replace(computed, sessions=computed.sessions + pd.Timedelta(days=1)),
    ]
    assert len({computed.content_hash(), *(other.content_hash() for other in changed)}) == 6


def test_axes_and_values_must_fit(panel, catalogue_graph):
    computed = compute_panel(panel, catalogue_graph)
    with pytest.raises(FeatureError, match="its axes say"):
        replace(computed, tickers=("AAA",))


def test_real_bars_pass_the_causality_check(panel, catalogue_graph):
    assert causality_violations(catalogue_graph, panel, cuts=4, seed=1).empty


def test_the_causality_check_names_date_ticker_and_feature(panel):
    def tomorrow(bars):
        return rolling.relative_difference(torch.roll(bars.close, -1, -1), bars.close)

    planted = FeatureGraph([Feature("trend", "tomorrow", 1, "close[+1] / close", "this test", tomorrow)])
    found = causality_violations(planted, panel, cuts=4, seed=1)
    assert set(found["ticker"]) >= {"AAA", "CCC"}
    assert set(found["feature"]) == {"tomorrow"}
    assert found["date"].isin(panel.sessions).all()
    assert found["date"].nunique() == 4


def test_spots_of_real_bars_pass(panel, catalogue_graph):
    for seed in range(5):
        assert spot_violations(catalogue_graph, panel, spots=8, seed=seed).empty


def test_spots_name_a_feature_that_looks_ahead_or_too_far_back(panel):
    def tomorrow(bars):
        return rolling.relative_difference(torch.roll(bars.close, -1, -1), bars.close)

    def level_of_all_bars(bars):
        return bars.close / bars.close.cumsum(-1)

    for function in (tomorrow, level_of_all_bars):
        planted = FeatureGraph([Feature("trend", "planted", 20, "a violator", "this test", function)])
        found = spot_violations(planted, panel.until(panel.sessions[-2]), spots=8, seed=1)
        assert set(found["feature"]) == {"planted"}
        assert (found["date"] == panel.sessions[-3]).sum() >= 2, "the newest session with a later one is among them"
        other = spot_violations(planted, panel, spots=8, seed=1)
        assert set(found["date"]) != set(other["date"]), "another day, other spots"
