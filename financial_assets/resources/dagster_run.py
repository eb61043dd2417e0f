"""The Dagster run that a resource is made for, as trading days know it: its name, its process, and who has ended."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg
import psutil

from financial_assets.market.days import TradingRun
from financial_assets.tracking import owner_is_alive
from financial_assets.tracking.owners import OWNER_PID, OWNER_STARTED, owner_tags


def run_of(context: dg.InitResourceContext) -> TradingRun | None:
    """The run, ``None`` outside of one, e.g. in a sensor or a command."""
    run, instance = context.run, context.instance
    if run is None or instance is None:
        return None
    return TradingRun(
        name=run.run_id,
        parent=run.parent_run_id,
        owner=lambda: _owner(instance, run.run_id),
        has_ended=lambda name: _has_ended(instance.get_run_by_id(name)),
    )


def _owner(instance: dg.DagsterInstance, run_id: str) -> Mapping[str, str]:
    """Tags of the process that executes the run: steps may be processes of their own, which end before it.

    The executor says in its first event which process it is. Empty where it does not, e.g. in a cluster: the record of
    the run then decides alone.
    """
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        data = entry.dagster_event and entry.dagster_event.engine_event_data
        pid = data.metadata.get("pid") if data else None
        if pid is None or not str(pid.value).isdecimal():
            continue
        try:
            started = psutil.Process(int(str(pid.value))).create_time()
        except psutil.NoSuchProcess:
            continue
        return owner_tags() | {OWNER_PID: str(pid.value), OWNER_STARTED: f"{started:.2f}"}
    return {}


def _has_ended(run: dg.DagsterRun | None) -> bool:
    return run is not None and (run.is_finished or not owner_is_alive(run.tags))
