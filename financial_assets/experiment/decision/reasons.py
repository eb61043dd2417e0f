"""The sentences in which the second rule gives its reasons: plain English, with units, and the way on.

They are part of a decision's record, so that a change of wording changes the digest of decisions that are computed
again. Figures are those of plan, looks and sequence; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence

from financial_assets.experiment.decision.conditions import Conditions, needed_z
from financial_assets.experiment.decision.record import Action, ConfidenceSequence, Look
from financial_assets.experiment.decision.series import metric_of
from financial_assets.experiment.decision.units import amount
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.market import calendar

_GUARD_NAMES = {"accuracy": "right directions", "profit": "profit after costs", "tail": "large losses"}


def better_at_a_look(plan: ExperimentPlan, look: Look) -> str:
    """A look that was won."""
    return (
        f"{plan.challenger} is better{_on(plan)} than {plan.champion}: at the planned look on day {look.day} the "
        f"evidence reached z = {look.z:.2f}; {look.boundary:.2f} was needed.{_conditions_met(plan, list(look.guards))}"
    )


def better_on_any_day(plan: ExperimentPlan, always_on: ConfidenceSequence) -> str:
    """The always-on sequence clears the margin."""
    metric = metric_of(plan)
    return (
        f"{plan.challenger} is better{_on(plan)} than {plan.champion}: its advantage in {metric.title} is at least "
        f"{amount(always_on.low, metric)} with {confidence(plan)} confidence, valid on every day; more than "
        f"{amount(plan.test.margin, metric)} was needed.{_conditions_met(plan, [])}"
    )


def _conditions_met(plan: ExperimentPlan, guards: Sequence[str]) -> str:
    margin = amount(plan.noninferiority_margin, metric_of(plan))
    baselines = f" It is not worse than {listed(plan.must_beat)} by {margin} or more" if plan.must_beat else ""
    harm = f"not shown to do worse in {listed([_GUARD_NAMES.get(name, name) for name in guards])}" if guards else ""
    if baselines and harm:
        return f"{baselines}, and {harm}."
    return f"{baselines}." if baselines else f" It is {harm}." if harm else ""


def worse_on_any_day(plan: ExperimentPlan, always_on: ConfidenceSequence) -> str:
    """The always-on sequence shows harm."""
    metric = metric_of(plan)
    least = f"by at least {amount(always_on.high, metric)} in" if always_on.high < 0 else "in"
    return (
        f"{plan.challenger} is worse than {plan.champion} {least} {metric.title}, with {confidence(plan)} "
        "confidence, valid on every day."
    )


def worse_at_a_look(plan: ExperimentPlan, look: Look) -> str:
    """A look that shows harm."""
    metric, margin = metric_of(plan), plan.test.margin
    by = f" by more than {amount(margin, metric)}" if margin else ""
    return (
        f"{plan.challenger} is worse than {plan.champion}{by} in {metric.title}: at the planned look on day "
        f"{look.day} the evidence against it passed the boundary of {look.boundary:.2f} (z = {look.z:.2f})."
    )


def luck(plan: ExperimentPlan, ratio: float | None) -> str:
    """A deflated Sharpe ratio that the policy asks for is not reached."""
    shown = "is not defined" if ratio is None else f"is {ratio:.2f}"
    return (
        f"Its deflated Sharpe ratio {shown}; at least {plan.test.deflated_sharpe:g} is needed. The profit may be the "
        "luck of the best of all registered versions."
    )


def underpowered(plan: ExperimentPlan) -> str:
    """The plan could not find what is plausible."""
    metric, days = metric_of(plan), plan.days_for_plausible
    whole = "with all of its conditions, " if plan.whole_rule else ""
    return (
        f"Not enough sessions to tell: {whole}a test of {plan.looks[-1]} sessions finds differences of "
        f"{amount(plan.detectable, metric)} or more in {metric.title}, and "
        f"{amount(plan.test.plausible_effect, metric)} is the most one can expect here. "
        f"About {sessions_in_words(plan, days)} would do; so would more tickers, or a metric that tells the models "
        "apart sooner."
    )


def no_day(plan: ExperimentPlan) -> str:
    """Before the first day."""
    return f"No evidence yet: no session after {plan.starts_after} has a known outcome."


def too_early(plan: ExperimentPlan, days: int) -> str:
    """Before the first look."""
    seen = f"{days} session{'s have' if days != 1 else ' has'} been seen"
    return f"Too early to decide: the first planned look is on day {plan.looks[0]}; {seen}."


def no_winner_yet(plan: ExperimentPlan, look: Look, days: int) -> str:
    """Between two looks."""
    at = f"at the planned look on day {look.day}"
    coming = next_look(plan, days)
    match look.outcome:
        case "promote":
            return (
                f"No winner yet: the evidence {at} was good enough, but was not acted on within {plan.act_within} "
                f"sessions, and no longer counts. {coming}"
            )
        case "held":
            unmet = Conditions(look.against, look.guards).unmet(needed_z(plan))
            return f"{conditions_open(plan, *unmet, at=at)} {coming}"
        case "uneven":
            return (
                f"No winner yet: {plan.challenger} leads {at}, but a few days lose far more than most days gain. "
                f"Only the interval that is valid on every day can promote it, or days that are more even. {coming}"
            )
        case _:
            power = f"{100 * (look.conditional_power or 0.0):.0f} %"
            hope = amount(plan.test.plausible_effect, metric_of(plan))
            return (
                f"No winner yet: {at} the evidence reached z = {look.z:.2f} of {look.boundary:.2f} needed. If it is "
                f"better by {hope}, it wins by day {plan.looks[-1]} with a probability of {power}. {coming}"
            )


def next_look(plan: ExperimentPlan, days: int) -> str:
    """When the next look is."""
    coming = next((day for day in plan.looks if day > days), None)
    if coming is None:
        return f"The test ends on day {plan.looks[-1] + plan.act_within}."
    return f"The next look is on day {coming}, in {coming - days} session{'s' if coming - days != 1 else ''}."


def conditions_open(plan: ExperimentPlan, inferior: Sequence[str], harmful: Sequence[str], at: str = "") -> str:
    """Better than the champion, but not promoted for what else is asked for."""
    margin = amount(plan.noninferiority_margin, metric_of(plan))
    against = list[str]()
    if inferior:
        against.append(f"it is not yet shown to be no worse than {listed(inferior)} by {margin}")
    if harmful:
        against.append(f"it is shown to do worse in {listed([_GUARD_NAMES.get(name, name) for name in harmful])}")
    where = f" {at}" if at else ""
    return f"No promotion: {plan.challenger} is better than {plan.champion}{where}, but {' and '.join(against)}."


def futile(plan: ExperimentPlan, look: Look) -> str:
    """A look that ended the test."""
    power = f"{100 * (look.conditional_power or 0.0):.0f} %"
    hope = amount(plan.test.plausible_effect, metric_of(plan))
    return (
        f"Little hope of a winner: at the planned look on day {look.day} the probability of winning by day "
        f"{plan.looks[-1]} was {power} even if {plan.challenger} were better by {hope}; the plan ends a test below "
        f"{100 * plan.test.futility:.0f} %. {_stays(plan)}"
    )


def ended(plan: ExperimentPlan, look: Look | None) -> str:
    """The horizon without a winner."""
    when = f" on {look.session}" if look else ""
    return f"The planned test of {plan.looks[-1]} sessions ended{when} without a winner. {_stays(plan)}"


def traffic_stays(plan: ExperimentPlan, action: Action) -> str:
    """Why an answer to a further question changes no requests, and what would let it."""
    why = f"traffic follows the question of {plan.traffic_question}"
    if action == "rollback":
        return f"No request is taken from {plan.challenger} for it: {why}."
    return (
        f"{plan.champion} goes on serving, because {why}. For {plan.question} to decide, set test.question: "
        f"{plan.question} in the rollout policy; that holds for tests that start later, such as that of a retrained "
        "version."
    )


def _on(plan: ExperimentPlan) -> str:
    return "" if plan.moves_traffic else f" on {plan.question}"


def _stays(plan: ExperimentPlan) -> str:
    if not plan.moves_traffic:
        return (
            f"{plan.challenger} is not shown to be better on {plan.question}. This test can find no winner any more; "
            "the interval that is valid on every day still watches for harm. A retrained version starts another test."
        )
    released = plan.test.at_horizon == "release"
    pairs = f" {plan.challenger} gets no more requests and is scored in pairs only." if released else ""
    return (
        f"{plan.champion} stays champion.{pairs} Nothing more is promoted by this test; guardrails and the interval "
        "that is valid on every day still watch for harm. A retrained version starts another test."
    )


def sessions_in_words(plan: ExperimentPlan, days: int) -> str:
    """Sessions, and the years that they take if it is more than one; earlier plans say so from two years on."""
    year = calendar.sessions_per_year()
    if plan.corrects_skewness:
        years = f" ({days / year:,.{0 if days >= 10 * year else 1}f} years)" if days > year else ""
    else:  # records of these plans are computed again, word by word
        years = f" ({days / year:.0f} years)" if days >= 2 * year else ""
    return f"{days:,} sessions{years}"


def confidence(plan: ExperimentPlan) -> str:
    """That of the always-on sequence: ``99 %``."""
    return f"{plan.confidence.rstrip('%')} %"


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
