"""Sensors that tell people of failed runs and failed checks, one per channel, so that none waits for another.

Each sensor's cursor holds what its channel has delivered. It moves only after a delivery: if a channel cannot be
reached, the tick fails, the browser shows why, and the next tick sends everything again. A notification may therefore
come twice after a fault, and is never lost. Dagster reads the annotations of this module at run time, so they are not
postponed (no ``from __future__ import annotations``).
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Self

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from financial_assets.automation.latest_checks import latest_check
from financial_assets.monitoring.notifications import Notification
from financial_assets.resources import Notifications

CHANNELS = {"webhook": "NOTIFY_WEBHOOK_URL", "slack": "NOTIFY_SLACK_URL", "email": "NOTIFY_EMAIL_TO and SMTP_URL"}
"""Name of a channel -> the settings that turn it on."""

_ASSET_JOB = "__ASSET_JOB"  # of assets that are materialized by themselves
_MOST_RUNS = 100
"""Failed runs that one tick looks at, and ids that are remembered as told."""


@dataclass(frozen=True)
class _Told:
    """What a channel has delivered.

    Attributes
    ----------
    since
        Runs that failed before this UTC instant are over and done with.
    runs
        Ids of the latest failed runs that were told: tags that are added to a run later change its time.
    checks
        Checks that were told to have failed, and not yet to pass again.
    """

    since: datetime
    runs: tuple[str, ...] = ()
    checks: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def read(cls, cursor: str | None) -> Self:
        """From a cursor; a sensor that was just switched on begins now, because old failures are no news."""
        if not cursor:
            return cls(datetime.now(UTC))
        content = json.loads(cursor)
        return cls(datetime.fromisoformat(content["since"]), tuple(content["runs"]), frozenset(content["checks"]))

    def write(self) -> str:
        """As a cursor."""
        return json.dumps({"since": self.since.isoformat(), "runs": self.runs, "checks": sorted(self.checks)})


def make_notify_sensors(interval_s: int, configured: Collection[str]) -> list[dg.SensorDefinition]:
    """The sensors ``notify_webhook``, ``notify_slack`` and ``notify_email``; those of ``configured`` channels run.

    Parameters
    ----------
    interval_s
        Least seconds between two ticks.
    configured
        Names of the channels that the settings turn on.
    """
    return [_make_sensor(name, interval_s, name in configured) for name in CHANNELS]


def _make_sensor(channel: str, interval_s: int, is_on: bool) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"notify_{channel}",
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED,
        description=f"Tells of failed runs and of checks that fail as an error or pass again ({CHANNELS[channel]}).",
    )
    def notify(context: dg.SensorEvaluationContext, notifications: Notifications) -> dg.SensorResult | dg.SkipReason:
        """A channel that does not deliver fails the tick: silence must not look like peace."""
        sender = notifications.channels().get(channel)
        if sender is None:
            return dg.SkipReason(f"set {CHANNELS[channel]}: nobody is told of anything here")
        told = _Told.read(context.cursor)
        about_runs, told = _failed_runs(context, told, notifications.dagster_ui_url)
        about_checks, told = _changed_checks(context, told, notifications.dagster_ui_url)
        news = [*about_runs, *about_checks]
        if news:
            sender.send(news)
        said = "; ".join(each.title for each in news) if news else "nothing has failed since the last tick"
        return dg.SensorResult(skip_reason=said, cursor=told.write())

    return notify


def _failed_runs(
    context: dg.SensorEvaluationContext, told: _Told, page: str | None
) -> tuple[list[Notification], _Told]:
    """What to say of runs that failed since, oldest first, and what is told then."""
    records = context.instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=told.since),
        limit=_MOST_RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    assert context.repository_def is not None
    ours = {*context.repository_def.job_names, _ASSET_JOB}
    fresh = [each for each in records if each.dagster_run.run_id not in told.runs and each.dagster_run.job_name in ours]
    news = [_about_run(context.instance, each.dagster_run, page) for each in fresh]
    runs = (*told.runs, *(each.dagster_run.run_id for each in fresh))[-_MOST_RUNS:]
    # Dagster's storage gives times without a zone, in UTC.
    since = records[-1].update_timestamp.replace(tzinfo=UTC) if records else told.since
    return news, replace(told, since=since, runs=runs)


def _about_run(instance: dg.DagsterInstance, run: dg.DagsterRun, page: str | None) -> Notification:
    what = "materialization of single assets" if run.job_name == _ASSET_JOB else f"job {run.job_name}"
    session = run.tags.get("session")
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    reasons: list[str] = []
    for entry in failures:
        event = entry.dagster_event
        if event is not None and event.step_failure_data.error is not None:
            reasons.append(f"{event.step_key}: {_innermost(event.step_failure_data.error)}")
    # A step that is told of an upstream failure repeats it; the first one is the cause.
    text = reasons[0] if reasons else "It ended before any of its steps: see the run's log."
    if len(reasons) > 1:
        text += f"\n{len(reasons) - 1} more of its steps failed."
    link = None if page is None else f"{page.rstrip('/')}/runs/{run.run_id}"
    title = f"failed: {what}{f', session {session}' if session else ''} (run {run.run_id[:8]})"
    return Notification(title, text, link=link)


def _innermost(error: SerializableErrorInfo) -> str:
    """The message of the first cause, without its traceback."""
    while error.cause is not None:
        error = error.cause
    return error.message.strip()


def _changed_checks(
    context: dg.SensorEvaluationContext, told: _Told, page: str | None
) -> tuple[list[Notification], _Told]:
    """What to say of checks that have begun to fail as an error, or pass again, and what is told then."""
    assert context.repository_def is not None
    failing, news = set(told.checks), list[Notification]()
    for key in sorted(context.repository_def.asset_graph.asset_check_keys, key=_check_name):
        evaluation = latest_check(context.instance, key)
        if evaluation is None:
            continue
        name = _check_name(key)
        is_failed = not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
        if is_failed == (name in failing):
            continue
        link = None if page is None else f"{page.rstrip('/')}/assets/{'/'.join(key.asset_key.path)}?view=checks"
        text = evaluation.description or "See the check in the browser."
        title = f"failed check: {name}" if is_failed else f"passes again: {name}"
        news.append(Notification(title, text, resolved=not is_failed, link=link))
        (failing.add if is_failed else failing.discard)(name)
    return news, replace(told, checks=frozenset(failing))


def _check_name(key: dg.AssetCheckKey) -> str:
    return f"{key.name} of {key.asset_key.to_user_string()}"
