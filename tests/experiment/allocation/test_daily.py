from __future__ import annotations

import datetime as dt
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ab.rivals import FixedShares, ThompsonBeta
from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.allocators import Hedge, ThompsonGaussian
from financial_assets.experiment.allocation.daily import (
    AllocationPolicy,
    AllocationState,
    advance,
    replay,
    resume,
    start,
)
from financial_assets.experiment.allocation.limits import Limits
from financial_assets.experiment.allocation.record import AllocationRecord, Health

FIRST = dt.date(2024, 1, 2)
WELL = Health()
POLICY = AllocationPolicy(ThompsonGaussian())


def run(
    policy: AllocationPolicy, scores: np.ndarray, health: Health = WELL
) -> tuple[AllocationState, list[AllocationRecord]]:
    state, records = start(policy), []
    for day, row in enumerate(scores.tolist()):
        state, record = advance(policy, state, FIRST + dt.timedelta(day), row, health)
        records.append(record)
    return state, records


def world(seed: int, days: int, edge: float = 0.0, arms: int = 2) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.5, 0.15, (days, arms))
    noise[:, -1] += edge
    return noise


@pytest.mark.parametrize("allocator", [ThompsonBeta(), ThompsonGaussian(), Hedge()], ids=lambda a: a.name)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), edge=st.floats(-0.3, 0.3), hold=st.integers(1, 4))
def test_weights_move_in_small_steps_within_bounds_and_are_held(
    allocator: ThompsonBeta | ThompsonGaussian | Hedge, seed: int, edge: float, hold: int
) -> None:
    policy = AllocationPolicy(allocator, limits=Limits(hold=hold))
    _, records = run(policy, world(seed, 40, edge))
    changes = [day for day, record in enumerate(records) if record.after != record.before]
    assert all(later - earlier >= hold for earlier, later in itertools.pairwise(changes))
    for record in records:
        assert policy.limits.check(record.after) == record.after
        assert abs(record.after[0] - record.before[0]) <= 10
        assert record.propensities == tuple(weight / 100 for weight in record.after)


def test_weights_know_nothing_of_later_days() -> None:
    scores = world(1, 60)
    changed = scores.copy()
    changed[40:] = 0.9, 0.1
    first, second = run(POLICY, scores)[1], run(POLICY, changed)[1]
    assert first[:40] == second[:40]
    assert first[59].after != second[59].after


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (Health(guardrails_passed=False), "guardrail"),
        (Health(srm_passed=False), "SRM"),
        (Health(sessions_behind=4), "4 sessions behind"),
    ],
)
def test_trouble_brings_the_default_back_at_once(health: Health, said: str) -> None:
    state, _ = run(POLICY, world(2, 60, edge=0.3))
    assert state.weights == (10, 90)
    fallen, record = advance(POLICY, state, FIRST + dt.timedelta(60), (0.5, 0.9), health)
    assert (fallen.weights, record.fallback) == ((70, 30), True)
    assert said in record.reason
    assert fallen.memory == state.memory, "a day in trouble teaches nothing"
    later, record = advance(POLICY, fallen, FIRST + dt.timedelta(61), (0.5, 0.8), WELL)
    assert (later.weights, record.fallback) == ((60, 40), False), "and back in steps"


@pytest.mark.parametrize("scores", [(math.nan, 0.5), (0.5, math.inf)])
def test_a_missing_score_brings_the_default_back(scores: tuple[float, float]) -> None:
    state, _ = run(POLICY, world(2, 60, edge=0.3))
    fallen, record = advance(POLICY, state, FIRST + dt.timedelta(60), scores, WELL)
    assert fallen.weights == (70, 30)
    assert "missing or not finite" in record.reason


def test_a_session_without_evidence_changes_nothing() -> None:
    state, _ = run(POLICY, world(2, 20, edge=0.3))
    kept, record = advance(POLICY, state, FIRST + dt.timedelta(20), None, Health(sessions_behind=3))
    assert (kept.weights, kept.memory) == (state.weights, state.memory)
    assert not record.fallback


def test_fixed_weights_stay() -> None:
    state, records = run(AllocationPolicy(FixedShares()), world(3, 30, edge=0.5))
    assert state.weights == (70, 30)
    assert {record.after for record in records} == {(70, 30)}


def test_three_arms_share_and_one_wins() -> None:
    policy = AllocationPolicy(ThompsonGaussian(), default=(60, 20, 20))
    state, _ = run(policy, world(4, 120, edge=0.2, arms=3))
    assert state.weights[2] >= 77
    assert min(state.weights) >= 10


