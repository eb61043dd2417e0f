from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.state import AvailableModel, Rollout

CUTOFF = pd.Timestamp("2010-01-29")


def model(variant: str, version: int) -> AvailableModel:
    return AvailableModel(f"{variant}-predictor-v{version}", variant, version, CUTOFF)


FIRST = (model("baseline", 1), model("enhanced", 2), model("lightweight", 3))


@pytest.fixture
def rollout(log: PredictionLog) -> Rollout:
    return Rollout(log, load_policy())


def test_the_start_is_the_policy(rollout: Rollout) -> None:
    assert rollout.current() is None
    epoch = rollout.reconcile(FIRST)
    assert epoch.number == 1
    assert epoch.weights == {"baseline-predictor-v1": 70, "enhanced-predictor-v2": 30}
    assert [arm.model for arm in epoch.shadows] == ["lightweight-predictor-v3"]
    assert epoch.propensity("enhanced-predictor-v2") == pytest.approx(0.3)
    assert rollout.reconcile(FIRST) == epoch
    assert rollout.current() == epoch


def test_reconciling_the_same_models_opens_no_epoch(rollout: Rollout) -> None:
    epoch = rollout.reconcile(FIRST)
    assert rollout.reconcile(reversed(FIRST)) == epoch
    assert rollout.log.epochs() == (epoch,)


def test_changed_weights_are_never_reset(rollout: Rollout) -> None:
    rollout.reconcile(FIRST)
    changed = rollout.change_weights({"baseline-predictor-v1": 50, "enhanced-predictor-v2": 50}, "ladder")
    assert rollout.reconcile(FIRST) == changed
    assert rollout.change_weights(changed.weights, "again") == changed
    after = rollout.reconcile((*FIRST, model("enhanced", 4)))
    assert after.weights == {"baseline-predictor-v1": 50, "enhanced-predictor-v4": 50}


def test_a_retrained_challenger_replaces_the_challenger(rollout: Rollout) -> None:
    rollout.reconcile(FIRST)
    epoch = rollout.reconcile((*FIRST, model("enhanced", 4)))
    assert epoch.number == 2
    assert epoch.champion.model == "baseline-predictor-v1"
    assert [arm.model for arm in epoch.challengers] == ["enhanced-predictor-v4"]
    assert "enhanced-predictor-v4 enters as challenger" in epoch.reason
    assert "enhanced-predictor-v2 leaves" in epoch.reason


def test_a_retrained_champion_variant_enters_as_challenger_never_as_champion(rollout: Rollout) -> None:
    rollout.reconcile(FIRST)
    epoch = rollout.reconcile((*FIRST, model("baseline", 4)))
    assert epoch.weights == {"baseline-predictor-v1": 70, "baseline-predictor-v4": 30}
    # The challenger it replaced is still scored in pairs, but older than what is tested now: it does not come back.
    assert "enhanced-predictor-v2" in {arm.model for arm in epoch.shadows}
    assert rollout.reconcile((*FIRST, model("baseline", 4))) == epoch


def test_when_all_are_retrained_the_challengers_variant_is_tested_and_the_others_are_shadows(rollout: Rollout) -> None:
    rollout.reconcile(FIRST)
    everything = (*FIRST, model("baseline", 4), model("enhanced", 5), model("lightweight", 6))
    epoch = rollout.reconcile(everything)
    assert epoch.weights == {"baseline-predictor-v1": 70, "enhanced-predictor-v5": 30}
    assert {arm.model for arm in epoch.shadows} == {"lightweight-predictor-v6", "baseline-predictor-v4"}
    assert rollout.reconcile(everything) == epoch


def test_a_missing_model_is_named_with_what_to_do(rollout: Rollout) -> None:
    with pytest.raises(ExperimentError, match=r"'enhanced'.*materialize predictors/enhanced"):
        rollout.reconcile(FIRST[:1])
    rollout.reconcile(FIRST)
    with pytest.raises(ExperimentError, match=r"champion baseline-predictor-v1 .* materializing predictors/baseline"):
        rollout.reconcile(FIRST[1:])


def test_a_shadow_may_go_and_come_back(rollout: Rollout) -> None:
    rollout.reconcile(FIRST)
    without = rollout.reconcile(FIRST[:2])
    assert without.shadows == ()
    assert "lightweight-predictor-v3 leaves" in without.reason
    assert rollout.reconcile(FIRST).number == 3


def test_weights_are_changed_for_exactly_the_routed_arms(rollout: Rollout) -> None:
    with pytest.raises(ExperimentError, match="has not started"):
        rollout.change_weights({}, "why")
    rollout.reconcile(FIRST)
    with pytest.raises(ExperimentError, match="routed arms of epoch 1"):
        rollout.change_weights({"baseline-predictor-v1": 100}, "why")
    with pytest.raises(ExperimentError, match="zero"):
        rollout.change_weights({"baseline-predictor-v1": 0, "enhanced-predictor-v2": 0}, "why")


def test_models_that_do_not_differ_are_refused(rollout: Rollout) -> None:
    with pytest.raises(ExperimentError, match="have the same version"):
        rollout.reconcile((*FIRST, model("extra", 3)))


def test_of_two_writers_one_fails_and_the_state_is_that_of_the_other(rollout: Rollout) -> None:
    epoch = rollout.reconcile(FIRST)
    arms = tuple(replace(arm, weight=50) if arm.weight else arm for arm in epoch.arms)
    rollout.log.open_epoch(epoch.experiment, arms, "first", after=1)
    with pytest.raises(LogError, match="another process changed it"):
        rollout.log.open_epoch(epoch.experiment, epoch.arms, "second", after=1)
    assert rollout.current() is not None
    assert rollout.current().reason == "first"  # type: ignore[union-attr]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(retrained=st.lists(st.lists(st.sampled_from(["baseline", "enhanced", "lightweight"]), unique=True), max_size=5))
def test_whatever_is_retrained_the_champion_stays_and_reconciling_twice_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, retrained: list[list[str]]
) -> None:
    with PredictionLog(f"sqlite:///{tmp_path_factory.mktemp('rollout') / 'p.db'}") as log:
        rollout = Rollout(log, load_policy())
        models = list(FIRST)
        rollout.reconcile(models)
        for batch in retrained:
            models += [model(variant, len(models) + i + 1) for i, variant in enumerate(batch)]
            epoch = rollout.reconcile(models)
            assert epoch.champion.model == "baseline-predictor-v1"
            assert sorted(epoch.weights.values()) == [30, 70]
            assert max(arm.version for arm in epoch.arms) == len(models)
            assert rollout.reconcile(models) == epoch
            if set(batch) & {"baseline", "enhanced"}:
                assert epoch.challengers[0].version > len(models) - len(batch)


def test_every_other_variant_that_is_available_is_a_shadow(rollout: Rollout) -> None:
    epoch = rollout.reconcile((*FIRST, model("linear", 4)))
    assert [arm.model for arm in epoch.shadows] == ["lightweight-predictor-v3", "linear-predictor-v4"]
    later = rollout.reconcile((*FIRST, model("linear", 4), model("boosted", 5)))
    assert {arm.variant for arm in later.shadows} == {"lightweight", "linear", "boosted"}
    assert later.weights == epoch.weights
    without = rollout.reconcile((*FIRST, model("boosted", 5)))
    assert {arm.variant for arm in without.shadows} == {"lightweight", "boosted"}
