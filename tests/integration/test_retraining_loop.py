"""The whole loop with real parts: a market that turns makes predictions wrong, and that alone brings a new challenger.

Prices are simulated and turn against what was learned twelve sessions after the data cut-off. Everything between them
and the new challenger is what runs in production: trained models behind Envoy and MLServer, the prediction log, the
exporter, Prometheus, Alertmanager, and a Dagster daemon with its sensors, run queue and runs. Nothing sets a gauge, an
alert or a check; only the waiting times of rules and notifications are cut short.

The tests tell one story in order: quiet before the turn, degraded after it, retrained once, then left alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from financial_assets.automation.sensors import make_retrain_sensors
from financial_assets.market.panel import PricePanel
from financial_assets.models.predictor import SERVED_LOOKBACK
from financial_assets.monitoring import local
from financial_assets.resources import make_resources
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.local import control
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.target import ProcessStatus
from financial_assets.settings import Settings, load_settings
from tests.integration.retraining_world import EXPERIMENT, Prometheus, Timeline, World, alerted
from tests.kept_thresholds import share_thresholds
from tests.monitoring.monitoring_doubles import hasty_configuration
from tests.waiting import wait

pytestmark = [
    pytest.mark.integration,
    pytest.mark.debian("prometheus"),
    pytest.mark.debian("prometheus-alertmanager"),
    pytest.mark.timeout(900),
]

ALERT = "ModelAccuracyDegraded"
SENSORS = ("retrain_on_alert", "retrain_on_drift")
BOUND = "ab_test_accuracy_advantage_upper"
CHAMPION, RENEWED = "baseline-predictor-v1", "baseline-predictor-v4"
EPISODE = f"{EXPERIMENT}/{CHAMPION}"
COMMON = {"raw_prices", "price_panel", "features", "reference_models", "experiment"}
MODELS = {CHAMPION, "enhanced-predictor-v2", "lightweight-predictor-v3"}
CUTOFF, TURN = 618, 630  # numbers of sessions, from 0
BEFORE, AFTER = 10, 75  # sessions after the cut-off that are replayed before and after the turn
SETTINGS = {
    "PRICE_SOURCE": "simulated",
    "TICKERS": "AAA,BBB,CCC,DDD,EEE,FFF,GGG,HHH,III,JJJ",
    "SEED": "7",
    "SIMULATED_SESSIONS": "720",
    "SIMULATED_SIGNAL": "0.8",
    "SIMULATED_REGIME_SHIFT": str(TURN),
    "EVALUATION_SHARE": "0.14",
    "REPLAY_SESSIONS": str(BEFORE),
    "MAX_EPOCHS": "5",
    "SENSOR_INTERVAL": "5",
    "DEVICE": "cpu",
    "PROGRESS": "false",
    "OMP_NUM_THREADS": "1",
}
"""Nothing hangs by a thread: 90 % of directions can be known, and ten tickers make 750 predictions a model. With any
of the seeds 1, 7, 11 and 42 the champion's bound is above +30 points before the turn and below -29 after sixty turned
sessions."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Serving plane and monitoring run; every process is ended afterwards, come what may."""
    home, timeline = share_thresholds(tmp_path_factory.mktemp("home"), tmp_path_factory), Timeline()
    instance = tmp_path_factory.mktemp("instance")
    environment = {**os.environ, **SETTINGS, "FINANCIAL_ASSETS_HOME": str(home), "DAGSTER_HOME": str(instance)}
    try:
        configuration = hasty_configuration(tmp_path_factory.mktemp("rules") / "configuration")
        urls = local.start(home, configuration, environment=environment, interval="3s")
        timeline.say(f"Envoy, MLServer, exporter, Prometheus and Alertmanager run: {dict(urls)}")
        world = World(home, instance, environment | {"ALERTMANAGER_URL": urls["alertmanager"]}, timeline)
        try:
            yield world
        finally:
            world.stop_daemon()
            world.instance.dispose()
    finally:
        control.stop(home)
        timeline.say("everything has ended")


