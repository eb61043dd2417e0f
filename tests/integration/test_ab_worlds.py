"""The engine on a simulated market, with trained models behind Envoy and MLServer: what is promoted, and what is not.

A move goes on after low volume and reverses after high volume. Two of the three variants learn it and one learns half
of it, which makes a better, a worse and an equal challenger, depending on who is champion. The slow and the failing
challenger are registered versions of a trained model whose exported graph has a flaw that no deployment check shows.
Prices, training, paired predictions and plane are shared by all experiments; each has routes, requests, plan and
decisions of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import yaml

from financial_assets.experiment.decision.record import Decision, Guardrail
from financial_assets.experiment.decision.words import first_reason
from financial_assets.serving.local import control
from tests.integration.ab_world import World, environment, policy
from tests.integration.sick_models import Change, failing_after, release, slow_by

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

BASELINE, ENHANCED, LIGHTWEIGHT = "baseline-predictor-v1", "enhanced-predictor-v2", "lightweight-predictor-v3"
SETTINGS = {
    "PRICE_SOURCE": "simulated",
    "TICKERS": "AAA,BBB,CCC,DDD,EEE,FFF,GGG,HHH,III,JJJ",
    "SEED": "7",
    "SIMULATED_SESSIONS": "800",
    "SIMULATED_SIGNAL": "0.6",
    "SIMULATED_PATTERN": "volume_reversal",
    "REPLAY_SESSIONS": "6",
    "MAX_EPOCHS": "12",
    "DEVICE": "cpu",
    "PROGRESS": "false",
    "OMP_NUM_THREADS": "1",
}
TEST = {"metric": "accuracy", "plausible_effect": 0.12, "horizon_sessions": 40, "looks": 4}
LADDER = {"mode": "ladder", "steps": [0, 10, 30, 50], "dwell_sessions": 5}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Trained, deployed and begun, once: in the first experiment, one challenger is worse and one is equal."""
    home, instance = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("instance")
    rules = policy("worse", "baseline", "enhanced", "lightweight", test={**TEST, "horizon_sessions": 80})
    world = World.of(environment(home, instance, SETTINGS), rules, tmp_path_factory.mktemp("policies"))
    try:
        world.build()
        yield world
    finally:
        control.stop(home)


def another(trained: World, rules: dict[str, object], **settings: str) -> World:
    return World.of({**trained.environment, **settings}, rules, trained.policy_file.parent)


def assert_recorded(world: World, decision: Decision) -> None:
    """In log, file and MLflow there is one record, and it is what the log gives when it is asked anew."""
    assert set(world.recorded(decision).values()) == {decision.to_json()}
    assert "identical bit for bit" in world.command("decide", "--repeat", decision.digest[:16]).output


def assert_rolled_back(world: World, decision: Decision) -> None:
    """The champion answers everything, on all levels."""
    assert decision.action == "rollback"
    epoch = world.epoch()
    assert (epoch.weights, epoch.challengers) == ({decision.champion: 100}, ())
    assert decision.challenger in {arm.model for arm in epoch.shadows}
    assert epoch.reason == f"rollback: {first_reason(decision, world.plan(decision))}"
    routes = world.routes()
    assert (routes.default, dict(routes.weights), routes.mirror) == (decision.champion, {decision.champion: 100}, None)
    assert world.aliases() == {"champion": epoch.champion.version}


def say(world: World, decision: Decision) -> None:
    plan = world.plan(decision)
    looks = [(look.day, round(look.z, 2), round(look.boundary, 2)) for look in decision.looks]
    print(
        f"\n{world.name}: {decision.action} on day {decision.days} of a horizon of {plan.looks[-1]}; detectable "
        f"{plan.detectable:.3f}, plausible {plan.test.plausible_effect:g} in {plan.days_for_plausible} days; estimate "
        f"{decision.estimate}, looks {looks}, "
        f"always on [{decision.always_on.low:+.3f}, {decision.always_on.high:+.3f}]; {decision.reasons[0]}"
    )


