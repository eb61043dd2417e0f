"""Runs of Dagster as metrics, and where an instance keeps the record of its runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import chdir
from datetime import datetime, timedelta
from pathlib import Path

import yaml
from prometheus_client.core import Metric

from financial_assets.errors import NotMadeYetError, OrchestrationError
from financial_assets.monitoring.families import gauge

LOOK_BACK = timedelta(days=30)
MOST_RUNS = 1000
"""Runs that are read; a sensor that fails in a loop must not make scrapes slow."""

_JOB = ("job_name",)
_SINGLE = "__ASSET_JOB"
"""Dagster's name for the materialization of chosen assets."""
_LONGEST = 300


def instance_home() -> Path | None:
    """Where `financial-assets run` looks: ``DAGSTER_HOME``, or the current folder; ``None`` without dagster.yaml."""
    home = Path(os.environ.get("DAGSTER_HOME") or Path.cwd())
    return home if (home / "dagster.yaml").is_file() else None


def instance_places(home: Path) -> list[Path]:
    """Folders in which runs have left their record.

    Dagster resolves a relative ``base_dir`` from the current folder of each process, not from ``DAGSTER_HOME``. Runs
    started elsewhere would not be seen, and opening the instance would create another, empty one here.
    """
    base = _sqlite_folder(home)
    if base is None or Path(base).is_absolute():
        return [home]
    places = dict.fromkeys((Path.cwd(), home.resolve()))
    return [place for place in places if (place / base).is_dir()] or [home]


def _sqlite_folder(home: Path) -> str | None:
    """Where an instance that keeps its runs in SQLite has its files, as its configuration says it."""
    try:
        base = yaml.safe_load((home / "dagster.yaml").read_text())["storage"]["sqlite"]["base_dir"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None  # another database, or a damaged file, of which Dagster itself says what is wrong
    return base if isinstance(base, str) else None


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
    base, places = _sqlite_folder(home), instance_places(home)
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
