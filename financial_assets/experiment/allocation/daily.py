"""One step of adaptive allocation per session: evidence and health in, weights and a record out.

Pure: the state is plain data, and everything that a step used is in its record, so that :func:`replay` makes the same
weights from the log bit for bit.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.allocators import Allocator
from financial_assets.experiment.allocation.limits import TOTAL, Limits
from financial_assets.experiment.allocation.record import AllocationRecord, Health, Memory


@dataclass(frozen=True, slots=True)
class AllocationPolicy:
    """What is agreed before the first step.

    Attributes
    ----------
    allocator
        Says what the arms deserve.
    default
        Weights ``[arm]`` at the start and in trouble, within the limits.
    limits
        What weights may be.
    stale_after
        Evidence that is more sessions behind than this is no longer acted on.
    """

    allocator: Allocator
    default: tuple[int, ...] = (70, 30)
    limits: Limits = field(default_factory=Limits)
    stale_after: int = 3

    def __post_init__(self) -> None:
        self.limits.check(self.default)
        if self.stale_after < 1:
            raise ExperimentError(f"allocation stale_after is {self.stale_after}; allowed: at least 1 session")


@dataclass(frozen=True, slots=True)
class AllocationState:
    """The state of allocation.

    Attributes
    ----------
    weights
        In force, percentage points ``[arm]``.
    memory
        The allocator's.
    session
        Newest session that a step was made for; ``None`` before the first.
    held
        Steps since the weights last changed.
    """

    weights: tuple[int, ...]
    memory: Memory
    session: dt.date | None = None
    held: int = 0

    @property
    def propensities(self) -> tuple[float, ...]:
        """Probability that a request is routed to each arm: what the log keeps beside every routed row."""
        return tuple(weight / TOTAL for weight in self.weights)


def start(policy: AllocationPolicy) -> AllocationState:
    """The state before the first session: default weights, and free to move at the first step."""
    return AllocationState(policy.default, policy.allocator.start(len(policy.default)), held=policy.limits.hold)


def advance(
    policy: AllocationPolicy,
    state: AllocationState,
    session: dt.date,
    scores: Sequence[float] | None,
    health: Health,
) -> tuple[AllocationState, AllocationRecord]:
    """One step.

    In trouble the weights are the default at once, whatever the step limit (they were agreed on as safe), and the day
    teaches nothing; afterwards they move on from there in steps. An arm that must get no request at all is the
    business of the rollout, not of an allocator.

    Parameters
    ----------
    policy, state
        What was agreed, and the state it is in.
    session
        Later than the state's.
    scores
        The session's score of each arm; ``None`` if it brought none (no trouble as long as it is not stale).
    health
        What the checks say.

    Raises
    ------
    ExperimentError
        For a session that is not later, or scores of another number of arms.
    """
    if state.session is not None and session <= state.session:
        raise ExperimentError(f"allocation was already made for {state.session}: {session} is not later")
    given = None if scores is None else tuple(map(float, scores))  # plain doubles, so that records can be compared
    if given is not None and len(given) != len(state.weights):
        raise ExperimentError(f"{len(given)} scores for {len(state.weights)} arms: give one a routed arm")
    trouble = _trouble(policy, given, health)
    if trouble is not None:
        after, memory, shares, reason = policy.default, state.memory, (), f"default weights: {trouble}"
    elif given is None:
        after, memory, shares, reason = state.weights, state.memory, (), "no evidence in this session"
    else:
        memory = policy.allocator.update(state.memory, given)
        shares = policy.allocator.shares(memory)
        after, reason = _move(policy, state, shares)
    held = 1 if after != state.weights else state.held + 1
    changed = replace(state, weights=after, memory=memory, session=session, held=held)
    record = AllocationRecord(
        session=session,
        scores=given or (),
        health=health,
        memory=memory,
        shares=shares,
        before=state.weights,
        after=after,
        propensities=changed.propensities,
        fallback=trouble is not None,
        reason=reason,
    )
    return changed, record


def replay(policy: AllocationPolicy, records: Sequence[AllocationRecord]) -> AllocationState:
    """The state after ``records``, made anew from their evidence.

    Raises
    ------
    ExperimentError
        At the first record that this policy would not have written: another policy, another version, or a changed log.
    """
    return _repeat(policy, start(policy), records)


def resume(policy: AllocationPolicy, latest: Sequence[AllocationRecord]) -> AllocationState | None:
    """The state after ``latest``, made from one of them; the steps that follow it are made anew as :func:`replay` does.

    A day's step need not repeat a year: each record holds memory and weights, so that only the newest ones have to be
    shown to be this policy's. ``None`` if they do not suffice: no evidence among those made anew, or too few.

    Parameters
    ----------
    policy
        What was agreed.
    latest
        The newest records, in order.

    Raises
    ------
    ExperimentError
        As :func:`replay`, for the records that are made anew.
    """
    hold = policy.limits.hold
    for place in range(len(latest) - 2, -1, -1):
        if not any(record.shares for record in latest[place + 1 :]):
            continue
        unchanged = next((n for n, one in enumerate(reversed(latest[: place + 1])) if one.after != one.before), None)
        if unchanged is None and place + 1 < hold:
            return None
        held = hold if unchanged is None else unchanged + 1
        record = latest[place]
        return _repeat(policy, AllocationState(record.after, record.memory, record.session, held), latest[place + 1 :])
    return None


def _repeat(policy: AllocationPolicy, state: AllocationState, records: Sequence[AllocationRecord]) -> AllocationState:
    for record in records:
        state, made = advance(policy, state, record.session, record.scores or None, record.health)
        if repr(made) != repr(record):  # repr: NaN equals itself, and doubles are written exactly
            raise ExperimentError(
                f"the allocation record of {record.session} cannot be reproduced: logged weights {record.after} "
                f"({record.reason}), made anew {made.after} ({made.reason}); was the policy changed under way?"
            )
    return state


def _move(policy: AllocationPolicy, state: AllocationState, shares: Sequence[float]) -> tuple[tuple[int, ...], str]:
    if state.held < policy.limits.hold:
        return state.weights, f"held: changed {state.held} of {policy.limits.hold} sessions ago"
    after = policy.limits.move(state.weights, shares)
    shown = "/".join(f"{share:.3f}" for share in shares)
    return after, f"{policy.allocator.name} would give {shown}" + (", weights stay" if after == state.weights else "")


def _trouble(policy: AllocationPolicy, scores: Sequence[float] | None, health: Health) -> str | None:
    if not health.guardrails_passed:
        return "a guardrail fired"
    if not health.srm_passed:
        return "the gateway's split does not agree with the weights (SRM)"
    if health.sessions_behind > policy.stale_after:
        return f"evidence is {health.sessions_behind} sessions behind, more than {policy.stale_after}"
    if scores is not None and not all(map(math.isfinite, scores)):
        return "a score is missing or not finite"
    return None
