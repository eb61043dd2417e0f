"""The power of a plan's whole rule, by simulation: how often it promotes, and what each condition costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import optimize

from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower
from financial_assets.experiment.plan.whole_rule.verdicts import Condition, WholeRule
from financial_assets.experiment.plan.whole_rule.worlds import draw_worlds

SEED = 20240607
_MOST_WORLDS, _FEWEST_WORLDS = 2000, 500
_DAYS_AT_ONCE = 500_000  # of all worlds: bounds memory and time
_CONDITIONS: tuple[Condition, ...] = ("baselines", "guards", "futility")
_FARTHEST = (
    6.0  # times the effect that the looks alone find: where the search ends, if that is beyond what is plausible
)
_CLOSE = 0.002  # of the power: where the search for an effect stops


def simulate_power(
    plan: ExperimentPlan, *, worlds: int | None = None, seed: int = SEED, progress: Callable[[str], None] | None = None
) -> WholeRulePower:
    """What the rule of a plan does, with all of its conditions; the same bits when repeated.

    Parameters
    ----------
    plan
        Not yet with these figures.
    worlds
        Simulated tests; by default 2,000, fewer for horizons of more than a year.
    seed
        Of all random numbers.
    progress
        Is told what is simulated.
    """
    count = worlds or min(_MOST_WORLDS, max(_FEWEST_WORLDS, _DAYS_AT_ONCE // plan.looks[-1]))
    if progress:
        progress(f"simulating the rule of {plan.challenger} against {plan.champion} in {count:,} tests")
    return _simulated(plan.to_json(), plan.spread.sample, plan.spread.beside, count, seed)


@lru_cache(maxsize=32)
def _simulated(
    document: str,
    sample: tuple[float, ...],
    beside: tuple[tuple[str, tuple[float, ...]], ...],
    count: int,
    seed: int,
) -> WholeRulePower:
    read = ExperimentPlan.from_json(document)
    plan = replace(read, spread=replace(read.spread, sample=sample, beside=beside))  # no part of a record
    drawn = draw_worlds(plan, count, seed)
    rule, hoped = WholeRule(plan, drawn), plan.test.plausible_effect
    effects = (0.0, hoped / 2, hoped, 2 * hoped)
    found = [rule.endings(effect) for effect in effects]
    promoted = tuple(float(endings.promoted.mean()) for endings in found)
    prices = {
        name: float(rule.endings(hoped, (name,)).promoted.mean()) - promoted[2]
        for name in _CONDITIONS
        if name != "futility" or plan.test.futility
    }
    return WholeRulePower(
        effects=effects,
        promoted=promoted,
        days=tuple(float(endings.day.mean()) for endings in found),
        prices=prices,
        detectable=_detectable(plan, rule),
        worlds=count,
        seed=seed,
        basis=drawn.basis,
    )


def _detectable(plan: ExperimentPlan, rule: WholeRule) -> float:
    """The effect that is promoted with the plan's power; the farthest that is tried if none is."""
    margin, alone = plan.test.margin, plan.detectable - plan.test.margin
    # Models that are nearly alike tell each other apart long before they can be told from a baseline.
    farthest = max(_FARTHEST, 2 * (plan.test.plausible_effect - margin) / alone)

    def short(times: float) -> float:
        return float(np.mean(rule.endings(margin + times * alone).promoted)) - plan.test.power

    high = 1.5
    while short(high) < 0:
        high *= 2
        if high > farthest:
            return margin + farthest * alone
    times: Any = optimize.brentq(short, 0.5 * high if high > 1.5 else 0.5, high, xtol=_CLOSE)
    return margin + float(times) * alone
