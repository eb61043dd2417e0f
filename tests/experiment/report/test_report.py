from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from financial_assets.experiment.decision.evidence import Judgement, gather, leading_decision
from financial_assets.experiment.decision.record import Guardrail, TrafficEvidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.words import reasons_in_words
from financial_assets.experiment.evaluation.business import BusinessCase
from financial_assets.experiment.evaluation.business_view import business_of
from financial_assets.experiment.evaluation.by_regime import RegimeRow, RegimeView
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.measures import (
    ArmTraffic,
    Comparison,
    Conclusion,
    EpochTraffic,
    ProfitAndLoss,
    Skill,
    TickerSkill,
)
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.report import html as report
from financial_assets.experiment.report.charts import CHARTS, svg
from financial_assets.experiment.report.decision_case import DecisionCase, case_of, evidence
from financial_assets.experiment.report.style import standalone, svg_of
from financial_assets.experiment.statistics.long_run import robust_z
from financial_assets.models.explanations.explanation import Explanation, StoredExplanations
from financial_assets.models.explanations.gradients import AnswerAttribution, FamilyAttribution, FeatureAttribution
from financial_assets.models.explanations.losses import COLUMNS
from financial_assets.models.explanations.permutation import FamilyImportance
from financial_assets.models.explanations.segments import SegmentView
from financial_assets.portfolio.economics.assumptions import Assumptions
from financial_assets.portfolio.economics.evaluate import economics_of
from financial_assets.portfolio.selection import Trials
from financial_assets.scoring.classification import ReliabilityBin
from financial_assets.scoring.intervals import Interval
from tests.experiment.builders import CHALLENGER, CUTOFF, panel
from tests.experiment.decision.builders import EPOCH, QUIET, frames, plan
from tests.portfolio.economics.test_economics import world

DAYS = tuple(str(day) for day in np.arange("2012-01-02", "2012-03-02", dtype="datetime64[D]"))
ROUTED = pd.DataFrame({"status": [], "model": [], "epoch": [], "session": [], "latency_s": []})
MODELS = ("baseline-predictor-v1", "enhanced-predictor-v2")


def estimate(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half, len(DAYS), 4 * len(DAYS), 0.95)


