"""The pre-registration: what is fixed before the first look at the evidence of one challenger against one champion."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.canonical import CanonicalRecord
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.policy import RolloutPolicy
from financial_assets.experiment.plan.sections import (
    GuardrailPolicy,
    PlannedTest,
    QuestionPolicy,
    TestRules,
    planned_looks,
)
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower

if TYPE_CHECKING:
    from financial_assets.experiment.metrics.choice import MetricChoice
    from financial_assets.experiment.statistics.group_sequential import GroupSequentialDesign

MUST_BEAT = ("majority", "logistic")
"""Baselines that a promoted model must not be worse than by the plan's margin; under the first rule, must beat."""

ACT_WITHIN = 10
"""Sessions within which a look that was won must be acted on: later the evidence is too old to promote on."""

FEWEST_REFERENCE_DAYS = 20
_LATER_FIELDS = (
    "rule", "question", "noninferiority_margin", "lags", "uneven", "autocorrelated", "act_within", "whole_rule",
    "most_skewness", "horizons",
)  # fmt: skip
_OFTEN_EMPTY = ("why", "ratios", "traffic_question", "most_skewness", "horizons")  # not stored where they say nothing
_LATER_TEST = ("noninferiority", "guard_alpha", "guard_margins", "futility")
_LATER_SPREAD = ("skewness", "autocorrelation")
_LEAST_PART = 1e-6
_TOO_OFTEN = 2.0  # times the error probability: what simulated tests of equal models may exceed it by chance
_NEVER = 99.0  # a boundary that no look reaches: so early that nothing may be spent yet


@dataclass(frozen=True, slots=True)
class DailyDeviation:
    """What the daily paired differences are expected to vary by.

    Attributes
    ----------
    deviation
        Standard deviation of one day's mean difference, in units of the score.
    basis
        Where the number comes from, in words.
    regime
        Factor in ``deviation`` for a block that was calmer than the past, at least 1.
    inflation
        Variance of a mean of such days over that of independent ones, at least 1.
    skewness, autocorrelation
        Of those days, the first autocorrelation in its standard errors: they decide whether a mean of days is nearly
        normal; 0 where nothing was measured.
    sample
        The days themselves, for simulations; not part of a record.
    beside
        Pairs of the name of a series, ``against <baseline>`` or ``guard <name>``, and its values on the same days,
        where they were measured; likewise.
    """

    deviation: float
    basis: str
    skewness: float = 0.0
    autocorrelation: float = 0.0
    sample: tuple[float, ...] = field(default=(), compare=False, repr=False)
    regime: float = 1.0
    inflation: float = 1.0
    beside: tuple[tuple[str, tuple[float, ...]], ...] = field(default=(), compare=False, repr=False)

    @property
    def long_run(self) -> float:
        """Deviation of independent days whose mean would be as uncertain: what power is computed from."""
        return self.deviation * math.sqrt(self.inflation)

    @classmethod
    def of_days(cls, differences: np.ndarray, basis: str) -> DailyDeviation | None:
        """Measured on days that are no evidence of the test; ``None`` with fewer than 20 or without any difference."""
        if len(differences) < FEWEST_REFERENCE_DAYS:
            return None
        deviation = float(np.std(differences, ddof=1))
        if deviation <= 0:
            return None
        # Imported here: it needs scipy, for which whoever reads recorded plans need not wait.
        from financial_assets.experiment.statistics.long_run import autocorrelation, skewness

        return cls(
            deviation,
            f"{len(differences)} days of {basis}",
            skewness=float(skewness(differences)),
            autocorrelation=float(autocorrelation(differences)),
            sample=tuple(map(float, differences)),
        )

    @classmethod
    def assumed(cls, tickers: int, metric: PairedMetric = "accuracy") -> DailyDeviation:
        """Cautious figures for when nothing was measured: models that disagree half the time, correlated tickers.

        The variance of a day's mean over ``tickers`` is ``discordance * (1 + (tickers - 1) * correlation) / tickers``
        (Kish 1965, Survey sampling: the design effect). It is that of right or wrong, and an upper bound for Brier
        scores.

        Raises
        ------
        ExperimentError
            Without a ticker, or for a loss without bound, about which nothing can be assumed.
        """
        if tickers < 1:
            raise ExperimentError("a plan needs at least one ticker")
        if metric not in ("accuracy", "brier"):
            raise ExperimentError(
                f"how much the two models differ in {metric} from day to day was not measured on 20 common days of "
                "calibration, and it cannot be assumed: train both here, give external models a data_cutoff with a "
                "year of prices before it, or set test.metric of the rollout policy to accuracy or brier"
            )
        discordance, correlation = 0.5, 0.4
        variance = discordance * (1 + (tickers - 1) * correlation) / tickers
        basis = f"assumed: discordance {discordance:g}, correlation {correlation:g} between {tickers} tickers"
        return cls(math.sqrt(variance), basis)


