"""Runs of Dagster as metrics: how long they take, and how they end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import chdir
from datetime import datetime, timedelta
from pathlib import Path

from prometheus_client.core import Metric

from financial_assets.errors import NotMadeYetError, OrchestrationError
from financial_assets.installation.dagster_instance import instance_home, instance_places, sqlite_folder
from financial_assets.monitoring.families import gauge

LOOK_BACK = timedelta(days=30)
MOST_RUNS = 1000
"""Runs that are read; a sensor that fails in a loop must not make scrapes slow."""

_JOB = ("job_name",)
_SINGLE = "__ASSET_JOB"
"""Dagster's name for the materialization of chosen assets."""
_LONGEST = 300


def run_metrics(now: datetime) -> Iterator[Metric]:
    """Durations and endings of the runs of the last 30 days, by job.

    Parameters
    ----------
    now
        The current instant, with its time zone.

    Raises
    ------
    NotMadeYetError
        There is no instance here, or nothing was run by it.
    OrchestrationError
        The instance cannot be read.
    """
    home = instance_home()
    if home is None:
        raise NotMadeYetError("DAGSTER_HOME is not set, and this folder has no dagster.yaml")
    base, places = sqlite_folder(home), instance_places(home)
    # Dagster would make what it does not find, and reading must not.
    if base is not None and not any((place / base).is_dir() for place in places):
        raise NotMadeYetError(f"the Dagster instance of {home} has not run anything")
    runs = sorted(_runs(home, now - LOOK_BACK), key=lambda run: run.ended or 0)
    counts: dict[tuple[str, ...], float] = {}
    for run in runs:
        # Every series of a job exists from its first run on at 0: the first failure must count as an increase.
        for status in ("succeeded", "failed", "canceled", "open"):
            counts.setdefault((run.job, status), 0)
        counts[run.job, run.status] += 1
    days = f"the last {LOOK_BACK.days} days"
    yield gauge("financial_assets_runs", f"Runs of Dagster begun in {days}, by state", counts, (*_JOB, "status"))
    ended = {(run.job,): run.seconds for run in runs if run.status == "succeeded" and run.seconds is not None}
    meaning = f"Duration of the latest successful run of {days}"
    yield gauge("financial_assets_run_duration_seconds", meaning, ended, _JOB)
    for name, status in (("success", "succeeded"), ("failure", "failed")):
        latest = {(run.job,): run.ended for run in runs if run.status == status and run.ended is not None}
        meaning = f"When the latest run of {days} that {status} has ended"
        yield gauge(f"financial_assets_run_last_{name}_timestamp_seconds", meaning, latest, _JOB)


class _Run:
    def __init__(self, job: str, status: str, started: float | None, ended: float | None) -> None:
        self.job = "single assets" if job.startswith(_SINGLE) else job
        self.status, self.ended = status, ended
        self.seconds = None if started is None or ended is None else ended - started


def _runs(home: Path, since: datetime) -> Sequence[_Run]:
    import dagster as dg  # seconds; only where there is an instance

    words = {
        dg.DagsterRunStatus.SUCCESS: "succeeded",
        dg.DagsterRunStatus.FAILURE: "failed",
        dg.DagsterRunStatus.CANCELED: "canceled",
    }
    found: list[_Run] = []
    for place in instance_places(home):
        try:
            with chdir(place), dg.DagsterInstance.from_config(str(home)) as instance:
                records = instance.get_run_records(dg.RunsFilter(created_after=since), limit=MOST_RUNS)
        except Exception as error:  # its databases and its configuration share no base class
            reason = str(error).strip() or type(error).__name__
            raise OrchestrationError(f"the Dagster instance of {home} cannot be read: {reason[:_LONGEST]}") from error
        found += [
            _Run(
                record.dagster_run.job_name,
                words.get(record.dagster_run.status, "open"),
                record.start_time,
                record.end_time,
            )
            for record in records
        ]
    return found
