"""Both sensors over an instance: what they ask for, when they are silent and why, and that no one is asked twice.

Alertmanager is a double here, for its faults; the integration tests have a real one.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import psutil
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from financial_assets.automation.latest_checks import latest_check
from financial_assets.automation.sensors import make_retrain_sensors
from financial_assets.definitions import defs
from financial_assets.errors import AlertsError, LogError, MonitoringError
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.market.calendar import session_close
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from financial_assets.tracking.owners import OWNER_PID, OWNER_STARTED, owner_tags
from financial_assets.workflows.run_history import RETRAIN, past_runs, superseded_by
from tests.monitoring.faulty_alertmanager import FaultyAlertmanager, faulty_alertmanager, row

EXPERIMENT = "financial-ab-test-experiment"
CHAMPION, CHALLENGER = "baseline-predictor-v1", "enhanced-predictor-v2"
CUTOFF = pd.Timestamp("2009-12-31")
ON_ALERT, ON_DRIFT = "retrain_on_alert", "retrain_on_drift"
ORIGIN = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("financial_assets"), "__repository__").get_job_origin(
    RETRAIN
)
CHECK = dg.AssetCheckKey(dg.AssetKey("drift"), "no_drift")


class World:
    """A started experiment, an Alertmanager, and an instance that remembers runs and checks."""

    def __init__(self, home: Path, alertmanager: FaultyAlertmanager, instance: dg.DagsterInstance) -> None:
        self.home, self.alertmanager, self.instance = home, alertmanager, instance
        self.resources = self.configured(alertmanager_url=alertmanager.url)
        self.job = defs.resolve_job_def(RETRAIN)
        self.begin()

    def configured(self, **settings: Any) -> dict[str, Any]:
        found = make_resources(load_settings(financial_assets_home=self.home, **settings))
        return {name: found[name] for name in ("retraining", "ab_test")}

    def begin(self) -> None:
        arms = (
            Arm(CHAMPION, "baseline", 1, "champion", 70, CUTOFF),
            Arm(CHALLENGER, "enhanced", 2, "challenger", 30, CUTOFF),
        )
        with PredictionLog(self.resources["ab_test"].log_url) as log:
            log.open_epoch(EXPERIMENT, arms, "start", after=0)

    def fire(self, *models: str, **labels: str) -> None:
        self.alertmanager.answer(
            [
                row(
                    number,
                    labels={"alertname": "ModelAccuracyDegraded", "experiment": EXPERIMENT, "model_name": model}
                    | labels,
                )
                for number, model in enumerate(models)
            ]
        )

    def drift(self, passed: bool = False, model: str = CHAMPION, **changes: Any) -> None:
        metadata = {"model": model, "loss alarm": True, "features moved": ["rsi_14"], "since": "2010-03-01"} | changes
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=CHECK.asset_key,
                check_name=CHECK.name,
                passed=passed,
                description=f"{model}: no drift",
                metadata={
                    name: dg.MetadataValue.json(value) if isinstance(value, list) else value
                    for name, value in metadata.items()
                    if value is not None
                },
            )
        )

    def tick(self, sensor: str, **settings: Any) -> Any:
        """What the daemon gets of one look."""
        resources = self.configured(alertmanager_url=self.alertmanager.url, **settings)
        with dg.build_sensor_context(instance=self.instance, definitions=defs, resources=resources) as context:
            return defs.resolve_sensor_def(sensor).evaluate_tick(context)

    def asked(self, sensor: str, **settings: Any) -> dg.RunRequest | None:
        requests = self.tick(sensor, **settings).run_requests
        assert len(requests) <= 1
        return requests[0] if requests else None

    def silent(self, sensor: str, **settings: Any) -> str:
        found = self.tick(sensor, **settings)
        assert found.run_requests == []
        assert found.skip_message
        return found.skip_message

    def launch(
        self, request: dg.RunRequest | None, status: dg.DagsterRunStatus = dg.DagsterRunStatus.QUEUED
    ) -> dg.DagsterRun:
        """A run as the daemon makes it of the request, or a person without one."""
        return self.instance.create_run_for_job(
            self.job,
            tags={**self.job.tags, **(request.tags if request else {})},
            status=status,
            remote_job_origin=ORIGIN,
        )

    def end(self, run: dg.DagsterRun, how: DagsterEventType) -> None:
        for kind in (DagsterEventType.RUN_START, how):
            self.instance.report_dagster_event(DagsterEvent(kind.value, run.job_name), run.run_id, logging.INFO)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with faulty_alertmanager() as server, dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, server, instance)


def test_an_alert_becomes_a_run_that_trains_the_variant_and_nothing_else(world: World) -> None:
    world.fire(CHAMPION)
    request = world.asked(ON_ALERT)
    assert request is not None
    tags = {name: value for name, value in request.tags.items() if name.startswith("retrain/")}
    assert tags.pop("retrain/life")
    assert tags == {
        "retrain/episode": f"{EXPERIMENT}/{CHAMPION}",
        "retrain/attempt": "1",
        "retrain/variant": "baseline",
        "retrain/model": CHAMPION,
        "retrain/cause": "ModelAccuracyDegraded",
        "retrain/source": "alert",
        "retrain/since": "2026-11-19T01:56:54.123456+00:00",
        "retrain/epoch": "1",
    }
    assert request.run_key is not None
    assert request.run_key.startswith(f"{EXPERIMENT}/{CHAMPION}:1:")
    assert request.job_name in (None, RETRAIN)
    assert {key.to_user_string() for key in request.asset_selection or []} == {
        "raw_prices",
        "price_panel",
        "features",
        "reference_models",
        "models/baseline",
        "onnx/baseline",
        "predictors/baseline",
        "experiment",
    }
    assert request.run_config == {}, "the job's own configuration moves the cut-off"


@pytest.mark.parametrize("variant", ["baseline", "enhanced", "lightweight"])
def test_what_is_selected_can_run_by_itself_with_the_job_s_configuration(world: World, variant: str) -> None:
    model = f"{variant}-predictor-v9"
    arms = (Arm(model, variant, 9, "champion", 1, CUTOFF),)
    with PredictionLog(world.resources["ab_test"].log_url) as log:
        log.open_epoch(EXPERIMENT, arms, "another champion", after=1)
    world.fire(model)
    request = world.asked(ON_ALERT)
    assert request is not None
    assert request.asset_selection is not None
    subset = world.job.get_subset(asset_selection=set(request.asset_selection))
    config = dg.validate_run_config(subset)
    assert config["ops"]["raw_prices"]["config"] == {"advance_sessions": 0, "move_cutoff": True}
    assert f"models__{variant}" in {node.name for node in subset.nodes}
    assert len([node for node in subset.nodes if node.name.startswith("models__")]) == 1


@pytest.mark.parametrize(("alarm", "cause"), [(True, "loss_drift"), (False, "feature_drift")])
def test_a_failed_drift_check_becomes_the_same_run(world: World, alarm: bool, cause: str) -> None:
    world.drift(**{"loss alarm": alarm})
    request = world.asked(ON_DRIFT)
    assert request is not None
    assert request.tags["retrain/episode"] == f"{EXPERIMENT}/{CHAMPION}"
    assert (request.tags["retrain/source"], request.tags["retrain/cause"]) == ("drift", cause)
    assert request.tags["retrain/since"] == session_close("2010-03-01").isoformat()


@pytest.mark.parametrize("order", [(ON_ALERT, ON_DRIFT), (ON_DRIFT, ON_ALERT)])
@pytest.mark.parametrize("end", [None, DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE])
def test_whichever_sensor_looks_first_the_other_is_silent(
    world: World, order: tuple[str, str], end: DagsterEventType | None
) -> None:
    world.fire(CHAMPION, CHALLENGER)
    world.drift()
    request = world.asked(order[0])
    assert request is not None
    run = world.launch(request)
    if end is not None:
        world.end(run, end)
    for sensor in (*order, *order):
        assert run.run_id in world.silent(sensor) or "RETRAIN_COOLDOWN_HOURS" in world.silent(sensor)


def test_a_failed_run_is_repeated_after_the_cool_down_as_another_run(world: World) -> None:
    world.fire(CHAMPION)
    first = world.asked(ON_ALERT)
    world.end(world.launch(first), DagsterEventType.RUN_FAILURE)
    assert "RETRAIN_COOLDOWN_HOURS=168" in world.silent(ON_ALERT)
    second = world.asked(ON_ALERT, retrain_cooldown_hours=0)
    assert first is not None
    assert second is not None
    assert second.tags["retrain/attempt"] == "2"
    assert second.run_key != first.run_key, "Dagster never launches a run key twice"
    world.end(world.launch(second), DagsterEventType.RUN_CANCELED)
    assert "RETRAIN_MAX_ATTEMPTS=2" in world.silent(ON_ALERT, retrain_cooldown_hours=0)
    assert world.asked(ON_ALERT, retrain_cooldown_hours=0, retrain_max_attempts=3) is not None


def test_a_killed_run_is_ended_and_repeated_at_once_until_the_attempts_are_used_up(world: World) -> None:
    world.fire(CHAMPION)
    with subprocess.Popen(["sleep", "600"]) as process:
        owner = owner_tags() | {
            OWNER_PID: str(process.pid),
            OWNER_STARTED: f"{psutil.Process(process.pid).create_time():.2f}",
        }
        run = world.launch(world.asked(ON_ALERT), dg.DagsterRunStatus.STARTED)
        world.instance.add_run_tags(run.run_id, owner)
        queued_by_hand = world.launch(None, dg.DagsterRunStatus.STARTED)
        assert run.run_id in str(superseded_by(world.instance, queued_by_hand.run_id, datetime.now(UTC)))
        assert f"retraining {run.run_id} is running" in world.silent(ON_ALERT)
        process.kill()
    assert superseded_by(world.instance, queued_by_hand.run_id, datetime.now(UTC)) is None
    world.instance.delete_run(queued_by_hand.run_id)
    request = world.asked(ON_ALERT)  # with a cool-down of a week
    assert request is not None
    assert request.tags["retrain/attempt"] == "2"
    ended = world.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE
    again = world.launch(request, dg.DagsterRunStatus.STARTED)
    assert superseded_by(world.instance, again.run_id, datetime.now(UTC)) is None
    world.instance.add_run_tags(again.run_id, owner)
    assert "RETRAIN_MAX_ATTEMPTS=2" in world.silent(ON_ALERT)


def test_a_retraining_by_hand_is_respected(world: World) -> None:
    world.fire(CHAMPION)
    run = world.launch(None, dg.DagsterRunStatus.STARTED)
    assert f"retraining {run.run_id} is running" in world.silent(ON_ALERT, retrain_cooldown_hours=0)
    world.end(run, DagsterEventType.RUN_SUCCESS)
    assert "RETRAIN_COOLDOWN_HOURS" in world.silent(ON_ALERT)
    assert world.asked(ON_ALERT, retrain_cooldown_hours=0) is not None


def test_runs_of_other_jobs_are_in_nobody_s_way(world: World) -> None:
    world.fire(CHAMPION)
    world.instance.create_run_for_job(defs.resolve_job_def("daily"), status=dg.DagsterRunStatus.STARTED)
    assert world.asked(ON_ALERT) is not None


def test_an_experiment_that_was_begun_again_can_be_retrained_again(world: World) -> None:
    world.fire(CHAMPION)
    first = world.asked(ON_ALERT)
    world.end(world.launch(first), DagsterEventType.RUN_SUCCESS)
    assert "answered once" in world.silent(ON_ALERT, retrain_cooldown_hours=0)
    for file in world.home.glob("predictions.db*"):
        file.unlink()
    world.begin()
    again = world.asked(ON_ALERT, retrain_cooldown_hours=0)
    assert first is not None
    assert again is not None
    assert again.tags["retrain/attempt"] == "1"
    assert again.run_key != first.run_key


def test_labels_that_nobody_knows_are_skipped_by_name(world: World) -> None:
    world.alertmanager.answer(
        [
            row(1, labels={"alertname": "ExporterDown"}),
            row(2, labels={"alertname": "ModelAccuracyDegraded", "experiment": EXPERIMENT, "model_name": "other-v7"}),
            row(3, labels={"alertname": "ModelAccuracyDegraded", "experiment": "theirs", "model_name": CHAMPION}),
            *(row(number, labels={"alertname": "NodeDown"}) for number in range(4, 10)),
        ]
    )
    said = world.silent(ON_ALERT)
    for part in ("'ExporterDown' is not a reason", "'other-v7' gets no requests", "'theirs'", "NodeDown", "(6 times)"):
        assert part in said


def test_what_is_skipped_beside_a_request_is_logged(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fire(CHALLENGER, CHAMPION, "other-v7")
    request = world.asked(ON_ALERT)
    assert request is not None
    assert request.tags["retrain/variant"] == "baseline"
    printed = capsys.readouterr().err
    assert "'other-v7' gets no requests" in printed
    assert f"{CHAMPION} comes first" in printed


def test_ten_thousand_alerts_of_others_make_a_short_reason(world: World) -> None:
    world.alertmanager.answer([row(number, labels={"alertname": f"Theirs{number}"}) for number in range(10_000)])
    said = world.silent(ON_ALERT)
    assert len(said) < 3000
    assert said.endswith("and 9990 more")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(200, b"<html>", "not JSON"), (200, b"{}", "instead of a list of alerts"), (503, b"[]", "it answered 503")],
)
def test_a_tick_that_cannot_see_is_red(world: World, status: int, body: bytes, said: str) -> None:
    world.alertmanager.status, world.alertmanager.body = status, body
    with pytest.raises(AlertsError, match=rf"{said}.*ALERTMANAGER_URL"):
        world.tick(ON_ALERT)


def test_without_an_alertmanager_there_is_nothing_to_see(world: World) -> None:
    with dg.build_sensor_context(
        instance=world.instance, definitions=defs, resources=world.configured(alertmanager_url=None)
    ) as context:
        found = defs.resolve_sensor_def(ON_ALERT).evaluate_tick(context)
    assert "ALERTMANAGER_URL is not set" in str(found.skip_message)


def test_quiet_is_told_apart_from_blind(world: World) -> None:
    assert world.silent(ON_ALERT) == "no alert is active"
    assert "never evaluated: run the job daily" in world.silent(ON_DRIFT)
    world.drift(passed=True)
    assert world.silent(ON_DRIFT) == f"the latest drift check passed: {CHAMPION}: no drift"


def test_the_latest_check_counts(world: World) -> None:
    world.drift(passed=False)
    world.drift(passed=True)
    assert "passed" in world.silent(ON_DRIFT)
    world.drift(passed=False)
    assert world.asked(ON_DRIFT) is not None


def test_drift_of_a_champion_that_was_replaced_asks_for_nothing(world: World) -> None:
    world.drift(model="baseline-predictor-v0")
    assert "'baseline-predictor-v0' gets no requests in weight epoch 1" in world.silent(ON_DRIFT)


@pytest.mark.parametrize("changes", [{"since": ""}, {"since": "2010-02-28"}, {"model": None}, {"loss alarm": None}])
def test_a_check_that_does_not_say_enough_makes_the_tick_red(world: World, changes: dict[str, Any]) -> None:
    world.drift(**changes)
    with pytest.raises(MonitoringError, match="does not name model, loss alarm and since"):
        world.tick(ON_DRIFT)


def test_before_the_experiment_both_wait_and_make_no_state(tmp_path: Path) -> None:
    with faulty_alertmanager() as server, dg.DagsterInstance.ephemeral() as instance:
        world = World(tmp_path / "begun", server, instance)
        world.home = tmp_path / "empty"
        world.fire(CHAMPION)
        world.drift()
        for sensor in (ON_ALERT, ON_DRIFT):
            assert "run `financial-assets run`" in world.silent(sensor)
        assert not world.home.exists()
        with PredictionLog(world.configured()["ab_test"].log_url):
            """An empty log, as a run that failed early leaves it."""
        for sensor in (ON_ALERT, ON_DRIFT):
            assert "the experiment has not started" in world.silent(sensor)


def test_a_log_that_cannot_be_read_makes_the_tick_red(world: World) -> None:
    world.fire(CHAMPION)
    for file in world.home.glob("predictions.db*"):
        file.write_bytes(b"no database" * 1000)
    with pytest.raises(LogError):
        world.tick(ON_ALERT)


def test_two_sensors_that_looked_at_once_launch_one_retraining(world: World) -> None:
    """Neither sees the other's request; the run that was made later is superseded at its first step."""
    world.fire(CHAMPION)
    world.drift()
    requests = [world.asked(ON_ALERT), world.asked(ON_DRIFT)]
    first, second = (world.launch(request, dg.DagsterRunStatus.STARTED) for request in requests)
    now = datetime.now(UTC)
    assert superseded_by(world.instance, first.run_id, now) is None
    assert first.run_id in str(superseded_by(world.instance, second.run_id, now))
    world.end(first, DagsterEventType.RUN_SUCCESS)
    assert "has already answered" in str(superseded_by(world.instance, second.run_id, now))
    world.end(second, DagsterEventType.RUN_FAILURE)
    for sensor in (ON_ALERT, ON_DRIFT):
        assert "answered once" in world.silent(sensor, retrain_cooldown_hours=0)


