"""For ``test_killed_daemon``: a file ``ask-<key>`` asks a sensor for one run, which waits for the file ``go-<key>``."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from financial_assets.automation.executor import make_owning_executor
from financial_assets.tracking import MlflowTracker

HERE = Path(os.environ["KILLED_DAEMON_WORLD"])
tracker = MlflowTracker(f"sqlite:///{HERE / 'mlflow.db'}", "experiment", HERE / "mlartifacts")


@dg.op
def work(context: dg.OpExecutionContext) -> None:
    key = context.run.tags["key"]
    (HERE / f"begun-{key}").touch()
    while not (HERE / f"go-{key}").exists():
        time.sleep(0.05)
    with (HERE / "done").open("a") as done:
        done.write(f"{key}\n")


@dg.job(executor_def=make_owning_executor(lambda: tracker), tags={"daily/lane": "single"})
def job() -> None:
    work()


@dg.sensor(job=job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def ask() -> Iterator[dg.RunRequest]:
    for path in sorted(HERE.glob("ask-*")):
        key = path.name.removeprefix("ask-")
        yield dg.RunRequest(run_key=key, tags={"key": key}, run_config={"execution": {"config": {"in_process": {}}}})


defs = dg.Definitions(jobs=[job], sensors=[ask])
