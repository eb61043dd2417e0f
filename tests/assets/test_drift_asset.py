"""The asset `drift` on two simulated markets that are the same until one of them shifts its regime."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.assets.features import features
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.assets.monitoring import CALENDAR, current_features, drift, drift_check
from financial_assets.assets.training import make_model_asset
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.features.catalogue import FEATURE_NAMES
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.models.predictor import build_predictor
from financial_assets.models.variants import Variant
from financial_assets.monitoring.drift.detection import detect_drift
from financial_assets.monitoring.drift.streams import held_out_excess_loss, majority_share
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from financial_assets.tracking import ModelVersion
from tests.assets.alone import execute_checks, verdicts
from tests.kept_thresholds import share_thresholds

SHIFT = 690
NUMBERS = {"statistic_over_threshold", "features/statistic_over_threshold"}
TINY = Variant("tiny", layers=1, hidden=8, dropout=0.1, epochs=6, learning_rate=1e-2, batch_size=128)
MODEL = make_model_asset(TINY)


class World:
    """A market, a champion trained on its first 660 sessions, and its answers on the 90 after them."""

    def __init__(
        self, home: Path, instance: dg.DagsterInstance, shift: int | None = None, trained: Path | None = None
    ) -> None:
        settings = load_settings(
            financial_assets_home=home,
            price_source="simulated",
            simulated_sessions=750,
            evaluation_share=0.12,
            simulated_signal=0.6,
            simulated_regime_shift=shift,
            tickers="AAA,BBB,CCC,DDD,EEE,FFF",
            device="cpu",
            progress=False,
        )
        self.resources = make_resources(settings)
        self.market, self.models = self.resources["market"], self.resources["models"]
        self.instance = instance
        assert self.run(raw_prices, price_panel, features).success
        if trained is not None:  # the same bars up to the cut-off: the same fingerprint, nothing to train again
            shutil.copy(trained / "mlflow.db", home)
            shutil.copytree(trained / "models", home / "models")
        assert self.run(MODEL).success
        self.champion = self._serve(self._register())
        self.result = self.run(drift)

    def run(self, *assets: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize(list(assets), resources=self.resources, instance=self.instance, raise_on_error=False)

    def _register(self) -> ModelVersion:
        """The version that the asset of the ONNX file would register; the file itself is not needed here."""
        pointer = json.loads((self.models.folder / "tiny" / "current.json").read_text())
        registry, identity = self.models.registry(), pointer["fingerprint"]
        with self.models.tracker().resume(pointer["run_id"]) as run:
            run.log_artifacts(self.models.folder / "tiny" / identity / "training", "model/training")
        return registry.register(pointer["run_id"], "model", {"variant": "tiny", "fingerprint": identity}, "tiny")

    def _serve(self, version: ModelVersion) -> Arm:
        """What a replay leaves: an epoch, the model's answers in the log, the clock at the end."""
        training = self.models.lifecycle().training_of(version.version)
        arm = Arm("tiny-predictor-v1", "tiny", version.version, "champion", 100, training.cutoff)
        whole, predictor = self.market.whole_panel(), build_predictor(training, FeatureGraph()).eval()
        later = whole.sessions[whole.sessions > arm.data_cutoff]
        with self.resources["ab_test"].log() as log, torch.inference_mode():
            log.open_epoch(self.resources["ab_test"].policy().experiment, [arm], "start", after=0)
            asked = [whole.windows(day, 256) for day in later[:-1]]
            chances, ranges, *_ = predictor(torch.from_numpy(np.concatenate([bars for _, bars in asked])))
            answers = iter(zip(chances[:, 0], ranges, strict=True))
            for (day, target), (tickers, _) in zip(itertools.pairwise(later), asked, strict=True):
                given = {ticker: next(answers) for ticker in tickers}
                intents = log.begin_direct([arm], day, target, tickers)
                log.complete_direct([_result(intent.id, *given[intent.ticker]) for intent in intents])
        self.market.clock().advance_to(whole.sessions[-1])
        return arm

    @property
    def check(self) -> dg.AssetCheckEvaluation:
        (found,) = self.result.get_asset_check_evaluations()
        return found

    @property
    def metadata(self) -> dict[str, Any]:
        return {name: value.value for name, value in self.check.metadata.items()}

    @property
    def shown(self) -> dict[str, Any]:
        (found,) = self.result.asset_materializations_for_node("drift")
        return {name: value.value for name, value in found.metadata.items()}