def test_of_two_challengers_the_worse_is_rolled_back_and_the_equal_goes_on(trained: World) -> None:
    assert trained.epoch().weights == {BASELINE: 50, ENHANCED: 25, LIGHTWEIGHT: 25}
    step = trained.go_on(first=11, until=81, every=5)
    decision, other = step.decisions
    say(trained, decision)
    say(trained, other)
    assert (decision.challenger, decision.action, other.challenger, other.action) == (
        ENHANCED,
        "rollback",
        LIGHTWEIGHT,
        "hold",
    )
    assert decision.always_on.high <= 0 or decision.looks[-1].outcome == "harm"
    assert "is worse than" in decision.reasons[0]
    assert {trained.plan(one).family for one in step.decisions} == {2}
    epoch, routes = trained.epoch(), trained.routes()
    assert epoch.weights == dict(routes.weights) == {BASELINE: 75, LIGHTWEIGHT: 25}
    assert ENHANCED in {arm.model for arm in epoch.shadows}
    assert trained.aliases() == {"champion": 1, "challenger": 3}
    sent = trained.routed(1)["model"].value_counts(normalize=True)
    assert sent.to_dict() == pytest.approx({BASELINE: 0.5, ENHANCED: 0.25, LIGHTWEIGHT: 0.25}, abs=0.08)
    assert_recorded(trained, decision)
    assert {one.action for step in trained.history[:-1] for one in step.decisions} == {"hold"}


def test_an_equal_challenger_is_not_promoted(trained: World) -> None:
    world = another(trained, policy("equal", "baseline", "lightweight", test=TEST))
    begun = world.begin()
    step = world.go_on(first=11, until=41, every=10)
    (decision,) = step.decisions
    say(world, decision)
    assert {one.action for step in world.history for one in step.decisions} == {"hold"}
    assert (decision.days, decision.ended) == (40, True)
    assert "of a winner" in decision.reasons[0] or "without a winner" in decision.reasons[0]
    assert world.epoch() == begun
    assert dict(world.routes().weights) == {BASELINE: 50, LIGHTWEIGHT: 50}
    assert world.aliases() == {"champion": 1, "challenger": 3}
    assert_recorded(world, decision)


def test_a_better_challenger_climbs_is_promoted_and_survives_two_kills(trained: World) -> None:
    world = another(
        trained, policy("better", "enhanced", "baseline", test={**TEST, "plausible_effect": 0.12}, traffic=LADDER)
    )
    begun, routes = world.begin(), world.routes()
    assert begun.weights == {ENHANCED: 100, BASELINE: 0}
    assert (dict(routes.weights), routes.mirror) == ({ENHANCED: 100}, (BASELINE, 100))
    step = world.go_on(first=6, until=41, every=5, short_of="promote")
    (decision,), ladder = step.decisions, step.epoch
    assert decision is not None
    say(world, decision)
    assert decision.action == "promote"
    assert [one.epoch.weights[BASELINE] for one in world.history[:3]] == [10, 30, 50]
    plan = world.plan(decision)
    assert plan.detectable <= plan.test.plausible_effect
    assert plan.days_for_plausible / 2 <= decision.days <= plan.looks[-1]
    assert_recorded(world, decision)
    before = world.routes()

    world.killed_before("apply_epoch")
    promoted = world.epoch()
    assert promoted.number == ladder.number + 1
    assert (promoted.weights, promoted.challengers) == ({BASELINE: 100}, ())
    assert world.routes() == before, "nobody has told Envoy"
    assert world.aliases() == {"champion": 2, "challenger": 1}

    world.killed_before("point_aliases")
    assert world.epoch() == promoted, "carried out once"
    routes = world.routes()
    assert (routes.default, dict(routes.weights), routes.mirror) == (BASELINE, {BASELINE: 100}, None)
    assert world.aliases() == {"champion": 2, "challenger": 1}, "aliases are moved last"

    assert world.materialize("rollout").success
    assert world.epoch() == promoted
    assert world.routes() == routes
    assert world.aliases() == {"champion": 1}
    assert world.go_on(first=42, until=42, every=1).decisions == ()
    assert set(world.routed(promoted.number)["model"]) == {BASELINE}
    assert_recorded(world, decision)


