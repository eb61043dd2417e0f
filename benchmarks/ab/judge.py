"""The judge, asked every five minutes for a year: wrong verdicts on equal arms, days until a better one is promoted.

    OMP_NUM_THREADS=1 python benchmarks/ab/judge.py [--only judge-days judge-power --seed 1]

An arm's requests are simulated in five-minute slots of 365 days, one poll after each: 105,120 polls a year. Tests by
days look at complete days only, so that all polls of a day have the verdict of the day before; tests by incidents and
by requests have news at every poll. ``decisions`` is a vectorised copy of the judge's rule on units
(``tests/experiment/judge/test_error_rates.py`` compares it with the judge itself, and polls with days).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from table import NEVER, Array, Goal, Row, ever, first, main, median, running_z, said, share, shown, verdict

from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.verdict import running_dependence
from financial_assets.experiment.statistics import capital
from financial_assets.experiment.statistics.capital import log_e_process

DAYS, SLOTS = 365, 288
YEARS = 10_000
WRONG = 0.025
SPREAD = 0.01
"""Standard deviation of a day's difference in the worlds, in units of the outcome."""


def plan_of(unit: str, effect: float = 0.3, deviation: float = SPREAD, bound: float | None = None) -> JudgePlan:
    """A plan as a client registers it; ``effect`` in deviations of a unit."""
    common = {"outcomes": "requests", "unit": unit, "unit_reason": "units are simulated"}
    if unit == "incident":
        return JudgePlan.model_validate(common | {"better": "lower", "low": 0, "high": 1, "control_share": 0.5})
    return JudgePlan.model_validate(
        common | {"effect": effect * deviation, "deviation": deviation, "largest_difference": bound}
    )


