"""Earlier retrainings: run requests and past runs of the job, linked by the tags that they carry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from financial_assets.errors import MonitoringError
from financial_assets.monitoring import retraining
from financial_assets.monitoring.incidents import PastRun, RunState
from financial_assets.monitoring.retraining import Request
from financial_assets.tracking import owner_is_alive
from financial_assets.tracking.owners import OWNER_LOST

RETRAIN = "retrain"
"""Name of the job, whoever launches it."""

# Runs of earlier releases carry these tags too: their names never change.
_INCIDENT_TAG, _ATTEMPT_TAG, _EXPERIMENT_TAG = f"{RETRAIN}/episode", f"{RETRAIN}/attempt", f"{RETRAIN}/life"
_STATUS: Mapping[dg.DagsterRunStatus, RunState] = {
    dg.DagsterRunStatus.QUEUED: "queued",
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "failed",
}
"""All other statuses count as running: the run has begun, or is about to."""


def request_tags(request: Request, experiment_started_at: str) -> dict[str, str]:
    """Tags of the run that a retraining request launches; ``past_runs`` reads them.

    Parameters
    ----------
    request
        What is asked for.
    experiment_started_at
        Tells experiments apart: after a restart in an empty state folder, models have the same names again.
    """
    trigger = request.trigger
    return {
        _INCIDENT_TAG: request.incident,
        _ATTEMPT_TAG: str(request.attempt),
        _EXPERIMENT_TAG: experiment_started_at,
        f"{RETRAIN}/variant": request.variant,
        f"{RETRAIN}/model": trigger.model,
        f"{RETRAIN}/cause": trigger.cause,
        f"{RETRAIN}/source": trigger.source,
        f"{RETRAIN}/since": trigger.since.isoformat(),
    }


def past_runs(instance: dg.DagsterInstance, experiment_started_at: str | None) -> tuple[PastRun, ...]:
    """All runs of the job ``retrain`` in the order in which they were requested, by sensors and by hand.

    Parameters
    ----------
    instance
        The Dagster instance that holds the runs.
    experiment_started_at
        See ``request_tags``. Runs of another experiment block others like runs launched by hand, but resolve no
        incident.

    Raises
    ------
    MonitoringError
        A run's attempt is not a number.
    """
    records = sorted(instance.get_run_records(dg.RunsFilter(job_name=RETRAIN)), key=lambda record: record.storage_id)
    return tuple(_past_run(record, experiment_started_at) for record in records)


def superseded_by(instance: dg.DagsterInstance, run_id: str, now: datetime) -> str | None:
    """Why the retraining that this process executes must stop; see ``monitoring.retraining.superseded_by``.

    Runs whose process was killed block nobody. Runs whose process cannot be identified, because it is on another host
    or left no name, count as alive until ``LONGEST_RUN`` has passed.

    Raises
    ------
    MonitoringError
        The instance does not hold the run.
    """
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        raise MonitoringError(f"run {run_id} is not in the instance that executes it")
    experiment_started_at = record.dagster_run.tags.get(_EXPERIMENT_TAG)
    this_run = _past_run(record, experiment_started_at)
    return retraining.superseded_by(this_run, past_runs(instance, experiment_started_at), now)


def _past_run(record: dg.RunRecord, experiment_started_at: str | None) -> PastRun:
    run = record.dagster_run
    attempt = run.tags.get(_ATTEMPT_TAG, "1")
    if not attempt.isdecimal():
        raise MonitoringError(f"run {run.run_id} has the tag {_ATTEMPT_TAG}={attempt!r}: delete the run in Dagster")
    status = _STATUS.get(run.status, "running")
    is_lost = OWNER_LOST in run.tags or (status == "running" and not owner_is_alive(run.tags))
    if is_lost:
        status = "failed"
    started = _instant(record.start_time)
    if started is None and status == "running":  # taken from the queue, but its process has not reported yet
        started = record.update_timestamp.astimezone(UTC)
    return PastRun(
        run_id=run.run_id,
        number=record.storage_id,
        incident=run.tags.get(_INCIDENT_TAG) if run.tags.get(_EXPERIMENT_TAG) == experiment_started_at else None,
        attempt=int(attempt),
        status=status,
        asked_at=record.create_timestamp.astimezone(UTC),
        started_at=started,
        ended_at=_instant(record.end_time),
        is_lost=is_lost,
    )


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
