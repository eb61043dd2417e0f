"""A walk-forward in memory: that of the asset graph, without its settings and without files that stay."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import financial_assets as fa
from financial_assets.errors import LeakAlarmError, TrainingError
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.variants import VARIANTS, Variant
from financial_assets.models.walk_forward.folds import FoldPlan
from financial_assets.models.walk_forward.run import WalkForward
from financial_assets.research import WalkForwardResult
from tests.models.conftest import persistent

HIT = 0.75
PLAN: dict[str, Any] = {"splits": 1, "test_sessions": 40, "sequence_length": 3, "device": "cpu", "bayes_accuracy": HIT}


@pytest.fixture(scope="module")
def prices() -> PricePanel:
    return persistent(seed=3, tickers=4, count=620, hit=HIT)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folds")


@pytest.fixture(scope="module")
def found(prices: PricePanel, graph: FeatureGraph, kept: Path) -> WalkForwardResult:
    return fa.walk_forward("linear", prices, graph=graph, folder=kept, **PLAN)


def test_a_planted_signal_is_found(found: WalkForwardResult) -> None:
    table = found.table.set_index("model")
    assert table.index[0] == "linear"
    assert table.loc["linear", "log_loss"] < table.loc["majority", "log_loss"] - 0.02
    assert "linear: log loss minus that of the share of rises (majority) on 40 sessions: -0." in found.sentence
    assert "have been shown to be better" in found.sentence
    assert {"ewma", "garch", "trees", "logistic"} <= set(table.index)


def test_it_is_the_walk_forward_of_the_asset_graph(
    found: WalkForwardResult, prices: PricePanel, graph: FeatureGraph, tmp_path: Path
) -> None:
    walk = WalkForward(
        folder=tmp_path,
        panel=prices,
        features=compute_panel(prices, graph),
        plan=FoldPlan(splits=1, test_sessions=40),
        sequence_length=3,
        seed=42,
        device="cpu",
        graph=graph,
        bayes_accuracy=HIT,
    )
    own = walk.run("linear", walk.folds[0]).forecasts
    forecasts = found.forecasts
    of_fold = forecasts[(forecasts["model"] == "linear") & (forecasts["fold"] == "fold-1")]
    pd.testing.assert_frame_equal(of_fold.reset_index(drop=True), own)


def test_what_is_kept_is_not_computed_again(
    found: WalkForwardResult, prices: PricePanel, graph: FeatureGraph, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path: path.read_bytes() for path in kept.rglob("*.parquet")}
    assert {path.relative_to(kept).as_posix() for path in files} == {
        "linear/fold-1.parquet",
        "baselines/fold-1.parquet",
    }
    monkeypatch.setattr(WalkForward, "_computed", None)  # whoever computes fails
    again = fa.walk_forward(["linear"], prices, graph=graph, folder=str(kept), **PLAN)
    pd.testing.assert_frame_equal(again.table, found.table)
    assert {path: path.read_bytes() for path in kept.rglob("*.parquet")} == files


def test_without_a_folder_nothing_stays(
    prices: PricePanel, graph: FeatureGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("WALK_FORWARD_SPLITS", "3")
    own = replace(VARIANTS["linear"], name="my-own")
    found = fa.walk_forward(own, prices, graph=graph, **(PLAN | {"test_sessions": 10}))
    assert list(tmp_path.iterdir()) == []
    assert found.table["model"][0] == "my-own"
    assert found.report.folds["fold"].unique().tolist() == ["fold-1"]


def test_it_plots_and_shows_itself(found: WalkForwardResult) -> None:
    labels = {text.get_text() for axes in found.plot().axes if axes.get_legend() for text in axes.get_legend().texts}
    assert {"linear", "majority", "ewma"} <= labels
    page = found._repr_html_()
    for text in (found.sentence, "linear", "fold-1", "log_loss"):
        assert text in page


def test_its_forecasts_are_traded_and_compared(found: WalkForwardResult, prices: PricePanel) -> None:
    forecasts = found.forecasts
    traded = fa.backtest(forecasts[forecasts["model"] == "linear"], prices)
    assert len(traded.returns) == 40
    few = forecasts[forecasts["model"].isin(["linear", "majority"])]
    compared = fa.compare_models(few, prices)
    table = found.table.set_index("model")
    for name, estimate in compared.table.set_index("model")["estimate"].items():
        assert estimate == pytest.approx(table.loc[name, "log_loss"])
    assert compared.table["model"][0] == "linear"


def test_the_alarm_for_leaks_holds(prices: PricePanel, graph: FeatureGraph) -> None:
    with pytest.raises(LeakAlarmError):
        fa.walk_forward("linear", prices, graph=graph, **(PLAN | {"bayes_accuracy": None}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": "nobody"}, "^variants: got nobody; allowed are baseline"),
        ({"variants": []}, "^variants must be names"),
        ({"variants": [3]}, "^variants must be names"),
        ({"variants": "ensemble"}, "^variants: ensemble combines others"),
        ({"variants": ["linear", VARIANTS["linear"]]}, "'linear' is there twice"),
        ({"variants": Variant("trees", network="linear")}, "'trees' is there twice, or is that of a baseline"),
        ({"variants": Variant("../up", network="linear")}, "must be letters, digits"),
        ({"splits": 0}, "^splits must be a whole number of at least 1"),
        ({"gap": 1.5}, "^gap must be a whole number"),
        ({"test_sessions": True}, "^test_sessions must be a whole number"),
        ({"splits": 50}, "^splits=50 folds of test_sessions=40 with gap=5 need .*start of fa.load_panel"),
        ({"window": "sliding"}, "^window must be expanding or rolling"),
        ({"window": "rolling", "window_sessions": 100}, "^window_sessions=100 is too short"),
        ({"sequence_length": 0}, "^sequence_length must be"),
        ({"seed": -1}, "^seed must be"),
        ({"max_epochs": 0}, "^max_epochs must be"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_bad_arguments_are_named(prices: PricePanel, graph: FeatureGraph, change: dict[str, Any], message: str) -> None:
    arguments = {"variants": "linear", **PLAN, **change}
    with pytest.raises(TrainingError, match=message):
        fa.walk_forward(arguments.pop("variants"), prices, graph=graph, **arguments)
