"""Appended features are those of the whole panel, bit for bit; whatever changed in the past is computed anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import Tensor

from financial_assets.errors import FeatureError
from financial_assets.features import appending
from financial_assets.features.appending import append_features, next_sessions, save_features
from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.features.schema import check_feature_panel, check_features
from financial_assets.features.stored.parts import UNSETTLED
from financial_assets.features.stored.reading import load_features
from financial_assets.market import calendar
from financial_assets.market.panel import PricePanel
from financial_assets.market.panels.lineage import Lineage

DAYS = calendar.sessions("2020-01-02", "2020-12-31")[:180]
Panel = Callable[..., PricePanel]


@pytest.fixture(scope="module")
def panel(make_bars: Callable[..., Tensor]) -> PricePanel:
    values = make_bars(3, tickers=12, sessions=len(DAYS)).numpy().copy()
    valid = np.ones((12, len(DAYS)), dtype=bool)
    values[0, :5, :40], valid[0, :40] = np.nan, False  # listed later
    values[1, :5, :160], valid[1, :160] = np.nan, False  # too young to count
    valid[2, 150] = False
    return PricePanel(tuple(f"T{row:02d}" for row in range(12)), DAYS, values, valid)


def same(features: FeaturePanel, other: FeaturePanel) -> bool:
    return features.content_hash() == other.content_hash()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "features.npz"


def test_appended_sessions_are_those_of_the_whole_panel(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path
) -> None:
    first = panel.until(DAYS[170])
    save_features(path, compute_panel(first, catalogue_graph), first)
    inode = path.stat().st_ino
    for last in (171, 174, 179):
        longer = panel.until(DAYS[last])
        appended = next_sessions(path, longer, catalogue_graph)
        assert appended is not None
        assert (appended.unstable, appended.restated) == ((), None)
        append_features(path, appended)
        assert same(load_features(path), compute_panel(longer, catalogue_graph))
    assert path.stat().st_ino == inode, "what is stored is not written again"
    assert next_sessions(path, panel, catalogue_graph) is None


def test_bars_that_settle_change_the_last_sessions_alone(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path
) -> None:
    first = panel.until(DAYS[170])
    save_features(path, compute_panel(first, catalogue_graph), first)
    values = panel.values.copy()
    values[:, 4, 165:171] *= np.float32(1.3)  # everybody's volumes
    values[3, 0:4, 168] *= np.float32(1.01)
    for last in (172, 173):
        settled = replace(panel, values=values).until(DAYS[last])
        appended = next_sessions(path, settled, catalogue_graph)
        assert appended is not None
        assert (appended.restated, appended.unstable, appended.added) == (None, (), 2 if last == 172 else 1)
        append_features(path, appended)
        assert same(load_features(path), compute_panel(settled, catalogue_graph))


def test_a_restated_ticker_is_computed_anew(panel: PricePanel, catalogue_graph: FeatureGraph, path: Path) -> None:
    first = panel.until(DAYS[170])
    save_features(path, compute_panel(first, catalogue_graph), first)
    values = panel.values.copy()
    values[5, 0:4, :100] *= np.float32(0.7)  # a factor that is not uniform
    changed = replace(panel, values=values)
    appended = next_sessions(path, changed.until(DAYS[172]), catalogue_graph)
    assert appended is not None
    assert appended.restated is not None
    assert (appended.restated.tickers, appended.unstable) == (("T05",), ())
    append_features(path, appended)
    assert same(load_features(path), compute_panel(changed.until(DAYS[172]), catalogue_graph))
    again = next_sessions(path, changed, catalogue_graph)
    assert again is not None
    assert again.restated is None
    append_features(path, again)
    assert same(load_features(path), compute_panel(changed, catalogue_graph))


def test_what_cannot_be_continued_is_computed_whole(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path
) -> None:
    assert next_sessions(path, panel, catalogue_graph) is None
    first = panel.until(DAYS[170])
    computed = compute_panel(first, catalogue_graph)
    computed.save(path)  # an earlier version's: without digests
    assert next_sessions(path, panel, catalogue_graph) is None
    assert same(load_features(path), computed)
    save_features(path, computed, first)
    assert next_sessions(path, panel, catalogue_graph) is not None
    assert next_sessions(path, panel, catalogue_graph, code="of other formulas") is None
    assert next_sessions(path, first, catalogue_graph) is None, "nothing is new"
    fewer = replace(panel, tickers=panel.tickers[:5], values=panel.values[:5].copy(), valid=panel.valid[:5].copy())
    assert next_sessions(path, fewer, catalogue_graph) is None
    market = replace(panel, values=panel.values * np.float32(1.01))  # everybody's bars have changed
    assert next_sessions(path, market, catalogue_graph) is None


def test_a_lineage_says_what_has_changed(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, lineage = panel.until(DAYS[170]), Lineage()
    save_features(path, compute_panel(first, catalogue_graph), first, lineage)
    monkeypatch.setattr(appending, "_digests", lambda *_: pytest.fail("bars are compared"))
    values = panel.values.copy()
    values[5, 0:4, :100] *= np.float32(0.7)
    changed = replace(panel, values=values)
    after = lineage.continued(171, ("T05",))
    for last, restated in ((172, ("T05",)), (174, None)):
        longer = changed.until(DAYS[last])
        appended = next_sessions(path, longer, catalogue_graph, after)
        assert appended is not None
        assert (None if appended.restated is None else appended.restated.tickers, appended.unstable) == (restated, ())
        append_features(path, appended)
        assert same(load_features(path), compute_panel(longer, catalogue_graph))
        after = after.continued(last + 1, ())
    monkeypatch.undo()
    assert next_sessions(path, changed, catalogue_graph, Lineage()) is None, "another panel, and no digests"
    everybody = after.continued(100, ())
    assert next_sessions(path, changed, catalogue_graph, everybody) is None, "settled bars have changed"


def test_only_sessions_that_may_have_changed_are_computed(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path
) -> None:
    first, lineage = panel.until(DAYS[165]), Lineage()
    save_features(path, compute_panel(first, catalogue_graph), first, lineage)
    values = panel.values.copy()
    # Last session, how many of those before are as they were, and a ticker that is computed apart.
    for last, kept, apart in ((166, 166, ()), (168, 160, ()), (169, 169, ("T05",)), (171, 168, ()), (172, 161, ())):
        values[:, 4, kept:last] *= np.float32(1.25)
        for name in apart:
            values[panel.tickers.index(name), 0:4, :90] *= np.float32(0.7)
        longer = replace(panel, values=values.copy()).until(DAYS[last])
        lineage = lineage.continued(kept, apart)
        appended = next_sessions(path, longer, catalogue_graph, lineage)
        assert appended is not None
        assert appended.unstable == (), "the session before is found in the file that has it"
        assert appended.new.sessions.equals(DAYS[kept : last + 1])
        append_features(path, appended)
        assert same(load_features(path), compute_panel(longer, catalogue_graph))


def test_features_of_an_earlier_version_go_on(panel: PricePanel, catalogue_graph: FeatureGraph, path: Path) -> None:
    first, lineage = panel.until(DAYS[165]), Lineage()
    computed = compute_panel(first, catalogue_graph)
    save_features(path, computed, first, lineage)
    with np.load(path) as held:
        kept = {name: held[name] for name in held.files if not name.startswith("last_")}
    np.savez(path, **kept, last=computed.values[:, :, -1 - UNSETTLED])  # all that it knew of the last sessions
    for last, sessions in ((166, UNSETTLED + 1), (167, 1)):
        longer, lineage = panel.until(DAYS[last]), lineage.continued(last, ())
        appended = next_sessions(path, longer, catalogue_graph, lineage)
        assert appended is not None
        assert (len(appended.new.sessions), appended.unstable) == (sessions, ())
        append_features(path, appended)
        assert same(load_features(path), compute_panel(longer, catalogue_graph))


def test_a_value_of_the_last_session_that_does_not_come_out_again_is_told(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path
) -> None:
    first, lineage = panel.until(DAYS[170]), Lineage()
    computed = compute_panel(first, catalogue_graph)
    spoilt = computed.values.copy()
    spoilt[4, 7, -1] += 1.0
    save_features(path, replace(computed, values=spoilt), first, lineage)
    appended = next_sessions(path, panel, catalogue_graph, lineage.continued(171, ()))
    assert appended is not None
    assert appended.unstable == (("T04", catalogue_graph.names[7]),)


def test_a_value_that_does_not_come_out_again_is_told(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path
) -> None:
    first = panel.until(DAYS[170])
    computed = compute_panel(first, catalogue_graph)
    spoilt = computed.values.copy()
    spoilt[4, 7, -1 - UNSETTLED] += 1.0
    save_features(path, replace(computed, values=spoilt), first)
    appended = next_sessions(path, panel, catalogue_graph)
    assert appended is not None
    assert appended.unstable == (("T04", catalogue_graph.names[7]),)


def test_a_base_written_anew_makes_its_parts_void(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = panel.until(DAYS[170])
    save_features(path, compute_panel(first, catalogue_graph), first)
    appended = next_sessions(path, panel, catalogue_graph)
    assert appended is not None
    append_features(path, appended)
    computed = compute_panel(panel, catalogue_graph)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # the power fails before the old parts are removed
    save_features(path, computed, panel)
    assert len(list(path.parent.glob("features.0*.npz"))) == 1
    assert same(load_features(path), computed)


def test_parts_do_not_pile_up(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "MOST_PARTS", 2)
    first = panel.until(DAYS[170])
    save_features(path, compute_panel(first, catalogue_graph), first)
    for last in (171, 172):
        appended = next_sessions(path, panel.until(DAYS[last]), catalogue_graph)
        assert appended is not None
        append_features(path, appended)
    assert next_sessions(path, panel, catalogue_graph) is None
    save_features(path, compute_panel(panel, catalogue_graph), panel)
    assert [file.name for file in path.parent.iterdir()] == ["features.npz"]


def test_restated_tickers_of_an_earlier_version_go_on(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path
) -> None:
    first, lineage = panel.until(DAYS[165]), Lineage()
    save_features(path, compute_panel(first, catalogue_graph), first, lineage)
    values = panel.values.copy()
    values[5, 0:4, :90] *= np.float32(0.7)
    changed = replace(panel, values=values)
    for last, apart in ((166, ("T05",)), (168, ()), (169, ())):
        longer, lineage = changed.until(DAYS[last]), lineage.continued(last, apart)
        appended = next_sessions(path, longer, catalogue_graph, lineage)
        assert appended is not None
        assert appended.unstable == ()
        append_features(path, appended)
        assert same(load_features(path), compute_panel(longer, catalogue_graph))
        part = path.with_name("features.001.npz")
        with np.load(part) as held:
            kept = {name: held[name] for name in held.files if name != "row_newest"}
        np.savez(part, **kept)


@pytest.mark.parametrize("name", ["row_newest", "row_values"])
def test_a_restated_value_that_does_not_come_out_again_is_told(
    panel: PricePanel, catalogue_graph: FeatureGraph, path: Path, name: str
) -> None:
    first, lineage = panel.until(DAYS[165]), Lineage()
    save_features(path, compute_panel(first, catalogue_graph), first, lineage)
    values = panel.values.copy()
    values[5, 0:4, :90] *= np.float32(0.7)
    changed, lineage = replace(panel, values=values), lineage.continued(166, ("T05",))
    appended = next_sessions(path, changed.until(DAYS[166]), catalogue_graph, lineage)
    assert appended is not None
    append_features(path, appended)
    part = path.with_name("features.001.npz")
    with np.load(part) as held:
        arrays = {each: held[each].copy() for each in held.files if each != "row_newest" or name == each}
    at = (-1, 0, 7) if name == "row_newest" else (0, 7, -1)
    arrays[name][at] += 1.0
    np.savez(part, **arrays)
    again = next_sessions(path, changed.until(DAYS[167]), catalogue_graph, lineage.continued(167, ()))
    assert again is not None
    assert again.unstable == (("T05", catalogue_graph.names[7]),)


def test_a_damaged_part_is_named(panel: PricePanel, catalogue_graph: FeatureGraph, path: Path) -> None:
    first = panel.until(DAYS[170])
    save_features(path, compute_panel(first, catalogue_graph), first)
    appended = next_sessions(path, panel, catalogue_graph)
    assert appended is not None
    append_features(path, appended)
    part = path.with_name("features.001.npz")
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(FeatureError, match=r"features\.001\.npz is not a readable feature panel"):
        load_features(path)


def test_a_panel_is_checked_like_its_frame(panel: PricePanel, catalogue_graph: FeatureGraph) -> None:
    computed = compute_panel(panel, catalogue_graph)
    assert check_feature_panel(computed).empty
    values = computed.values.copy()
    values[3, 2, 175] = CATALOGUE[2].bounds[1] + 1.0
    values[6, 9, 170] = np.nan
    broken = replace(computed, values=values)
    columns = ["date", "ticker", "column", "check"]
    found, expected = (
        frame[columns].sort_values(columns, ignore_index=True).astype(str)
        for frame in (check_feature_panel(broken), check_features(broken.to_frame()))
    )
    assert len(found) >= 2
    pd.testing.assert_frame_equal(found, expected)
