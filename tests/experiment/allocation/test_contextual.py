from __future__ import annotations

import datetime as dt

import pytest

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.allocators import ThompsonGaussian
from financial_assets.experiment.allocation.contextual import advance_regimes, common_session
from financial_assets.experiment.allocation.daily import AllocationPolicy, replay, start
from financial_assets.experiment.allocation.record import AllocationRecord, Health
from financial_assets.experiment.allocation.regimes import regime_experiment

HIGH, LOW = "ab-high-experiment", "ab-low-experiment"
POLICY = AllocationPolicy(ThompsonGaussian(), default=(50, 50))
FIRST = dt.date(2024, 1, 2)


def test_regimes_learn_each_for_itself() -> None:
    state = {regime: start(POLICY) for regime in (HIGH, LOW)}
    for day in range(60):
        wobble = 0.01 * (day % 3)
        scores = {HIGH: (0.6 + wobble, 0.5)} if day % 2 else {LOW: (0.5, 0.6 + wobble)}
        state, records = advance_regimes(POLICY, state, FIRST + dt.timedelta(day), scores, Health())
        assert set(records) == {HIGH, LOW}
    assert state[HIGH].weights[0] > 80
    assert state[LOW].weights[0] < 20
    assert state[HIGH].memory.days == 30
    fallen, _ = advance_regimes(POLICY, state, FIRST + dt.timedelta(60), {}, Health(guardrails_passed=False))
    assert fallen[HIGH].weights == fallen[LOW].weights == (50, 50), "trouble is everybody's"


def test_an_unknown_experiment_is_refused() -> None:
    state = {regime: start(POLICY) for regime in (HIGH, LOW)}
    with pytest.raises(ExperimentError, match="experiment ab-up-experiment is not one of ab-high"):
        advance_regimes(POLICY, state, FIRST, {"ab-up-experiment": (0.5, 0.5)}, Health())
    assert common_session(state) is None


def test_every_regime_has_an_experiment_and_the_unknown_one_the_default() -> None:
    name = "financial-ab-test-experiment"
    assert regime_experiment(name, "high") == "financial-ab-test-high-experiment"
    assert regime_experiment(name, None) == name
    with pytest.raises(ExperimentError, match="must end in"):
        regime_experiment("split", "high")
    with pytest.raises(ExperimentError, match="longer than 63"):
        regime_experiment(name, "high-telecommunicationservices-midday")


def test_the_log_gives_the_state_of_every_regime_again() -> None:
    state = {regime: start(POLICY) for regime in (HIGH, LOW)}
    kept = dict[str, list[AllocationRecord]]({HIGH: [], LOW: []})
    for day in range(12):
        scores = {HIGH: (0.0, 0.2)} if day % 2 else {LOW: (0.0, -0.1)}
        state, records = advance_regimes(POLICY, state, FIRST + dt.timedelta(day), scores, Health())
        for regime, record in records.items():
            kept[regime].append(record)
    states = {regime: replay(POLICY, records) for regime, records in kept.items()}
    assert states == state
    assert common_session(states) == dt.date(2024, 1, 13)
    behind = {**states, HIGH: replay(POLICY, kept[HIGH][:-1])}
    with pytest.raises(ExperimentError, match=r"same allocation steps .ab-high-experiment until 2024-01-12, ab-low"):
        common_session(behind)
