"""When a retraining is asked for: each guard by itself, in every order, and laws that hold for any history."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.experiment.arms import Arm, Role, WeightEpoch
from financial_assets.monitoring.incidents import LONGEST_RUN, PastRun, RunState, Trigger
from financial_assets.monitoring.retraining import RetrainingDecision, RetrainingPolicy, decide, superseded_by

EXPERIMENT = "ab"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
COOLDOWN = timedelta(hours=24)
POLICY = RetrainingPolicy(cooldown=COOLDOWN, max_attempts=2)
SECOND = timedelta(seconds=1)


def arm(model: str, role: Role, weight: int) -> Arm:
    variant, _, version = model.partition("-predictor-v")
    return Arm(model, variant, int(version), role, weight, pd.Timestamp("2026-01-02"))


CHAMPION, CHALLENGER, SHADOW = "baseline-predictor-v1", "enhanced-predictor-v2", "lightweight-predictor-v3"


def epoch(*others: Arm, challenger: int = 30) -> WeightEpoch:
    arms = (arm(CHAMPION, "champion", 70), arm(CHALLENGER, "challenger", challenger), arm(SHADOW, "shadow", 0))
    return WeightEpoch(EXPERIMENT, 1, pd.Timestamp("2026-01-02", tz="UTC"), (*arms, *others), "test")


def alert(model: str = CHAMPION, cause: str = "ModelAccuracyDegraded", days: float = 2, **other: Any) -> Trigger:
    return Trigger("alert", cause, other.get("experiment", EXPERIMENT), model, NOW - timedelta(days=days))


def drift(model: str = CHAMPION, cause: str = "loss_drift", days: float = 5) -> Trigger:
    return Trigger("drift", cause, EXPERIMENT, model, NOW - timedelta(days=days))


def run(
    status: RunState, model: str | None = CHAMPION, *, attempt: int = 1, hours: float = 100, number: int = 1
) -> PastRun:
    """A run asked for so many hours ago; an ended one took ten minutes."""
    asked = NOW - timedelta(hours=hours)
    return PastRun(
        run_id=f"run-{number}",
        number=number,
        incident=None if model is None else f"{EXPERIMENT}/{model}",
        attempt=attempt,
        status=status,
        asked_at=asked,
        started_at=None if status == "queued" else asked,
        ended_at=asked + timedelta(minutes=10) if status in ("succeeded", "failed") else None,
    )


def ask(
    triggers: Sequence[Trigger], *history: PastRun, at: datetime = NOW, policy: RetrainingPolicy = POLICY
) -> RetrainingDecision:
    return decide(triggers, epoch(), history, at, policy)


def reasons(decision: RetrainingDecision) -> str:
    return " | ".join(skip.reason for skip in decision.skipped)


def test_nothing_wrong_nothing_asked() -> None:
    assert ask([]) == RetrainingDecision(None, ())


@pytest.mark.parametrize("trigger", [alert(), drift(), drift(cause="feature_drift"), alert(CHALLENGER)])
def test_a_degraded_arm_is_retrained_by_its_variant(trigger: Trigger) -> None:
    decision = ask([trigger])
    assert decision.skipped == ()
    assert decision.request is not None
    assert decision.request.trigger == trigger
    assert decision.request.incident == f"{EXPERIMENT}/{trigger.model}"
    assert decision.request.variant == trigger.model.split("-")[0]
    assert decision.request.attempt == 1


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        (alert(cause="HighResponseTime"), "'HighResponseTime' is not a reason to retrain"),
        (alert(cause=""), "'' is not a reason to retrain"),
        (alert(cause="loss_drift"), "not a reason to retrain"),
        (drift(cause="ModelAccuracyDegraded"), "not a reason to retrain"),
        (alert(experiment="another"), "it concerns the experiment 'another', not 'ab'"),
        (alert(experiment=""), "it concerns the experiment ''"),
        (alert(SHADOW), "'lightweight-predictor-v3' gets no requests in weight epoch 1"),
        (alert("baseline-predictor-v0"), "'baseline-predictor-v0' gets no requests"),
        (alert(""), "'' gets no requests"),
        (alert("a" * 10_000), "gets no requests"),
        (drift("enhanced-predictor-v1"), "'enhanced-predictor-v1' gets no requests"),
    ],
)
def test_what_is_not_on_the_list_is_skipped_with_its_reason(trigger: Trigger, reason: str) -> None:
    decision = ask([trigger])
    assert decision.request is None
    (skipped,) = decision.skipped
    assert skipped.trigger == trigger
    assert reason in skipped.reason


def test_an_arm_without_weight_gets_no_requests() -> None:
    decision = decide([alert(CHALLENGER)], epoch(challenger=0), (), NOW, POLICY)
    assert decision.request is None
    assert "gets no requests" in reasons(decision)


@pytest.mark.parametrize("role", ["shadow"])
def test_a_later_version_of_the_variant_is_the_answer_already(role: Role) -> None:
    later = epoch(arm("baseline-predictor-v4", role, 0))
    decision = decide([alert(CHAMPION)], later, (), NOW, POLICY)
    assert decision.request is None
    newer = "baseline-predictor-v4 was trained after baseline-predictor-v1 and already takes part as shadow"
    assert newer in reasons(decision)
    other = decide([alert(CHALLENGER)], later, (), NOW, POLICY)
    assert other.request is not None


def test_an_alert_of_a_model_that_was_replaced_asks_for_nothing() -> None:
    replaced = WeightEpoch(
        EXPERIMENT,
        2,
        pd.Timestamp("2026-02-02", tz="UTC"),
        (arm("baseline-predictor-v4", "champion", 70), arm(CHALLENGER, "challenger", 30)),
        "test",
    )
    for trigger in (alert(CHAMPION), drift(CHAMPION)):
        decision = decide([trigger], replaced, (), NOW, POLICY)
        assert decision.request is None
        assert "gets no requests in weight epoch 2 (its arms: baseline-predictor-v4" in reasons(decision)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_champion_comes_first_and_one_trigger_stands_for_the_episode(order: tuple[int, ...]) -> None:
    triggers = [alert(CHALLENGER, days=9), alert(CHAMPION, days=2), drift(CHAMPION, days=5)]
    decision = ask([triggers[place] for place in order])
    assert decision.request is not None
    assert decision.request.trigger == drift(CHAMPION, days=5)
    assert {skip.trigger: skip.reason for skip in decision.skipped} == {
        alert(CHAMPION, days=2): f"drift loss_drift reports the same incident, ab/{CHAMPION}",
        alert(CHALLENGER, days=9): f"{CHAMPION} comes first; one at a time",
    }


def test_the_challenger_has_its_turn_when_the_champion_is_answered() -> None:
    decision = ask([alert(CHAMPION), alert(CHALLENGER)], run("succeeded", CHAMPION))
    assert decision.request is not None
    assert decision.request.variant == "enhanced"
    assert "answered once" in reasons(decision)


@pytest.mark.parametrize("first", [alert(), drift()])
@pytest.mark.parametrize("second", [alert(), drift()])
@pytest.mark.parametrize("hours", [0.2, 23, 25, 10_000])
def test_whichever_sensor_saw_it_first_an_episode_is_answered_once(
    first: Trigger, second: Trigger, hours: float
) -> None:
    assert ask([first]).request is not None
    assert ask([second], run("succeeded", hours=hours)).request is None


@pytest.mark.parametrize("trigger", [alert(CHAMPION), alert(CHALLENGER), drift()])
@pytest.mark.parametrize("own", [CHAMPION, CHALLENGER, None])
@pytest.mark.parametrize("status", ["queued", "running"])
def test_nothing_is_asked_while_a_retraining_is_under_way(trigger: Trigger, own: str | None, status: RunState) -> None:
    eager = RetrainingPolicy(cooldown=timedelta(0), max_attempts=10)
    decision = ask([trigger], run(status, own, hours=0.5), policy=eager)
    assert decision.request is None
    assert f"retraining run-1 is {status}; one at a time" in reasons(decision)


def test_a_queued_run_may_wait_and_a_killed_one_blocks_nobody_for_ever() -> None:
    eager = replace(POLICY, cooldown=timedelta(0))
    assert ask([alert()], run("queued", hours=500), policy=eager).request is None
    hour = LONGEST_RUN / timedelta(hours=1)
    assert ask([alert()], run("running", hours=hour), policy=eager).request is None
    again = ask([alert()], run("running", hours=hour + 0.01), policy=eager).request
    assert again is not None
    assert again.attempt == 2
    assert ask([alert()], run("running", hours=hour + 0.01)).request is None, (
        "the cool-down begins when its time was up"
    )
    late = replace(run("running", hours=50), started_at=NOW - SECOND)
    assert ask([alert()], late, policy=eager).request is None, "the time in the queue is not running time"


def test_a_machines_clock_that_was_put_right_keeps_nobody_waiting() -> None:
    """A day ahead is within what a cool-down may be; a year ahead cannot be."""
    ahead = run("succeeded", CHALLENGER, hours=-23)
    assert "RETRAIN_COOLDOWN_HOURS=24" in reasons(ask([alert()], ahead))
    year = run("succeeded", CHALLENGER, hours=-365 * 24)
    assert ask([alert()], year).request is not None
    recent = run("succeeded", CHALLENGER, hours=2, number=2)
    assert "the last retraining ended at 2026-11-21 10:10" in reasons(ask([alert()], year, recent))
    assert "an incident is answered once" in reasons(ask([alert()], run("succeeded", hours=-365 * 24)))


@pytest.mark.parametrize(
    ("status", "own"), [("succeeded", CHALLENGER), ("failed", CHALLENGER), ("succeeded", None), ("failed", CHAMPION)]
)
def test_the_cool_down_ends_when_it_says(status: RunState, own: str | None) -> None:
    before = run(status, own)
    assert before.ended_at is not None
    early = ask([alert()], before, at=before.ended_at + COOLDOWN - SECOND)
    assert early.request is None
    assert "RETRAIN_COOLDOWN_HOURS=24" in reasons(early)
    assert "may be requested from 2026-11-18 08:10 UTC" in reasons(early)
    assert ask([alert()], before, at=before.ended_at + COOLDOWN).request is not None


def test_the_last_of_several_runs_counts() -> None:
    old, new = run("succeeded", CHALLENGER, hours=500, number=1), run("failed", None, hours=3, number=2)
    for history in ((old, new), (new, old)):
        assert "RETRAIN_COOLDOWN_HOURS" in reasons(ask([alert()], *history))
    assert ask([alert()], old).request is not None


def test_a_failed_attempt_is_repeated_as_the_next_one_until_enough_is_enough() -> None:
    second = ask([alert()], run("failed")).request
    assert second is not None
    assert (second.attempt, second.incident) == (2, f"{EXPERIMENT}/{CHAMPION}")
    given_up = ask([alert()], run("failed", hours=200), run("failed", attempt=2, number=2))
    assert given_up.request is None
    assert "all 2 attempts at its incident failed (RETRAIN_MAX_ATTEMPTS=2)" in reasons(given_up)
    assert ask([alert()], run("failed", hours=200), run("succeeded", attempt=2, number=2)).request is None


def test_an_attempt_that_gave_way_to_its_twin_is_not_counted_twice() -> None:
    twins = (run("failed", number=1), run("failed", number=2))
    second = ask([alert()], *twins).request
    assert second is not None
    assert second.attempt == 2


def test_a_person_who_retrained_closes_no_episode() -> None:
    assert ask([alert()], run("succeeded", None)).request is not None


def test_a_start_in_the_future_is_still_an_alert() -> None:
    assert ask([alert(days=-3)]).request is not None


# --- at the first step ---


def own(number: int = 5, *, hours: float = 0.1, model: str | None = CHAMPION) -> PastRun:
    return replace(run("running", model, hours=hours, number=number), run_id="own")


def test_the_first_of_two_goes_on_and_the_second_gives_way() -> None:
    first, second = own(4), own(5)
    assert superseded_by(first, (first, second), NOW) is None
    assert "requested before this one, is running" in str(superseded_by(second, (first, second), NOW))


@pytest.mark.parametrize("model", [CHAMPION, CHALLENGER, None])
@pytest.mark.parametrize("status", ["queued", "running"])
def test_every_run_gives_way_to_one_under_way(model: str | None, status: RunState) -> None:
    for mine in (own(), own(model=None)):
        assert superseded_by(mine, (run(status, model, hours=0.5, number=4),), NOW) is not None
        assert superseded_by(mine, (run("running", model, hours=3, number=4),), NOW) is None, "that one was killed"


def test_an_answered_incident_is_not_answered_again() -> None:
    before = run("succeeded", hours=5, number=4)
    assert "has already answered ab/baseline-predictor-v1" in str(superseded_by(own(), (before,), NOW))
    assert superseded_by(own(model=CHALLENGER), (before,), NOW) is None
    assert superseded_by(own(model=None), (before,), NOW) is None, "a person may"


@pytest.mark.parametrize("model", [CHAMPION, CHALLENGER, None])
def test_a_request_that_did_not_see_the_one_before_gives_way(model: str | None) -> None:
    before = replace(run("failed", model, hours=0.5, number=4), ended_at=NOW - timedelta(minutes=2))
    assert "was still under way when this one was requested" in str(superseded_by(own(hours=0.1), (before,), NOW))
    assert superseded_by(own(hours=0.01), (before,), NOW) is None, "asked for after the end: a second attempt"
    assert superseded_by(own(hours=0.1, model=None), (before,), NOW) is None, "a person may"


# --- laws ---

MODELS = st.sampled_from([CHAMPION, CHALLENGER, SHADOW, "baseline-predictor-v0", ""])
TRIGGERS = st.lists(
    st.builds(
        Trigger,
        source=st.sampled_from(["alert", "drift"]),
        cause=st.sampled_from(["ModelAccuracyDegraded", "loss_drift", "feature_drift", "HighErrorRate", ""]),
        experiment=st.sampled_from([EXPERIMENT, "another"]),
        model=MODELS,
        since=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    ),
    max_size=12,
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[PastRun, ...]:
    found: list[PastRun] = []
    for number in range(draw(st.integers(0, 6))):
        status: RunState = draw(st.sampled_from(["queued", "running", "succeeded", "failed"]))
        model = draw(st.one_of(st.none(), MODELS))
        attempt, hours = draw(st.integers(1, 4)), draw(st.floats(0.2, 200))
        found.append(run(status, model, attempt=attempt, hours=hours, number=number))
    return tuple(found)


POLICIES = st.builds(
    RetrainingPolicy, cooldown=st.sampled_from([timedelta(0), COOLDOWN, 7 * COOLDOWN]), max_attempts=st.integers(1, 5)
)


@given(TRIGGERS, histories(), POLICIES)
def test_each_trigger_is_requested_or_skipped_with_a_reason(
    triggers: list[Trigger], history: tuple[PastRun, ...], policy: RetrainingPolicy
) -> None:
    decision = ask(triggers, *history, policy=policy)
    named = [skip.trigger for skip in decision.skipped] + ([decision.request.trigger] if decision.request else [])
    assert sorted(named, key=repr) == sorted(triggers, key=repr)
    assert all(skip.reason for skip in decision.skipped)


@given(TRIGGERS, histories(), POLICIES, st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_and_repetition_change_nothing(
    triggers: list[Trigger], history: tuple[PastRun, ...], policy: RetrainingPolicy, random: Any, times: int
) -> None:
    shuffled = triggers * times
    random.shuffle(shuffled)
    assert ask(shuffled, *history, policy=policy).request == ask(triggers, *history, policy=policy).request


@given(TRIGGERS, histories(), POLICIES)
def test_a_request_breaks_no_rule(
    triggers: list[Trigger], history: tuple[PastRun, ...], policy: RetrainingPolicy
) -> None:
    request = ask(triggers, *history, policy=policy).request
    if request is None:
        return
    same = [past for past in history if past.incident == request.incident]
    assert request.trigger.model in (CHAMPION, CHALLENGER)
    assert not any(past.status == "queued" for past in history)
    assert all(NOW - (past.ended_at or past.asked_at + LONGEST_RUN) >= policy.cooldown for past in history)
    assert not any(past.status == "succeeded" for past in same)
    assert request.attempt == max((past.attempt for past in same), default=0) + 1 <= policy.max_attempts


@given(TRIGGERS, histories(), POLICIES, st.lists(st.floats(0, 60), min_size=2, max_size=8))
def test_however_often_one_looks_a_request_that_is_under_way_is_the_only_one(
    triggers: list[Trigger], history: tuple[PastRun, ...], policy: RetrainingPolicy, minutes: list[float]
) -> None:
    """Sensors that tick again and again, each request becoming a run that succeeds in an hour: an incident once."""
    asked: list[PastRun] = [*history]
    requested: list[str] = []
    at = NOW
    for step in sorted(minutes):
        at += timedelta(minutes=step)
        request = ask(triggers, *asked, at=at, policy=policy).request
        if request is not None:
            requested.append(request.incident)
            asked.append(
                PastRun(str(len(asked)), len(asked), request.incident, request.attempt, "succeeded", at, at, at)
            )
    assert len(requested) == len(set(requested))


@given(st.permutations([2, 3, 4, 5]), st.data())
def test_of_runs_asked_for_at_once_exactly_one_goes_on(numbers: list[int], data: st.DataObject) -> None:
    started = [own(number, model=data.draw(st.sampled_from([CHAMPION, CHALLENGER]))) for number in numbers]
    gone_on = [mine.number for mine in started if superseded_by(mine, started, NOW) is None]
    assert gone_on == [2]


def test_a_variant_that_is_not_made_any_more_is_not_trained_again() -> None:
    decision = ask([alert(), alert(CHALLENGER)], policy=replace(POLICY, variants=frozenset({"enhanced", "linear"})))
    assert decision.request is not None
    assert decision.request.variant == "enhanced"
    assert reasons(decision) == "baseline-predictor-v1 cannot be trained again: VARIANTS does not name baseline"