def skill(name: str, role: str, accuracy: float) -> Skill:
    rng = np.random.default_rng(sum(name.encode()))
    pnl = ProfitAndLoss(-0.31, -0.04, -0.12, 0.48, 0.05, 37, -0.00123, tuple(0.01 * rng.standard_normal(len(DAYS))))
    bins = (ReliabilityBin(0.45, 0.5, 100), ReliabilityBin(0.55, 0.52, 140))
    return Skill(
        name, role, estimate(accuracy, 0.03), estimate(0.2512, 0.002), estimate(0.6953, 0.004), estimate(0.00156, 1e-4),
        estimate(0.91, 0.02), estimate(0.985, 0.01), 0.61, pnl, bins,
    )  # fmt: skip


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    grid = tuple(np.linspace(0.001, 0.02, 101))
    skills = (
        skill(MODELS[0], "champion", 0.503),
        skill(MODELS[1], "challenger", 0.514),
        skill("majority", "baseline", 0.529),
        skill("logistic", "baseline", 0.511),
        replace(skill("historical", "baseline", 0.5), accuracy=None, brier=None, log_loss=None, pnl=None,
                share_up=None, reliability=()),
    )  # fmt: skip
    hold = skill("hold", "baseline", 0.5).pnl
    return Evaluation(
        experiment="financial-ab-test-experiment",
        as_of="2012-03-01",
        first_session=DAYS[0],
        last_session=DAYS[-1],
        arms=tuple(
            {"model": m, "variant": m.split("-")[0], "version": v, "role": r, "weight": w, "data_cutoff": "2011-12-30"}
            for m, v, r, w in zip(MODELS, (1, 2), ("champion", "challenger"), (70, 30), strict=True)
        ),
        conclusion=Conclusion("underpowered", "It cannot be concluded that <b>x</b> is better.", ("A remark & more.",)),
        comparisons=(
            Comparison("accuracy", MODELS[1], MODELS[0], estimate(0.011, 0.041), 120, 240, 0.058, 0.8, 0.02, 2346),
            Comparison("brier", MODELS[1], MODELS[0], estimate(0.001, 0.002), 240, 240, 0.003, 0.8, None, None),
        ),
        epochs=(
            EpochTraffic(
                1, "2026-11-20T23:31:43+00:00", "start of the experiment", dict(zip(MODELS, (70, 30), strict=True)),
                dict(zip(MODELS, (171, 65), strict=True)), dict(zip(MODELS, (165.2, 70.8), strict=True)), 3, 1, 0.41,
                "chi-square", 0.001, True,
            ),
        ),
        traffic=tuple(
            ArmTraffic(m, 171, 169, 1, 0, 1, 2, 0.0123, 0.0345, 0.0456, grid, estimate(0.503, 0.05)) for m in MODELS
        ),
        skills=skills,
        tickers=(TickerSkill("AAPL", 60, 0.53, {MODELS[0]: 0.51, MODELS[1]: 0.47, "majority": 0.53}),),
        trading_days=DAYS,
        buy_and_hold=hold,
        cost_bps=5.0,
        level=0.95,
        plan={"worthwhile": 0.02, "level": 0.95, "power": 0.8, "srm_alpha": 0.001, "cost_bps": 5, "basis": "a plan"},
        outcomes_not_due=4,
        data_hash="0123456789abcdef" * 4,
        business=business_of(skills, hold, ROUTED, BusinessCase(), 0.95),
        regimes=RegimeView(
            (RegimeRow("volatility", "low", 31, {MODELS[0]: 0.52}, estimate(-0.03, 0.04), None, None),),
            29,
            {"volatility": 0.021, "trend": None},
        ),
    )  # fmt: skip


PRICES = panel(sessions=80, tickers=3)


def decided(days: int = 40, skill: float = 0.5, traffic: TrafficEvidence = QUIET, **test: object) -> DecisionCase:
    """A decision on the first days of a plan with looks on days 20 and 40; one arm is right as often as told."""
    rules = plan(**{"horizon_sessions": 40, "looks": 2, "futility": 0.0, **test})
    direct, rivals = frames(PRICES)
    outcome = outcome_frame(PRICES).set_index(["session", "ticker"])["up"]
    up = outcome.reindex(pd.MultiIndex.from_frame(direct[["session", "ticker"]])).eq(True).to_numpy()
    right = np.random.default_rng(2).random(len(direct)) < np.where(direct["model"] == CHALLENGER, skill, 0.5)
    direct["probability_up"] = np.where(right == up, 0.6, 0.4)
    as_of = PRICES.sessions[PRICES.sessions.searchsorted(CUTOFF, side="right") + days]
    known = direct[(direct["session"] > CUTOFF) & (direct["session"] <= as_of)]
    found = gather(rules, known, rivals, outcome_frame(PRICES.until(as_of), scaled=True))
    made = decide(rules, EPOCH, found, traffic, as_of=as_of.date().isoformat(), deflated_sharpe=lambda: None)
    assert made.days == days
    return case_of(Judgement(made, rules, found))


