"""Kept feature means are those of all features, bit for bit, and only new sessions are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from financial_assets.features.appending import append_features, next_sessions, save_features
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.features.stored.reading import load_features
from financial_assets.market import calendar
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.market.panels.lineage import Lineage
from financial_assets.monitoring.drift.kept_means import kept_feature_means
from financial_assets.monitoring.drift.streams import feature_means

DAYS = calendar.sessions("2020-01-02", "2020-12-31")[:170]


def make_panel(tickers: int = 12) -> PricePanel:
    rng = np.random.default_rng(5)
    close = 50.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((tickers, len(DAYS))), axis=1))
    values = np.empty((tickers, len(CHANNELS), len(DAYS)), dtype=np.float32)
    values[:] = close[:, None]
    values[:, CHANNELS.index("high")] *= 1.01
    values[:, CHANNELS.index("low")] *= 0.99
    values[:, CHANNELS.index("volume")] = rng.uniform(1e5, 1e6, (tickers, len(DAYS)))
    values[:, CHANNELS.index("market")] = close.mean(axis=0)
    values[:, CHANNELS.index("day")] = DAYS.to_numpy().astype("datetime64[D]").astype(np.int64)
    valid = np.ones((tickers, len(DAYS)), dtype=bool)
    valid[2, 150:155] = False
    return PricePanel(tuple(f"T{row}" for row in range(tickers)), DAYS, values, valid)


class World:
    """Features of a panel that grows, and how often all of them are read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.panel, self.graph = folder, make_panel(), FeatureGraph()
        self.features, self.lineage, self.loads = folder / "features.npz", Lineage(), 0
        first = self.panel.until(DAYS[160])
        save_features(self.features, compute_panel(first, self.graph), first, self.lineage)

    def grow(self, last: int, kept: int, apart: tuple[str, ...] = ()) -> None:
        longer = self.panel.until(DAYS[last])
        self.lineage = self.lineage.continued(kept, apart)
        appended = next_sessions(self.features, longer, self.graph, self.lineage)
        assert appended is not None
        append_features(self.features, appended)

    def means(self, last: int) -> pd.DataFrame:
        def load() -> FeaturePanel:
            self.loads += 1
            return load_features(self.features)

        path = self.folder / "means.npz"
        found = kept_feature_means(path, self.features, DAYS[: last + 1], self.lineage, load)
        expected = feature_means(load_features(self.features))
        pd.testing.assert_frame_equal(found, expected, check_exact=True, check_freq=False)
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_only_new_sessions_are_read(world: World) -> None:
    world.means(160)
    for last, kept in ((161, 161), (164, 162), (165, 160)):
        world.grow(last, kept)
        world.means(last)
    world.means(165)
    assert world.loads == 1, "at first; a session that was corrected is appended again, and read from there"


def test_bars_that_have_changed_are_read_again(world: World) -> None:
    world.means(160)
    world.panel.values[3, :4, 140] *= np.float32(1.03)
    world.grow(161, 161, apart=("T3",))
    world.means(161)
    assert world.loads == 2


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_damaged_file_costs_time_only(world: World, content: bytes) -> None:
    world.means(160)
    (world.folder / "means.npz").write_bytes(content)
    world.means(160)
    assert world.loads == 2


def test_another_history_is_not_continued(world: World) -> None:
    world.means(160)
    world.lineage = Lineage()
    world.means(160)
    assert world.loads == 2


def test_a_session_alone_has_the_mean_that_it_has_among_others() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((301, 1, 9)).astype(np.float32)
    every = FeaturePanel(("f",), tuple(f"T{row:03d}" for row in range(301)), DAYS[:9], values, values[:, 0] > -1.5)
    whole = feature_means(every)
    for day in range(9):
        inside = slice(day, day + 1)
        alone = FeaturePanel(every.names, every.tickers, DAYS[inside], values[:, :, inside], every.valid[:, inside])
        assert whole["f"].iloc[day] == feature_means(alone)["f"].iloc[0]
