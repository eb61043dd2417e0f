"""What the figures beside a decision are judged by: the numbers of the registered plan, never numbers of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from financial_assets.experiment.metrics.registry import metrics_of
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.plan import MUST_BEAT, ExperimentPlan
from financial_assets.experiment.plan.sections import GuardrailPolicy, PlannedTest, TestPolicy


@dataclass(frozen=True, slots=True)
class Criteria:
    """Levels and sizes by which a report and its checks judge one test.

    Attributes
    ----------
    metric
        That of the test; ``plausible_effect`` is in its unit.
    level
        Confidence of an interval of one look: 1 minus the error probabilities of the whole test policy.
    power
        Probability of finding the smallest detectable difference.
    plausible_effect
        Difference that would matter.
    srm_alpha
        Error probability of the sequential sample-ratio test.
    must_beat
        Baselines.
    basis
        Where these numbers come from, in words.
    """

    metric: PairedMetric
    level: float
    power: float
    plausible_effect: float
    srm_alpha: float
    must_beat: tuple[str, ...]
    basis: str

    @classmethod
    def of_plan(cls, plan: ExperimentPlan) -> Criteria:
        """Those of a registered plan, whatever the rollout policy says by now."""
        basis = f"the registered plan of {plan.challenger} ({plan.digest[:12]})"
        return cls._of(plan.test, plan.guardrails, plan.must_beat, basis)

    @classmethod
    def of_policy(cls, test: TestPolicy | None = None, guardrails: GuardrailPolicy | None = None) -> Criteria:
        """Those of a rollout policy, for when no test is registered: the next plan would register them.

        Where the policy leaves the metric open, that is the first one of its question.
        """
        rules = test or TestPolicy()
        asked, basis = rules.asked(), "the rollout policy, because no test is registered"
        metric = metrics_of(asked.question)[0].name if asked.metric == "auto" else asked.metric
        planned = asked.planned(cast(PairedMetric, metric), rules)
        return cls._of(planned, guardrails or GuardrailPolicy(), MUST_BEAT, basis)

    @classmethod
    def _of(cls, test: PlannedTest, guardrails: GuardrailPolicy, must_beat: tuple[str, ...], basis: str) -> Criteria:
        # Not divided by the number of challengers: an interval of one look describes, and each of them is shown.
        level = 1 - (test.alpha_planned + test.alpha_always)
        return cls(test.metric, level, test.power, test.plausible_effect, guardrails.srm_alpha, must_beat, basis)