def test_history_is_read_from_the_runs(world: World) -> None:
    world.fire(CHAMPION)
    request = world.asked(ON_ALERT)
    assert request is not None
    run = world.launch(request)
    started_at = request.tags["retrain/life"]
    (queued,) = past_runs(world.instance, started_at)
    assert (queued.status, queued.started_at, queued.ended_at) == ("queued", None, None)
    assert (queued.run_id, queued.incident, queued.attempt) == (run.run_id, f"{EXPERIMENT}/{CHAMPION}", 1)
    world.end(run, DagsterEventType.RUN_SUCCESS)
    (ended,) = past_runs(world.instance, started_at)
    assert ended.status == "succeeded"
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert ended.asked_at <= ended.started_at <= ended.ended_at
    assert ended.ended_at.utcoffset() == ended.asked_at.utcoffset()
    assert past_runs(world.instance, "another experiment")[0].incident is None


def test_a_tag_that_was_tampered_with_is_named(world: World) -> None:
    run = world.instance.create_run_for_job(world.job, tags={"retrain/attempt": "many"})
    with pytest.raises(MonitoringError, match=rf"{run.run_id} has the tag retrain/attempt='many'"):
        past_runs(world.instance, None)


@pytest.mark.parametrize("broken_first", [False, True])
def test_a_run_that_broke_off_does_not_hide_the_result_before_it(world: World, broken_first: bool) -> None:
    @dg.asset(name="drift", check_specs=[dg.AssetCheckSpec("no_drift", asset="drift")])
    def broken() -> dg.MaterializeResult:
        raise ValueError("no prices")

    def break_off() -> None:
        dg.materialize([broken], instance=world.instance, raise_on_error=False)

    if broken_first:
        break_off()
        assert latest_check(world.instance, CHECK) is None
    world.drift()
    break_off()
    found = latest_check(world.instance, CHECK)
    assert found is not None
    assert not found.passed
    assert found.metadata["model"].value == CHAMPION


def test_sensors_are_off_until_switched_on_and_look_as_often_as_the_setting_says() -> None:
    for sensor in make_retrain_sensors(17):
        assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
        assert sensor.minimum_interval_seconds == 17
        assert sensor.job_name == RETRAIN
