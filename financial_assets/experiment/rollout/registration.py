"""Which tests an experiment runs: one plan per challenger and question, registered before its first evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from financial_assets.errors import ExperimentError, UnaskableError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.series import question_of
from financial_assets.experiment.metrics.choice import MeasuredDays, choose
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.planning import family_of, make_plan, planned_design
from financial_assets.experiment.plan.sections import QuestionPolicy
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower
from financial_assets.experiment.rollout.state import Rollout

Measure = Callable[[Arm, QuestionPolicy], MeasuredDays]
"""Says of a challenger and a question what is known of the days of their test."""

_WAITS = "running tests hold all of the error probability; it starts when one of them ends"


@dataclass(frozen=True, slots=True)
class UnaskedQuestion:
    """A question of the policy without a plan.

    Attributes
    ----------
    challenger, champion
        Served names.
    question
        Which.
    reason
        Why, as the end of a sentence that begins with "because".
    waits
        Whether it will be asked once a running test has ended.
    """

    challenger: str
    champion: str
    question: Question
    reason: str
    waits: bool

    @property
    def sentence(self) -> str:
        """For logs."""
        verb = "waits" if self.waits else "cannot be asked"
        return f"the question of {self.question} {verb} for {self.challenger}, because {self.reason}"


def _way_on(asked: QuestionPolicy) -> str:
    """What to change so that the question that moves traffic can be asked."""
    if asked.question == "direction":
        return "set test.metric of the rollout policy to auto, accuracy or brier, about which something can be assumed"
    return (
        "in the rollout policy, set test.question to direction and test.metric to auto (something can be assumed about "
        "it), or test another challenger"
    )


@dataclass(frozen=True, slots=True)
class Registration:
    """The plans of one experiment's present challengers.

    Parameters
    ----------
    rollout
        The rollout state, its log and policy.
    """

    rollout: Rollout

    def register(
        self,
        measure: Measure,
        as_of: pd.Timestamp,
        whole_rule: Callable[[ExperimentPlan], WholeRulePower] | None = None,
    ) -> None:
        """Register the plans that are missing and for which there is error probability left.

        Raises
        ------
        ExperimentError
            The question that moves traffic cannot be asked.
        """
        epoch, log, policy = self.rollout.started(), self.rollout.log, self.rollout.policy
        missing = self.missing()
        if not missing or self.taken() >= 1:
            return
        measured = self._askable(missing, measure)
        # A question that can be asked of nobody takes no part of the error probabilities.
        unasked = {asked.question for _, asked in missing} - {asked.question for _, asked in measured}
        questions = len(policy.asked) - len(unasked & {asked.question for asked in policy.asked})
        for (arm, asked), days in measured.items():
            taken = self.taken()
            if taken >= 1:
                break
            family = family_of(policy, epoch, taken, questions=questions)
            _, drift = planned_design(policy.test, family)
            choice, spread = choose(asked, days, drift=drift, horizon=policy.test.horizons[-1])
            traffic = log.plan(epoch.experiment, epoch.champion.model, arm.model)
            plan = make_plan(
                policy,
                epoch,
                arm,
                spread,
                as_of,
                seen=self._seen(epoch, arm, as_of),
                taken=taken,
                whole_rule=whole_rule,
                asked=asked,
                choice=choice,
                questions=questions,
                traffic_question=None if traffic is None else question_of(traffic),
            )
            log.register_plan(plan)

    def _askable(
        self, missing: tuple[tuple[Arm, QuestionPolicy], ...], measure: Measure
    ) -> Mapping[tuple[Arm, QuestionPolicy], MeasuredDays]:
        """What can be asked, with what is known of its days; reasons against the rest are noted in the log."""
        epoch, log, rules = self.rollout.started(), self.rollout.log, self.rollout.policy.test
        champion = epoch.champion.model
        askable: dict[tuple[Arm, QuestionPolicy], MeasuredDays] = {}
        for arm, asked in missing:
            days = measure(arm, asked)
            try:
                choose(asked, days, drift=1.0, horizon=rules.horizons[-1])
            except UnaskableError as error:
                if log.plan(epoch.experiment, champion, arm.model) is None and asked == rules.asked():
                    raise ExperimentError(
                        f"the question of {asked.question}, which moves traffic, cannot be asked of {arm.model} "
                        f"against {champion}, because {error}: {_way_on(asked)}"
                    ) from error
                log.note_unasked(epoch.experiment, champion, arm.model, asked.question, str(error))
            else:
                askable[arm, asked] = days
        return askable

    def plans(self) -> tuple[ExperimentPlan, ...]:
        """The registered plans of the present challengers, in their order, but for those that wait for one.

        Raises
        ------
        ExperimentError
            A challenger has no plan that moves traffic, and does not wait for one.
        """
        epoch = self.rollout.started()
        plans: list[ExperimentPlan] = []
        for arm in epoch.challengers:
            own = self._of(epoch, arm)
            if not own and arm not in self.waiting():
                raise ExperimentError(
                    f"no plan was registered for {arm.model} against {epoch.champion.model}, so nothing can be "
                    "decided: materialize the asset `experiment`"
                )
            plans += own
        return tuple(plans)

    def waiting(self) -> tuple[Arm, ...]:
        """Challengers that joined while running tests held all of the error probability: theirs start after those.

        Without a test nobody waits: a challenger without a plan is then one that was forgotten.
        """
        epoch = self.rollout.started()
        untested = tuple(arm for arm in epoch.challengers if not self._of(epoch, arm))
        return untested if untested and self.taken() >= 1 else ()

    def missing(self) -> tuple[tuple[Arm, QuestionPolicy], ...]:
        """Challengers and questions without a plan: first those that move traffic."""
        epoch, asked = self.rollout.started(), self.rollout.policy.asked
        registered = {arm.model: {question_of(plan) for plan in self._of(epoch, arm)} for arm in epoch.challengers}
        return tuple(
            (arm, question)
            for question in asked
            for arm in epoch.challengers
            if question.question not in registered[arm.model]
        )

    def unasked(self) -> tuple[UnaskedQuestion, ...]:
        """The policy's questions without a plan, and why, of challengers that are tested."""
        epoch, log = self.rollout.started(), self.rollout.log
        champion, is_full, found = epoch.champion.model, self.taken() >= 1, list[UnaskedQuestion]()
        for arm, asked in self.missing():
            reason = log.unasked(epoch.experiment, champion, arm.model).get(asked.question)
            if reason is not None or is_full:
                found.append(UnaskedQuestion(arm.model, champion, asked.question, reason or _WAITS, reason is None))
        return tuple(found)

    def taken(self) -> float:
        """Part of the error probabilities that the present challengers' running tests hold.

        A test of the second rule gives its part back when it has ended, because it promotes nobody any more; one of the
        first never does.
        """
        epoch, log = self.rollout.started(), self.rollout.log
        plans = [plan for arm in epoch.challengers for plan in self._of(epoch, arm)]
        over = {decision.plan_digest for decision in log.decisions(epoch.experiment) if decision.ended}
        held = [1 / plan.family for plan in plans if not (plan.rule == 2 and plan.digest in over)]
        return round(math.fsum(held), 9)

    def _of(self, epoch: WeightEpoch, arm: Arm) -> tuple[ExperimentPlan, ...]:
        return self.rollout.log.plans(epoch.experiment, epoch.champion.model, arm.model)

    def _seen(self, epoch: WeightEpoch, challenger: Arm, as_of: pd.Timestamp) -> pd.Timestamp | None:
        """Last session on which the outcome of both arms is known already, by an earlier experiment or replay."""
        pair = [epoch.champion.model, challenger.model]
        rows = self.rollout.log.direct(pair, columns=("session", "model"))
        by_model = [set(rows.loc[(rows["model"] == model) & (rows["session"] < as_of), "session"]) for model in pair]
        return max(by_model[0] & by_model[1], default=None)
