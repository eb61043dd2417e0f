"""What a promotion needs beside the champion's defeat, and what a planned look comes to.

Error control rests on the comparison with the champion alone (an intersection-union test, Berger 1982, Technometrics
24): whatever else is asked for can only make a promotion rarer. Baselines and harm are therefore guards. A challenger
must be *shown* not to be worse than a baseline by the registered margin, and must *not be shown* to do harm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.record import Look, Outcome, Standing
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.statistics import long_run

_SURE = 38.0  # z-value of equal days: a challenger that answers as a baseline does is not worse than it


@dataclass(frozen=True, slots=True)
class Conditions:
    """z-values of the conditions after some days; see :class:`.record.Look`."""

    against: Mapping[str, float]
    guards: Mapping[str, float]

    def unmet(self, needed: float) -> tuple[list[str], list[str]]:
        """Baselines that the challenger may be worse than, and guards by which it does harm.

        Parameters
        ----------
        needed
            z-value of one side's error probability.
        """
        inferior = [name for name, z in self.against.items() if z < needed]
        return inferior, [name for name, z in self.guards.items() if z <= -needed]


def needed_z(plan: ExperimentPlan) -> float:
    """z-value that a baseline's condition must reach, and that of a guard must not fall to below zero."""
    return -float(special.ndtri(plan.test.guard_alpha))


def conditions_at(plan: ExperimentPlan, evidence: Evidence, day: int) -> Conditions:
    """The conditions as of one of the evaluated days, counted from 1; without a day, none can be met."""
    if day < 1:
        return Conditions(dict.fromkeys(evidence.against, 0.0), {})
    session = evidence.main.sessions.to_numpy()[day - 1]

    guards = dict(evidence.guards)
    if plan.test.metric != "accuracy":  # a better score with fewer right directions is no improvement
        guards.setdefault("accuracy", evidence.accuracy)
    margins = [plan.noninferiority_margin] * len(evidence.against)
    margins += [plan.guard_margins.get(name, 0.0) for name in guards]
    of_length, counts = dict[int, list[tuple[int, NDArray[np.float64]]]](), dict[int, int]()
    for place, days in enumerate((*evidence.against.values(), *guards.values())):
        # Most series share their sessions. As an array: an index takes longer to look one up than the score takes.
        if (count := counts.get(id(days.sessions))) is None:
            count = counts[id(days.sessions)] = int(days.sessions.to_numpy().searchsorted(session, side="right"))
        of_length.setdefault(count, []).append((place, days.differences[:count]))
    z = [0.0] * len(margins)
    for series in of_length.values():
        least = [-margins[place] for place, _ in series]
        found = long_run.robust_zs(np.stack([days for _, days in series]), least, plan.lags, still=_SURE)
        for (place, _), value in zip(series, found.tolist(), strict=True):
            z[place] = value
    return Conditions(
        dict(zip(evidence.against, z, strict=False)), dict(zip(guards, z[len(evidence.against) :], strict=True))
    )


def look_outcome(plan: ExperimentPlan, place: int, evidence: Evidence, conditions: Conditions) -> Look:
    """One look of a plan, of which the days have been seen.

    Parameters
    ----------
    plan, evidence
        Of the test.
    place
        Which look, from 0.
    conditions
        Of its day.
    """
    day, boundary, margin = plan.looks[place], plan.boundaries[place], plan.test.margin
    days = evidence.main.differences[:day]
    z = long_run.robust_z(days, margin, plan.lags, corrected=plan.corrects_skewness)
    below = z if margin == 0 else long_run.robust_z(days, -margin, plan.lags, corrected=plan.corrects_skewness)
    deviation = float(long_run.long_run_deviation(days, plan.lags)[0]) if day > 1 else 0.0
    power = conditional_power(plan, place, float(days.mean()), deviation)
    skew, limit = float(long_run.skewness(days)), plan.skewness_limit
    outcome: Outcome = "open"
    if z >= boundary:
        is_uneven = plan.uneven or skew < -limit
        outcome = "uneven" if is_uneven else "held" if any(conditions.unmet(needed_z(plan))) else "promote"
    elif below <= -boundary and not (plan.uneven or skew > limit):
        outcome = "harm"
    elif power < plan.test.futility and not plan.uneven and place + 1 < len(plan.looks):
        outcome = "futile"
    return Look(
        day=day,
        session=evidence.main.sessions[day - 1].date().isoformat(),
        z=z,
        boundary=boundary,
        against=conditions.against,
        guards=conditions.guards,
        deviation=deviation,
        conditional_power=power,
        outcome=outcome,
        skewness=skew if plan.corrects_skewness else None,
    )


def conditional_power(plan: ExperimentPlan, place: int, mean: float, deviation: float) -> float:
    """Probability of reaching the last look's boundary from here, were the plausible effect true on all days to come.

    Of a Brownian motion (Lan, Simon and Halperin 1982, Sequential Analysis 1); earlier looks are left out, so that it
    is a little too small. 1 where days do not vary: nothing is known then.
    """
    horizon, day = plan.looks[-1], plan.looks[place]
    if deviation <= 0:
        return 1.0
    if day >= horizon:
        return float(mean - plan.test.margin >= plan.boundaries[-1] * deviation / math.sqrt(horizon))
    total = day * (mean - plan.test.margin) + (horizon - day) * (plan.test.plausible_effect - plan.test.margin)
    short = plan.boundaries[-1] * deviation * math.sqrt(horizon) - total
    return float(special.ndtr(-short / (deviation * math.sqrt(horizon - day))))


def standing_of(plan: ExperimentPlan, evidence: Evidence, log_e: float) -> Standing:
    """The conditions as of the last evaluated day, and whether the always-on sequence decides on it.

    The sequence counts by its present e-value, not by its peak: what it showed once and no longer shows promotes
    nobody. It is proof against days of any shape, but not against days that depend on each other: it needs more where
    the days so far do, and decides nothing where those before the test did.

    Parameters
    ----------
    plan, evidence
        Of the test.
    log_e
        Logarithm of the present e-value against "not better than the margin".
    """
    days = evidence.main.differences
    conditions = conditions_at(plan, evidence, len(days))
    wins = not plan.autocorrelated and log_e >= sequence_limit(plan, dependence(days, plan.lags))
    return Standing(conditions.against, conditions.guards, bool(wins))


def dependence(days: NDArray[np.float64], lags: int) -> float:
    """Long-run variance of days over that of independent ones, at least 1; 1 where they do not vary."""
    if len(days) < 2 or float(np.ptp(days)) == 0:
        return 1.0
    return max(1.0, float(long_run.long_run_deviation(days, lags)[0] / days.std(ddof=1)) ** 2)


def sequence_limit(plan: ExperimentPlan, inflation: float) -> float:
    """Logarithm of the e-value that promotes: ``log(2 / alpha)``, times the dependence of the days.

    The logarithm of a capital grows as the square of a z-value does, which dependence inflates by that factor.
    """
    return inflation * math.log(2 / plan.alpha_always)