class Page(HTMLParser):
    """Collects references, ids, text and checks that elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.levels: list[int] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.references += [str(values[key]) for key in ("src", "href", "xlink:href", "data") if values.get(key)]
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.levels.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@pytest.mark.usefixtures("undrawn")
def test_the_verdict_comes_first_and_the_figures_follow(evaluation: Evaluation) -> None:
    page = Page(report.html(evaluation))
    text = " ".join(" ".join(page.words).split())
    assert page.open == []
    assert text.index("Undecided") < text.index("It cannot be concluded") < text.index("A remark & more.")
    figures = (
        "50.3 47.3 to 53.3", "0.2512", "0.6953", "91.0", "12.30", "34.50", "45.60", "171 / 65", "p = 0.41",
        "165.2 / 70.8", "2,346", "-12.0 %", "37", "-12.3", "AAPL", "0123456789abcdef", "2011-12-30",
        "2.0 pp would matter", "volatility low", "-3.0 -7.0 to 1.0", "p = 0.021: not stable", "29 sessions",
    )  # fmt: skip
    for figure in figures:
        assert figure in text, figure
    assert "<b>x</b>" in text  # shown as text, not taken for markup


@pytest.mark.usefixtures("undrawn")
def test_a_halt_is_said_before_everything_else(evaluation: Evaluation) -> None:
    page = Page(report.html(evaluation, halted="HALTED by <b>anna</b>: a test."))
    text = " ".join(" ".join(page.words).split())
    assert page.open == []
    said = text.index("HALTED by <b>anna</b>")
    assert said < text.index("As of") < text.index("Undecided", said)
    assert "HALTED" not in report.html(evaluation)


@pytest.mark.parametrize("with_decision", [False, True])
def test_the_page_refers_to_nothing_outside_itself(evaluation: Evaluation, with_decision: bool) -> None:
    text = report.html(evaluation, [decided()] if with_decision else [])
    page = Page(text)
    assert [r for r in page.references if not r.startswith("#")] == []
    assert "url(http" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    used = {r for r in page.references if r.startswith("#")} | set(re.findall(r"url\((#[^)]*)\)", text))
    assert {f"#{name}" for name in page.ids} >= used  # clip paths and markers are all there


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without plots, which are looked at elsewhere: text only takes a tenth of the time."""
    monkeypatch.setattr(report.charts, "svg", lambda evaluation, name: f"<svg>{name}</svg>")


def words(evaluation: Evaluation, case: DecisionCase | None = None) -> str:
    page = Page(report.html(evaluation, [] if case is None else [case]))
    assert page.open == []
    return " ".join(" ".join(page.words).split())


@pytest.mark.usefixtures("undrawn")
def test_the_decision_comes_first_with_its_reasons_plan_and_record(evaluation: Evaluation) -> None:
    case = decided(20)
    text = words(evaluation, case)
    decision, rules = case.decision, case.plan
    reason = reasons_in_words(decision, rules)[0]
    order = [
        "Decision: hold",
        reason,
        "It cannot be concluded",
        "Each day gives one number",
        "A guardrail fires when",
        "The registered plan, which decides",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "Undecided" not in text
    (look,) = decision.looks
    for figure in (
        decision.digest, rules.digest, decision.evidence_digest, f"decide --repeat {decision.digest[:12]}",
        f"{look.z:.2f}", f"{look.boundary:.2f}", f"{rules.boundaries[1]:.2f}", "20 of 40 planned days seen", "to come",
        f"{rules.days_for_plausible:,} days", f"{100 * rules.detectable:.1f} pp", "looks on 20, 40",
        "0.04 for 2 planned looks", rules.spread.basis, "not those of the record",
    ):  # fmt: skip
        assert (figure in text) == (figure != "not those of the record"), figure


@pytest.mark.usefixtures("undrawn")
def test_a_page_does_not_contradict_itself(evaluation: Evaluation) -> None:
    rail = Guardrail("sample ratio", "", "hold", False, 0.319, 0.3, 1000, "", 0.19)
    over = words(evaluation, decided(60, traffic=TrafficEvidence((rail,), "even"), plausible_effect=0.001))
    assert "60 of 40" not in over
    assert "60 days seen the planned test ended on day 40" in over
    assert "fine, within chance 31.9 % weights 30.0 % 0.19 alarm at p = 0.001 or below" in over
    assert "days for 2.0 pp, one look" in over, "days of the plan and days of one look are told apart"
    assert "expected to bring" not in over
    assert " less " not in over
    young = words(evaluation, decided(1))
    assert "no bound yet" in young
    assert "no bound yet to" not in young
    refused = replace(evaluation, conclusion=Conclusion("refused", "No conclusion may be drawn.", ()))
    assert "value of promotion not defined the traffic split is broken" in words(refused, decided(20))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("skill", "label", "mood"),
    [(1.0, "promote", "good"), (0.0, "roll back", "bad")],
)
def test_every_action_has_its_label(evaluation: Evaluation, skill: float, label: str, mood: str) -> None:
    page = report.html(evaluation, [decided(40, skill, plausible_effect=0.2)])
    assert f'<h2 id="verdict">Decision: {label}</h2>' in page
    assert f'<section class="verdict {mood}">' in page


