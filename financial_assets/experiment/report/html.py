"""The evaluation as one self-contained HTML page, and its plots for other places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from financial_assets.atomic import atomic_write_text
from financial_assets.experiment.decision.evidence import leading_decision
from financial_assets.experiment.decision.guardrail_words import guardrail_lines
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.series import question_of
from financial_assets.experiment.decision.words import power_in_words, progress, reasons_in_words
from financial_assets.experiment.evaluation.candidates import ALWAYS_ALPHA
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.heads.ranking import FEWEST_TICKERS
from financial_assets.experiment.evaluation.remarks import ahead_remarks
from financial_assets.experiment.evaluation.var_backtest import FAMILY_ALPHA, TailBackTest
from financial_assets.experiment.report import charts
from financial_assets.experiment.report.cells import FILTERS
from financial_assets.experiment.report.decision_case import DecisionCase, evidence
from financial_assets.experiment.report.glossary import GLOSSARY, forecasters
from financial_assets.experiment.report.questions import label_of, question_lines
from financial_assets.experiment.report.style import css_variables, svg_of
from financial_assets.experiment.rollout.registration import UnaskedQuestion
from financial_assets.models.explanations.explanation import Explanation, StoredExplanations
from financial_assets.models.explanations.plots import draw_importance
from financial_assets.models.explanations.tables import families_table
from financial_assets.portfolio.economics.words import TITLES
from financial_assets.scoring.autocorrelation import FEWEST_DAYS

_VERDICTS = {
    "refused": ("No analysis", "bad"),
    "no_data": ("No data yet", "open"),
    "underpowered": ("Undecided", "open"),
    "no_difference": ("No difference", "open"),
    "challenger_better": ("Challenger better", "good"),
    "champion_better": ("Champion better", "bad"),
}

_UNITS = {
    "average accuracy so far": ("pp", 100, 1),
    "log loss": ("nats", 1, 4),
    "pinball loss": ("bp", 10_000, 2),
    "net profit per day": ("bp", 10_000, 1),
}
_ACTIONS = {"promote": ("promote", "good"), "hold": ("hold", "open"), "rollback": ("roll back", "bad")}
_ANSWERS = {"promote": "better", "hold": "hold", "rollback": "worse"}
"""What a decision says where it moves no traffic."""
_MOST_TAILS = 48


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the page was made by, named on it.

    Attributes
    ----------
    run
        Id of the Dagster run; empty without one.
    registered_model, tracking_address
        The model's name in MLflow's registry, and the registry's address. Versions are links if that is a server.
    workers
        Requests that a replay has under way at once, which is the load behind the latencies; 0 if not known.
    """

    run: str = ""
    registered_model: str = ""
    tracking_address: str = ""
    workers: int = 0

    def version_link(self, version: int) -> str:
        """Address of a model version in MLflow's user interface; empty without a server."""
        address = urlsplit(self.tracking_address)
        if address.scheme not in ("http", "https"):
            return ""
        server = address.netloc.rpartition("@")[2]  # a page is passed on: no password of the registry belongs in it
        path = address.path.rstrip("/")
        return f"{address.scheme}://{server}{path}/#/models/{self.registered_model}/versions/{version}"