def _result(intent: int, probability: torch.Tensor, quantiles: torch.Tensor) -> Result:
    first, low, middle, high, last = quantiles.tolist()
    return Result(intent, Forecast(float(probability), (first, low, middle, high, last)))


@pytest.fixture(scope="module")
def memory() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, memory: dg.DagsterInstance) -> World:
    return World(share_thresholds(tmp_path_factory.mktemp("home"), tmp_path_factory), memory)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory, memory: dg.DagsterInstance, steady: World) -> World:
    return World(
        share_thresholds(tmp_path_factory.mktemp("home"), tmp_path_factory), memory, SHIFT, trained=steady.market.folder
    )


def test_the_check_alone_says_the_same_and_leaves_what_the_exporter_reads(steady: World, shifted: World) -> None:
    for world in (steady, shifted):
        before = world.market.drift_path.read_bytes()
        resources = {name: world.resources[name] for name in ("market", "models", "ab_test")}
        found = execute_checks(drift, resources, world.instance)
        assert found.success
        assert verdicts(found, drift) == verdicts(world.result, drift) != {}
        assert world.market.drift_path.read_bytes() == before
    assert verdicts(steady.result, drift) != verdicts(shifted.result, drift)


def test_the_champion_is_the_same_in_both_markets(steady: World, shifted: World) -> None:
    """So only the shift tells them apart: the training was found again by its fingerprint over the same bars."""
    assert (shifted.champion, shifted.champion.version) == (steady.champion, 1)
    assert len(shifted.models.registry().versions()) == 1


def test_a_steady_market_passes(steady: World) -> None:
    assert steady.result.success
    assert steady.check.passed
    assert steady.check.check_name == "no_drift"
    numbers = {name: steady.metadata[name] for name in NUMBERS}
    assert {name for name, value in steady.metadata.items() if value} - NUMBERS == {"model"}
    assert (steady.metadata["loss alarm"], steady.metadata["since"]) == (False, "")
    assert all(0 <= value < 1 for value in numbers.values())
    assert steady.shown["verdict"] == "tiny-predictor-v1: no drift"
    assert 0 <= steady.shown["loss/over threshold"] < 1
    assert 0 <= steady.shown["features/over threshold"] < 1


def test_a_turned_market_fails_through_the_loss(shifted: World) -> None:
    assert shifted.result.success  # the check informs; nothing downstream is blocked
    assert not shifted.check.passed
    assert shifted.check.severity == dg.AssetCheckSeverity.ERROR
    assert shifted.metadata["loss alarm"] is True
    assert "The loss alarm has been on since" in (shifted.check.description or "")
    assert "A year without drift goes as far with a probability below 0.1 %" in (shifted.check.description or "")
    sessions = shifted.market.whole_panel().sessions
    since = sessions.get_loc(pd.Timestamp(shifted.metadata["since"]))
    assert SHIFT - 1 <= since <= SHIFT + 30
    assert shifted.shown["loss/over threshold"] > 1
    # Only the sign of the signal has turned, so the size of moves and the volume may not be blamed.
    moved = set(shifted.metadata["features shifted"])
    assert not moved & {"ewma_volatility", "volume_vs_sma_20"}, moved


def test_moved_inputs_alone_are_a_warning() -> None:
    """Nobody retrains on a warning."""
    rng = np.random.default_rng(1)
    days = pd.bdate_range("2020-01-02", periods=400)
    means = pd.DataFrame(rng.standard_normal((400, 3)), days, ["a", "b", "c"])
    means.iloc[300:, 1] += 3.0
    loss = pd.Series(rng.standard_normal(400), days)
    found: dict[bool, dg.AssetCheckResult] = {}
    for risen in (False, True):
        served = loss.iloc[300:] + (2.0 if risen else 0.0)
        report = detect_drift(
            feature_reference=means.iloc[:300],
            features=means.iloc[300:],
            loss_reference=loss.iloc[:300],
            loss=served,
        )
        found[risen] = drift_check(report, "m-v1")
    assert not found[False].passed
    assert found[False].severity == dg.AssetCheckSeverity.WARN
    assert "1 of 3 inputs have shifted since" in (found[False].description or "")
    assert "The loss has not risen" in (found[False].description or "")
    assert found[True].severity == dg.AssetCheckSeverity.ERROR
    assert "b +" in (found[True].description or "")
    assert found[False].metadata["loss alarm"].value is False
    assert re.search(r"The statistic is now at \d+\.\d of its threshold", found[True].description or "")