@pytest.mark.usefixtures("undrawn")
def test_a_fired_guardrail_stands_out(evaluation: Evaluation) -> None:
    rail = Guardrail("latency", CHALLENGER, "rollback", True, 0.3, 0.01, 500, "too slow")
    page = report.html(evaluation, [decided(traffic=TrafficEvidence((rail,), "slow"))])
    assert "Decision: roll back</h2>\n\n<p>30.0 % of 500 requests to enhanced-predictor-v2 took" in page
    assert '<td class="bad-text">FIRED</td>' in page
    assert "1 of 2 fired" in " ".join(page.split())


def test_the_evidence_ends_where_the_decision_stands() -> None:
    case = decided(40)
    assert (case.low[-1], case.high[-1]) == (case.decision.always_on.low, case.decision.always_on.high)
    assert case.running_mean[-1] == pytest.approx(case.decision.estimate)
    assert np.all(np.diff(case.low) >= 0)  # a bound that held is never taken back
    for line in case.lines:
        assert line.look is not None
        assert line.needed is not None
        shifted = case.differences[: line.day] - case.differences[: line.day].mean() + line.needed
        assert robust_z(shifted) == pytest.approx(line.boundary)  # the triangle is where the look would have crossed


@pytest.mark.parametrize("days", [0, 1, 20, 60])
def test_the_evidence_is_drawn_from_the_first_day_to_beyond_the_horizon(evaluation: Evaluation, days: int) -> None:
    case = decided(days) if days else replace(
        decided(1), differences=np.empty(0), low=np.empty(0), high=np.empty(0), sessions=PRICES.sessions[:0]
    )  # fmt: skip
    element = svg_of(lambda: evidence(case), "evidence", "Evidence", "Over time")
    assert ElementTree.fromstring(element).get("viewBox")
    assert "99% interval, valid on every day" in element
    axes = evidence(case).axes[0]
    means = next(line for line in axes.lines if str(line.get_label()).startswith("mean")).get_ydata()
    assert len(means) == (41 if days == 60 else days)
    assert np.all(np.abs(means) <= axes.get_ylim()[1]), "the mean stays inside the plot"
    assert set(report.plots(evaluation, [case])) == {*CHARTS, "evidence"}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("aum", [None, 2e6])
def test_money_is_shown_only_if_there_is_any(evaluation: Evaluation, aum: float | None) -> None:
    case = BusinessCase(aum=aum, implementation_cost=1234.0)
    text = words(replace(evaluation, business=business_of(evaluation.skills, None, ROUTED, case, 0.95)))
    assert ("value of promotion" in text) == ("1,234" in text) == ("2,000,000" in text) == (aum is not None)
    assert ("Set BUSINESS_AUM" in text) == (aum is None)
    assert "The interval spans zero" in text


@pytest.mark.parametrize("name", CHARTS)
def test_every_plot_is_an_image_and_an_svg_element_that_scales(evaluation: Evaluation, name: str) -> None:
    picture = standalone(svg(evaluation, name))
    assert b"var(" not in picture
    assert ElementTree.fromstring(picture).get("width")
    element = svg(evaluation, name)
    root = ElementTree.fromstring(element)
    assert root.tag.endswith("svg")
    assert root.get("viewBox")
    assert root.get("width") is None
    assert root.get("height") is None
    assert svg(evaluation, name) == element  # the same figures, the same bytes