@pytest.fixture(scope="module")
def prometheus(world: World) -> Prometheus:
    return Prometheus(local.running_urls(world.home)["prometheus"])


@pytest.fixture(scope="module")
def quiet(world: World) -> World:
    """The experiment has begun and ten sessions are predicted, all before the turn."""
    world.execute("full_pipeline")
    world.timeline.say(f"full_pipeline succeeded, clock at {world.clock():%Y-%m-%d}")
    return world


def test_before_the_turn_nothing_happens(quiet: World, prometheus: Prometheus) -> None:
    wait("the rolling accuracy", lambda: set(prometheus.value(BOUND)) == MODELS)
    assert min(prometheus.value(BOUND).values()) > 20
    assert prometheus.states(ALERT) == {}
    assert alerted(local.running_urls(quiet.home)["alertmanager"], ALERT) == set()
    assert quiet.drift_check().passed
    for name in SENSORS:
        assert isinstance(_look(quiet, name), dg.SkipReason)


@pytest.fixture(scope="module")
def degraded(quiet: World, prometheus: Prometheus) -> World:
    """The market turns; predictions go on."""
    quiet.replay(AFTER)
    quiet.timeline.say(f"replayed, clock at {quiet.clock():%Y-%m-%d}")
    quiet.execute("daily")
    quiet.timeline.say(f"daily succeeded, clock at {quiet.clock():%Y-%m-%d}: {quiet.drift_check().description}")
    wait("the alert in Prometheus", lambda: prometheus.states(ALERT) == dict.fromkeys(MODELS, "firing"))
    bounds = prometheus.value(BOUND)
    quiet.timeline.say(f"{ALERT} fires; upper bounds {bounds}")
    alertmanager = local.running_urls(quiet.home)["alertmanager"]
    wait("the alert in Alertmanager", lambda: alerted(alertmanager, ALERT) == MODELS)
    quiet.timeline.say("Alertmanager holds it")
    return quiet


def test_after_the_turn_accuracy_and_drift_raise_the_alarm(degraded: World, prometheus: Prometheus) -> None:
    assert max(prometheus.value(BOUND).values()) < -10
    check = degraded.drift_check()
    assert not check.passed
    assert check.metadata["model"].value == CHAMPION
    assert check.metadata["loss alarm"].value is True
    assert degraded.retrainings() == []


@pytest.mark.parametrize("order", [SENSORS, SENSORS[::-1]], ids=" first, ".join)
def test_either_sensor_alone_would_ask_for_the_same_retraining(degraded: World, order: tuple[str, ...]) -> None:
    asked = {name: _look(degraded, name) for name in order}
    keys = set()
    for name, answer in asked.items():
        assert isinstance(answer, dg.RunRequest), f"{name}: {answer}"
        assert answer.tags["retrain/source"] in name
        keys.add((answer.run_key, answer.tags["retrain/episode"], answer.tags["retrain/variant"]))
    ((_, episode, variant),) = keys
    assert (episode, variant) == (EPISODE, "baseline")


def _look(world: World, name: str) -> object:
    """What a sensor answers at this moment; nothing is launched."""
    values = {key.lower(): value for key, value in world.environment.items()}
    settings = load_settings(**{key: values[key] for key in Settings.model_fields if key in values})
    (sensor,) = (sensor for sensor in make_retrain_sensors(settings.sensor_interval) if sensor.name == name)
    with dg.build_sensor_context(instance=world.instance, resources=make_resources(settings)) as context:
        return sensor(context)


@pytest.fixture(scope="module")
def retrained(degraded: World) -> World:
    """The daemon runs; its sensors find both alarms, and go on looking after the run has ended."""
    degraded.start_sensors(*SENSORS)
    degraded.start_daemon()
    wait("a run of the job retrain", degraded.retrainings)
    (run,) = degraded.retrainings()
    degraded.timeline.say(f"run {run.run_id[:8]} of retrain, asked for by {run.tags['dagster/sensor_name']}")
    wait("its end", lambda: degraded.again(run).is_finished)
    degraded.timeline.say(f"it has ended: {degraded.again(run).status.value}")
    now = time.time()
    for name in SENSORS:
        wait(f"a tick of {name}", lambda name=name: any(tick.timestamp > now for tick in degraded.ticks(name)))
        degraded.timeline.say(f"{name} says: {degraded.ticks(name)[0].skip_reason}")
    return degraded


