"""The layer of Dagster: runs whose process is gone are ended, and open and queued runs are counted."""

from __future__ import annotations

from collections import Counter
from contextlib import chdir
from pathlib import Path

from financial_assets.doctor.walk import Checked, LayerError
from financial_assets.installation.dagster_instance import instance_home, instance_places
from financial_assets.tracking import MlflowTracker, ModelVersion, owner_is_alive
from financial_assets.tracking.owners import describe_owner, owner_state

_SHOWN = 5
_LONGEST = 500
_REMEDY = (
    "correct dagster.yaml of that folder and the databases that it names, or set DAGSTER_HOME to another folder; an "
    "instance holds nothing but the history of runs, and a new one begins when its databases are moved away"
)


def check_dagster() -> Checked[None]:
    """The instance can be read; its dead runs are ended as FAILED, and none that cannot be judged is left open.

    Where no ``dagster.yaml`` is (see ``instance_home``) there is no instance, and nothing to examine.
    """
    home = instance_home()
    if home is None:
        return Checked(None, "no Dagster instance here: DAGSTER_HOME is not set, and this folder has no dagster.yaml")
    results = [_examine(home, place) for place in instance_places(home)]
    remedies = dict.fromkeys(result.remedy for result in results if result.remedy)
    return Checked(None, "; ".join(result.detail for result in results), "; ".join(remedies))


def _examine(home: Path, place: Path) -> Checked[None]:
    """The instance of ``home`` as runs that were started in the folder ``place`` have it."""
    import dagster as dg  # only where there is an instance

    from financial_assets.automation.dead_runs import end_dead_runs, open_runs

    try:
        with chdir(place), dg.DagsterInstance.from_config(str(home)) as instance:
            launcher = type(instance.run_launcher).__name__  # loaded on first use: in the daemon, if not here
            ended = end_dead_runs(instance)
            still_open = open_runs(instance)
            queued = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    except Exception as error:  # its databases, its configuration and its launcher share no base class
        reason = str(error).strip() or type(error).__name__
        raise LayerError(f"the instance of {home} cannot be read: {reason[:_LONGEST]}", _REMEDY) from error
    unknown = [record.dagster_run for record in still_open if owner_state(record.dagster_run.tags) == "unknown"]
    where = f"{home}" if place == home else f"{home}, kept in {place}"
    causes = Counter(run.cause for run in ended)
    facts = [f"instance of {where}: {launcher}, {len(still_open)} runs open, {queued} queued"]
    facts += [
        f"{count} {'run was' if count == 1 else 'runs were'} ended as failed: {cause}"
        for cause, count in causes.most_common(_SHOWN)
    ]
    facts += [f"run {run.run_id[:8]} of {run.job_name} has {describe_owner(run.tags)}" for run in unknown[:_SHOWN]]
    remedy = (
        "nothing if they are running; otherwise cancel them in the browser, or leave them to the daemon, which ends "
        "them when the time in their tag dagster/max_runtime is over"
    )
    return Checked(None, "; ".join(facts), remedy if unknown else "")


def end_tracked_runs(
    checked: Checked[tuple[ModelVersion, ...]], tracker: MlflowTracker
) -> Checked[tuple[ModelVersion, ...]]:
    """MLflow's layer, after its runs whose process is gone were ended as KILLED."""
    ended = tracker.end_stale(owner_is_alive)
    if not ended:
        return checked
    detail = f"{checked.detail}; {ended} runs whose process no longer exists were ended as KILLED"
    return Checked(checked.value, detail, checked.remedy)
