"""Every asset of the repository by itself: where something is missing, it says what, and what makes it."""

from __future__ import annotations

import builtins
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from financial_assets.assets.market import raw_prices
from financial_assets.definitions import defs
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings

ASSETS = {asset.key: asset for asset in cast("list[dg.AssetsDefinition]", defs.assets)}
SESSION = "2006-03-01"
REMEDY = re.compile(r"materiali[sz]e `?\w+|run `financial-assets \w+|run the job|job `daily`")
EASY = ("raw_prices", "price_panel", "paper_book")
"""What needs nothing, or prices alone: the account of the paper book is opened at the clock's session."""


def resources(home: Path) -> dict[str, Any]:
    return make_resources(
        load_settings(
            financial_assets_home=home,
            price_source="simulated",
            simulated_sessions=400,
            tickers="AAA,BBB",
            device="cpu",
            progress=False,
        )
    )


@pytest.fixture(scope="module")
def with_prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("prices") / "home"
    assert dg.materialize([raw_prices], resources=resources(home)).success
    return home


def run(asset: dg.AssetsDefinition, home: Path) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        partition = None
        if isinstance(asset.partitions_def, dg.DynamicPartitionsDefinition):
            partition = SESSION
            instance.add_dynamic_partitions(str(asset.partitions_def.name), [partition])
        elif asset.partitions_def is not None:
            partition = asset.partitions_def.get_first_partition_key()
        return dg.materialize(
            [asset], resources=resources(home), instance=instance, partition_key=partition, raise_on_error=False
        )


def errors(result: dg.ExecuteInProcessResult) -> Iterator[tuple[str, str]]:
    """Class and message of every error of the failed steps, without Dagster's wrapper."""
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None:
                if error.cls_name != "DagsterExecutionStepExecutionError":
                    yield str(error.cls_name), error.message
                error = error.cause


def said_plainly(result: dg.ExecuteInProcessResult) -> None:
    found = list(errors(result))
    assert found
    assert not [name for name, _ in found if hasattr(builtins, name)], found
    assert REMEDY.search(found[0][1]), found
    assert not result.get_asset_materialization_events()


@pytest.mark.parametrize("key", sorted(ASSETS), ids=lambda key: key.to_user_string())
def test_on_an_empty_home_each_names_what_to_run_first(key: dg.AssetKey, tmp_path: Path) -> None:
    result = run(ASSETS[key], tmp_path / "home")
    if key == raw_prices.key:
        assert result.success
    else:
        said_plainly(result)


@pytest.mark.parametrize("key", sorted(ASSETS), ids=lambda key: key.to_user_string())
def test_with_prices_alone_each_names_what_to_run_first(key: dg.AssetKey, tmp_path: Path, with_prices: Path) -> None:
    home = shutil.copytree(with_prices, tmp_path / "home")
    result = run(ASSETS[key], home)
    if key.to_user_string() in EASY:
        assert result.success
    else:
        said_plainly(result)
