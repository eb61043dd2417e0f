"""Checks of prices and features by themselves: the verdict of the run, of what is stored, and nothing made again."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.external import make_external_asset
from financial_assets.assets.features import features
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.definitions import defs
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.store import PriceStore
from financial_assets.models.external.card import ExternalModel
from financial_assets.resources import Market
from tests.assets.alone import execute_checks, verdicts
from tests.assets.conftest import Outcome

GRAPH = defs.resolve_asset_graph()
FINISHED = (raw_prices, price_panel, features)


@pytest.mark.parametrize("key", sorted(GRAPH.asset_check_keys), ids=lambda key: key.to_user_string())
def test_every_check_can_be_executed_without_its_asset(key: dg.AssetCheckKey) -> None:
    assert GRAPH.get(key.asset_key).assets_def.can_subset


def alone(asset: dg.AssetsDefinition, market: Market, instance: dg.DagsterInstance, *names: str) -> Outcome:
    return execute_checks(asset, {"market": market}, instance, *names)


def test_they_say_what_the_run_said(make_market: Any, materialize: Any, instance: dg.DagsterInstance) -> None:
    market = make_market()
    run = materialize(FINISHED, market)
    before = market.store().content_hash(), market.features_path.read_bytes()
    for asset in (raw_prices, features):
        found = alone(asset, market, instance)
        assert found.success, found.failure_text
        assert verdicts(found, asset) == verdicts(run, asset) != {}
    assert (market.store().content_hash(), market.features_path.read_bytes()) == before


def test_one_check_is_executed_and_no_other(make_market: Any, materialize: Any, instance: dg.DagsterInstance) -> None:
    market = make_market()
    materialize(FINISHED, market)
    assert list(verdicts(alone(features, market, instance, "causal"), features)) == ["causal"]
    assert list(verdicts(alone(raw_prices, market, instance, "fresh"), raw_prices)) == ["fresh"]


def test_rows_that_were_left_out_or_repaired_fail_their_check_again(
    make_market: Any, materialize: Any, instance: dg.DagsterInstance, bars: pd.DataFrame, tmp_path: Path
) -> None:
    bars.loc[7, "close"] = -1.0
    bars.loc[20, "high"] = bars.loc[20, "close"] * 0.999
    bars.to_csv(tmp_path / "bars.csv", index=False)
    market = make_market(files=tmp_path / "bars.csv")
    run = materialize([raw_prices], market)
    assert run.success
    failed = {name for name, verdict in verdicts(run, raw_prices).items() if not verdict[0]}
    assert "impossible_values" in failed
    found = alone(raw_prices, market, instance)
    assert {name for name, verdict in verdicts(found, raw_prices).items() if not verdict[0]} == failed
    assert f"{bars.loc[7, 'date']:%Y-%m-%d}" in found.failed_rows("raw_prices", "impossible_values")


def test_a_bar_that_was_changed_in_the_store_fails(
    make_market: Any, materialize: Any, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = make_market()
    materialize([raw_prices], market)
    read = PriceStore.read

    def damaged(store: PriceStore, *given: Any) -> pd.DataFrame:
        frame = read(store, *given)
        frame.loc[frame.index[5], "volume"] = -3.0
        return frame

    monkeypatch.setattr(PriceStore, "read", damaged)
    found = verdicts(alone(raw_prices, market, instance), raw_prices)
    assert not found["impossible_values"][0]
    assert found["duplicates"][0]


def test_a_ticker_of_which_nothing_is_stored_fails_the_delivery(
    make_market: Any, materialize: Any, instance: dg.DagsterInstance
) -> None:
    materialize([raw_prices], make_market(tickers=["AAA"]))
    found = alone(raw_prices, make_market(tickers=["AAA", "BBB"]), instance, "delivery")
    assert not found.checks("raw_prices")["delivery"].passed
    assert "| BBB |" in found.failed_rows("raw_prices", "delivery")


def test_notes_of_an_earlier_version_are_told_and_freshness_is_judged_all_the_same(
    make_market: Any, materialize: Any, instance: dg.DagsterInstance, bars: pd.DataFrame, tmp_path: Path
) -> None:
    bars.loc[7, "close"] = -1.0
    bars.to_csv(tmp_path / "bars.csv", index=False)
    market = make_market(files=tmp_path / "bars.csv")
    materialize([raw_prices], market)
    notes = [
        {name: note[name] for name in note if name != "rule"} for note in json.loads(market.notes_path.read_text())
    ]
    market.notes_path.write_text(json.dumps(notes))
    refused = alone(raw_prices, market, instance, "schema")
    assert not refused.success
    assert "materialize raw_prices once" in refused.failure_text
    assert alone(raw_prices, market, instance, "fresh", "delivery").success


def test_stored_features_that_their_bars_do_not_give_fail_and_block(
    make_market: Any, materialize: Any, instance: dg.DagsterInstance
) -> None:
    market = make_market()
    materialize(FINISHED, market)
    stored = FeaturePanel.load(market.features_path)
    stored.values[0, 3, -1] += 0.01
    stored.values[1, 4, -1] = np.float32(1e9)
    stored.save(market.features_path)
    found = alone(features, market, instance)
    assert not found.success, "a blocking check fails its run"
    assert not found.checks("features")["causal"].passed
    assert stored.names[3] in found.failed_rows("features", "causal")
    assert stored.names[4] in found.failed_rows("features", "schema")


@pytest.mark.parametrize(
    ("asset", "lacks"), [(raw_prices, "run `financial-assets run`"), (features, "materialise `features`")]
)
def test_before_there_is_anything_they_say_what_they_lack(
    asset: dg.AssetsDefinition, lacks: str, make_market: Any, instance: dg.DagsterInstance
) -> None:
    found = alone(asset, make_market(), instance)
    assert not found.success
    assert lacks in found.failure_text
    assert verdicts(found, asset) == {}


def test_freshness_is_not_known_without_a_run(make_market: Any, materialize: Any) -> None:
    market = make_market()
    materialize([raw_prices], market)
    with dg.DagsterInstance.ephemeral() as another:
        found = alone(raw_prices, market, another, "fresh")
    assert "has no run of raw_prices" in found.failure_text


def test_an_asset_without_one_of_its_checks_leaves_that_out() -> None:
    specs = [dg.AssetCheckSpec(name, asset="numbers") for name in ("even", "odd")]
    results = [dg.AssetCheckResult(check_name=spec.name, passed=True) for spec in specs]

    @checkable_asset(
        judge=lambda: results, check_specs=specs, group_name="g", owners=["team:t"], kinds={"python"}, code_version="1"
    )
    def numbers(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Numbers."""
        return dg.MaterializeResult(check_results=results, metadata={"count": 2})

    wanted = dg.AssetSelection.assets("numbers").without_checks() | dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("numbers"), "odd")
    )
    result = dg.materialize([numbers], selection=wanted)
    assert list(verdicts(result, numbers)) == ["odd"]
    (made,) = result.asset_materializations_for_node("numbers")
    assert made.metadata["count"].value == 2


def test_an_external_model_may_have_a_hyphen_in_its_name(tmp_path: Path) -> None:
    """Its asset is called as its file; Dagster's steps may not be."""
    asset = make_external_asset(ExternalModel(tmp_path / "house-of-cards.onnx"))
    assert asset.key == dg.AssetKey(["external", "house-of-cards"])
    assert asset.op.name == "external__house_of_cards"