def test_an_alarm_that_has_ended_is_reported_as_a_warning() -> None:
    rng = np.random.default_rng(1)
    days = pd.bdate_range("2020-01-02", periods=400)
    means = pd.DataFrame(rng.standard_normal((400, 3)), days, ["a", "b", "c"])
    loss = pd.Series(rng.standard_normal(400), days)
    loss.iloc[310:330] += 2.5
    parts = {"feature_reference": means.iloc[:300], "features": means.iloc[300:], "loss_reference": loss.iloc[:300]}
    report = detect_drift(**parts, loss=loss.iloc[300:])
    check = drift_check(report, "m-v1")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    sentence = check.description or ""
    for fact in (
        "The alarm of loss that began on 2021-03",
        "ended on 2021-06",
        "had fallen from its peak by as much as the threshold",
        "No action is required",
    ):
        assert fact in sentence
    found = {name: value.value for name, value in check.metadata.items()}
    assert (found["loss alarm"], found["since"], found["alarms that have ended"]) == (False, "", ["loss"])
    assert isinstance(found["statistic_over_threshold"], float)
    assert found["statistic_over_threshold"] < 1
    live = drift_check(detect_drift(**parts, loss=loss.iloc[300:330]), "m-v1")
    assert (live.passed, live.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "the job `retrain`" in (live.description or "")


def test_every_feature_but_the_calendar_and_the_loss_are_shown(steady: World) -> None:
    assert len(CALENDAR) > 3
    assert steady.shown["dagster/row_count"] == len(FEATURE_NAMES) - len(CALENDAR) + 1
    table = steady.shown["streams"]
    assert all(f"| {name} |" in table for name in ("loss", *FEATURE_NAMES) if name not in CALENDAR)
    assert not any(f"| {name} |" in table for name in CALENDAR)
    assert "nan" not in table.lower()
    assert "NaT" not in table
    assert steady.shown["statistic over threshold"].startswith("![drift](data:image/png;base64,")
    assert 85 <= steady.shown["sessions judged"] <= 90


def test_features_behind_the_clock_are_not_trusted(steady: World) -> None:
    """A replay moves the clock past the stored features; the day they end is not the day that is judged."""
    assert FeaturePanel.load(steady.market.features_path).sessions[-1] == steady.champion.data_cutoff
    now = steady.market.clock().now()
    assert now > steady.champion.data_cutoff
    judged = current_features(steady.market, steady.market.panel())
    assert judged.sessions[-1] == now
    assert judged.valid[:, -1].any()


def test_the_reference_loss_is_the_champions_own(steady: World) -> None:
    training = steady.models.lifecycle().training_of(steady.champion.version)
    majority = majority_share(training, steady.market.panel())
    assert 0.4 < majority < 0.6
    shutil.rmtree(steady.models.folder / "tiny")  # a machine that never trained: the registry has it
    fetched = steady.models.lifecycle().training_of(steady.champion.version)
    loss = held_out_excess_loss(fetched, majority)
    pd.testing.assert_series_equal(loss, held_out_excess_loss(training, majority))
    assert loss.index.is_monotonic_increasing
    assert (loss.index[0], loss.index[-1]) == training.spans["calibrate"]
    assert loss.mean() < -0.05  # it has learned the signal


def test_before_the_experiment_it_says_what_to_do(tmp_path: Path) -> None:
    settings = load_settings(
        financial_assets_home=tmp_path, price_source="simulated", simulated_sessions=700, device="cpu", progress=False
    )
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([raw_prices], resources=make_resources(settings), instance=instance)
        failed = dg.materialize([drift], resources=make_resources(settings), instance=instance, raise_on_error=False)
    assert not failed.success
    (event,) = failed.get_step_failure_events()
    data: Any = event.event_specific_data
    assert "run `financial-assets run`" in str(data.error.cause)
