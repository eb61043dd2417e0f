"""Kept baseline predictions equal those of the whole panel bit for bit, whatever happened to panel, code and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.market.panels.lineage import Lineage
from financial_assets.models.baselines import history as baseline_history
from financial_assets.models.baselines.fitted import Baselines, fit_baselines
from financial_assets.models.baselines.history import BaselineHistory, DailyPredictions, predict_last

FIRST = 30
"""Sessions after the cut-off that the first panel has."""


@pytest.fixture(scope="module")
def fitted(panel: PricePanel, cutoff: pd.Timestamp) -> Baselines:
    return fit_baselines(compute_panel(panel, FeatureGraph()), panel, cutoff=cutoff, sequence_length=5)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Tickers and sessions of every whole computation."""
    made: list[tuple[int, int]] = []

    def compute(panel: PricePanel, graph: FeatureGraph) -> object:
        made.append((len(panel.tickers), len(panel.sessions)))
        return compute_panel(panel, graph)

    monkeypatch.setattr(baseline_history, "compute_panel", compute)
    return made


def whole(fitted: Baselines, panel: PricePanel) -> pd.DataFrame:
    sessions = panel.sessions[panel.sessions > pd.Timestamp(fitted.cutoff)]
    return fitted.predict(compute_panel(panel, FeatureGraph()), panel, sessions)


def same(kept: DailyPredictions, fitted: Baselines, panel: PricePanel) -> None:
    expected = whole(fitted, panel)
    pd.testing.assert_frame_equal(kept.frame(), expected, check_exact=True)
    last = [panel.sessions[-1], panel.sessions[-3]]
    rows = expected[expected["date"].isin(last)].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        kept.of(last).sort_values(["date", "ticker", "model"], ignore_index=True), rows, check_exact=True
    )
    assert sorted(kept.tokens) == list(panel.sessions[panel.sessions > pd.Timestamp(fitted.cutoff)])


def start(panel: PricePanel, fitted: Baselines) -> PricePanel:
    return panel.until(panel.sessions[panel.position(pd.Timestamp(fitted.cutoff)) + FIRST])


def test_new_sessions_are_appended(
    panel: PricePanel, fitted: Baselines, tmp_path: Path, counted: list[tuple[int, int]]
) -> None:
    history, lineage = BaselineHistory(tmp_path, fitted), Lineage()
    known = start(panel, fitted)
    before = history.up_to(known, lineage)
    same(before, fitted, known)
    for more in (1, 2, 5):
        count = len(known.sessions)
        lineage = lineage.continued(count, ())
        known = panel.until(panel.sessions[count - 1 + more])
        after = history.up_to(known, lineage)
        same(after, fitted, known)
        assert {day: after.tokens[day] for day in before.tokens} == before.tokens
        before = after
    assert history.up_to(known, lineage).tokens == before.tokens
    assert len(counted) == 1, "the whole panel was computed for the first time only"


def test_many_days_are_put_together_and_stay_the_same(
    panel: PricePanel, fitted: Baselines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline_history, "MOST_PARTS", 3)
    history, lineage, known = BaselineHistory(tmp_path, fitted), Lineage(), start(panel, fitted)
    kept = history.up_to(known, lineage)
    for _ in range(7):
        count, tokens = len(known.sessions), kept.tokens
        lineage, known = lineage.continued(count, ()), panel.until(panel.sessions[count])
        kept = history.up_to(known, lineage)
        assert tokens.items() <= kept.tokens.items(), "rows that are only moved keep their tokens"
        assert len(list(tmp_path.glob("*.parquet"))) <= 3
    same(kept, fitted, known)


def test_corrected_sessions_and_restated_tickers_are_computed_again(
    panel: PricePanel,
    fitted: Baselines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    counted: list[tuple[int, int]],
) -> None:
    monkeypatch.setattr(baseline_history, "_MOST_APART", 0.5)
    history, lineage, known = BaselineHistory(tmp_path, fitted), Lineage(), start(panel, fitted)
    before = history.up_to(known, lineage)
    count = len(known.sessions)
    values = panel.values.copy()
    values[1, :5, count - 4] *= np.float32(1.01)
    corrected = replace(panel, values=values).until(panel.sessions[count])
    lineage = lineage.continued(count - 4, ())
    after = history.up_to(corrected, lineage)
    same(after, fitted, corrected)
    changed = {day for day, token in before.tokens.items() if after.tokens[day] != token}
    assert changed == set(known.sessions[-4:])
    values = values.copy()
    values[0, :4] *= np.float32(0.97)
    restated = replace(panel, values=values).until(panel.sessions[count + 1])
    again = history.up_to(restated, lineage.continued(count + 1, (panel.tickers[0],)))
    same(again, fitted, restated)
    assert not set(after.tokens.values()) & set(again.tokens.values()), "any session may have changed"
    assert counted[1:] == [(1, count + 2)], "only the restated ticker was computed over all sessions"


@pytest.mark.parametrize("change", ["lineage", "fit", "code", "universe", "lost", "damaged"])
def test_what_may_be_out_of_date_is_computed_anew(
    panel: PricePanel,
    fitted: Baselines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    counted: list[tuple[int, int]],
    change: str,
) -> None:
    lineage, known = Lineage(), start(panel, fitted)
    BaselineHistory(tmp_path, fitted).up_to(known, lineage)
    count = len(known.sessions)
    longer, later = panel.until(panel.sessions[count]), lineage.continued(count, ())
    if change == "lineage":
        later = Lineage()
    elif change == "fit":
        fitted = replace(fitted, intercept=fitted.intercept + 0.5)
    elif change == "code":
        monkeypatch.setattr(baseline_history, "code_version", lambda: "another")
    elif change == "universe":
        longer = baseline_history.panel_of_tickers(longer, longer.tickers[:-1])
    elif change == "lost":
        next(tmp_path.glob("*.parquet")).unlink()
    else:
        path = tmp_path / "history.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"parts": 3}))
    same(BaselineHistory(tmp_path, fitted).up_to(longer, later), fitted, longer)
    assert counted[1:] == [(len(longer.tickers), count + 1)]


def test_the_last_sessions_alone_are_answered_as_among_all(panel: PricePanel, fitted: Baselines) -> None:
    rows = predict_last(fitted, panel, 40)
    expected = whole(fitted, panel)
    expected = expected[expected["date"] >= panel.sessions[-40]].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)