@dataclass(frozen=True, slots=True)
class ExperimentPlan(CanonicalRecord):
    """One test, as registered. Nothing in it is ever changed; another pair of models gets another plan.

    Attributes
    ----------
    experiment, champion, challenger
        Names as served.
    starts_after
        Evidence are sessions after this one: the later data cut-off, or the last session on which both were known to be
        right or wrong when the plan was registered (ISO date).
    registered_as_of
        Market clock at registration (ISO date).
    test, guardrails
        The rules.
    spread
        What the horizon and the effect were computed from.
    looks
        Evaluated days at which the planned looks take place, rising; the last is the horizon.
    boundaries, spent
        z-values that the looks must reach, and the two-sided error probability spent up to each.
    bound
        Size at which a daily difference is clipped before it is bet on: 1 for accuracy, which needs none; eight
        expected deviations for the others: differences in Brier score are so small that bets on a range of 1 would see
        nothing, those in log and pinball loss have no range. What is said then holds for the clipped mean.
    detectable
        Minimum detectable effect at the horizon with the plan's power: of the whole rule where it was simulated, else
        of the looks against the champion alone.
    days_for_plausible
        Days after which the plausible effect would be found with the plan's power, likewise.
    must_beat
        Baselines.
    family
        Tests that share the error probabilities: each gets this part of them.
    rule
        By which rule the test is judged: 1 for plans registered before there was a second (:mod:`.first_rule`), which
        go on under it; 2 for new ones (:mod:`.decision.rule`). What follows belongs to the second.
    question
        What the test asks about.
    noninferiority_margin
        A challenger may be worse than a baseline by less than this, in the metric's unit.
    lags
        Lags up to which outcomes overlap: horizon of the metric in sessions, minus 1.
    uneven, autocorrelated
        Whether the days of the plan's spread had rare large losses or gains, or depended on each other. With uneven
        days a mean is not nearly normal: the looks cannot promote, the always-on sequence decides with all of the error
        probability. With dependent ones the sequence cannot promote: it is proof against anything but dependence.
    act_within
        Sessions within which a look that was won must be acted on.
    whole_rule
        What the rule does with all its conditions, simulated; ``None`` where it was not.
    why, ratios
        Why this metric, in one sentence, and the ratios that chose it (:class:`.choice.MetricChoice`); empty where the
        rollout policy named it.
    traffic_question
        The question that traffic follows, where that is not this plan's; ``None``: this plan moves traffic.
    most_skewness
        Skewness beyond which days are uneven, z of a look being corrected for smaller ones; 0 in plans of before there
        was that correction, which call days uneven beyond :data:`.long_run.UNEVEN`.
    horizons
        Sessions -> what a test of so many detects, of the horizons that were tried before that of the looks was taken;
        empty where the policy names it.
    """

    kind = "experiment plan"

    experiment: str
    champion: str
    challenger: str
    starts_after: str
    registered_as_of: str
    test: PlannedTest
    guardrails: GuardrailPolicy
    spread: DailyDeviation
    looks: tuple[int, ...]
    boundaries: tuple[float, ...]
    spent: tuple[float, ...]
    bound: float
    detectable: float
    days_for_plausible: int
    must_beat: tuple[str, ...] = MUST_BEAT
    family: int = 1
    rule: int = 1
    question: Question = "direction"
    noninferiority_margin: float = 0.0
    lags: int = 0
    uneven: bool = False
    autocorrelated: bool = False
    act_within: int = 0
    whole_rule: WholeRulePower | None = None
    why: str = ""
    ratios: Mapping[str, float] = field(default_factory=dict)
    traffic_question: Question | None = None
    most_skewness: float = 0.0
    horizons: Mapping[str, float] = field(default_factory=dict)

    @property
    def corrects_skewness(self) -> bool:
        """Whether z of a look is corrected for the skewness of its days."""
        return self.most_skewness > 0

    @property
    def skewness_limit(self) -> float:
        """Skewness of the days beyond which a look decides nothing."""
        from financial_assets.experiment.statistics.long_run import UNEVEN

        return self.most_skewness or UNEVEN

    @property
    def moves_traffic(self) -> bool:
        """Whether what follows from this plan's decisions is carried out; the others' are recorded only."""
        return self.traffic_question is None

    @property
    def alpha_planned(self) -> float:
        """Two-sided error probability of this test's planned looks.

        Holm's procedure (1979) begins with alpha over the number of tests. Its later, milder steps never come: the
        first challenger that is shown to be better ends the test for all.
        """
        return self.test.alpha_planned / self.family

    @property
    def alpha_always(self) -> float:
        """Two-sided error probability of this test's always-on confidence sequence; all of it if days are uneven."""
        return (self.test.alpha_always + (self.test.alpha_planned if self.uneven else 0.0)) / self.family

    @property
    def guard_margins(self) -> Mapping[str, float]:
        """Guard -> how much worse than the champion a challenger may be shown to be."""
        return {str(name): margin for name, margin in self.test.guard_margins.items()}

    @property
    def confidence(self) -> str:
        """That of the always-on confidence sequence, in words: ``99%``."""
        return f"{100 * (1 - self.alpha_always):.4g}%"

    @property
    def can_promote(self) -> bool:
        """Whether the test is able to find the plausible effect by its horizon."""
        return self.detectable <= self.test.plausible_effect

    def stored(self) -> dict[str, Any]:
        """All values but rules that came later and are not used: older plans keep their digest."""
        values = dataclasses.asdict(self)
        del values["spread"]["sample"], values["spread"]["beside"]
        for name in _OFTEN_EMPTY:
            if not values[name]:
                del values[name]
        if self.family == 1:
            del values["family"]
        for name in ("regime", "inflation"):
            if values["spread"][name] == 1.0:
                del values["spread"][name]
        if self.test.at_horizon == "keep":
            del values["test"]["at_horizon"]
        if self.guardrails.incident_requests == 1:
            del values["guardrails"]["incident_requests"], values["guardrails"]["incident_seconds"]
        if self.rule == 1:
            for section, later in ((values, _LATER_FIELDS), (values["test"], _LATER_TEST)):
                for name in later:
                    section.pop(name, None)
            for name in _LATER_SPREAD:
                del values["spread"][name]
        return values

    @classmethod
    def from_json(cls, text: str) -> Self:
        """See the base class; a plan of before there were incidents counts each failure, as it was registered."""
        plan = super(ExperimentPlan, cls).from_json(text)  # slots make the class anew: plain super() knows the old one
        if '"incident_requests"' in text:
            return plan
        return dataclasses.replace(plan, guardrails=dataclasses.replace(plan.guardrails, incident_requests=1))


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