@pytest.mark.parametrize("worthwhile", [0.02, None])
def test_a_plan_by_another_score_marks_no_difference_in_accuracy(
    evaluation: Evaluation, worthwhile: float | None
) -> None:
    evaluation = replace(evaluation, plan=evaluation.plan | {"worthwhile": worthwhile})
    page = report.html(evaluation)
    assert ("one look</th>" in page.split("smallest detectable, one look</th>")[1]) == (worthwhile is not None)
    axes = CHARTS["differences"].draw(evaluation).axes[0]
    assert ("would matter" in axes.get_xlabel()) == (worthwhile is not None)
    assert any(line.get_linestyle() == ":" for line in axes.lines) == (worthwhile is not None)


def test_a_bin_of_few_days_does_not_stretch_the_reliability_plot(evaluation: Evaluation) -> None:
    noise = ReliabilityBin(0.36, 1.0, 3)
    skills = tuple(
        replace(skill, reliability=(*skill.reliability, noise)) if skill.reliability else skill
        for skill in evaluation.skills
    )
    plot = CHARTS["reliability"].draw(replace(evaluation, skills=skills)).axes[0]
    assert plot.get_xlim() == plot.get_ylim() == CHARTS["reliability"].draw(evaluation).axes[0].get_ylim()
    assert plot.get_xlim()[1] < 0.6


def test_plots_say_what_they_show(evaluation: Evaluation) -> None:
    assert set(report.plots(evaluation)) == set(CHARTS)
    accuracy = svg(evaluation, "accuracy")
    for label in (*MODELS, "majority", "logistic", "coin"):
        assert label in accuracy
    assert "SRM ok" in svg(evaluation, "traffic")
    narrow = replace(
        evaluation, skills=tuple(replace(s, accuracy=estimate(0.51, 0.065)) for s in evaluation.skills[:2])
    )
    ticks = [float(tick.rstrip("%")) for tick in re.findall(r">([\d.]+%)</text>", svg(narrow, "accuracy"))]
    assert len(set(np.diff(ticks).round(6))) == 1, "ticks are not rounded"
    broken = replace(evaluation, epochs=(replace(evaluation.epochs[0], passed=False),))
    assert "SRM FAILED" in svg(broken, "traffic")
    assert "buy and hold" in svg(evaluation, "profit")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("verdict", "label"),
    [
        ("refused", "No analysis"),
        ("no_data", "No data yet"),
        ("no_difference", "No difference"),
        ("challenger_better", "Challenger better"),
        ("champion_better", "Champion better"),
    ],
)
def test_every_verdict_has_its_label(evaluation: Evaluation, verdict: str, label: str) -> None:
    changed = replace(evaluation, conclusion=Conclusion(verdict, "Said.", ()))  # type: ignore[arg-type]
    assert f'<h2 id="verdict">{label}</h2>' in report.html(changed)


def test_an_experiment_without_data_has_a_page(evaluation: Evaluation) -> None:
    empty = replace(
        evaluation, first_session=None, last_session=None, comparisons=(), traffic=(), skills=(), tickers=(),
        trading_days=(), buy_and_hold=None, business=None, regimes=None,
        epochs=(replace(evaluation.epochs[0], observed=dict.fromkeys(MODELS, 0), method="none", p_value=1.0),),
    )  # fmt: skip
    assert "Traffic split" in report.html(empty)
    assert report.html(replace(empty, epochs=()))


