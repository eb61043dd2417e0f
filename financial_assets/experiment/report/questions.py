"""The questions that are asked of the challengers, each with its answer in one line: page and log begin with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from financial_assets.experiment.decision.reasons import sessions_in_words
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.series import metric_of, question_of
from financial_assets.experiment.decision.words import amount, metric_and_why
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.rollout.registration import UnaskedQuestion

NOT_ASKED = "–"


@dataclass(frozen=True, slots=True)
class QuestionLine:
    """One question about one challenger.

    Attributes
    ----------
    question, challenger, champion
        What is asked of whom, against whom.
    moves_traffic
        Whether requests follow the answer.
    answer
        One sentence.
    metric
        What decides, and why that.
    power, days
        What the whole rule can find, and how long it takes, in words; a dash where there is no plan.
    """

    question: Question
    challenger: str
    champion: str
    moves_traffic: bool
    answer: str
    metric: str = NOT_ASKED
    power: str = NOT_ASKED
    days: str = NOT_ASKED

    @property
    def sentence(self) -> str:
        """The line without its table."""
        return f"{self.question.capitalize()}, {self.challenger}: {self.answer}"


def question_lines(
    judged: Sequence[tuple[Decision, ExperimentPlan]], unasked: Sequence[UnaskedQuestion] = ()
) -> tuple[QuestionLine, ...]:
    """All questions: first those that were answered, in their order, then those without a plan.

    Parameters
    ----------
    judged
        Decisions with their plans.
    unasked
        Questions of the policy that have no plan.
    """
    asked = (
        QuestionLine(
            question_of(plan),
            plan.challenger,
            plan.champion,
            plan.moves_traffic,
            _answer(decision, plan),
            metric_and_why(plan),
            _power(plan),
            _days(plan),
        )
        for decision, plan in judged
    )
    without = (
        QuestionLine(
            one.question,
            one.challenger,
            one.champion,
            False,
            f"{'Waits' if one.waits else 'Cannot be asked'}, because {one.reason}.",
        )
        for one in unasked
    )
    return (*asked, *without)


def label_of(plan: ExperimentPlan, among: Sequence[ExperimentPlan]) -> str:
    """What tells a decision from the others of its session: its challenger and its question; empty if it is alone.

    Parameters
    ----------
    plan
        What it was taken under.
    among
        The plans of all decisions of the session, this one included.
    """
    question = question_of(plan)
    is_one_of_several = len({question_of(other) for other in among}) > 1
    named = f"{question} (moves traffic)" if plan.moves_traffic and is_one_of_several else question
    return ", ".join(
        (
            *([plan.challenger] if len(among) > 1 else []),
            *([named] if is_one_of_several or not plan.moves_traffic else []),
        )
    )


def _answer(decision: Decision, plan: ExperimentPlan) -> str:
    challenger, champion = plan.challenger, plan.champion
    follows = f"traffic follows {plan.traffic_question}"
    seen = f"{decision.days} of {plan.looks[-1]} planned sessions"
    match decision.action:
        case "promote" if plan.moves_traffic:
            return f"{challenger} is better than {champion} and is to replace it."
        case "promote":
            return f"{challenger} is better than {champion}; it does not replace it, because {follows}."
        case "rollback" if any(rail.fired for rail in decision.guardrails):
            return f"{challenger} does harm and gets no more requests."
        case "rollback" if plan.moves_traffic:
            return f"{challenger} is worse than {champion} and gets no more requests."
        case "rollback":
            return f"{challenger} is worse than {champion}; it keeps its requests, because {follows}."
        case "hold":
            return _open(decision, plan, seen)


def _open(decision: Decision, plan: ExperimentPlan, seen: str) -> str:
    if any(rail.fired for rail in decision.guardrails):
        return f"Nothing can be concluded, because a guardrail has fired; {seen} have been seen."
    if decision.ended:
        # Days are scored after a test's end as well: it ended at a look, and its last look is its horizon.
        futile = [look.day for look in decision.looks if look.outcome == "futile"]
        day = min([*futile, decision.days, plan.looks[-1]])
        return f"No winner: the test ended after {day} sessions, and {plan.champion} is not replaced."
    if plan.can_promote:
        return f"No answer yet: {seen} have been seen."
    small = ", and the test is too small for what one can expect"
    if plan.rule > 1:
        small += f", which takes {sessions_in_words(plan, plan.days_for_plausible)}"
    return f"No answer yet: {seen} have been seen{small}."


def _power(plan: ExperimentPlan) -> str:
    power, metric = plan.whole_rule, metric_of(plan)
    if power is None:
        return (
            f"finds {amount(plan.detectable, metric)} in {metric.title} with {100 * plan.test.power:.0f} % probability"
        )
    hoped = f"{amount(plan.test.plausible_effect, metric)} in {metric.title}, the most one can expect,"
    return f"a challenger that is better by {hoped} is promoted with {100 * power.promoted[2]:.0f} % probability"


def _days(plan: ExperimentPlan) -> str:
    power = plan.whole_rule
    if power is None:
        return f"at most {plan.looks[-1]:,} sessions"
    return f"{power.days[2]:,.0f} sessions on average if it is better by that, {power.days[0]:,.0f} if it is equal"
