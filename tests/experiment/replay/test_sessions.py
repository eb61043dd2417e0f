"""Laws of what is due: asking twice changes nothing, nothing is predicted twice or before it may be."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.pending import due_sessions, replay_horizon
from financial_assets.market import calendar
from tests.experiment.builders import CUTOFF, arms

SESSIONS = calendar.sessions("2010-01-04", "2010-04-30")
POSITIONS = st.integers(0, len(SESSIONS) - 1)
COUNTS = st.integers(0, 2 * len(SESSIONS))


def epoch(*cutoffs: pd.Timestamp) -> WeightEpoch:
    chosen = tuple(
        Arm(arm.model, arm.variant, arm.version, arm.role, arm.weight, cutoff)
        for arm, cutoff in zip(arms(), cutoffs, strict=True)
    )
    return WeightEpoch("ab-experiment", 2, pd.Timestamp("2010-02-01", tz="UTC"), chosen, "start")


# --- replay_horizon --------------------------------------------------------------------------------------------------


@given(cutoff=POSITIONS, now=POSITIONS, count=COUNTS)
def test_asking_again_after_the_replay_does_not_move_the_horizon(cutoff: int, now: int, count: int) -> None:
    horizon = replay_horizon(SESSIONS, SESSIONS[cutoff], SESSIONS[now], count)
    assert replay_horizon(SESSIONS, SESSIONS[cutoff], horizon, count) == horizon


@given(cutoff=POSITIONS, now=POSITIONS, count=COUNTS)
def test_the_horizon_is_a_session_and_never_before_now(cutoff: int, now: int, count: int) -> None:
    horizon = replay_horizon(SESSIONS, SESSIONS[cutoff], SESSIONS[now], count)
    assert horizon >= SESSIONS[now]
    assert horizon in SESSIONS


@given(cutoff=POSITIONS, count=COUNTS)
def test_as_many_sessions_as_asked_for_lie_up_to_the_horizon(cutoff: int, count: int) -> None:
    left = len(SESSIONS) - 1 - cutoff
    horizon = replay_horizon(SESSIONS, SESSIONS[cutoff], SESSIONS[cutoff], count)
    replayed = SESSIONS.get_loc(horizon) - cutoff
    assert replayed == (left if count == 0 else min(count, left))


@given(cutoff=POSITIONS, now=POSITIONS, fewer=st.integers(1, 50), more=st.integers(1, 50))
def test_more_sessions_never_end_earlier(cutoff: int, now: int, fewer: int, more: int) -> None:
    ends = [replay_horizon(SESSIONS, SESSIONS[cutoff], SESSIONS[now], count) for count in (fewer, fewer + more, 0)]
    assert ends == sorted(ends)


def test_a_retraining_in_between_does_not_lengthen_a_replay() -> None:
    first_cutoff = SESSIONS[20]
    horizon = replay_horizon(SESSIONS, first_cutoff, first_cutoff, 10)
    assert horizon == SESSIONS[30]
    assert replay_horizon(SESSIONS, first_cutoff, SESSIONS[35], 10) == SESSIONS[35]


def test_without_sessions_after_the_cutoff_the_clock_stays() -> None:
    assert replay_horizon(SESSIONS, SESSIONS[-1], SESSIONS[-1], 0) == SESSIONS[-1]


# --- due_sessions ----------------------------------------------------------------------------------------------------


@given(cutoffs=st.tuples(POSITIONS, POSITIONS, POSITIONS), horizon=POSITIONS)
def test_due_sessions_follow_all_cutoffs_in_order(cutoffs: tuple[int, int, int], horizon: int) -> None:
    due = due_sessions(SESSIONS, SESSIONS[horizon], epoch(*(SESSIONS[at] for at in cutoffs)))
    assert list(due) == list(SESSIONS[max(cutoffs) + 1 : horizon + 1])


@pytest.mark.parametrize("arm", [0, 1, 2])
def test_one_late_arm_holds_back_all(arm: int) -> None:
    cutoffs = [CUTOFF, CUTOFF, CUTOFF]
    cutoffs[arm] = SESSIONS[40]
    assert due_sessions(SESSIONS, SESSIONS[-1], epoch(*cutoffs))[0] == SESSIONS[41]


def test_nothing_is_due_before_the_clock_has_moved() -> None:
    assert due_sessions(SESSIONS, CUTOFF, epoch(CUTOFF, CUTOFF, CUTOFF)).empty


@pytest.mark.parametrize(("epochs", "expected"), [([], None), ([2, 2], None), ([1, 1, 2], 1), ([1, 2, 2], 0)])
def test_only_earlier_epochs_have_routed_before(log: PredictionLog, epochs: list[int], expected: int | None) -> None:
    for number in (1, 2):
        opened = log.open_epoch("ab-experiment", arms(), "start", after=number - 1)
        for day, routed_by in enumerate(epochs):
            if routed_by == number:
                log.begin_routed(opened, SESSIONS[day], SESSIONS[day + 1], ["A"])
    assert log.last_routed("ab-experiment", before=2) == (None if expected is None else SESSIONS[expected])
    assert log.last_routed("another", before=2) is None
