"""The whole rule over simulated years, for each number of tickers and kind of metric, beside naive controls.

OMP_NUM_THREADS=1 python benchmarks/ab/whole_rule.py [--only rule-accuracy-10 rule-rare --seed 1]

Each cell is a kind of days and a number of tickers. Plans are registered from four years of that kind each and
promise an effect that their own simulation of the rule finds; fresh years, drawn from the world and not from the
calibration years, show how often the rule promotes nobody's equal, somebody worse, and somebody better by what was
promised. What is promised is an average over calibration years: one block's spread is too large or too small, and no
plan can know which. Controls: the looks of the first rule, which take days for independent, a daily t-test, and a plan
that takes its spread as exact, its days as independent and its looks as all that there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from table import Array, Goal, Row, ever, main, running_z, said, share, verdict
from worlds import CUTOFF, EPOCH

from financial_assets.experiment.metrics.registry import GUARDS, METRICS
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.experiment.plan.whole_rule.power import simulate_power
from financial_assets.experiment.plan.whole_rule.verdicts import Endings, WholeRule
from financial_assets.experiment.plan.whole_rule.worlds import Worlds
from financial_assets.experiment.statistics.group_sequential import GroupSequentialDesign, z_of_t

DAYS, CALIBRATION = 252, 1000
TICKERS = (2, 10, 50, 500)
PLANS, YEARS, SIMULATED = 32, 125, 600
EQUAL_YEARS = 375
"""Years of each plan in which models are equal: a bound of 2.5 % is close to what the rule spends."""
LARGER = 1.5
"""Times what a year finds: what plans hope for that choose their horizon."""
COMMON = 0.2
"""Part of a ticker's difference that all tickers of a day share."""
MOVED = 0.3
"""Variance of one ticker's difference in right or wrong: models disagree on three rows in ten."""

Days = Callable[[np.random.Generator, tuple[int, int], int], Array]
"""Daily mean differences ``[year, day]`` over some tickers, without a true difference."""


def right_or_wrong(rng: np.random.Generator, shape: tuple[int, int], tickers: int) -> Array:
    """Accuracy: disagreements on three rows in ten, won by a chance that a shock moves which all tickers share."""
    disagreements = rng.binomial(tickers, MOVED, size=shape)
    shock = rng.choice((-1.0, 1.0), size=shape)
    favour = 0.5 * (1 + shock * math.sqrt(COMMON))
    return (2 * rng.binomial(disagreements, favour) - disagreements) / tickers


