"""The whole rule over simulated years: what it promotes and rolls back, beside the original system's rule.

OMP_NUM_THREADS=1 python benchmarks/ab/decision.py [--only S2 S8 --seed 1]

Plan, paired evidence against champion and baselines, and profit as a guard, looked at on each of 252 days; the
vectorised rule is held against ``decide`` itself, with guardrails over routed requests (:mod:`worlds`). Controls: the
original system's rule (two averages of split traffic that differ by more than 2 points mean DEPLOY), and a daily t-test
of pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from table import Array, Bools, Goal, Row, ever, main, mean, median, running_z, said, share, shown, verdict
from worlds import ARMS, CHALLENGER, CHAMPION, DAYS, EPOCH, Court, Years, plan_for, simulate

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.experiment.plan.whole_rule.verdicts import Endings, WholeRule
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import Rollout

PART = 250  # worlds simulated at once: bounds the memory


def endings(rng: np.random.Generator, worlds: int, *, edge: float, skill: float, rivals: float) -> tuple[Endings, str]:
    """How simulated tests end, and the controls in words."""
    plan, found = plan_for(), list[Endings]()
    original, daily = list[Bools](), list[Bools]()
    for begin in range(0, worlds, PART):
        years = simulate(rng, min(PART, worlds - begin), edge=edge, skill=skill, rivals=rivals)
        court = Court(rng, years, plan)
        found.append(WholeRule(plan, court.worlds()).endings(0.0))
        original.append(split_difference(years) > 0.02)
        daily.append(ever(running_z(court.daily["champion"])[:, 19:] > 1.96))
    deployed, naive = share(np.concatenate(original)), share(np.concatenate(daily))
    control = f"original's rule: {said(deployed)}; first favourable daily t-test: {said(naive)}"
    whole = Endings(
        promoted=np.concatenate([part.promoted for part in found]),
        rolled_back=np.concatenate([part.rolled_back for part in found]),
        day=np.concatenate([part.day for part in found]),
    )
    return whole, control


def split_difference(years: Years) -> Array:
    """Difference of the two arms' averages over the requests that each answered, at the end ``[world]``."""
    mine = (years.challenger & years.routed).sum(axis=(1, 2)) / years.routed.sum(axis=(1, 2))
    other = (years.champion & ~years.routed).sum(axis=(1, 2)) / (~years.routed).sum(axis=(1, 2))
    return mine - other


def s2(rng: np.random.Generator) -> Iterator[Row]:
    """False promotion end to end, and false rollback, of models that are as good as each other.

    In the second world baselines stop nobody, so that nothing but the plan's error probability does, which is
    .04 / 2 + .01 / 2: so near to the bound, more years are needed to tell the two apart.
    """
    worlds = (
        ("equal models without skill, nor have the baselines", 0.5, 0.5, 6_000),
        ("equal models that beat the baselines by 20 points", 0.62, 0.42, 20_000),
    )
    for name, skill, rivals, years_of in worlds:
        found, control = endings(rng, years_of, edge=0.0, skill=skill, rivals=rivals)
        promoted, back = share(found.promoted), share(found.rolled_back)
        what = f"promoted by the whole rule, {years_of:,} years of daily decisions: {name}"
        yield Row("S2", what, "99 % bound <= 2.5 %", said(promoted), control, verdict(promoted[2] <= 0.025))
        what = f"rolled back by evidence (two-sided: as often as promoted): {name}"
        yield Row("S2", what, "<= 3 %", said(back), "", verdict(back[2] <= 0.03))
    years = simulate(rng, 8, edge=0.02, skill=0.54, rivals=0.5)
    court = Court(rng, years, plan_for())
    fast, same = WholeRule(plan_for(), court.worlds()).endings(0.0), list[bool]()
    for world in range(court.count):
        action = "promote" if fast.promoted[world] else "rollback" if fast.rolled_back[world] else "hold"
        same.append(court.each_day(world) == (action, fast.day[world]))
    what = "the vectorised rule ends each test as deciding on each day does, guardrails of the traffic included"
    yield Row("S2", what, f"{len(same)} of {len(same)}", f"{sum(same)} of {len(same)}", "", verdict(all(same)))


def s3(rng: np.random.Generator) -> Iterator[Row]:
    """A challenger that is worse by 5 points."""
    found, control = endings(rng, 2000, edge=-0.05, skill=0.56, rivals=0.5)
    promoted, back = share(found.promoted), share(found.rolled_back)
    what = "promoted by the whole rule, challenger worse by 5 points, 2,000 years of daily decisions"
    yield Row("S3", what, "<= 0.5 %", said(promoted), control, verdict(promoted[2] <= 0.005))
    days = median(found.day[found.rolled_back])
    ended = share(~found.rolled_back & (found.day < DAYS))
    what = "rolled back for being worse, at a look or on any day"
    measured = f"{said(back)}; median day {shown(days, 0)}; ended for want of hope: {said(ended)}"
    yield Row("S3", what, "(told, no goal)", measured, "", "")


def s4(rng: np.random.Generator) -> Iterator[Row]:
    """Power of the whole rule at the effect that the plan says it detects; baselines as good as the champion."""
    plan = plan_for()
    for times, target in ((1.0, ">= 78 %"), (0.5, "(told, no goal)"), (1.5, "(told, no goal)")):
        ended, control = endings(rng, 2000, edge=times * plan.detectable, skill=0.5, rivals=0.5)
        promoted = share(ended.promoted)
        what = (
            f"promoted by the whole rule at {times:g} of the {100 * plan.detectable:.1f} points that the plan detects"
        )
        measured = f"{said(promoted)}; ends on day {shown(mean(ended.day.astype(np.float64)), 0)} on average"
        met = verdict(promoted[0] >= 0.78) if times == 1.0 else ""
        yield Row("S4", what, target, measured, control, met)


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


def fires(rows: pd.DataFrame, plan: ExperimentPlan | None = None) -> bool:
    """Whether the latency guardrail rolls back; by default, that of the plan as the policy has it."""
    rails = watch_traffic(plan or plan_for(), [HALVES], rows).guardrails
    return any(rail.fired and rail.name == "latency" and rail.action == "rollback" for rail in rails)


def answers_until(rows: pd.DataFrame, plan: ExperimentPlan) -> int:
    """Requests of the challenger until the guardrail rolls back, by bisection: once fired it stays so."""
    low, high = 0, len(rows)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fires(rows.iloc[:middle], plan) else (middle, high)
    return int((rows["model"].iloc[:high] == CHALLENGER).sum())


def s8(rng: np.random.Generator) -> Iterator[Row]:
    """The latency guardrail over frames of routed requests, as the rule reads them from the log."""
    plan = plan_for()
    each = replace(plan, guardrails=replace(plan.guardrails, incident_requests=1))
    frames = [requests(rng, 4000, 0.05) for _ in range(600)]
    took, alone = (median([answers_until(rows, rules) for rows in frames]) for rules in (plan, each))
    what = "median requests of the challenger until watch_traffic rolls back, 5 times the allowed slow share"
    incidents = f"an incident of up to {plan.guardrails.incident_requests} requests counts once: {shown(took, 0)}"
    control = f"{incidents}; original's rule: does not look at latency"
    yield Row("S8", f"{what}, each of them counted", "<= 150", shown(alone, 0), control, verdict(alone[2] <= 150))
    ratio = took[0] / alone[0]
    what = "what it costs that requests which fail together count once: as many times the requests, with the policy's "
    yield Row("S8", f"{what}incidents", "(told, no goal)", f"{ratio:.2f}", "", "")
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
