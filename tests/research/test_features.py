"""Features in a notebook: the catalogue's own values, with what each of them is."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import financial_assets as fa
from financial_assets.errors import FeatureError
from financial_assets.features.catalogue import FEATURE_NAMES
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices


@pytest.fixture(scope="module")
def panel() -> PricePanel:
    bars = SimulatedPrices(SimulatedMarket(seed=3)).fetch(["AAA", "BBB"]).prices
    return fa.load_panel(bars[bars["date"] < pd.Timestamp("2012-01-01")])


def test_the_whole_catalogue_bit_for_bit(panel: PricePanel) -> None:
    found = fa.features(panel)
    assert found.panel.names == FEATURE_NAMES
    assert np.array_equal(found.panel.values, compute_panel(panel, FeatureGraph()).values, equal_nan=True)


def test_some_by_name_and_by_family(panel: PricePanel) -> None:
    assert fa.features(panel, ["rsi_14"]).panel.names == ("rsi_14",)
    momentum = fa.features(panel, family="momentum")
    assert set(momentum.catalogue["family"]) == {"momentum"}
    with pytest.raises(FeatureError, match="no_such"):
        fa.features(panel, ["no_such"])
    with pytest.raises(FeatureError, match="momentum"):
        fa.features(panel, family="momenta")
    with pytest.raises(FeatureError, match="exclude"):
        fa.features(panel, ["rsi_14"], family="volume")


def test_a_table_shows_and_plots_itself(panel: PricePanel) -> None:
    found = fa.features(panel, ["rsi_14"])
    assert "rsi_14" in found._repr_html_()
    assert len(found.frame) == found.panel.valid.sum()
    (axes,) = found.plot("rsi_14").axes
    assert [line.get_label() for line in axes.get_lines()] == ["AAA", "BBB"]
    assert np.array_equal(axes.get_lines()[1].get_ydata(), found.series("rsi_14", "BBB"), equal_nan=True)
    with pytest.raises(FeatureError, match="ZZZ"):
        found.plot("rsi_14", ["ZZZ"])


def test_the_package_itself_imports_nothing() -> None:
    """The command line starts without torch and pandas, whatever a notebook can reach from the package's name."""
    script = (
        "import sys, financial_assets as fa; print(sorted({'torch', 'pandas', 'matplotlib'} & set(sys.modules)));"
        "offered = {'load_panel', 'features', 'backtest', 'compare_models', 'walk_forward'} <= set(dir(fa));"
        "print(callable(fa.features), offered, hasattr(fa, 'nothing'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True True False"]