def decisions(
    plan: JudgePlan, units: Array, inflation: Array | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Unit, from 1, at which each test ``[test, unit]`` promotes and rolls back; ``NEVER`` where it does not.

    Parameters
    ----------
    plan
        Without a horizon.
    units
        Differences, positive if the candidate is better; clipped here.
    inflation
        Dependence of the units so far ``[test, unit]``; default: as the judge measures it.
    """
    inside = np.clip(units, -plan.bound, plan.bound)
    factor = running_dependence(inside) if inflation is None else inflation
    limit = math.log(2 / plan.alpha)
    up = log_e_process(inside, plan.least_gain, bound=plan.bound, stakes=plan.stakes) / factor >= limit
    down = log_e_process(-inside, plan.tolerated_loss, bound=plan.bound, stakes=plan.stakes) / factor >= limit
    up[:, : plan.least_units - 1] = down[:, : plan.least_units - 1] = False
    promoted, rolled_back = first(up), first(down)
    return np.where(promoted < rolled_back, promoted, NEVER), np.where(rolled_back < promoted, rolled_back, NEVER)


def wrong_share(plan: JudgePlan, units: Array) -> tuple[float, float, float]:
    """Share of tests of equal arms that end with a verdict."""
    promoted, rolled_back = decisions(plan, units)
    return share(np.minimum(promoted, rolled_back) < NEVER)


def independent(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Shocks of a day that hit one arm, of deviation 1."""
    return rng.standard_normal(shape)


def garch(rng: np.random.Generator, shape: tuple[int, int], rho: float = 0.0) -> Array:
    """Shocks in spells: GARCH(1, 1) with Student's t (5) innovations, and a first-order autoregression on top."""
    days = np.empty(shape)
    variance, before = np.ones(shape[0]), np.zeros(shape[0])
    for day in range(shape[1]):
        shock = np.sqrt(variance) * rng.standard_t(5, shape[0]) * math.sqrt(3 / 5)
        variance = 0.05 + 0.15 * shock**2 + 0.8 * variance
        days[:, day] = before = rho * before + shock * math.sqrt(1 - rho**2)
    return days


def autocorrelated(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """The same, each day being .3 of the day before."""
    return garch(rng, shape, 0.3)


def bursts(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Days of much and little traffic, heavy-tailed requests, and one day in 25 that undoes all gains of the others."""
    traffic = np.exp(rng.standard_normal(shape))
    noise = rng.standard_t(3, shape) / math.sqrt(3) / np.sqrt(np.maximum(traffic, 0.05))
    rare = rng.random(shape) < 1 / 25
    skewed = np.where(rare, -24 / 25, 1 / 25) / math.sqrt(24 / 25**2)
    return noise / 2 + skewed * math.sqrt(3 / 4)


WORLDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]] = {
    "days that hit one arm": independent,
    "GARCH and t5": garch,
    "bursts, t3, rare large losses": bursts,
    "GARCH, AR(1) 0.3": autocorrelated,
}


def polled(rng: np.random.Generator, days: Array) -> Array:
    """Differences of five-minute slots ``[test, slot]`` that add to these daily ones noise, which a day averages."""
    noise = rng.standard_normal((*days.shape, SLOTS), np.float32) * np.float32(SPREAD)
    return (days[..., None] + noise).reshape(len(days), -1)


def judge_days(rng: np.random.Generator) -> Iterator[Row]:
    """Tests by days of equal arms."""
    plan = plan_of("day")
    for name, world in WORLDS.items():
        days = SPREAD * world(rng, (YEARS, DAYS)) + SPREAD / math.sqrt(SLOTS) * rng.standard_normal((YEARS, DAYS))
        found = wrong_share(plan, days)
        slots = polled(rng, days[:60])
        peeking = share(ever(np.abs(running_z(slots)[:, SLOTS:]) > 1.96))
        daily = share(ever(np.abs(running_z(days)[:, 9:]) > stats.norm.ppf(1 - WRONG / 2)))
        yield Row(
            "judge",
            f"wrong verdicts on equal arms by days, {YEARS:,} years of {DAYS * SLOTS:,} polls: {name}",
            "99 % upper bound <= 2.5 %; both controls above it",
            said(found),
            f"t-test of requests at each poll: {said(peeking)}; of days at 97.5 %: {said(daily)}",
            verdict(found[2] <= WRONG < min(peeking[1], daily[1])),
        )


def judge_requests(rng: np.random.Generator, years: int = 10_000) -> Iterator[Row]:
    """Pairs of answers, one per poll: a unit where requests are independent, and none where days hit one arm."""
    clean, moved = _by_requests(rng, years, day_effect=0.0), _by_requests(rng, 200, day_effect=0.3)
    noise = SPREAD / math.sqrt(SLOTS) * rng.standard_normal((years, DAYS))
    days = 0.3 * SPREAD * rng.standard_normal((years, DAYS)) + noise
    by_days = wrong_share(plan_of("day", deviation=0.3 * SPREAD), days)
    yield Row(
        "judge",
        f"the same by requests, one pair of answers per poll, {years:,} years, volatility in spells",
        "99 % upper bound <= 2.5 %; control above it",
        said(clean),
        f"where days hit one arm, requests are no units: {said(moved)}; by days there: {said(by_days)}",
        verdict(clean[2] <= WRONG < moved[1] and by_days[2] <= WRONG),
    )


def _by_requests(rng: np.random.Generator, years: int, *, day_effect: float) -> tuple[float, float, float]:
    """Share of wrong verdicts, without the correction for dependence, which could only make it smaller."""
    plan = plan_of("request", effect=0.03)
    limit = math.log(2 / plan.alpha)
    up, down = (np.ones((len(plan.stakes), years)) for _ in range(2))
    wrong = np.zeros(years, bool)
    for day in range(DAYS):
        volatility = np.exp(0.4 * rng.standard_normal((1, years)) - 0.08)  # of a day, so that a pair's deviation is 1
        slots = rng.standard_normal((SLOTS, years)) * volatility + day_effect * rng.standard_normal((1, years))
        odds = np.clip(SPREAD * slots / plan.bound, -1, 1)
        for slot in range(SLOTS):
            up, down = capital.play(up, plan.stakes, odds[slot]), capital.play(down, plan.stakes, -odds[slot])
            if day * SLOTS + slot + 1 >= plan.least_units:
                best = np.maximum(up.mean(axis=0), down.mean(axis=0))
                wrong |= np.log(best) >= limit
    return share(wrong)


def judge_incidents(rng: np.random.Generator) -> Iterator[Row]:
    """Failures that come in bursts of one arm: an incident counts once."""
    plan, tests, incidents = plan_of("incident"), YEARS, 400
    of_control = rng.random((tests, incidents)) < 0.5
    found = wrong_share(plan, np.where(of_control, 0.5, -0.5))
    sizes = np.minimum(rng.geometric(1 / 5, (400, incidents)), 40)
    answers = np.zeros((400, incidents * 5))
    for test in range(400):
        each = np.repeat(of_control[test] - 0.5, sizes[test])[: answers.shape[1]]
        answers[test, : len(each)] = each
    each_answer = wrong_share(plan, answers)
    uncorrected = decisions(plan, answers, np.ones_like(answers))
    plain = share(np.minimum(*uncorrected) < NEVER)
    yield Row(
        "judge",
        f"the same by incidents, {tests:,} years of {incidents} bursts of five bad answers of one arm",
        "99 % upper bound <= 2.5 %; control above it",
        said(found),
        f"each bad answer counts: {said(plain)}, with the correction for dependence {said(each_answer)}",
        verdict(found[2] <= WRONG < plain[1]),
    )


def judge_power(rng: np.random.Generator) -> Iterator[Row]:
    """Days until a candidate that is better by the registered effect is promoted."""
    for effect, bound in ((0.2, 8), (0.3, 8), (0.3, 4), (0.5, 8), (0.5, 4)):
        plan, tests = plan_of("day", effect, bound=bound * SPREAD), 4000
        fixed = math.ceil(((stats.norm.ppf(1 - plan.alpha / 2) + stats.norm.ppf(0.8)) / effect) ** 2)
        for name in ("days that hit one arm", "GARCH, AR(1) 0.3"):
            days = SPREAD * (effect + WORLDS[name](rng, (tests, DAYS)))
            promoted, rolled_back = decisions(plan, days)
            half = share(decisions(plan, SPREAD * (-effect + WORLDS[name](rng, (tests, DAYS))))[1] < NEVER)
            took = median(np.minimum(promoted, DAYS + 1))
            days_taken = shown(took, 0) if took[2] <= DAYS else f"more than {DAYS}"
            yield Row(
                "judge",
                f"better by {effect} deviations of a day, clipped at {bound}, promoted in a year, median day: {name}",
                "(told, no goal)",
                f"{said(share(promoted < NEVER))}, day {days_taken}; rolled back {said(share(rolled_back < NEVER))}",
                f"one look, 80 %: {fixed} days; as much worse is rolled back: {said(half)}",
                "",
            )


GOALS: dict[str, Goal] = {
    "judge-days": judge_days,
    "judge-requests": judge_requests,
    "judge-incidents": judge_incidents,
    "judge-power": judge_power,
}

if __name__ == "__main__":
    main(GOALS, __doc__)
