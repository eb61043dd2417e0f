"""Which retrainings were asked for before: run requests and past runs of the job, by the tags that they carry."""

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

__all__ = ["RETRAIN", "past_runs", "request_tags", "superseded_by"]

RETRAIN = "retrain"
"""Name of the job, whoever launches it."""

_EPISODE, _ATTEMPT, _LIFE = f"{RETRAIN}/episode", f"{RETRAIN}/attempt", f"{RETRAIN}/life"
_STATUS: Mapping[dg.DagsterRunStatus, RunState] = {
    dg.DagsterRunStatus.QUEUED: "queued",
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "failed",
}
"""All others have begun, or are about to."""


def request_tags(request: Request, life: str) -> dict[str, str]:
    """Tags of the run that answers ``request``; ``past_runs`` reads them.

    Parameters
    ----------
    request
        What is asked for.
    life
        When the experiment began: a state folder that was begun again has models of the same names.
    """
    trigger = request.trigger
    return {
        _EPISODE: request.episode,
        _ATTEMPT: str(request.attempt),
        _LIFE: life,
        f"{RETRAIN}/variant": request.variant,
        f"{RETRAIN}/model": trigger.model,
        f"{RETRAIN}/cause": trigger.cause,
        f"{RETRAIN}/source": trigger.source,
        f"{RETRAIN}/since": trigger.since.isoformat(),
    }


def past_runs(instance: dg.DagsterInstance, life: str | None) -> tuple[PastRun, ...]:
    """All runs of the job ``retrain`` in the order in which they were asked for, by sensors and by hand.

    Parameters
    ----------
    instance
        Whose.
    life
        See ``request_tags``. Runs of another life are in the way like those launched by hand, but close no episode.

    Raises
    ------
    MonitoringError
        A run carries an attempt that is no number.
    """
    records = instance.get_run_records(dg.RunsFilter(job_name=RETRAIN))
    return tuple(_past_run(record, life) for record in sorted(records, key=lambda record: record.storage_id))


def superseded_by(instance: dg.DagsterInstance, run_id: str, now: datetime) -> str | None:
    """Why the retraining that this process has begun must not go on; see ``monitoring.retraining.superseded_by``.

    Runs whose process was killed are in nobody's way. Those whose process cannot be known, because it is another host's
    or has left no name, are taken for alive until ``LONGEST_RUN`` is over.

    Raises
    ------
    MonitoringError
        The instance does not know the run.
    """
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        raise MonitoringError(f"run {run_id} is not in the instance that executes it")
    life = record.dagster_run.tags.get(_LIFE)
    return retraining.superseded_by(_past_run(record, life), past_runs(instance, life), now)


def _past_run(record: dg.RunRecord, life: str | None) -> PastRun:
    run = record.dagster_run
    attempt = run.tags.get(_ATTEMPT, "1")
    if not attempt.isdecimal():
        raise MonitoringError(f"run {run.run_id} has the tag {_ATTEMPT}={attempt!r}: delete the run in Dagster")
    status = _STATUS.get(run.status, "running")
    is_lost = OWNER_LOST in run.tags or (status == "running" and not owner_is_alive(run.tags))
    if is_lost:
        status = "failed"
    started = _instant(record.start_time)
    if started is None and status == "running":
        started = record.update_timestamp.astimezone(UTC)  # taken from the queue, its process not heard of yet
    return PastRun(
        run_id=run.run_id,
        number=record.storage_id,
        episode=run.tags.get(_EPISODE) if run.tags.get(_LIFE) == life else None,
        attempt=int(attempt),
        status=status,
        asked_at=record.create_timestamp.astimezone(UTC),
        started_at=started,
        ended_at=_instant(record.end_time),
        is_lost=is_lost,
    )


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