@pytest.mark.parametrize("arms", [2, 3])
def test_the_log_reproduces_the_state_bit_for_bit(arms: int) -> None:
    policy = AllocationPolicy(ThompsonGaussian(seed=7), default=(70, 30) if arms == 2 else (60, 20, 20))
    scores = world(5, 80, edge=0.05, arms=arms)
    scores[30] = math.nan
    state, records = run(policy, scores)
    state, record = advance(policy, state, dt.date(2024, 12, 31), np.full(arms, 0.5), WELL)  # type: ignore[arg-type]
    records.append(record)
    state, record = advance(policy, state, dt.date(2025, 1, 1), None, WELL)
    records.append(record)
    assert replay(policy, records) == state
    logged = json.loads(json.dumps([record.to_json() for record in records], allow_nan=False))
    assert replay(policy, [AllocationRecord.from_json(values) for values in logged]) == state
    memory = {"days": 1, "totals": [math.nan, 0.0], "more": []}
    for wrong in (
        {"session": "today"},
        {"memory": {"days": 1}},
        {"memory": memory},
        {"health": None},
        {"after": "all"},
    ):
        with pytest.raises(ExperimentError, match="no allocation record"):
            AllocationRecord.from_json({**logged[0], **wrong})
    with pytest.raises(ExperimentError, match="no allocation record"):
        AllocationRecord.from_json({name: value for name, value in logged[0].items() if name != "shares"})


def test_a_log_that_was_tampered_with_is_refused() -> None:
    _, records = run(POLICY, world(6, 30, edge=0.1))
    for change in (
        {"after": (45, 55), "propensities": (0.45, 0.55)},
        {"scores": (records[9].scores[0] + 1e-9, records[9].scores[1])},
        {"health": Health(srm_passed=False)},
    ):
        with pytest.raises(ExperimentError, match="cannot be reproduced"):
            replay(POLICY, [*records[:9], replace(records[9], **change), *records[10:]])
    with pytest.raises(ExperimentError, match="was the policy changed"):
        replay(AllocationPolicy(ThompsonGaussian(prior_days=5)), records)


@pytest.mark.parametrize("hold", [1, 2, 4])
def test_the_newest_records_lead_to_the_same_next_step_as_all_of_them(hold: int) -> None:
    policy = AllocationPolicy(Hedge(), limits=Limits(hold=hold))
    state, records = run(policy, world(8, 40, edge=0.1))
    for gap in (1, 2, 3):  # sessions without evidence, as a regime has many
        state, record = advance(policy, state, FIRST + dt.timedelta(100 + gap), None, WELL)
        records.append(record)
    coming, scores = FIRST + dt.timedelta(200), (0.0, 0.3)
    resumed = 0
    for end in range(2, len(records) + 1):
        whole = advance(policy, replay(policy, records[:end]), coming, scores, WELL)[1]
        for window in (2, 5, 9, 24):
            found = resume(policy, records[max(0, end - window) : end]) if window < end else None
            if found is not None:
                resumed += 1
                assert advance(policy, found, coming, scores, WELL)[1] == whole
    assert resumed > 60


def test_records_that_show_nothing_do_not_suffice() -> None:
    state, records = run(POLICY, world(9, 10, edge=0.1))
    quiet: list[AllocationRecord] = []
    for day in range(6):
        state, record = advance(POLICY, state, FIRST + dt.timedelta(50 + day), None, WELL)
        quiet.append(record)
    assert resume(POLICY, quiet) is None, "a policy is not shown to be the same by days without evidence"
    assert resume(POLICY, records[-1:]) is None
    assert resume(POLICY, []) is None
    assert resume(POLICY, [*records, *quiet]) is not None


def test_a_newest_record_that_this_policy_did_not_write_is_refused() -> None:
    _, records = run(POLICY, world(6, 30, edge=0.1))
    with pytest.raises(ExperimentError, match="was the policy changed"):
        resume(AllocationPolicy(Hedge()), records[-5:])
    changed = replace(records[-1], scores=(records[-1].scores[0] + 1e-9, records[-1].scores[1]))
    with pytest.raises(ExperimentError, match="cannot be reproduced"):
        resume(POLICY, [*records[-5:-1], changed])


def test_steps_out_of_order_or_of_other_arms_are_refused() -> None:
    state, _ = run(POLICY, world(7, 3))
    for day in (0, 2):
        with pytest.raises(ExperimentError, match="not later"):
            advance(POLICY, state, FIRST + dt.timedelta(day), (0.5, 0.5), WELL)
    with pytest.raises(ExperimentError, match="3 scores for 2 arms"):
        advance(POLICY, state, FIRST + dt.timedelta(9), (0.5, 0.5, 0.5), WELL)
    with pytest.raises(ExperimentError, match="floor"):
        AllocationPolicy(Hedge(), default=(95, 5))
    with pytest.raises(ExperimentError, match="stale_after"):
        AllocationPolicy(Hedge(), stale_after=0)
