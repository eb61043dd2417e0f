"""When to retrain: alerts and drift in, at most one request out. Pure functions: the history is an argument.

An *incident* is one served model that has degraded, however many alerts report it. It triggers one retraining; only a
failed attempt is repeated. Retraining restarts the challenger's evidence, so in doubt nothing is requested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.monitoring.incidents import PastRun, Source, Trigger, incident_of

KNOWN_CAUSES: Mapping[Source, frozenset[str]] = {
    "alert": frozenset({"ModelAccuracyDegraded"}),
    "drift": frozenset({"loss_drift", "feature_drift"}),
}
"""Causes that retraining can fix. Slow answers or lost requests are not among them."""

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class RetrainingPolicy:
    """How eager the sensors are.

    Attributes
    ----------
    cooldown
        Least time between the end of a retraining, of whichever incident, and the next request. One whose process was
        killed does not count: it cost no evidence, and ``max_attempts`` limits how often that may happen.
    max_attempts
        Attempts per incident, failed and cancelled ones included.
    variants
        Those that can be trained; ``None``: all.
    """

    cooldown: timedelta
    max_attempts: int
    variants: frozenset[str] | None = None


@dataclass(frozen=True)
class Request:
    """A retraining to launch.

    Attributes
    ----------
    incident, attempt
        What it answers, and the how many-th attempt it is.
    variant
        What is trained.
    trigger
        The reason.
    """

    incident: str
    attempt: int
    variant: str
    trigger: Trigger


@dataclass(frozen=True)
class Skipped:
    """A trigger that leads to nothing now."""

    trigger: Trigger
    reason: str


@dataclass(frozen=True)
class RetrainingDecision:
    """At most one request; every other trigger is skipped, with a reason.

    Attributes
    ----------
    request
        What to launch.
    skipped
        The other triggers, with the reason.
    """

    request: Request | None
    skipped: tuple[Skipped, ...]


def decide(
    triggers: Sequence[Trigger],
    epoch: WeightEpoch,
    history: Sequence[PastRun],
    now: datetime,
    policy: RetrainingPolicy,
) -> RetrainingDecision:
    """What to retrain now.

    A trigger is considered if its cause is known and its model is an arm of ``epoch`` that gets requests, whose variant
    can be trained, and that no later version of it has joined. Nothing is requested while a retraining is under way or
    within the cool-down. The champion comes before the challenger; of several triggers of an incident the earliest
    represents all.

    Parameters
    ----------
    triggers
        What is wrong now, in any order, repeated or not.
    epoch
        The current weight epoch.
    history
        All retrainings requested since the experiment began.
    now
        UTC instant.
    policy
        Limits.
    """
    skipped: list[Skipped] = []
    wanted: list[Request] = []
    for trigger in sorted(triggers, key=lambda trigger: _order(trigger, epoch)):
        reason = _not_considered(trigger, epoch, policy) or _answered(trigger, history, now, policy)
        if reason is not None:
            skipped.append(Skipped(trigger, reason))
        else:
            wanted.append(_request(trigger, epoch, history))
    if not wanted:
        return RetrainingDecision(None, tuple(skipped))
    waiting = _must_wait(history, now, policy)
    if waiting is not None:
        return RetrainingDecision(None, (*skipped, *(Skipped(request.trigger, waiting) for request in wanted)))
    first = wanted[0]
    for other in wanted[1:]:
        same = f"{first.trigger.source} {first.trigger.cause} reports the same incident, {first.incident}"
        reason = same if other.incident == first.incident else f"{first.trigger.model} comes first; one at a time"
        skipped.append(Skipped(other.trigger, reason))
    return RetrainingDecision(first, tuple(skipped))


def superseded_by(own: PastRun, history: Sequence[PastRun], now: datetime) -> str | None:
    """Which retraining makes this one, which has begun, unnecessary, in words; ``None`` if it may continue.

    Two sensors that tick at the same instant do not see each other's request, nor does a person. So each run checks
    again at its first step: it continues only if no earlier one was still under way when it was requested. Numbers
    order all runs, so of any two exactly one is superseded.

    Parameters
    ----------
    own
        The run itself.
    history
        All retrainings, with or without ``own``.
    now
        UTC instant.
    """
    for run in history:
        if run.number >= own.number:
            continue
        if run.is_under_way(now):
            return f"retraining {run.run_id}, requested before this one, is {run.status}"
        if own.incident is not None and run.incident == own.incident and run.status == "succeeded":
            return f"retraining {run.run_id} has already answered {own.incident}"
        # The record of a killed run says when somebody noticed its death, not when it ended.
        ended_meanwhile = run.ended_at is not None and run.ended_at > own.asked_at and not run.is_lost
        if own.incident is not None and ended_meanwhile:
            return f"retraining {run.run_id} was still under way when this one was requested"
    return None


def _order(trigger: Trigger, epoch: WeightEpoch) -> tuple[bool, str, datetime, str, str]:
    is_champion = trigger.experiment == epoch.experiment and trigger.model == epoch.champion.model
    return (not is_champion, trigger.model, trigger.since, trigger.source, trigger.cause)


def _not_considered(trigger: Trigger, epoch: WeightEpoch, policy: RetrainingPolicy) -> str | None:
    if trigger.cause not in KNOWN_CAUSES[trigger.source]:
        causes = ", ".join(sorted(KNOWN_CAUSES[trigger.source]))
        return f"{trigger.source} {trigger.cause!r} is not a reason to retrain (these are: {causes})"
    if trigger.experiment != epoch.experiment:
        return f"it concerns the experiment {trigger.experiment!r}, not {epoch.experiment!r}"
    arm = _routed_arm(trigger, epoch)
    if arm is None:
        arms = ", ".join(model for model, weight in epoch.weights.items() if weight)
        return f"{trigger.model!r} gets no requests in weight epoch {epoch.number} (its arms: {arms})"
    if policy.variants is not None and arm.variant not in policy.variants:
        return f"{arm.model} cannot be trained again: VARIANTS does not name {arm.variant}"
    later = [other for other in epoch.arms if other.variant == arm.variant and other.version > arm.version]
    if later:
        return f"{later[0].model} was trained after {arm.model} and already takes part as {later[0].role}"
    return None


def _routed_arm(trigger: Trigger, epoch: WeightEpoch) -> Arm | None:
    return epoch.arm(trigger.model) if epoch.weights.get(trigger.model, 0) > 0 else None


def _answered(trigger: Trigger, history: Sequence[PastRun], now: datetime, policy: RetrainingPolicy) -> str | None:
    """Why its incident is closed, at whatever time."""
    runs = [run for run in history if run.incident == incident_of(trigger)]
    succeeded = [run for run in runs if run.status == "succeeded"]
    if succeeded:
        return f"its incident was answered by retraining {succeeded[-1].run_id}; an incident is answered once"
    attempts = max((run.attempt for run in runs if not run.is_under_way(now)), default=0)
    if attempts >= policy.max_attempts:
        return (
            f"all {attempts} attempts at its incident failed (RETRAIN_MAX_ATTEMPTS={policy.max_attempts}): see why the "
            "runs failed, then launch the job retrain by hand"
        )
    return None


def _request(trigger: Trigger, epoch: WeightEpoch, history: Sequence[PastRun]) -> Request:
    arm = _routed_arm(trigger, epoch)
    assert arm is not None
    incident = incident_of(trigger)
    attempts = max((run.attempt for run in history if run.incident == incident), default=0)
    return Request(incident, attempts + 1, arm.variant, trigger)


def _must_wait(history: Sequence[PastRun], now: datetime, policy: RetrainingPolicy) -> str | None:
    """Why nothing may be requested now, for any trigger."""
    busy = min((run for run in history if run.is_under_way(now)), key=lambda run: run.number, default=None)
    if busy is not None:
        return f"retraining {busy.run_id} is {busy.status}; one at a time"
    # An end that lies further ahead than a cool-down was noted by a clock that has been put right since: it would keep
    # everybody waiting for as long as that clock was wrong.
    ends = (run.latest_end for run in history if not run.is_lost)
    ended = max((end for end in ends if end - now <= policy.cooldown), default=None)
    if ended is None or now >= ended + policy.cooldown:
        return None
    return (
        f"the last retraining ended at {ended:%Y-%m-%d %H:%M} UTC; the next may be requested from "
        f"{ended + policy.cooldown:%Y-%m-%d %H:%M} UTC (RETRAIN_COOLDOWN_HOURS={policy.cooldown / _HOUR:g})"
    )
