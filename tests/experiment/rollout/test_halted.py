"""Under a halt no path of the experiment moves: no arm, role or weight changes until somebody resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from financial_assets.errors import HaltedError
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.experiment.rollout.steps import apply_decisions
from financial_assets.halt import KillSwitch
from tests.experiment.rollout.builders import BASE, MODELS, SECOND, THIRD, begin, judged, model, predict, rules


@pytest.fixture
def switch(tmp_path: Path) -> KillSwitch:
    return KillSwitch.of(tmp_path)


@pytest.fixture
def rollout(log: PredictionLog, switch: KillSwitch) -> Rollout:
    rollout = Rollout(log, rules(), switch)
    rollout.reconcile(MODELS)
    return rollout


MOVES: dict[str, Callable[[Rollout], object]] = {
    "step": lambda rollout: rollout.take_step(50, "a step"),
    "weights": lambda rollout: rollout.change_weights({BASE: 50, SECOND: 30, THIRD: 20}, "by hand"),
    "a retrained challenger": lambda rollout: rollout.reconcile((*MODELS, model("enhanced", 4))),
}


@pytest.mark.parametrize("move", sorted(MOVES))
def test_nothing_moves_under_a_halt_and_it_does_afterwards(rollout: Rollout, switch: KillSwitch, move: str) -> None:
    before = rollout.started()
    switch.halt("test", "me")
    assert MOVES[move](rollout) == before
    assert rollout.log.epochs() == (before,)
    switch.resume("me")
    moved = MOVES[move](rollout)
    assert moved != before
    assert rollout.started() == moved


@pytest.mark.parametrize(
    ("base", "skill", "third", "action"), [(0.3, 0.99, 0.9, "promote"), (0.7, 0.02, 0.7, "rollback")]
)
def test_decisions_are_recorded_under_a_halt_and_carried_out_afterwards(
    log: PredictionLog, switch: KillSwitch, base: float, skill: float, third: float, action: str
) -> None:
    conduct = begin(log, test={"horizon_sessions": 36})
    predict(log, {BASE: base, SECOND: skill, THIRD: third})
    halted = replace(conduct.rollout, switch=switch)
    before = halted.started()
    switch.halt("test", "me")
    decisions = judged(ExperimentController(halted))
    assert action in [decision.action for decision in decisions]
    assert apply_decisions(halted, decisions) == before
    assert log.epochs() == (before,)
    assert log.decisions(before.experiment)
    switch.resume("me")
    after = apply_decisions(halted, decisions)
    assert after.number == before.number + 1
    if action == "promote":
        assert after.champion.model == SECOND
    else:
        assert SECOND not in after.weights


def test_shares_that_follow_the_scores_stand_still_and_learn_the_sessions_afterwards(
    log: PredictionLog, switch: KillSwitch
) -> None:
    following = {"mode": "thompson"}
    conduct = begin(log, traffic=following, test={"plausible_effect": 0.05, "horizon_sessions": 60})
    predict(log, {BASE: 0.5, SECOND: 0.6, THIRD: 0.5}, last=6)
    controller = ExperimentController(replace(conduct.rollout, switch=switch))
    before = controller.rollout.started()
    switch.halt("test", "me")
    judged(controller)
    assert log.allocations(before.experiment, before) == ()
    switch.resume("me")
    judged(controller)
    assert len(log.allocations(before.experiment, before)) >= 5


def test_no_experiment_starts_under_a_halt(log: PredictionLog, switch: KillSwitch) -> None:
    switch.halt("test", "me")
    with pytest.raises(HaltedError, match="financial-assets resume"):
        Rollout(log, rules(), switch).reconcile(MODELS)
    assert log.epochs() == ()


def test_a_damaged_record_of_halts_freezes(rollout: Rollout, switch: KillSwitch) -> None:
    switch.path.write_text("rubbish\n")
    assert rollout.take_step(50, "a step") == rollout.started()
    assert rollout.started().number == 1
