"""Labels of both horizons, and the blocks that keep them apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.outcomes import next_excess_return, return_ahead
from financial_assets.market.panel import PricePanel
from financial_assets.models.training_data import TrainingData, panel_volatility


@pytest.fixture(scope="module")
def data(features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp, sequence_length: int) -> TrainingData:
    return TrainingData.until(cutoff, features, panel, sequence_length=sequence_length)


def test_labels_are_those_of_the_market_and_unknown_where_not_settled(data: TrainingData, panel: PricePanel) -> None:
    for label, horizon in ((data.outcome, 1), (data.outcome_5d, 5)):
        assert bool(torch.isnan(label[:, -horizon:]).all()), "settled after the cut-off"
        assert np.allclose(label[:, :-horizon].numpy(), return_ahead(panel, horizon)[:, : 800 - horizon], atol=1e-7)
    expected = next_excess_return(panel)[:, :799] / panel_volatility(panel).double().numpy()[:, :799]
    assert np.allclose(data.excess[:, :-1].numpy(), expected, rtol=1e-5, atol=1e-6)
    # Of two stocks in an equal-weighted market, one wins what the other loses.
    own = data.excess * data.causal_volatility
    assert float((own[0] + own[1])[300:-1].abs().max()) < 2e-3


def test_a_window_needs_every_label(data: TrainingData, panel: PricePanel) -> None:
    known = torch.isfinite(data.outcome) & torch.isfinite(data.outcome_5d) & torch.isfinite(data.excess)
    assert not (data.usable & ~known.numpy()).any()
    assert not data.usable[:, -5:].any()
    assert data.usable[:, -6].all()


def test_no_label_of_a_block_is_settled_in_the_next(data: TrainingData) -> None:
    blocks = (data.blocks.fit, data.blocks.stop, data.blocks.calibrate)
    starts = [blocks[1].start, blocks[2].start, len(data.sessions)]
    for block, following in zip(blocks, starts, strict=True):
        assert block.stop - 1 + 5 < following
        assert block.stop + 5 == following, "and no more is dropped than that"
    for name, span in (("fit", blocks[0]), ("stop", blocks[1]), ("calibrate", blocks[2])):
        sessions = getattr(data, name).sessions
        assert span.start <= sessions.min()
        assert sessions.max() < span.stop


def test_what_is_settled_in_the_next_block_changes_nothing_in_this_one(
    panel: PricePanel, graph: FeatureGraph, cutoff: pd.Timestamp, sequence_length: int, data: TrainingData
) -> None:
    border = data.blocks.stop.start
    values = panel.values.copy()
    values[:, :6, border:] *= np.random.default_rng(0).uniform(0.8, 1.25, values[:, :6, border:].shape).astype("f4")
    changed = replace(panel, values=values)
    again = TrainingData.until(cutoff, compute_panel(changed, graph), changed, sequence_length=sequence_length)
    before, after = ((*each.fit.labels, each.fit.last_step) for each in (data, again))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not torch.equal(data.stop.labels.outcome_5d, again.stop.labels.outcome_5d)


def test_every_tensor_moves_to_the_device(data: TrainingData) -> None:
    moved = data.to(torch.device("meta"))
    for name in ("features", "outcome", "outcome_5d", "excess", "causal_volatility", "volatility"):
        assert getattr(moved, name).device.type == "meta", name
