"""The whole rule over simulated years: what it promotes and rolls back, beside the original system's rule.

OMP_NUM_THREADS=1 python benchmarks/ab/decision.py [--only S2 S8 --seed 1]

``experiment.decision.decide`` itself, with plan, paired evidence against champion and baselines, guardrails over routed
requests and the deflated Sharpe ratio, looked at on each of 252 days (:mod:`worlds`). Controls: the original system's
rule (two averages of split traffic that differ by more than 2 points mean DEPLOY), and a daily t-test of pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from table import NEVER, Array, Bools, Goal, Row, ever, main, mean, median, running_z, said, share, shown, verdict
from worlds import ARMS, CHALLENGER, CHAMPION, DAYS, EPOCH, Court, Ending, Years, plan_for, planned_day, simulate

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import Rollout

PART = 250  # worlds simulated at once: bounds the memory


def endings(
    rng: np.random.Generator, worlds: int, *, edge: float, skill: float, rivals: float
) -> tuple[list[Ending], str]:
    """How simulated tests end, and the controls in words."""
    plan, found = plan_for(), list[Ending]()
    original, daily = list[Bools](), list[Bools]()
    for begin in range(0, worlds, PART):
        years = simulate(rng, min(PART, worlds - begin), edge=edge, skill=skill, rivals=rivals)
        court = Court(rng, years, plan)
        found += [court.ending(world) for world in range(court.worlds)]
        original.append(split_difference(years) > 0.02)
        daily.append(ever(running_z(court.daily["champion"])[:, 19:] > 1.96))
    deployed, naive = share(np.concatenate(original)), share(np.concatenate(daily))
    return found, f"original's rule: {said(deployed)}; first favourable daily t-test: {said(naive)}"


def split_difference(years: Years) -> Array:
    """Difference of the two arms' averages over the requests that each answered, at the end ``[world]``."""
    mine = (years.challenger & years.routed).sum(axis=(1, 2)) / years.routed.sum(axis=(1, 2))
    other = (years.champion & ~years.routed).sum(axis=(1, 2)) / (~years.routed).sum(axis=(1, 2))
    return mine - other


def actions(found: list[Ending], action: str) -> Bools:
    """Which tests ended so."""
    return np.array([ending.decision.action == action for ending in found])


def s2(rng: np.random.Generator) -> Iterator[Row]:
    """False promotion end to end, and false rollback, of models that are as good as each other.

    In the second world baselines and Sharpe ratio stop nobody, so that nothing but the plan's error probability does,
    which is .04 / 2 + .01 / 2: the share itself is held against the goal, and 20,000 years are in ``error_rates.py``.
    """
    worlds = (
        ("equal models without skill, nor have the baselines", 0.5, 0.5),
        ("equal models that beat the baselines by 20 points", 0.62, 0.42),
    )
    for name, skill, rivals in worlds:
        found, control = endings(rng, 2000, edge=0.0, skill=skill, rivals=rivals)
        promoted, back = share(actions(found, "promote")), share(actions(found, "rollback"))
        what = f"promoted by the whole rule, 2,000 years of daily decisions: {name}"
        yield Row("S2", what, "<= 2.5 % of 2,000", said(promoted), control, verdict(promoted[0] <= 0.025))
        what = f"rolled back (alpha .01 / 2 and two guardrails of .01 each): {name}"
        yield Row("S2", what, "<= 2.5 %", said(back), "", verdict(back[2] <= 0.025))
    years = simulate(rng, 8, edge=0.02, skill=0.54, rivals=0.5)
    court = Court(rng, years, plan_for())
    same = [court.ending(world) == court.each_day(world) for world in range(court.worlds)]
    what = "the benchmark's shortcut ends each test as deciding anew on each day does"
    yield Row("S2", what, f"{len(same)} of {len(same)}", f"{sum(same)} of {len(same)}", "", verdict(all(same)))


def s3(rng: np.random.Generator) -> Iterator[Row]:
    """A challenger that is worse by 5 points."""
    found, control = endings(rng, 2000, edge=-0.05, skill=0.56, rivals=0.5)
    promoted, back = actions(found, "promote"), actions(found, "rollback")
    what = "promoted by the whole rule, challenger worse by 5 points, 2,000 years of daily decisions"
    yield Row("S3", what, "<= 0.5 %", said(share(promoted)), control, verdict(share(promoted)[2] <= 0.005))
    days = median([ending.day for ending in found if ending.decision.action == "rollback"])
    what = "rolled back for being worse, without waiting for a look"
    measured = f"{said(share(back))}; median day {shown(days, 0)}"
    yield Row("S3", what, "(told, no goal)", measured, f"planned looks alone: on day {plan_for().looks[0]} at best", "")


