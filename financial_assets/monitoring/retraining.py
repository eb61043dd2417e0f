"""When to train again: alerts and drift in, at most one request out. Pure: what happened before is an argument.

An *episode* is one served model that has degraded, whoever noticed it and however often. It is answered once; only an
attempt that failed is repeated. Retraining costs the challenger its evidence, so the rules err on the quiet side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.monitoring.incidents import PastRun, Source, Trigger, episode_of

__all__ = ["KNOWN_CAUSES", "Request", "RetrainingDecision", "RetrainingPolicy", "Skipped", "decide", "superseded_by"]

KNOWN_CAUSES: Mapping[Source, frozenset[str]] = {
    "alert": frozenset({"ModelAccuracyDegraded"}),
    "drift": frozenset({"loss_drift", "feature_drift"}),
}
"""What a model can be retrained for. Slow answers or lost requests, say, no training mends."""

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class RetrainingPolicy:
    """How eager the sensors are.

    Attributes
    ----------
    cooldown
        Least time between the end of a retraining, of whatever episode, and the next request. One whose process was
        killed does not count: it cost no evidence, and ``max_attempts`` limits how often that may happen.
    max_attempts
        Attempts at one episode, failed and cancelled ones included.
    """

    cooldown: timedelta
    max_attempts: int


@dataclass(frozen=True)
class Request:
    """A retraining to launch.

    Attributes
    ----------
    episode, attempt
        What it answers, and for which time.
    variant
        What is trained.
    trigger
        The reason.
    """

    episode: str
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
    """One request or none; each trigger is the requested one or skipped.

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

    A trigger is considered if its cause is known and its model is an arm of ``epoch`` that gets requests and that no
    later version of its variant has joined. Nothing is requested while a retraining is under way or within the
    cool-down. The champion comes before the challenger; of several triggers of an episode the earliest stands for all.

    Parameters
    ----------
    triggers
        What is wrong now, in any order, repeated or not.
    epoch
        The weight epoch in force.
    history
        All retrainings asked for since the experiment began.
    now
        UTC instant.
    policy
        Limits.
    """
    skipped: list[Skipped] = []
    wanted: list[Request] = []
    for trigger in sorted(triggers, key=lambda trigger: _order(trigger, epoch)):
        reason = _not_considered(trigger, epoch) or _answered(trigger, history, now, policy)
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
    skipped += [Skipped(other.trigger, _behind(other, first)) for other in wanted[1:]]
    return RetrainingDecision(first, tuple(skipped))


def superseded_by(own: PastRun, history: Sequence[PastRun], now: datetime) -> str | None:
    """Why a run that has begun must not go on; ``None`` if it may.

    Two sensors that look at the same instant do not see each other's request, nor does a person. So each run looks
    again at its first step: it goes on only if no earlier one was still under way when it was asked for. Numbers order
    all runs, so of any two exactly one gives way.

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
            return f"retraining {run.run_id}, asked for before this one, is {run.status}"
        if own.episode is not None and run.episode == own.episode and run.status == "succeeded":
            return f"retraining {run.run_id} has answered {own.episode} already"
        # When a killed run ended is not known; that of its record is when somebody noticed.
        ended_meanwhile = run.ended_at is not None and run.ended_at > own.asked_at and not run.is_lost
        if own.episode is not None and ended_meanwhile:
            return f"retraining {run.run_id} was still under way when this one was asked for"
    return None


def _order(trigger: Trigger, epoch: WeightEpoch) -> tuple[bool, str, datetime, str, str]:
    is_champion = trigger.experiment == epoch.experiment and trigger.model == epoch.champion.model
    return (not is_champion, trigger.model, trigger.since, trigger.source, trigger.cause)


def _not_considered(trigger: Trigger, epoch: WeightEpoch) -> str | None:
    if trigger.cause not in KNOWN_CAUSES[trigger.source]:
        known = ", ".join(sorted(KNOWN_CAUSES[trigger.source]))
        return f"{trigger.source} {trigger.cause!r} is no reason to train again (these are: {known})"
    if trigger.experiment != epoch.experiment:
        return f"it is about the experiment {trigger.experiment!r}, not {epoch.experiment!r}"
    arm = _routed_arm(trigger, epoch)
    if arm is None:
        arms = ", ".join(model for model, weight in epoch.weights.items() if weight)
        return f"{trigger.model!r} gets no requests in weight epoch {epoch.number} (its arms: {arms})"
    later = [other for other in epoch.arms if other.variant == arm.variant and other.version > arm.version]
    if later:
        return f"{later[0].model} was trained after {arm.model} and takes part as {later[0].role} already"
    return None


def _routed_arm(trigger: Trigger, epoch: WeightEpoch) -> Arm | None:
    return epoch.arm(trigger.model) if epoch.weights.get(trigger.model, 0) > 0 else None


def _answered(trigger: Trigger, history: Sequence[PastRun], now: datetime, policy: RetrainingPolicy) -> str | None:
    """Why its episode is closed, whatever the time."""
    runs = [run for run in history if run.episode == episode_of(trigger)]
    succeeded = [run for run in runs if run.status == "succeeded"]
    if succeeded:
        return f"its episode was answered by retraining {succeeded[-1].run_id}; it is answered once"
    tried = max((run.attempt for run in runs if not run.is_under_way(now)), default=0)
    if tried >= policy.max_attempts:
        return (
            f"its episode was tried {tried} times in vain (RETRAIN_MAX_ATTEMPTS={policy.max_attempts}): see why the "
            "runs failed, then launch the job retrain by hand"
        )
    return None


def _request(trigger: Trigger, epoch: WeightEpoch, history: Sequence[PastRun]) -> Request:
    arm = _routed_arm(trigger, epoch)
    assert arm is not None
    episode = episode_of(trigger)
    tried = max((run.attempt for run in history if run.episode == episode), default=0)
    return Request(episode, tried + 1, arm.variant, trigger)


def _must_wait(history: Sequence[PastRun], now: datetime, policy: RetrainingPolicy) -> str | None:
    """Why nothing may be requested now, whatever the trigger."""
    busy = min((run for run in history if run.is_under_way(now)), key=lambda run: run.number, default=None)
    if busy is not None:
        return f"retraining {busy.run_id} is {busy.status}; one at a time"
    ended = max((run.latest_end for run in history if not run.is_lost), default=None)
    if ended is None or now >= ended + policy.cooldown:
        return None
    return (
        f"the last retraining ended at {ended:%Y-%m-%d %H:%M} UTC; the next may be asked for from "
        f"{ended + policy.cooldown:%Y-%m-%d %H:%M} UTC (RETRAIN_COOLDOWN_HOURS={policy.cooldown / _HOUR:g})"
    )


def _behind(other: Request, first: Request) -> str:
    if other.episode == first.episode:
        return f"{first.trigger.source} {first.trigger.cause} asks for the same episode, {first.episode}"
    return f"{first.trigger.model} comes first; one at a time"