def skewed(rng: np.random.Generator, shape: tuple[int, int], tickers: int) -> Array:
    """Losses of which some are large, in common or by sectors of five tickers: skewness down to -0.9."""
    sectors = max(1, tickers // 5)
    common, sector = (4 - rng.gamma(4.0, 1.0, shape)) / 2, (4 - rng.gamma(4.0 * sectors, 1 / sectors, shape)) / 2
    own = rng.standard_normal(shape) / math.sqrt(tickers)
    return 0.01 * (math.sqrt(COMMON) * common + math.sqrt(COMMON) * sector + math.sqrt(1 - 2 * COMMON) * own)


def dependent(rng: np.random.Generator, shape: tuple[int, int], tickers: int) -> Array:
    """First-order autoregression, 0.2 from day to day."""
    return 0.02 * _over(tickers) * _autoregressive(rng.standard_normal((shape[0], shape[1] + 30)), 0.2)


def clustered(rng: np.random.Generator, shape: tuple[int, int], tickers: int) -> Array:
    """What differences of risk scores look like: calm and wild weeks (GARCH), and 0.1 from day to day."""
    steps, variance = rng.standard_normal((shape[0], shape[1] + 90)), np.ones(shape[0])
    for day in range(steps.shape[1]):
        steps[:, day] *= np.sqrt(variance)
        variance = 0.03 + 0.1 * steps[:, day] ** 2 + 0.87 * variance
    return 1e-4 * _over(tickers) * _autoregressive(steps[:, 60:], 0.1)


def uneven(rng: np.random.Generator, shape: tuple[int, int], tickers: int) -> Array:
    """Risk scores of real markets: large losses (skewness about -1.6) that come in spells, 0.1 from day to day."""
    length = shape[1] + 90
    losses, normal = 1 - rng.exponential(1.0, (shape[0], length)), rng.standard_normal((shape[0], length))
    steps, variance = 0.9 * losses + math.sqrt(1 - 0.9**2) * normal, np.ones(shape[0])
    for day in range(length):
        steps[:, day] *= np.sqrt(variance)
        variance = 0.1 + 0.05 * steps[:, day] ** 2 + 0.85 * variance
    return 0.3 * _over(tickers) * _autoregressive(steps[:, 60:], 0.1)


def rare_losses(rng: np.random.Generator, shape: tuple[int, int], tickers: int) -> Array:
    """One day in ten loses what nine others gain."""
    rare = np.where(rng.random(shape) < 0.1, -3.0, 1 / 3) + 0.1 * rng.standard_normal(shape)
    return 0.1 * _over(tickers) * rare


def _over(tickers: int) -> float:
    """Deviation of a day's mean over tickers that share a part (Kish 1965), in that of one ticker."""
    return math.sqrt(COMMON + (1 - COMMON) / tickers)


def _autoregressive(steps: Array, rho: float) -> Array:
    days = np.zeros_like(steps)
    for day in range(1, steps.shape[1]):
        days[:, day] = rho * days[:, day - 1] + steps[:, day]
    return days[:, 30:] * math.sqrt(1 - rho**2)


KINDS: dict[str, tuple[PairedMetric, Days]] = {
    "accuracy, common factor": ("accuracy", right_or_wrong),
    "Brier, skew and sectors": ("brier", skewed),
    "log loss, AR(1) 0.2": ("log_loss", dependent),
    "pinball, AR(1) 0.1 and GARCH": ("pinball", clustered),
    "QLIKE, large losses in spells": ("qlike", uneven),
    "accuracy, rare losses": ("accuracy", rare_losses),
}


def years(
    kind: str, tickers: int, rng: np.random.Generator, count: int, names: tuple[str, ...], length: int = DAYS
) -> Worlds:
    """Years without any true difference, to the champion, to baselines and of guards."""
    metric, days = KINDS[kind]
    base = days(rng, (count, length), tickers)

    def beside() -> Array:
        return 0.5 * base + math.sqrt(0.75) * days(rng, base.shape, tickers)

    guards = [name for name, guard in GUARDS.items() if guard.name != metric]
    # Baselines are less like the challenger than the champion is.
    return Worlds(base, {name: 1.2 * beside() for name in names}, {name: beside() for name in guards}, "simulated")


@cache
def plans(kind: str, tickers: int, chosen: bool = False) -> tuple[ExperimentPlan, ...]:
    """Plans of some calibration years, each hoping for exactly the effect that its whole rule finds in a year.

    ``chosen``: for half as much again as they find on average, in as few sessions as their own calibration years say
    that it takes.
    """
    rng = np.random.default_rng([1, tickers])
    names = METRICS[KINDS[kind][0]].baselines
    calibrations = [years(kind, tickers, rng, 1, names, CALIBRATION) for _ in range(PLANS)]
    if not chosen:
        return tuple(_plan(kind, calibration, place) for place, calibration in enumerate(calibrations))
    effect = LARGER * float(np.mean([plan.detectable for plan in plans(kind, tickers)]))
    return tuple(_plan(kind, calibration, place, effect) for place, calibration in enumerate(calibrations))


def _plan(kind: str, calibration: Worlds, place: int, effect: float | None = None) -> ExperimentPlan:
    policy = replace(load_policy(), experiment=EPOCH.experiment, questions=())
    spread = DailyDeviation.of_days(calibration.main[0], "four calibration years")
    assert spread is not None
    series = {f"against {name}": days for name, days in calibration.against.items()}
    series |= {f"guard {name}": days for name, days in calibration.guards.items()}
    spread = replace(spread, beside=tuple((name, tuple(days[0].tolist())) for name, days in series.items()))

    def hoping(effect: float, worlds: int, horizon: int | Literal["auto"] = DAYS) -> ExperimentPlan:
        hoped = min(effect, 0.5)
        asked = replace(
            policy.test, question=None, metric=KINDS[kind][0], plausible_effect=hoped, horizon_sessions=horizon
        )
        rules = replace(policy, test=asked)
        # Random numbers of their own: with the same for all plans, their luck would be the cell's.
        simulated = partial(simulate_power, worlds=worlds, seed=place)
        return make_plan(rules, EPOCH, EPOCH.challengers[0], spread, CUTOFF, whole_rule=simulated)

    if effect is not None:
        return hoping(effect, SIMULATED, "auto")
    first = hoping(3.3 * spread.deviation / math.sqrt(DAYS), SIMULATED // 3)
    return hoping(first.detectable, SIMULATED)


def naive_effect(plan: ExperimentPlan) -> float:
    """What a plan would promise that knows its spread exactly, of independent days, and has looks and nothing else."""
    looks = plan.looks
    design = GroupSequentialDesign.of([day / looks[-1] for day in looks], plan.alpha_planned)
    return design.drift_for(plan.test.power) * plan.spread.deviation / math.sqrt(looks[-1])


Effect = Callable[[ExperimentPlan], float]
"""By how much the challenger is better."""


def times(part: float) -> Effect:
    """Of what a plan promises to find."""
    return lambda plan: part * plan.detectable


def ended(
    kind: str,
    tickers: int,
    rng: np.random.Generator,
    effects: tuple[Effect, ...],
    count: int = YEARS,
    *,
    chosen: bool = False,
) -> list[list[Endings]]:
    """How fresh years end, for each plan, if the challenger is better by each of these effects."""
    found: list[list[Endings]] = [[] for _ in effects]
    for plan in plans(kind, tickers, chosen):
        rule = WholeRule(plan, years(kind, tickers, rng, count, plan.must_beat, plan.looks[-1]))
        for endings, effect in zip(found, effects, strict=True):
            endings.append(rule.endings(effect(plan)))
    return found


def promoted(found: list[Endings]) -> NDArray[np.bool_]:
    """Of all plans."""
    return np.concatenate([endings.promoted for endings in found])


def ending_day(found: list[Endings]) -> float:
    """On which tests end, in the median."""
    return float(np.median(np.concatenate([endings.day for endings in found])))


def apart(found: list[Endings]) -> float:
    """Standard deviation of the plans' true shares of promotions in points, without the noise of their years."""
    shares = np.array([endings.promoted.mean() for endings in found])
    noise = float(np.mean(shares * (1 - shares))) / (len(found[0].promoted) - 1)
    return 100 * math.sqrt(max(float(shares.var(ddof=1)) - noise, 0.0))


def controls(kind: str, tickers: int, rng: np.random.Generator) -> tuple[str, float]:
    """The planned looks as the first rule took them, and a daily t-test, of equal models."""
    (plan, *_) = plans(kind, tickers)
    z, looks = running_z(KINDS[kind][1](rng, (PLANS * YEARS, DAYS), tickers)), np.array(plan.looks)
    naive = share(ever(z_of_t(z[:, looks - 1], looks - 1) >= np.array(plan.boundaries)))
    daily = share(ever(z[:, 19:] > 1.96))
    return f"looks of the first rule alone {100 * naive[0]:.1f} %; daily t-test {100 * daily[0]:.0f} %", naive[1]


def cell(kind: str, tickers: int, rng: np.random.Generator) -> Iterator[Row]:
    """False promotion, promotion of somebody worse, and of somebody better by what the plan promises."""
    where, made = f"{kind}, {tickers} tickers", plans(kind, tickers)
    (equal,) = ended(kind, tickers, rng, (times(0),), EQUAL_YEARS)
    worse, better, naively = ended(kind, tickers, rng, (times(-0.25), times(1), naive_effect))
    false, (control, naive) = share(promoted(equal)), controls(kind, tickers, rng)
    fails = naive > 0.025 if "0.2" in kind or "losses" in kind else True
    what = f"equal models promoted by the whole rule: {where}"
    yield Row("S2", what, "99 % bound <= 2.5 %", said(false), control, verdict(false[2] <= 0.025 and fails))
    harmful = share(promoted(worse))
    what = f"worse by a quarter of the effect, promoted: {where}"
    back = share(np.concatenate([endings.rolled_back for endings in worse]))
    yield Row("S3", what, "<= 0.5 %", said(harmful), f"rolled back: {said(back)}", verdict(harmful[0] <= 0.005))
    found = share(promoted(better))
    planned = made[0].test.power
    effect = float(np.mean([plan.detectable / plan.spread.deviation for plan in made]))
    what = f"promoted at the effect that the plan promises, {effect:.3f} deviations of a day: {where}"
    told = f"{said(found)}; {100 * (found[0] - planned):+.1f} points off the plan, of one plan +-{apart(better):.0f}"
    told += f"; median day {ending_day(better):.0f}, of equal models {ending_day(equal):.0f}"
    naive = share(promoted(naively))
    met = verdict(found[0] >= 0.78 and abs(found[0] - planned) <= 0.03 and naive[0] < 0.77)
    yield Row("S4", what, ">= 78 %, within 3 points", told, f"at a naive plan's effect {100 * naive[0]:.1f} %", met)


def shortest(kind: str, tickers: int, rng: np.random.Generator) -> Iterator[Row]:
    """The same of plans that choose how long they last, for an effect that all of them hope for."""
    where, made = f"{kind}, {tickers} tickers", plans(kind, tickers, True)
    (equal,) = ended(kind, tickers, rng, (times(0),), EQUAL_YEARS, chosen=True)
    half, full = (lambda plan: plan.test.plausible_effect / 2), (lambda plan: plan.test.plausible_effect)
    worse, some, better = ended(kind, tickers, rng, (lambda plan: -0.25 * full(plan), half, full), chosen=True)
    horizons = np.array([plan.looks[-1] for plan in made])
    chosen = f"horizons {horizons.min()} to {horizons.max()}, {np.median(horizons):.0f} in the median"
    false, harmful, found = (share(promoted(what)) for what in (equal, worse, better))
    what = f"equal models promoted, horizon chosen ({chosen}): {where}"
    yield Row("S2", what, "99 % bound <= 2.5 %", said(false), "", verdict(false[2] <= 0.025))
    what = f"worse by a quarter of the effect, promoted, horizon chosen: {where}"
    yield Row("S3", what, "<= 0.5 %", said(harmful), "", verdict(harmful[0] <= 0.005))
    promised = float(np.mean([plan.whole_rule.promoted[2] for plan in made if plan.whole_rule]))
    told = f"{said(found)}; {100 * (found[0] - promised):+.1f} points off the plans' {100 * promised:.0f} %"
    told += f", of one plan +-{apart(better):.0f}; at half of it {said(share(promoted(some)))}"
    told += f"; median day {ending_day(better):.0f}, of equal models {ending_day(equal):.0f}"
    met = verdict(found[0] >= 0.78 and abs(found[0] - promised) <= 0.03)
    what = f"promoted at the effect that is hoped for, {LARGER:g} times what a year finds, horizon chosen: {where}"
    yield Row("S4", what, ">= 78 %, within 3 points", told, "", met)


def rare(rng: np.random.Generator) -> Iterator[Row]:
    """Rare large losses: the calibration year shows them, and the sequence decides instead of the looks."""
    kind = "accuracy, rare losses"
    (equal,), (control, _) = ended(kind, 10, rng, (times(0),)), controls(kind, 10, rng)
    found = share(promoted(equal))
    uneven = sum(plan.uneven for plan in plans(kind, 10))
    what = f"equal models promoted, one day in ten loses what nine gain (seen by {uneven} of {PLANS} plans)"
    yield Row("S2", what, "99 % bound <= 2.5 %", said(found), control, verdict(found[2] <= 0.025))


def harm(rng: np.random.Generator) -> Iterator[Row]:
    """A challenger that is worse by all of the effect."""
    (found,) = ended("accuracy, common factor", 10, rng, (times(-1),))
    back = share(np.concatenate([endings.rolled_back for endings in found]))
    what = (
        f"worse by the effect, rolled back by evidence: accuracy, 10 tickers; day {ending_day(found):.0f} in the median"
    )
    yield Row("S3", what, "(told, no goal)", said(back), f"promoted: {said(share(promoted(found)))}", "")


CELLS = {kind: metric.replace("_", "-") for kind, (metric, _) in KINDS.items() if "rare" not in kind}
GOALS: dict[str, Goal] = {
    **{f"rule-{CELLS[kind]}-{tickers}": partial(cell, kind, tickers) for kind in CELLS for tickers in TICKERS},
    **{
        f"rule-auto-{CELLS[kind]}-{tickers}": partial(shortest, kind, tickers) for kind in CELLS for tickers in (10, 50)
    },
    "rule-rare": rare,
    "rule-harm": harm,
}

if __name__ == "__main__":
    main(GOALS, __doc__)
