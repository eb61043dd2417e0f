"""The pre-registration: what is fixed before the first look at the evidence of one challenger against one champion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from financial_assets.experiment.canonical import CanonicalRecord, digest_of
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.sections import (
    GuardrailPolicy,
    PlannedTest,
)
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower

if TYPE_CHECKING:
    pass

MUST_BEAT = ("majority", "logistic")
"""Baselines that a promoted model must not be worse than by the plan's margin; under the first rule, must beat."""

_LATER_FIELDS = (
    "rule", "question", "noninferiority_margin", "lags", "uneven", "autocorrelated", "act_within", "whole_rule",
    "most_skewness", "horizons",
)  # fmt: skip
_OFTEN_EMPTY = ("why", "ratios", "traffic_question", "most_skewness", "horizons")  # not stored where they say nothing
_LATER_TEST = ("noninferiority", "guard_alpha", "guard_margins", "futility")
_LATER_SPREAD = ("skewness", "autocorrelation")


@dataclass(frozen=True)  # without slots: the digest is kept
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
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, computed once: each decision asks for it many times."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.to_json())

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
        plan = super().from_json(text)
        if '"incident_requests"' in text:
            return plan
        return dataclasses.replace(plan, guardrails=dataclasses.replace(plan.guardrails, incident_requests=1))
