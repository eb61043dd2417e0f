"""A world in which the whole loop can turn: every process of it, and what can be seen from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import psutil
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorTick, SensorInstigatorData
from dagster._core.workspace.load import location_origins_from_yaml_paths

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.market.clock import HistoricalClock
from financial_assets.tracking import ModelRegistry
from tests.in_process import execute_job, financial_assets

ROOT = Path(__file__).parents[2]
EXPERIMENT = "financial-ab-test-experiment"
_ENDING_S = 20.0


@dataclass
class Timeline:
    """What happened when: printed as it happens, so pytest shows it with -s and after a failure."""

    begun: float = field(default_factory=time.monotonic)

    def say(self, event: str) -> None:
        print(f"{time.monotonic() - self.begun:7.1f} s  {event}", flush=True)


def ask(url: str) -> Any:
    """The JSON answer of ``url``."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


@dataclass
class World:
    """A home, a Dagster instance, and the environment of the processes that use them."""

    home: Path
    instance_folder: Path
    environment: Mapping[str, str]
    timeline: Timeline
    daemon: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        # The instance of the repository, but for where it keeps its files.
        text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {self.instance_folder}")
        (self.instance_folder / "dagster.yaml").write_text(text)
        self.instance = dg.DagsterInstance.from_config(str(self.instance_folder))

    # Commands, as a person or a scheduler runs them.

    def execute(self, job: str) -> None:
        """Run a job as from the command line."""
        done = execute_job(job, self.environment)
        assert done.exit_code == 0, done.output[-6000:]

    def start_sensors(self, *names: str) -> None:
        """Switch sensors on: what the button of the UI writes, without another process that imports everything."""
        (location,) = location_origins_from_yaml_paths([str(ROOT / "workspace.yaml")])
        for name in names:
            origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), name)
            begun = SensorInstigatorData(
                min_interval=int(self.environment["SENSOR_INTERVAL"]), last_sensor_start_timestamp=time.time()
            )
            self.instance.add_instigator_state(
                InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, begun)
            )

    def replay(self, sessions: int) -> None:
        """Predict the sessions up to the given number after the first data cut-off."""
        done = financial_assets("replay", "--sessions", str(sessions), environment=self.environment)
        assert done.exit_code == 0, done.output

    # The daemon: sensors, run queue and the server of the code.

    def start_daemon(self) -> None:
        with (self.instance_folder / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-w", str(ROOT / "workspace.yaml")],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.timeline.say(f"dagster-daemon runs, pid {self.daemon.pid}")

    def stop_daemon(self) -> None:
        """End the daemon and all that it started, each by its pid."""
        if self.daemon is None:
            return
        family = _family(self.daemon.pid)
        self.daemon.terminate()
        try:
            self.daemon.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait(_ENDING_S)
        _, left = psutil.wait_procs(family, timeout=_ENDING_S)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=_ENDING_S)
        self.daemon = None
        self.timeline.say("dagster-daemon has ended")

    def daemon_said(self, characters: int = 6000) -> str:
        """The end of the daemon's log."""
        log = self.instance_folder / "daemon.log"
        return log.read_text()[-characters:] if log.exists() else ""

    # What can be seen.

    def ticks(self, sensor: str) -> list[InstigatorTick]:
        """All ended ticks of a sensor, the latest first."""
        states = self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        found = [state for state in states if state.instigator_name == sensor]
        if not found:
            return []
        (state,) = found
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id)
        return [tick for tick in ticks if tick.status.value != "STARTED"]

    def retrainings(self) -> list[dg.DagsterRun]:
        """Runs of the job ``retrain``, the latest first."""
        return [record.dagster_run for record in self.instance.get_run_records(dg.RunsFilter(job_name="retrain"))]

    def again(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """The same run as it stands now."""
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found

    def drift_check(self) -> dg.AssetCheckEvaluation:
        """The latest evaluation of the check ``no_drift``."""
        record = self.instance.get_latest_asset_check_evaluation_record(
            dg.AssetCheckKey(dg.AssetKey("drift"), "no_drift")
        )
        assert record is not None
        assert record.event is not None
        assert record.event.dagster_event is not None
        return record.event.dagster_event.asset_check_evaluation_data

    def clock(self) -> pd.Timestamp:
        """The session that is now."""
        return HistoricalClock(self.home / "clock.json").now()

    def epoch(self) -> WeightEpoch:
        """The weight epoch in force."""
        with PredictionLog(f"sqlite:///{self.home / 'predictions.db'}") as log:
            found = log.current_epoch(EXPERIMENT)
        assert found is not None
        return found

    def registry(self) -> ModelRegistry:
        """The model registry."""
        return ModelRegistry(f"sqlite:///{self.home / 'mlflow.db'}")


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, asked over HTTP."""

    url: str

    def value(self, expression: str) -> dict[str, float]:
        """Model -> value of an instant query."""
        found = ask(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")["data"]["result"]
        return {row["metric"].get("model_name", ""): float(row["value"][1]) for row in found}

    def states(self, alert: str) -> dict[str, str]:
        """Model -> ``pending`` or ``firing``."""
        alerts = ask(f"{self.url}/api/v1/alerts")["data"]["alerts"]
        return {a["labels"].get("model_name", ""): a["state"] for a in alerts if a["labels"]["alertname"] == alert}


def alerted(alertmanager: str, alert: str) -> set[str]:
    """Models of the alerts of that name that Alertmanager holds as active."""
    found = ask(f"{alertmanager}/api/v2/alerts?active=true")
    return {a["labels"]["model_name"] for a in found if a["labels"]["alertname"] == alert}


def _family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)
