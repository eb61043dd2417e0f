"""Covariates on the whole road: from the settings to a served graph that reads them, and to signals."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.serving.bar_rules import neutral_bars
from financial_assets.serving.client.transport import request_body
from financial_assets.serving.local import control
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.signals import check_signals
from tests.in_process import execute_job, financial_assets
from tests.kept_thresholds import share_thresholds

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

COVARIATES = ("CCC", "CCC / DDD", "cpi", "sector")


@dataclass(frozen=True)
class World:
    """A home after one run, and what later commands need to be told of it."""

    home: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = share_thresholds(tmp_path_factory.mktemp("home"), tmp_path_factory)
    inputs = tmp_path_factory.mktemp("inputs")
    days = pd.date_range("2000-01-01", periods=400, freq="MS")
    figures = pd.DataFrame(
        {
            "date": days.strftime("%Y-%m-%d"),
            "known_at": (days + pd.Timedelta(days=12)).strftime("%Y-%m-%dT08:30:00-05:00"),
            "name": "cpi",
            "value": np.random.default_rng(1).normal(2, 0.3, len(days)).round(2),
        }
    )
    figures.to_csv(inputs / "macro.csv", index=False)
    (inputs / "universe.csv").write_text("ticker,sector\nAAA,Banks\nBBB,Energy\n")
    base = {"FINANCIAL_ASSETS_HOME": str(home), "DAGSTER_HOME": str(tmp_path_factory.mktemp("instance"))}
    settings = {
        "PRICE_SOURCE": "simulated",
        "UNIVERSE_FILE": str(inputs / "universe.csv"),
        "COVARIATES": "CCC, CCC / DDD",
        "COVARIATE_FILES": str(inputs / "macro.csv"),
        "SECTOR_INDEX": "true",
        "SIMULATED_SESSIONS": "800",
        "REPLAY_SESSIONS": "12",
        "MAX_EPOCHS": "1",
        "PROGRESS": "false",
        "OMP_NUM_THREADS": "1",
    }
    try:
        result = execute_job("full_pipeline", {**os.environ, **base, **settings})
        assert result.exit_code == 0, result.output[-4000:]
        yield World(home, {**os.environ, **base})
    finally:
        control.stop(home)


def test_the_run_ends_with_sound_signals(world: World) -> None:
    (file,) = (world.home / "signals").glob("*.parquet")
    signals = pd.read_parquet(file)
    assert list(signals["ticker"]) == ["AAA", "BBB"]
    assert check_signals(signals, ["AAA", "BBB"]).empty
    told = financial_assets("signal", "AAA", "--json", environment=world.environment)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["probability_up"] == pytest.approx(signals["probability_up"].iloc[0], abs=1e-6)


def test_the_card_names_the_channels(world: World) -> None:
    cards = [json.loads(path.read_text()) for path in world.home.glob("models/*/*/artifact/model-card.json")]
    assert len(cards) == 3
    for card in cards:
        assert card["interface"]["channels"] == [*CHANNELS, *COVARIATES]
        assert card["interface"]["input"] == {"bars": ["batch", 256, 11]}
        assert card["parity"]["panel_window"] == 0.0
        names = {feature["name"] for feature in card["features"]}
        assert {"ccc_correlation_60", "ccc_over_ddd_z_score_60", "cpi_change_5", "sector_relative_return_20"} < set(
            names
        )
    assert PricePanel.load(world.home / "panel" / "price_panel.npz").covariates == COVARIATES


def test_a_request_carries_them_and_one_without_is_refused(world: World) -> None:
    printed = financial_assets("signal", "BBB", "--request", environment=world.environment)
    (tensor,) = json.loads(printed.stdout)["inputs"]
    assert tensor["shape"] == [1, 256, 11]
    url = f"{LocalTarget(world.home).endpoint().http_url}/v2/models/financial-ab-test-experiment/infer"
    headers = {"content-type": "application/json", "seldon-model": "financial-ab-test-experiment.experiment"}
    answer = httpx.post(url, content=printed.stdout, headers=headers)
    assert answer.status_code == 200, answer.text
    narrow = httpx.post(url, content=request_body(neutral_bars(1, 256)), headers=headers)
    assert narrow.status_code == 400
    assert "has shape [1, 256, 7]; expected [batch >= 1, 256, 11]" in narrow.text


def test_other_covariates_are_refused_with_the_settings_that_name_them(world: World) -> None:
    other = financial_assets("signal", "AAA", environment={**world.environment, "COVARIATES": "DDD"})
    assert other.exit_code != 0
    assert "the channels CCC, CCC / DDD, cpi, sector of COVARIATES, COVARIATE_FILES and SECTOR_INDEX" in other.output
    assert "the settings say PRICE_SOURCE=simulated" in other.output