def test_requests_are_split_by_regime_and_alike_again_when_that_ends(trained: World) -> None:
    kinds = {ticker: "first" if ticker < "FFF" else "second" for ticker in SETTINGS["TICKERS"].split(",")}
    traffic = {"mode": "hedge", "regimes": ["sector", "trend"], "sectors": kinds}
    test = {**TEST, "horizon_sessions": 100}
    world = another(trained, policy("regime", "enhanced", "baseline", test=test, traffic=traffic))
    assert world.begin().regimes == {}
    world.command("replay", "--sessions", "9", "--decide")
    epoch = world.epoch()
    assert {label.split("-")[1] for label in epoch.regimes} == {"first", "second"}
    assert len({tuple(weights.values()) for weights in epoch.regimes.values()}) > 1, "each learns for itself"
    status = world.resources["serving"].target().status()
    splits = {one.name: one for one in status.experiments}
    assert status.ready, status.problems
    for label, weights in epoch.regimes.items():
        found = splits[f"regime-{label}-experiment"]
        assert (found.default, dict(found.weights)) == (None, dict(weights))
    assert splits[world.name].default == ENHANCED
    world.command("replay", "--sessions", "14")
    rows = world.routed(epoch.number)
    assert set(rows["status"]) == {"ok"}
    assert rows["regime"].notna().all()
    assert rows["propensity"].tolist() == [
        epoch.propensity(model, regime) for model, regime in zip(rows["model"], rows["regime"], strict=True)
    ]
    assert not _guardrail(world.decide(), "sample ratio").fired
    world.policy_file.write_text(yaml.safe_dump({**yaml.safe_load(world.policy_file.read_text()), "traffic": {}}))
    assert world.materialize("experiment").success
    assert world.epoch().regimes == {}
    names = {one.name for one in world.resources["serving"].target().status().experiments}
    assert {name for name in names if name.startswith("regime-")} == {world.name}


def _guardrail(decision: Decision, name: str) -> Guardrail:
    (found,) = (rail for rail in decision.guardrails if rail.name == name)
    return found


@pytest.fixture
def sick(trained: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """A healthy champion against a sick version of its equal, which is taken away again afterwards."""
    name, change = request.param
    rules = policy(name, "baseline", "lightweight", test=TEST, guardrails={"latency_objective_s": 0.25})
    world = another(trained, rules, REPLAY_WORKERS="4")
    market, models = world.resources["market"], world.resources["models"]
    pointer = models.folder / "lightweight" / "current.json"
    healthy = pointer.read_text()
    version = release(models, "lightweight", change(market.first_cutoff().get()))
    try:
        begun = world.begin()
        assert begun.weights == {BASELINE: 50, f"lightweight-predictor-v{version}": 50}
        yield world
    finally:
        pointer.write_text(healthy)
        target = world.resources["serving"].target()
        target.delete("Experiment", world.name)
        target.delete("Model", f"lightweight-predictor-v{version}")


def _slow(_: pd.Timestamp) -> Change:
    return slow_by(0.8)


def _failing(cutoff: pd.Timestamp) -> Change:
    return failing_after((cutoff - pd.Timestamp(0)).days + 5)


@pytest.mark.parametrize("sick", [("slow", _slow)], indirect=True, ids=["slow"])
def test_a_slow_challenger_is_rolled_back_before_an_outcome_is_known(sick: World) -> None:
    said = sick.command("replay", "--sessions", "3", "--decide").output
    decision = sick.decisions()[-1]
    say(sick, decision)
    assert f"{len(sick.decisions())} decisions, 1 weight epochs opened" in said
    assert_rolled_back(sick, decision)
    rail = _guardrail(decision, "latency")
    assert rail.fired
    assert rail.observed > 0.9
    assert not _guardrail(decision, "errors").fired
    assert_recorded(sick, decision)


@pytest.mark.parametrize("sick", [("failing", _failing)], indirect=True, ids=["failing"])
def test_a_challenger_that_begins_to_fail_is_rolled_back_within_four_sessions(sick: World) -> None:
    sick.command("replay", "--sessions", "9", "--decide")
    *earlier, decision = sick.decisions()
    say(sick, decision)
    assert len(earlier) >= 3, "nothing was wrong with it in the beginning"
    assert {one.action for one in earlier} == {"hold"}
    assert_rolled_back(sick, decision)
    rail = _guardrail(decision, "errors")
    assert rail.fired
    failed = sick.routed().query("status != 'ok'")
    assert set(failed["model"]) == {decision.challenger}
    # What fails in one session may be one crash, and counts once: five requests a session prove little each.
    assert failed["session"].nunique() <= 4
    assert_recorded(sick, decision)
