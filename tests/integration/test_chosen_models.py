"""Models of every kind as arms of one experiment: networks, regressions, trees, an ensemble, and one made elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS
from financial_assets.serving.local import control
from financial_assets.serving.local.target import LocalTarget
from financial_assets.tracking import ModelRegistry
from tests.in_process import execute_job
from tests.integration import killing
from tests.kept_thresholds import share_thresholds
from tests.models.external.graphs import External, write_graph

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

VARIANTS = ("baseline", "enhanced", "linear", "boosted", "ensemble")
SESSIONS = 12


@dataclass(frozen=True)
class World:
    """A home after one run, and the Dagster instance that ran it."""

    home: Path
    instance: dg.DagsterInstance

    def predictions_by(self) -> set[str]:
        with PredictionLog(f"sqlite:///{self.home / 'predictions.db'}") as log:
            direct = log.direct()
        assert (direct["status"] == "ok").all()
        assert direct[[*QUANTILE_5D_COLUMNS, "excess_return"]].notna().all(axis=None)
        counts = direct.groupby("model").size()
        assert set(counts) == {SESSIONS * 2}
        return {model.rsplit("-predictor-", 1)[0] for model in counts.index}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = share_thresholds(tmp_path_factory.mktemp("home"), tmp_path_factory)
    others = tmp_path_factory.mktemp("others")
    folder = tmp_path_factory.mktemp("instance")
    card = "name: house\ndata_cutoff: 2005-06-30\nlicence: Apache-2.0\n"
    write_graph(others, "house", card=card)
    write_graph(others, "by-level", module=External(lambda bars: bars[:, -1, 3:4] * 0.01))
    settings = {
        "FINANCIAL_ASSETS_HOME": str(home),
        "DAGSTER_HOME": str(folder),
        "PRICE_SOURCE": "simulated",
        "TICKERS": "AAA,BBB",
        "SIMULATED_SESSIONS": "800",
        "VARIANTS": ",".join(VARIANTS),
        "EXTERNAL_MODELS": str(others),
        "REPLAY_SESSIONS": str(SESSIONS),
        "MAX_EPOCHS": "1",
        "PROGRESS": "false",
        "OMP_NUM_THREADS": "1",
    }
    with killing.instance_of(folder) as instance:
        try:
            result = execute_job("full_pipeline", {**os.environ, **settings})
            assert result.exit_code == 0, result.output[-4000:]
            yield World(home, instance)
        finally:
            control.stop(home)


def test_every_model_answers_every_question_in_pairs(world: World) -> None:
    assert world.predictions_by() == {*VARIANTS, "house"}
    served = {model.name.rsplit("-predictor-", 1)[0] for model in LocalTarget(world.home).status().models}
    assert served == {*VARIANTS, "house"}


def test_a_refused_model_is_named_and_stops_nobody(world: World) -> None:
    versions = {
        version.tags["variant"] for version in ModelRegistry(f"sqlite:///{world.home / 'mlflow.db'}").versions()
    }
    assert versions == {*VARIANTS, "house"}
    house, by_level = (check_of(world.instance, name) for name in ("house", "by-level"))
    assert house.passed
    assert not by_level.passed
    assert "any unit of prices" in str(by_level.description)


def check_of(instance: dg.DagsterInstance, name: str) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey(["external", name]), "admitted")
    (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    assert record.event.dagster_event is not None
    return record.event.dagster_event.asset_check_evaluation_data


def test_parity_is_proven_for_every_variant(world: World) -> None:
    cards = [json.loads(path.read_text()) for path in world.home.glob("models/*/*/artifact/model-card.json")]
    parities = {card["variant"]: card["parity"] for card in cards if card.get("origin") != "external"}
    assert set(parities) == set(VARIANTS)
    assert all(np.isfinite(list(parity.values())).all() for parity in parities.values())
    (external,) = (card for card in cards if card.get("origin") == "external")
    assert all(finding["passed"] for finding in external["examination"])


def test_the_report_has_every_arm(world: World) -> None:
    page = (world.home / "reports" / "ab-evaluation.html").read_text()
    for name in (*VARIANTS, "house"):
        assert f"{name}-predictor-v" in page
