"""Which channels a formula reads, as its graph says, against what its values depend on."""

from __future__ import annotations

import torch

from financial_assets.features.bars import BAR_CHANNELS
from financial_assets.features.graph import FeatureGraph
from tests.features.conftest import MakeBars


def test_no_value_depends_on_a_channel_that_its_formula_is_not_said_to_read(make_bars: MakeBars) -> None:
    graph = FeatureGraph()
    read = graph.channels_read()
    bars = make_bars(3, sessions=graph.lookback + 40)
    whole = graph(bars)
    moved: dict[str, set[str]] = {name: set() for name in graph.names}
    for place, channel in enumerate(BAR_CHANNELS):
        changed = bars.clone()
        # Another move for each session: features do not depend on the unit. Days move by whole ones.
        moves = torch.rand(bars[:, place].shape, generator=torch.Generator().manual_seed(place))
        changed[:, place] += 40 * (moves > 0.5) if channel == "day" else 0.02 * moves * bars[:, place]
        differs = (graph(changed) != whole).any(dim=0).any(dim=-1)
        for name, is_moved in zip(graph.names, differs.tolist(), strict=True):
            if is_moved:
                moved[name].add(channel)
    assert {name: channels - set(read[name]) for name, channels in moved.items() if channels - set(read[name])} == {}
    # And little is said too much: each formula moves with at least one of its channels.
    assert all(moved[name] for name in graph.names)


def test_a_covariate_is_named() -> None:
    graph = FeatureGraph(covariates=("^VIX",))
    read = graph.channels_read()
    assert {name for name, channels in read.items() if "^VIX" in channels} == set(graph.names) - set(
        FeatureGraph().names
    )