@pytest.mark.usefixtures("undrawn")
def test_page_and_figures_are_written_beside_each_other(evaluation: Evaluation, tmp_path: Path) -> None:
    clock = "Market clock: 2012-03-01. Newest bar: 2013-03-01, 251 sessions later."
    report.write_report(tmp_path / "reports" / "ab.html", report.html(evaluation, [decided()], clock), evaluation)
    assert clock in (tmp_path / "reports" / "ab.html").read_text().split("<h2")[0]
    assert "Market clock" not in report.html(evaluation, [decided()])
    assert (tmp_path / "reports" / "ab.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "reports" / "ab.json").read_text())["as_of"] == "2012-03-01"
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["ab.html", "ab.json"]


def test_many_epochs_are_added_up_by_regime(evaluation: Evaluation) -> None:
    one = evaluation.epochs[0]
    several = tuple(
        replace(one, number=number, regime=regime, passed=number != 3)
        for number in range(1, 9)
        for regime in ("high-up", "low-down")
    )
    drawn = svg(replace(evaluation, epochs=several), "traffic")
    assert "8 epochs, high-up" in drawn
    assert "SRM FAILED in 1" in drawn
    assert "epoch 3, high-up" not in drawn
    few = svg(replace(evaluation, epochs=several[:4]), "traffic")
    assert "epoch 1, high-up" in few


def two_cases() -> list[DecisionCase]:
    first = decided()
    other = replace(first.decision, challenger="tiny-predictor-v4")
    return [first, replace(first, plan=replace(first.plan, challenger="tiny-predictor-v4", family=2), decision=other)]


def test_each_of_several_challengers_has_its_decision_evidence_plan_and_record(evaluation: Evaluation) -> None:
    page = Page(report.html(evaluation, two_cases()))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    text = " ".join(" ".join(page.words).split())
    for part in ("The evidence over time: ", "Guardrails: ", "The registered plan, which decides: "):
        for challenger in (CHALLENGER, "tiny-predictor-v4"):
            assert part + challenger in text
    for case in two_cases():
        assert case.decision.digest in text
    assert set(report.plots(evaluation, two_cases())) == {*CHARTS, "evidence", "evidence, tiny-predictor-v4"}


def test_the_page_is_about_the_decision_that_changes_something_first() -> None:
    hold = decided().decision
    back, up, better = (
        replace(hold, action=action, challenger=action, estimate=estimate)
        for action, estimate in (("rollback", -0.1), ("promote", 0.1), ("promote", 0.2))
    )
    assert leading_decision([]) is None
    assert leading_decision([hold, back]) is back
    assert leading_decision([hold, back, up, better]) is better


@pytest.mark.usefixtures("undrawn")
def test_the_head_names_tickers_span_and_run_and_versions_are_links_to_a_server_only(evaluation: Evaluation) -> None:
    made_by = report.Provenance("0f1e2d3c", "predictor", "sqlite:///mlflow.db", 4)
    text = report.html(evaluation, provenance=made_by)
    head = " ".join(" ".join(Page(text[: text.index("<main")] + "</body></html>").words).split())
    for part in (DAYS[0], DAYS[-1], "AAPL", "Dagster run 0f1e2d3c"):
        assert part in head
    assert "with up to 4 requests at once" in text
    assert "<td>predictor 2</td>" in text
    assert [r for r in Page(text).references if not r.startswith("#")] == []
    server = replace(made_by, tracking_address="https://me:secret@mlflow.example:5000/base/")
    page = Page(report.html(evaluation, provenance=server))
    links = [r for r in page.references if not r.startswith("#")]
    assert links == [f"https://mlflow.example:5000/base/#/models/predictor/versions/{v}" for v in (1, 2)]
    assert "secret" not in report.html(evaluation, provenance=server)
    assert "Dagster run" not in report.html(evaluation)


@pytest.mark.usefixtures("undrawn")
def test_every_forecaster_and_term_has_its_line(evaluation: Evaluation) -> None:
    text = words(evaluation, decided(20))
    for skill in evaluation.skills:
        assert re.search(rf"{skill.name} (Champion|Challenger|Reference)\b", text), skill.name
    for term in ("arm", "look", "session", "champion", "weight epoch"):
        assert f" {term} " in text[text.index(" Glossary ", text.index("Models and data")) :]


@pytest.mark.usefixtures("undrawn")
def test_no_result_per_trade_is_shown_below_ten_trades(evaluation: Evaluation) -> None:
    few = replace(evaluation.skills[2], pnl=replace(evaluation.skills[2].pnl, trades=2))  # type: ignore[type-var]
    text = words(replace(evaluation, skills=(*evaluation.skills[:2], few)))
    assert " 37 -12.3 " in text
    assert " 2 too few " in text


def explained(variant: str = "baseline") -> Explanation:
    def about(value: float) -> Interval:
        return Interval(value, value - 0.01, value + 0.01, 90, 180, 0.95)

    losses = {name: about(0.02) for name in COLUMNS}
    attribution = AnswerAttribution(
        "direction",
        (FamilyAttribution("momentum", about(0.2), 0.8), FamilyAttribution("calendar", about(0.05), 0.2)),
        (FeatureAttribution("rsi_14", "momentum", 0.1, -0.02),),
        (0.1, 0.4),
        1e-4,
        60,
    )
    importances = tuple(
        FamilyImportance(
            family, "across days", losses if family == "momentum" else {name: about(0.0) for name in COLUMNS}
        )
        for family in ("momentum", "calendar")
    )
    segments = SegmentView((), (), 0, 0.95)
    return Explanation(variant, "ab" * 10, "2011-01-03", "2012-07-18", (attribution,), importances, (), segments)


def test_the_page_says_what_moves_the_answers(evaluation: Evaluation) -> None:
    stored = StoredExplanations(
        (explained(), explained("enhanced")), ("enhanced was trained again since it was explained",)
    )
    page = report.html(evaluation, explanations=stored)
    text = " ".join(Page(page).words)
    assert "What moves the answers" in text
    assert "momentum moves the direction most (80% of all attribution" in text
    assert "Beyond chance it does so for momentum." in text
    assert "enhanced was trained again since it was explained." in text
    assert page.count('id="table-families-') == 2
    assert 'id="plot-explanation-1-title"' in page


def test_a_page_without_explanations_says_how_to_make_one(evaluation: Evaluation) -> None:
    text = words(evaluation)
    assert "No model has been explained yet; financial-assets explain --variant" in text


@pytest.mark.usefixtures("undrawn")
def test_economics_of_every_book_are_shown_with_what_deflates_them(evaluation: Evaluation) -> None:
    prices, forecasts = world(tickers=12)
    table = pd.concat([forecasts.assign(model=model) for model in MODELS])
    trials = Trials(np.random.default_rng(0).normal(0, 0.05, 12), unknown=2)
    found = economics_of(table, prices, trials=trials, leading=[MODELS[0]])
    text = words(replace(evaluation, economics=found))
    assert found.sentence in text
    assert "14 trials are on record, the Sharpe ratio of 12 is known" in text
    for title in ("Long or short by direction", "Long the best", "Market-neutral, by score"):
        assert title in text
    book = found.book(MODELS[1], "long_short", "market")
    assert book is not None
    assert book.figures is not None
    assert book.figures.capacity is not None
    assert f"{book.figures.capacity.high:,.0f}" in text
    assert f"{book.paid_bps:.1f}" in text
    small = economics_of(table, prices, Assumptions(ranked_from=13))
    alone = words(replace(evaluation, economics=small))
    assert small.left_out in alone
    assert "Market-neutral, by score" not in alone
    assert "on record" not in alone
    nothing = economics_of(table.assign(probability_up=0.5, score=0.0), prices)
    assert "held nothing" in words(replace(evaluation, economics=nothing))
    assert "Economics" not in words(replace(evaluation, economics=None)).split("Plots")[0]


def test_economics_are_drawn_a_book_a_plot(evaluation: Evaluation) -> None:
    prices, forecasts = world(tickers=12)
    found = economics_of(forecasts.assign(model=MODELS[0]), prices)
    drawn = CHARTS["economics"].draw(replace(evaluation, economics=found))
    assert len(drawn.axes) == 4
    labels = [str(line.get_label()) for line in drawn.axes[0].lines]
    assert {MODELS[0], "buy and hold", "cash"} <= set(labels)
    curve = next(line for line in drawn.axes[0].lines if line.get_label() == MODELS[0]).get_ydata()
    book = found.book(MODELS[0], "direction", "market")
    assert book is not None
    assert book.figures is not None
    assert float(curve[-1]) == pytest.approx(book.figures.net.total_return)  # type: ignore[index]
