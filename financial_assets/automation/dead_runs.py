"""Ends Dagster runs whose process is gone, so that they block neither the queue nor a pool.

Dagster learns of the end of a run from the run itself. A killed process, or a machine that loses power, leaves its run
open for ever, and `max_concurrent_runs` counts it. So each run names its process (``claim``), and everybody who looks
at runs (the next run, a sensor, the daemon's run monitoring, the doctor) ends those whose process no longer exists.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from financial_assets.errors import OrchestrationError, TrackingError
from financial_assets.locking import exclusive
from financial_assets.tracking import MlflowTracker, owner_is_alive
from financial_assets.tracking.owners import OWNER_LOST, OWNER_PID, describe_owner, owner_state, owner_tags

_OPEN = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_BEFORE_START = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_LOCK_TIMEOUT_S = 120.0
SWEEP_INTERVAL_S = 10.0
"""A run that waits for a pool slot looks this often whether the slot's holder has died."""


@dataclass(frozen=True)
class EndedRun:
    """A run that was ended as FAILED: its id, its job, and why."""

    run_id: str
    job: str
    cause: str


def claim(instance: dg.DagsterInstance, run_id: str) -> None:
    """Record this process as the owner of the run that it executes.

    Raises
    ------
    OrchestrationError
        The run was ended meanwhile: its launcher died before this process took over.
    """
    with _alone(instance):
        instance.add_run_tags(run_id, owner_tags())
        run = instance.get_run_by_id(run_id)
    if run is not None and run.status in _FINISHED:
        raise OrchestrationError(f"run {run_id} was ended before its process began: launch it again")


def open_runs(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """Runs that have begun, or are about to, and have not ended, the oldest first; queued runs are not among them."""
    records = instance.get_run_records(dg.RunsFilter(statuses=list(_OPEN)))
    return sorted(records, key=lambda record: record.storage_id)


def _cause_of_death(instance: dg.DagsterInstance, record: dg.RunRecord) -> str | None:
    """Why an open run cannot continue; ``None`` if it may, or if that cannot be known from this host."""
    run = record.dagster_run
    state = owner_state(run.tags)
    if state == "gone":
        return f"its {describe_owner(run.tags)} no longer exists (killed, out of memory, or power cut)"
    if OWNER_PID not in run.tags and (run.status in _BEFORE_START or _has_no_step(instance, run)):
        waited = datetime.now(UTC) - record.update_timestamp.astimezone(UTC)
        allowed = instance.run_monitoring_start_timeout_seconds
        if waited.total_seconds() > allowed:
            return f"it was launched and never began: its launcher is gone (waited {allowed} s)"
    return None


def _has_no_step(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run has started without reaching a step: it was killed before it recorded its owner."""
    if run.status is not dg.DagsterRunStatus.STARTED:
        return False
    return not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)


def end_dead_runs(instance: dg.DagsterInstance) -> tuple[EndedRun, ...]:
    """End as FAILED, with the reason, each open run whose process is gone, and free the pool slots that it held.

    Runs of another host, and runs without an owner, are left alone: `dagster/max_runtime` ends those.

    Returns
    -------
    tuple[EndedRun, ...]
        The runs that this call ended.
    """
    suspects = [record.dagster_run.run_id for record in open_runs(instance) if _cause_of_death(instance, record)]
    if not suspects:
        return ()
    # Another sweep may judge the same runs, or a run's own process may be about to claim it: judge again under the
    # lock.
    with _alone(instance):
        ended = [_end(instance, run_id) for run_id in suspects]
    return tuple(run for run in ended if run is not None)


def end_dead_tracked_runs(tracker: MlflowTracker, say: Callable[[str], None]) -> bool:
    """End as KILLED the MLflow runs whose process is gone, and report them to ``say``.

    A tracking server that cannot be reached is reported too and stops nothing: an asset that needs it fails by itself.

    Returns
    -------
    bool
        Whether the tracker could be reached.
    """
    try:
        ended = tracker.end_stale(owner_is_alive)
    except TrackingError as error:
        say(f"the search for MLflow runs of dead processes failed: {error}")
        return False
    if ended:
        say(f"{ended} MLflow runs whose process no longer exists were ended as KILLED")
    return True


@contextmanager
def sweeping(instance: dg.DagsterInstance, say: Callable[[str], None]) -> Generator[None, None, None]:
    """End dead runs on entry, and then every few seconds while the block lasts.

    A run may wait in the block for a pool slot; if the slot's holder dies, nobody else frees it.

    Parameters
    ----------
    instance
        Whose runs.
    say
        Gets a sentence for each run that is ended and for a sweep that failed, also from another thread.
    """
    sweep(instance, say)
    if instance.is_ephemeral:  # its runs live in this process alone
        yield
        return
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(SWEEP_INTERVAL_S):
            try:
                sweep(instance, say)
            except Exception as error:  # the run itself goes on; databases raise what they like
                say(f"the search for dead runs failed: {type(error).__name__}: {error}")

    sweeper = threading.Thread(target=repeat, name="dead-runs", daemon=True)
    sweeper.start()
    try:
        yield
    finally:
        over.set()
        sweeper.join()


def sweep(instance: dg.DagsterInstance, say: Callable[[str], None]) -> None:
    """End dead runs, see :func:`end_dead_runs`; ``say`` gets a sentence for each."""
    for run in end_dead_runs(instance):
        say(f"run {run.run_id} of {run.job} was ended as failed: {run.cause}")


def _end(instance: dg.DagsterInstance, run_id: str) -> EndedRun | None:
    record = instance.get_run_record_by_id(run_id)
    if record is None or record.dagster_run.status not in _OPEN:
        return None
    cause = _cause_of_death(instance, record)
    if cause is None:
        return None
    run = record.dagster_run
    # Failed last: if this process dies in between, the next sweep finds the run open and repeats all steps.
    instance.add_run_tags(run_id, {OWNER_LOST: "true"})
    # Dagster frees the slots of a failed run only in its daemon, and only if told so.
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    instance.report_run_failed(run, f"The run was ended as failed: {cause}.")
    return EndedRun(run_id, run.job_name, cause)


def _alone(instance: dg.DagsterInstance) -> AbstractContextManager[None]:
    """Exclude other sweeps and claims of this host, the only ones that can judge the same runs."""
    return exclusive(
        Path(instance.storage_directory()) / "dead-runs.lock",
        _LOCK_TIMEOUT_S,
        error=OrchestrationError,
        purpose="ending runs whose process is gone",
        remedy="`fuser` names its process: end that process",
    )