def s4(rng: np.random.Generator) -> Iterator[Row]:
    """Power at the effect that the plan says it detects."""
    plan = plan_for()
    effect = plan.detectable
    crossed = list[Bools]()
    for _ in range(16):
        years = simulate(rng, PART, edge=effect, skill=0.52, rivals=0.5)
        crossed.append(planned_day(plan, [years.daily("champion")]) < NEVER)
    found = share(np.concatenate(crossed))
    lesser = simulate(rng, 1000, edge=effect / 2, skill=0.52, rivals=0.5).daily("champion")
    half = share(planned_day(plan, [lesser]) < NEVER)
    what = f"planned looks cross at the effect that the plan detects ({100 * effect:.1f} points in {DAYS} days)"
    met = verdict(found[1] >= 0.77)
    yield Row("S4", what, "80 % (spread is estimated: +-3)", said(found), f"half that effect: {said(half)}", met)
    for edge, name in ((effect, "that effect"), (1.5 * effect, "1.5 times it")):
        ended, control = endings(rng, 600, edge=edge, skill=0.50, rivals=0.48)
        days = mean([ending.day for ending in ended])
        what = f"promoted by the whole rule at {name}; baselines 2 points below the champion"
        measured = f"{said(share(actions(ended, 'promote')))}; ends on day {shown(days, 0)} on average"
        yield Row("S4", what, "(told, no goal)", measured, control, "")


def requests(rng: np.random.Generator, count: int, slow: float) -> pd.DataFrame:
    """Routed requests, half of them to a challenger that is slow at the given rate."""
    chosen = rng.random(count) < 0.5
    late = rng.random(count) < np.where(chosen, slow, 0.005)
    frame = {
        "epoch": np.ones(count, np.int64),
        "regime": None,
        "model": np.where(chosen, CHALLENGER, CHAMPION).astype(object),
        "status": np.full(count, "ok", dtype=object),
        "latency_s": np.where(late, 1.0, 0.003),
    }
    return pd.DataFrame(frame)


HALVES = WeightEpoch("ab-experiment", 1, EPOCH.opened_at, tuple(replace(arm, weight=50) for arm in ARMS), "start")


def fires(rows: pd.DataFrame) -> bool:
    """Whether the latency guardrail rolls back."""
    rails = watch_traffic(plan_for(), [HALVES], rows).guardrails
    return any(rail.fired and rail.name == "latency" and rail.action == "rollback" for rail in rails)


def answers_until(rows: pd.DataFrame) -> int:
    """Requests of the challenger until the guardrail rolls back, by bisection: once fired it stays so."""
    low, high = 0, len(rows)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fires(rows.iloc[:middle]) else (middle, high)
    return int((rows["model"].iloc[:high] == CHALLENGER).sum())


def s8(rng: np.random.Generator) -> Iterator[Row]:
    """The latency guardrail over frames of routed requests, as the rule reads them from the log."""
    took = median([answers_until(requests(rng, 4000, 0.05)) for _ in range(600)])
    what = "median requests of the challenger until watch_traffic rolls back, 5 times the allowed slow share"
    yield Row(
        "S8", what, "<= 150", shown(took, 0), "original's rule: does not look at latency", verdict(took[2] <= 150)
    )
    alarms, naive = list[bool](), list[bool]()
    for _ in range(6000):
        rows = requests(rng, 10_000, 0.01)
        alarms.append(fires(rows))
        slow = (rows.loc[rows["model"] == CHALLENGER, "latency_s"] > 0.2).to_numpy()
        count = np.arange(1, len(slow) + 1)
        seen = np.cumsum(slow)
        naive.append(bool(((seen - 0.01 * count) > 2.326 * np.sqrt(0.0099 * count))[99:].any()))
    false = share(np.array(alarms))
    what = "false rollback by watch_traffic in 5,000 requests of the challenger at exactly the allowed 1 %"
    control = f"z test at .01 each request: {said(share(np.array(naive)))}"
    yield Row("S8", what, "<= 1 %", said(false), control, verdict(false[2] <= 0.01))


def s16(rng: np.random.Generator) -> Iterator[Row]:
    """No promotion without a plan, nor by one that could not have found its plausible effect."""
    years = simulate(rng, 100, edge=0.2, skill=0.6, rivals=0.5)
    able, unable = plan_for(), plan_for(0.01)
    promoted = {plan.can_promote: 0 for plan in (able, unable)}
    for plan in (able, unable):
        court = Court(rng, years, plan)
        promoted[plan.can_promote] = sum(court.decide(world, DAYS).action == "promote" for world in range(100))
    what = f"promoted of 100 challengers 20 points better, plan detects {able.detectable:.3f} but hopes for 0.010"
    control = f"plan that hopes for {able.test.plausible_effect:.2f}: {promoted[True]} of 100"
    yield Row("S16", what, "0", str(promoted[False]), control, verdict(promoted[False] == 0 and promoted[True] > 90))
    with tempfile.TemporaryDirectory() as folder, PredictionLog(f"sqlite:///{folder}/log.db") as log:
        log.open_epoch(EPOCH.experiment, EPOCH.arms, "start", after=0)
        try:
            ExperimentController(Rollout(log, replace(load_policy(), experiment=EPOCH.experiment))).plans()
            answer = "decided"
        except ExperimentError as error:
            answer = "refused: " + str(error).split(":")[0]
    what = "a decision without a registered plan"
    yield Row("S16", what, "refused", answer, "", verdict(answer.startswith("refused")))


GOALS: dict[str, Goal] = {"S2": s2, "S3": s3, "S4-rule": s4, "S8-rule": s8, "S16": s16}

if __name__ == "__main__":
    main(GOALS, __doc__)
