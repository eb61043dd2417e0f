from __future__ import annotations

import datetime as dt

import pytest

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.allocators import ThompsonGaussian
from financial_assets.experiment.allocation.contextual import (
    advance_regimes,
    regime_experiment,
    regime_manifests,
    start_regimes,
)
from financial_assets.experiment.allocation.daily import AllocationPolicy
from financial_assets.experiment.allocation.record import Health
from financial_assets.experiment.allocation.regimes import Regime
from financial_assets.serving.manifests import experiment_manifest, model_manifest, validate_set

HIGH, LOW = Regime.of(volatility="high"), Regime.of(volatility="low")
POLICY = AllocationPolicy(ThompsonGaussian(), default=(50, 50))
FIRST = dt.date(2024, 1, 2)


def test_regimes_learn_each_for_itself() -> None:
    state = start_regimes(POLICY, [HIGH, LOW])
    for day in range(60):
        wobble = 0.01 * (day % 3)
        scores = {HIGH: (0.6 + wobble, 0.5)} if day % 2 else {LOW: (0.5, 0.6 + wobble)}
        state, records = advance_regimes(POLICY, state, FIRST + dt.timedelta(day), scores, Health())
        assert set(records) == {HIGH, LOW}
    assert state.of(HIGH).weights[0] > 80
    assert state.of(LOW).weights[0] < 20
    assert state.of(HIGH).memory.days == 30
    fallen, _ = advance_regimes(POLICY, state, FIRST + dt.timedelta(60), {}, Health(guardrails_passed=False))
    assert fallen.of(HIGH).weights == fallen.of(LOW).weights == (50, 50), "trouble is everybody's"


def test_unknown_or_ambiguous_regimes_are_refused() -> None:
    state = start_regimes(POLICY, [HIGH, LOW])
    with pytest.raises(ExperimentError, match="regime up is not one of"):
        advance_regimes(POLICY, state, FIRST, {Regime.of(trend="up"): (0.5, 0.5)}, Health())
    with pytest.raises(ExperimentError, match="different labels"):
        start_regimes(POLICY, [HIGH, HIGH])
    with pytest.raises(ExperimentError, match="none"):
        start_regimes(POLICY, [])


def test_every_regime_has_an_experiment_and_the_unknown_one_the_default() -> None:
    name = "financial-ab-test-experiment"
    assert regime_experiment(name, HIGH) == "financial-ab-test-high-experiment"
    assert regime_experiment(name, None) == name
    with pytest.raises(ExperimentError, match="must end in"):
        regime_experiment("split", HIGH)
    with pytest.raises(ExperimentError, match="longer than 63"):
        regime_experiment(name, Regime.of(sector="telecommunicationservices", time="midday", volatility="high"))


def test_manifests_of_all_regimes_stand_beside_the_experiment_with_the_default() -> None:
    name, models = "financial-ab-test-experiment", ["a", "b"]
    state, _ = advance_regimes(POLICY, start_regimes(POLICY, [HIGH, LOW]), FIRST, {HIGH: (0.9, 0.1)}, Health())
    made = regime_manifests(name, models, state)
    assert [manifest["metadata"]["name"] for manifest in made] == [
        "financial-ab-test-high-experiment",
        "financial-ab-test-low-experiment",
    ]
    for manifest, weights in zip(made, [state.of(HIGH).weights, (50, 50)], strict=True):
        assert "default" not in manifest["spec"]
        assert [candidate["weight"] for candidate in manifest["spec"]["candidates"]] == list(weights)
    base = experiment_manifest(name, default="a", weights={"a": 70, "b": 30})
    validate_set([*(model_manifest(model, f"file:///m/{model}") for model in models), base, *made])
    with pytest.raises(ExperimentError, match="as many different models"):
        regime_manifests(name, ["a", "a"], state)
    with pytest.raises(ExperimentError, match="as many different models"):
        regime_manifests(name, ["a"], state)
