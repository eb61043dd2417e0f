"""What a plan's two tests say of the evidence so far: its planned looks, and the confidence sequence of every day.

Under the second rule each look has an outcome of its own (:data:`.record.Outcome`): what an earlier one showed is not
carried on to a later one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from financial_assets.experiment.decision.conditions import conditions_at, look_outcome
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.record import ConfidenceSequence, Look
from financial_assets.experiment.paired_score import PairedDays
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.statistics.asymptotic import clipped
from financial_assets.experiment.statistics.betting import BettingSequence
from financial_assets.experiment.statistics.capital import margin_grid, planned_stakes
from financial_assets.experiment.statistics.group_sequential import daily_z


def due_looks(plan: ExperimentPlan, evidence: Evidence) -> tuple[Look, ...]:
    """The planned looks whose day has come; the first that finds harm or no hope is the last."""
    if plan.rule == 1:
        return _first_looks(plan, evidence)
    looks = list[Look]()
    for place, day in enumerate(plan.looks):
        if day > len(evidence.main):
            break
        looks.append(look_outcome(plan, place, evidence, conditions_at(plan, evidence, day)))
        if looks[-1].outcome in ("harm", "futile"):
            break
    return tuple(looks)


def _first_looks(plan: ExperimentPlan, evidence: Evidence) -> tuple[Look, ...]:
    """Those of the first rule, up to the first that is crossed: later ones never take place."""
    looks: list[Look] = []
    for day, boundary in zip(plan.looks, plan.boundaries, strict=True):
        if day > len(evidence.main) or (looks and looks[-1].crossed):
            break
        session = evidence.main.sessions[day - 1]
        looks.append(
            Look(
                day=day,
                session=session.date().isoformat(),
                z=_z(evidence.main, day, plan.test.margin),
                boundary=boundary,
                against={
                    name: _z(days, int(days.sessions.searchsorted(session, side="right")), 0.0)
                    for name, days in evidence.against.items()
                },
            )
        )
    return tuple(looks)


Extend = Callable[[BettingSequence, np.ndarray], BettingSequence]
"""From the state before the first day and all daily differences to the state after them."""


def watch(plan: ExperimentPlan, evidence: Evidence, extend: Extend | None = None) -> ConfidenceSequence:
    """The always-on confidence sequence over all days so far.

    Parameters
    ----------
    plan, evidence
        Of the test.
    extend
        Gives the state after all days from that before the first; by default all of them are played.
    """
    alpha, margin = plan.alpha_always, plan.test.margin
    extend = extend or (lambda state, days: state.extend(map(float, days)))
    main = extend(_start(plan), clipped(evidence.main.differences, plan.bound))
    low, high = main.interval(alpha)
    return ConfidenceSequence(
        low=low,
        high=high,
        log_e=main.log_e(margin),
        against={name: _beaten_by(plan, days.differences) for name, days in evidence.against.items()}
        if plan.rule == 1
        else {},
    )


def always_on_path(plan: ExperimentPlan, differences: np.ndarray) -> list[tuple[float, float]]:
    """Bounds of the always-on confidence sequence after each day; the last are those of :func:`watch`."""
    state, bounds = _start(plan), []
    for difference in map(float, clipped(differences, plan.bound)):
        state = state.update(difference)
        bounds.append(state.interval(plan.alpha_always))
    return bounds


def _start(plan: ExperimentPlan) -> BettingSequence:
    """Before the first day; margins in thousandths of the bound, and those that decide."""
    margin = plan.test.margin
    margins = np.unique([*margin_grid(plan.bound / 1000, plan.bound / 5, plan.bound), margin, -margin])
    # Stakes for the effect beyond the margin that the plan hopes for, fixed before the first day.
    stakes = planned_stakes(plan.test.plausible_effect - margin, plan.spread.deviation, plan.bound)
    return BettingSequence.start(margins, bound=plan.bound, stakes=stakes)


def _beaten_by(plan: ExperimentPlan, differences: np.ndarray) -> float:
    """Lower bound of the advantage over a baseline in accuracy: 0 once "no advantage" is refuted, -1 before."""
    return BettingSequence.start([0.0]).extend(map(float, differences)).interval(plan.alpha_always)[0]


def _z(days: PairedDays, count: int, margin: float) -> float:
    """Standardised mean of the first ``count`` days; 0 without variation, which proves nothing."""
    values = days.differences[:count]
    if len(values) < 2 or float(np.ptp(values)) <= _ROUNDING:
        return 0.0
    return float(np.clip(daily_z(values, margin), -_LARGEST_Z, _LARGEST_Z))


_ROUNDING = 1e-12  # days that differ by less are equal: a deviation of rounding errors would make any mean significant
_LARGEST_Z = 38.0  # beyond, the normal tail underflows a double, and infinity has no place in a record