def html(
    evaluation: Evaluation,
    cases: Sequence[DecisionCase] = (),
    clock: str = "",
    provenance: Provenance | None = None,
    doubts: Sequence[str] = (),
    explanations: StoredExplanations | None = None,
    drawn: Mapping[str, str] | None = None,
    unasked: Sequence[UnaskedQuestion] = (),
    halted: str = "",
) -> str:
    """The page: the questions and their answers first, then tables and plots; it loads nothing from outside itself.

    Parameters
    ----------
    evaluation
        What log and prices say.
    cases
        The decisions about each challenger, with plan and evidence; none without a challenger.
    clock
        The market clock beside the newest bar, in words; empty when they are the same session.
    provenance
        What made the page.
    doubts
        What is wrong with the prices, one sentence each.
    explanations
        What moves the answers of the models, where somebody has asked.
    drawn
        The :func:`plots` of evaluation and cases, if they are drawn already.
    unasked
        Questions of the policy that have no plan.
    halted
        The kill switch in a sentence, where it is on: the head's first line.
    """
    drawn = plots(evaluation, cases) if drawn is None else drawn
    stored = explanations or StoredExplanations()
    case, others = _main_case(cases)
    ordered = [case, *others] if case else []
    strategies = [(skill.name, skill.pnl) for skill in evaluation.skills if skill.pnl is not None]
    if evaluation.buy_and_hold is not None:
        strategies.append(("buy and hold", evaluation.buy_and_hold))
    challengers = [arm["model"] for arm in evaluation.arms if arm["role"] == "challenger"]
    leader = challengers[0] if challengers else None
    label, mood = _VERDICTS[evaluation.conclusion.verdict]
    if evaluation.conclusion.verdict == "no_data" and leader is None:
        label = "No challenger"
    if case is not None:
        action, mood = _ACTIONS[case.decision.action]
        asks_several = len({question_of(each.plan) for each in cases}) > 1
        label = f"Decision{f' on {question_of(case.plan)}' if asks_several else ''}: {action}"
    remarks = evaluation.conclusion.remarks
    champions = {arm["model"] for arm in evaluation.arms if arm["role"] == "champion"}
    return _template().render(
        e=evaluation,
        clock=clock,
        halted=halted,
        doubts=doubts,
        provenance=provenance or Provenance(),
        case=case,
        cases=ordered,
        ahead=[remark for remark in ahead_remarks(evaluation.skills, evaluation.comparisons) if remark in remarks],
        others=[(_said(other.decision), other) for other in others],
        questions=question_lines([(each.decision, each.plan) for each in ordered], unasked),
        labels={each.plan.digest: label_of(each.plan, [one.plan for one in cases]) for each in cases},
        reasons={each.plan.digest: reasons_in_words(each.decision, each.plan) for each in cases},
        rails={each.plan.digest: guardrail_lines(each.decision, each.plan) for each in cases},
        power={each.plan.digest: power_in_words(each.plan) for each in cases},
        progress={each.plan.digest: progress(each.decision, each.plan) for each in cases},
        tails=_worst_tails(evaluation),
        one_horizon=_one_horizon(evaluation),
        fewest_tickers=FEWEST_TICKERS,
        fewest_days=FEWEST_DAYS,
        family_alpha=FAMILY_ALPHA,
        # Plots are drawn here from numbers: nothing of a user's text becomes markup.
        evidence={each.plan.digest: Markup(drawn[_title(each, place)]) for place, each in enumerate(ordered)},
        svg={name: Markup(drawn[name]) for name in charts.CHARTS},
        charts=charts.CHARTS,
        label=label,
        mood=mood,
        pnl=strategies,
        book_titles=TITLES,
        risks={risk.name: risk for risk in evaluation.business.risks} if evaluation.business else {},
        names=list(evaluation.tickers[0].accuracy) if evaluation.tickers else [],
        units=_UNITS,
        always_alpha=ALWAYS_ALPHA,
        scores=max((candidate.further for candidate in evaluation.candidates), key=len, default=()),
        leader=leader,
        crowd=len(challengers) > 1,
        main=next(
            (
                item.difference
                for item in evaluation.comparisons
                if item.score == "accuracy" and item.first == leader and item.second in champions
            ),
            None,
        ),
        forecasters=forecasters(evaluation),
        glossary=GLOSSARY,
        explanations=stored,
        moved={each.variant: Markup(_importance_svg(each, place)) for place, each in enumerate(stored.explanations)},
        family_tables={each.variant: families_table(each) for each in stored.explanations},
        light=Markup(css_variables("light")),
        dark=Markup(css_variables("dark")),
    )


def write_report(path: Path, page: str, evaluation: Evaluation) -> None:
    """Write a page (see :func:`html`) to ``path`` and the evaluation as JSON beside it, atomically."""
    atomic_write_text(path, page)
    atomic_write_text(path.with_suffix(".json"), evaluation.to_json())


def plots(evaluation: Evaluation, cases: Sequence[DecisionCase] = ()) -> dict[str, str]:
    """The plots by name, as ``<svg>`` elements of the page (:func:`.style.standalone` makes pictures of them)."""
    main, others = _main_case(cases)
    ordered = [main, *others] if main else []
    shown = {_title(case, place): _evidence_svg(case, place) for place, case in enumerate(ordered)}
    return shown | {name: charts.svg(evaluation, name) for name in charts.CHARTS}


def _title(case: DecisionCase, place: int) -> str:
    question = "" if case.plan.moves_traffic else f", {question_of(case.plan)}"
    return f"evidence, {case.plan.challenger}{question}" if place else "evidence"


def _said(decision: Decision) -> str:
    return _ACTIONS[decision.action][0] if decision.moves_traffic else _ANSWERS[decision.action]


@cache
def _template() -> Template:
    """The page's template; compiling it takes longer than filling it in."""
    environment = Environment(
        loader=PackageLoader("financial_assets.experiment.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("report.html.j2")


def _worst_tails(evaluation: Evaluation) -> list[TailBackTest]:
    """The back-tests that have room on a page, in their order."""
    tails = evaluation.backtests
    order = sorted(tails, key=lambda tail: min(p for p in (tail.kupiec, tail.independence, 1.0) if p is not None))
    kept = {id(tail) for tail in order[:_MOST_TAILS]}
    return [tail for tail in tails if id(tail) in kept]


def _one_horizon(evaluation: Evaluation) -> list[str]:
    """Arms whose coverage is that of the next session only."""
    horizons = {(tail.model, tail.horizon) for tail in evaluation.coverage}
    return list(
        dict.fromkeys(model for model, _ in sorted(horizons) if sum(model == other for other, _ in horizons) == 1)
    )


def _evidence_svg(case: DecisionCase, place: int) -> str:
    return svg_of(
        lambda: evidence(case),
        f"plot-evidence-{place}",
        f"Evidence over time: {case.plan.challenger} minus {case.plan.champion}"
        + ("" if case.decision.question is None else f", {case.decision.question}"),
        "Mean difference of all days so far, the interval that is valid on every day, the planned looks, and the "
        "difference that each look needs. Figures: table of planned looks.",
    )


def _importance_svg(explanation: Explanation, place: int) -> str:
    return svg_of(
        lambda: draw_importance(explanation),
        f"plot-explanation-{place}",
        f"What the families of features are worth to {explanation.variant}",
        "Rise of the loss when a family says what it said of another day, with intervals. Figures: table of families.",
    )


def _main_case(cases: Sequence[DecisionCase]) -> tuple[DecisionCase | None, list[DecisionCase]]:
    first = leading_decision([case.decision for case in cases])
    main = next((case for case in cases if case.decision is first), None)
    return main, [case for case in cases if case is not main]
