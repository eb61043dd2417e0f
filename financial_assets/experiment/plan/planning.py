"""From a policy and the days before a test to its plan: boundaries, horizon and the power of the whole rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.policy import RolloutPolicy
from financial_assets.experiment.plan.sections import (
    PlannedTest,
    QuestionPolicy,
    TestRules,
    planned_looks,
)
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower

if TYPE_CHECKING:
    from financial_assets.experiment.metrics.choice import MetricChoice
    from financial_assets.experiment.statistics.group_sequential import GroupSequentialDesign

ACT_WITHIN = 10
"""Sessions within which a look that was won must be acted on: later the evidence is too old to promote on."""

_LEAST_PART = 1e-6
_TOO_OFTEN = 2.0  # times the error probability: what simulated tests of equal models may exceed it by chance
_NEVER = 99.0  # a boundary that no look reaches: so early that nothing may be spent yet


def make_plan(
    policy: RolloutPolicy,
    epoch: WeightEpoch,
    challenger: Arm | None,
    spread: DailyDeviation,
    as_of: pd.Timestamp,
    *,
    seen: pd.Timestamp | None = None,
    taken: float = 0.0,
    whole_rule: Callable[[ExperimentPlan], WholeRulePower] | None = None,
    asked: QuestionPolicy | None = None,
    choice: MetricChoice | None = None,
    questions: int | None = None,
    traffic_question: Question | None = None,
) -> ExperimentPlan:
    """The plan of asking one question of one of an epoch's challengers.

    Of several horizons that the policy leaves open, the shortest is taken whose plan finds the plausible effect, by the
    spread alone: who was better on its days is not looked at. If even the longest does not find it, that one is taken.

    Parameters
    ----------
    policy
        The rules.
    epoch, challenger
        The arms with their data cut-offs, and the one that is tested against the champion.
    spread
        Expected variation of the daily differences.
    as_of
        The market clock.
    seen
        Last session whose paired outcome could be looked at before; ``None`` if there is none. What was seen is no
        evidence.
    taken
        Part of the error probabilities that running tests of the same experiment hold: the rest is all that is left.
    whole_rule
        Simulates the rule of a plan; ``None``: its power is that of the looks alone.
    asked
        The question; by default the one that moves traffic.
    choice
        Its metric, where the policy leaves that open.
    questions
        Among how many questions the error probabilities are divided; by default all of the policy's.
    traffic_question
        See :class:`ExperimentPlan`.

    Raises
    ------
    ExperimentError
        It is not a challenger of this epoch, no error probability is left, no metric is chosen, or the margin lies
        beyond any difference that could be seen.
    """
    if challenger is None or challenger not in epoch.challengers:
        who = "nobody" if challenger is None else challenger.model
        raise ExperimentError(f"{who} is not a challenger of weight epoch {epoch.number}: there is nothing to test")
    asked = asked or policy.asked[0]
    name = asked.metric if choice is None else choice.metric
    if name == "auto":
        raise ExperimentError(f"no metric has been chosen for the question of {asked.question}")
    family = family_of(policy, epoch, taken, questions=questions)
    # Whatever could have been seen before registration is no evidence, for whichever reason it could be seen.
    starts_after = max(filter(None, (epoch.champion.data_cutoff, challenger.data_cutoff, seen)))

    def lasting(horizon: int) -> ExperimentPlan:
        test = asked.planned(name, policy.test, horizon=horizon, moves_traffic=traffic_question is None)
        plan = _of_horizon(
            test,
            policy,
            spread,
            family,
            experiment=epoch.experiment,
            champion=epoch.champion.model,
            challenger=challenger.model,
            starts_after=starts_after.date().isoformat(),
            registered_as_of=as_of.date().isoformat(),
            why="" if choice is None else choice.why,
            ratios={} if choice is None else dict(choice.ratios),
            traffic_question=traffic_question,
        )
        if whole_rule is None:
            return plan
        power = whole_rule(plan)
        if not plan.uneven and power.promoted[0] > _TOO_OFTEN * (plan.alpha_planned + plan.alpha_always) / 2:
            # A spell of losses that the block shows and most tests would not: no look at such days is to be trusted.
            plan = replace(plan, uneven=True)
            power = whole_rule(plan)
        return _with_power(plan, power)

    return _shortest(policy.test.horizons, lasting)


def _shortest(horizons: tuple[int, ...], lasting: Callable[[int], ExperimentPlan]) -> ExperimentPlan:
    """The plan of the shortest horizon that finds the plausible effect, or of the longest; with all that were tried."""
    plans = {horizons[-1]: lasting(horizons[-1])}

    def finds(place: int) -> bool:
        horizon = horizons[place]
        if horizon not in plans:  # each is a simulation
            plans[horizon] = lasting(horizon)
        return plans[horizon].can_promote

    place = len(horizons) - 1
    if finds(place):
        # The longest says about where it lies; from there one after the other.
        expected = plans[horizons[-1]].days_for_plausible
        place = min(sum(horizon < expected for horizon in horizons), place)
        while not finds(place):
            place += 1
        while place and finds(place - 1):
            place -= 1
    chosen = plans[horizons[place]]
    if len(horizons) == 1:
        return chosen
    return replace(chosen, horizons={str(horizon): plans[horizon].detectable for horizon in sorted(plans)})


def _of_horizon(
    test: PlannedTest, policy: RolloutPolicy, spread: DailyDeviation, family: int, **named: Any
) -> ExperimentPlan:
    """The plan of a test whose horizon is chosen; ``named`` are its fields that no rule depends on.

    Raises
    ------
    ExperimentError
        The margin lies beyond any difference that could be seen, or beyond the plausible effect.
    """
    # Whoever reads recorded plans, as every command does, need not wait for scipy.
    from financial_assets.experiment.statistics import long_run

    looks = planned_looks(test.horizon_sessions, policy.test.looks)
    design, drift = planned_design(policy.test, family, test.horizon_sessions)
    metric = METRICS[test.metric]
    section = "test" if named["traffic_question"] is None else f"questions.{metric.question}"  # for messages
    # Bets need bounded differences: the bound is fixed here, before any of them is seen.
    bound = metric.clip(spread.deviation)
    if test.margin > bound / 2:
        raise ExperimentError(
            f"the margin {test.margin:g} is more than half of {bound:.3g}, the largest daily difference in "
            f"{test.metric} that the plan expects: lower {section}.margin of the rollout policy"
        )
    return ExperimentPlan(
        **named,
        test=test,
        guardrails=policy.guardrails,
        spread=spread,
        looks=looks,
        boundaries=tuple(min(z, _NEVER) for z in design.upper),
        spent=tuple(2 * share for share in design.spent),  # the design counts one side
        bound=bound,
        detectable=test.margin + drift * spread.long_run / math.sqrt(test.horizon_sessions),
        days_for_plausible=_days_for_plausible(spread.long_run, test, drift, section),
        must_beat=metric.baselines,
        family=family,
        rule=2,
        question=metric.question,
        noninferiority_margin=test.noninferiority * test.plausible_effect,
        lags=metric.least_lags,
        # Rare large gains are no danger: t of such days is too small, not too large, and harm is judged by their own.
        uneven=spread.skewness < -long_run.TOO_UNEVEN,
        autocorrelated=spread.autocorrelation > long_run.AUTOCORRELATED,
        act_within=ACT_WITHIN,
        most_skewness=long_run.TOO_UNEVEN,
    )


def planned_design(rules: TestRules, family: int, horizon: int | None = None) -> tuple[GroupSequentialDesign, float]:
    """The planned looks of a test that gets one part in ``family`` of the error probabilities.

    ``horizon`` is one of those that the rules leave open, by default the longest.

    Returns
    -------
    tuple
        The design, and the mean of its statistic at which the looks have the power that the rules ask for.
    """
    from financial_assets.experiment.statistics.group_sequential import GroupSequentialDesign

    looks = planned_looks(horizon or rules.horizons[-1], rules.looks)
    design = GroupSequentialDesign.of([day / looks[-1] for day in looks], rules.alpha_planned / family)
    return design, design.drift_for(rules.power)


def family_of(policy: RolloutPolicy, epoch: WeightEpoch, taken: float, *, questions: int | None = None) -> int:
    """Among how many tests the error probabilities are divided for a new one, so that all together keep theirs.

    Each challenger is tested once for each question.

    Parameters
    ----------
    policy, epoch
        Say how many challengers there are, and how many questions.
    taken
        Part of the error probabilities that running tests hold.
    questions
        How many of the policy's questions can be asked; by default all.

    Raises
    ------
    ExperimentError
        Running tests hold all of them.
    """
    left = 1.0 - taken
    if left < _LEAST_PART:
        raise ExperimentError("running tests hold all of the error probability: a new one starts when one of them ends")
    challengers = max(len(policy.challengers), len(epoch.challengers))
    tests = challengers * (len(policy.asked) if questions is None else questions)
    return max(tests, math.ceil(round(1 / left, 6)))


def _with_power(plan: ExperimentPlan, power: WholeRulePower) -> ExperimentPlan:
    """The plan with the figures of its whole rule in the place of those of the looks alone."""
    margin = plan.test.margin
    scale = ((power.detectable - margin) / (plan.test.plausible_effect - margin)) ** 2
    days = math.ceil(plan.looks[-1] * scale)
    return replace(plan, detectable=power.detectable, days_for_plausible=days, whole_rule=power)


def _days_for_plausible(deviation: float, test: PlannedTest, drift: float, section: str) -> int:
    beyond = test.plausible_effect - test.margin
    if beyond <= 0:
        raise ExperimentError(
            f"the plausible effect {test.plausible_effect:g} does not exceed the margin {test.margin:g}: set "
            f"{section}.plausible_effect of the rollout policy above {section}.margin"
        )
    return math.ceil((drift * deviation / beyond) ** 2)