def test_one_run_through_queue_and_launcher_answers_both_alarms(retrained: World) -> None:
    (run,) = retrained.retrainings()
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags["dagster/sensor_name"] in SENSORS
    assert run.tags["retrain/episode"] == EPISODE
    assert run.tags["retrain/attempt"] == "1"
    assert retrained.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_ENQUEUED)
    made = {"/".join(key.path) for key in run.asset_selection or ()}
    assert made == {*COMMON, "models/baseline", "onnx/baseline", "predictors/baseline"}


def test_no_tick_of_either_sensor_failed_and_one_led_to_a_run(retrained: World) -> None:
    (run,) = retrained.retrainings()
    ticks = [tick for name in SENSORS for tick in retrained.ticks(name)]
    assert {tick.status.value for tick in ticks} == {"SKIPPED", "SUCCESS"}
    assert [tick.run_ids for tick in ticks if tick.run_ids] == [[run.run_id]]


def test_the_new_version_is_the_challenger_and_the_champion_stays(retrained: World) -> None:
    epoch = retrained.epoch()
    assert (epoch.number, epoch.champion.model) == (2, CHAMPION)
    (new,) = epoch.challengers
    assert (new.model, new.variant, new.data_cutoff) == (RENEWED, "baseline", retrained.clock())
    assert epoch.champion.data_cutoff < new.data_cutoff
    champion, challenger = (retrained.registry().by_alias(alias) for alias in ("champion", "challenger"))
    assert champion is not None
    assert challenger is not None
    assert (champion.version, challenger.version) == (epoch.champion.version, new.version)
    assert challenger.tags["data_cutoff"] == f"{retrained.clock():%Y-%m-%d}"


def test_envoy_routes_to_the_new_version_and_no_longer_to_the_old_challenger(retrained: World) -> None:
    target = LocalTarget(retrained.home)
    (experiment,) = target.status().experiments
    assert dict(experiment.weights) == retrained.epoch().weights == {CHAMPION: 70, RENEWED: 30}
    panel = PricePanel.load(retrained.home / "panel" / "price_panel.npz")
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    with InferenceClient(target.endpoint()) as client:
        routes = {client.infer(f"{EXPERIMENT}.experiment", bars[:1]).route for _ in range(60)}
    assert routes == {CHAMPION, RENEWED}  # a fair split misses one of them once in a thousand million times


def test_alarms_that_go_on_within_the_cool_down_lead_to_nothing(retrained: World) -> None:
    assert CHAMPION in alerted(local.running_urls(retrained.home)["alertmanager"], ALERT)
    assert not retrained.drift_check().passed
    for name in SENSORS:
        latest = retrained.ticks(name)[0]
        assert latest.status.value == "SKIPPED"
        assert CHAMPION in (latest.skip_reason or "")
    assert len(retrained.retrainings()) == 1


def test_a_killed_exporter_comes_back_with_its_totals(retrained: World, prometheus: Prometheus) -> None:
    total = "sum by (model_name) (ab_test_requests_total)"
    before = prometheus.value(total)
    assert before[CHAMPION] > 400
    killed = _exporter(retrained)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    wait("its restart", lambda: _exporter(retrained).pid not in (None, killed.pid))
    again = time.time()
    wait("a scrape", lambda: prometheus.value('timestamp(up{job="financial-assets"} == 1)').get("", 0) > again)
    assert prometheus.value(total) == before
    assert prometheus.value("sum(resets(ab_test_requests_total[1h]))") == {"": 0}


def _exporter(world: World) -> ProcessStatus:
    (found,) = (child for child in LocalTarget(world.home).status().processes if child.name == "exporter")
    return found
