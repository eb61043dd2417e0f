"""The page and the plots where several challengers, several kinds of weights or many epochs must be told apart."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.evidence import Judgement, gather, leading_decision
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.evaluation.conclusion import conclude_all
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.routed import routed_view
from financial_assets.experiment.evaluation.traffic import FOLLOWED, arm_traffic
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.report import html as report
from financial_assets.experiment.report.charts import CHARTS, svg
from financial_assets.experiment.report.decision_case import DecisionCase, case_of
from financial_assets.experiment.report.questions import label_of
from financial_assets.experiment.rollout.registration import UnaskedQuestion
from financial_assets.market.panel import PricePanel
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, SHADOW
from tests.experiment.decision.builders import QUIET, SPREAD, evaluated, policy
from tests.experiment.evaluation.builders import EPOCH, SECOND, evidence, routed_by_scores

THREE = replace(
    EPOCH,
    arms=(
        replace(EPOCH.champion, weight=60),
        Arm(SECOND, "tiny", 4, "challenger", 20, CUTOFF),
        Arm(CHALLENGER, "enhanced", 2, "challenger", 20, CUTOFF),
        Arm(SHADOW, "lightweight", 3, "shadow", 0, CUTOFF),
    ),
)
SKILLS = {CHAMPION: 0.5, CHALLENGER: 0.9, SECOND: 0.42, SHADOW: 0.5}


def cases(prices: PricePanel, direct: pd.DataFrame, baselines: pd.DataFrame) -> list[DecisionCase]:
    """A decision about each challenger, in the epoch's order."""
    made: list[DecisionCase] = []
    for arm in THREE.challengers:
        rules = policy(plausible_effect=0.03, looks=2, horizon_sessions=126)
        plan = make_plan(rules, THREE, arm, DailyDeviation(SPREAD, "the test"), CUTOFF)
        as_of = prices.sessions[-1]
        found = gather(plan, direct[direct["session"] > CUTOFF], baselines, outcome_frame(prices, scaled=True))
        decision = decide(plan, THREE, found, QUIET, as_of=as_of.date().isoformat(), deflated_sharpe=lambda: None)
        made.append(case_of(Judgement(decision, plan, found)))
    return made


@pytest.fixture(scope="module")
def judged() -> tuple[Evaluation, list[DecisionCase]]:
    prices, routed, direct, baselines = evidence(SKILLS, days=130, tickers=4)
    found = cases(prices, direct, baselines)
    leading = leading_decision([case.decision for case in found])
    assert leading is not None
    result = evaluated(
        routed=routed.iloc[:0], direct=direct, epochs=[THREE], panel=prices, baselines=baselines,
        leading=leading.challenger,
    )  # fmt: skip
    return result, found


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are drawn in other tests."""
    monkeypatch.setattr(report.charts, "svg", lambda _evaluation, name: f"<svg>{name}</svg>")


def test_the_decision_that_changes_traffic_leads_and_the_others_follow(
    judged: tuple[Evaluation, list[DecisionCase]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.charts, "svg", lambda _evaluation, name: f"<svg>{name}</svg>")
    evaluation, found = judged
    assert [case.plan.challenger for case in found] == [SECOND, CHALLENGER]
    page = report.html(evaluation, found)
    verdict = page[page.index('<section class="verdict') : page.index("</section>")]
    assert ">Decision: promote</h2>" in verdict
    assert verdict.count("<h2") == 1, "only the decision acted on is a headline"
    other = verdict.index(f"<b>{SECOND}: {found[0].decision.action.replace('rollback', 'roll back')}.</b>")
    assert verdict.index(f"{CHALLENGER} is better") < other
    blocks = re.findall(r"<h2[^>]*>The evidence over time: (\S+)</h2>", page)
    assert blocks == [CHALLENGER, SECOND]
    assert list(report.plots(evaluation, found))[:2] == ["evidence", f"evidence, {SECOND}"]
    assert f"per side: {CHALLENGER}</h2>" in page
    assert f">{CHALLENGER} minus champion, pp</th>" in page


def test_candidates_stand_in_two_tables_that_say_what_holds_when(
    judged: tuple[Evaluation, list[DecisionCase]], undrawn: None
) -> None:
    page = report.html(judged[0])
    table = page[
        page.index('<h2 id="candidates">Several candidates') : page.index(
            ">Value at risk per ticker", page.index("</nav>")
        )
    ]
    for words in ("Holm", "better by e-BH", "no finite-sample guarantee", "only the registered plans decide"):
        assert words in table
    assert [table.count(f'<tr><th scope="row">{name}</th>') for name in (CHALLENGER, SECOND, SHADOW)] == [2, 2, 2]
    assert table.count("asymptotic</span>") == 3
    assert table.count(">yes</td>") == 1


def test_brier_differences_of_the_candidates_are_those_of_the_comparisons(
    judged: tuple[Evaluation, list[DecisionCase]],
) -> None:
    evaluation, _ = judged
    pairs = {c.first: c.difference for c in evaluation.comparisons if c.score == "brier"}
    found = {one.name: one.brier for one in evaluation.candidates}
    assert set(found) == {CHALLENGER, SECOND, SHADOW}
    for name, difference in pairs.items():
        assert found[name].estimate == pytest.approx(difference.estimate)
        assert found[name].low == pytest.approx(difference.low)


def test_only_the_leading_challenger_changes_its_place(judged: tuple[Evaluation, list[DecisionCase]]) -> None:
    assert [arm["model"] for arm in judged[0].arms] == [CHAMPION, CHALLENGER, SECOND, SHADOW]
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.5, SHADOW: 0.5}, days=40, tickers=2)
    one = evaluated(
        routed=routed,
        direct=direct,
        epochs=[EPOCH],
        panel=prices,
        baselines=baselines,
        leading=CHALLENGER,
    )
    assert [skill.name for skill in one.skills[:3]] == [CHAMPION, CHALLENGER, SHADOW]


def test_sentences_beside_each_other_name_their_arms() -> None:
    prices, routed, direct, baselines = evidence({**SKILLS, CHALLENGER: 0.5}, days=130, tickers=4)
    several = evaluated(
        routed=routed.iloc[:0],
        direct=direct,
        epochs=[THREE],
        panel=prices,
        baselines=baselines,
    )
    assert f"Neither {SECOND} nor {CHAMPION} has been shown to beat" in several.conclusion.sentence
    alone = conclude_all(CHAMPION, [SECOND], (), [c for c in several.comparisons if CHALLENGER not in (c.first,)], {})
    assert "Neither has been shown to beat" in alone.sentence


def test_arms_of_one_role_have_colours_of_their_own(judged: tuple[Evaluation, list[DecisionCase]]) -> None:
    evaluation, _ = judged
    skill, arm = evaluation.skills[3], evaluation.arms[3]
    assert skill.name == arm["model"] == SHADOW
    more = replace(
        evaluation,
        skills=(*evaluation.skills, replace(skill, name="x")),
        arms=(*evaluation.arms, {**arm, "model": "x"}),
    )
    above = CHARTS["profit"].draw(more).axes[0]
    found = {line.get_label(): line.get_color() for line in above.lines if not str(line.get_label()).startswith("_")}
    assert {CHAMPION, CHALLENGER, SECOND, SHADOW, "x"} < set(found)
    assert len(set(found.values())) == len(found)


def test_names_that_do_not_fit_into_the_traffic_plot_stand_below_it(
    judged: tuple[Evaluation, list[DecisionCase]],
) -> None:
    evaluation, _ = judged
    split = replace(evaluation.epochs[0], observed={CHAMPION: 60, CHALLENGER: 20, SECOND: 20})
    drawn = svg(replace(evaluation, epochs=(split,)), "traffic")
    assert drawn.count(f">{CHALLENGER}<") == 1, "in the legend, and not over its neighbour"
    even = replace(split, observed={CHAMPION: 50, CHALLENGER: 50})
    assert "legend" not in svg(replace(evaluation, epochs=(even,)), "traffic")


def routed_to_three(seed: int, skill: float = 0.5) -> tuple[pd.DataFrame, list[WeightEpoch]]:
    """Outcomes of equal arms whose weights follow what was seen: who was right in the first half gets the second."""
    rng = np.random.default_rng(seed)
    names, days, tickers = (CHAMPION, SECOND, CHALLENGER), 60, 16
    right = rng.random((days, tickers, 3)) < np.array([0.5, skill, 0.5])
    best = right[: days // 2].mean(axis=(0, 1)).argmax()
    weights = [[34, 33, 33], [80 if place == best else 10 for place in range(3)]]
    later = np.arange(days) >= days // 2
    chosen = [rng.choice(3, size=tickers, p=np.array(weights[int(late)]) / 100) for late in later]
    rows = [
        (1 + int(late), day, f"T{ticker}", names[arm], 0.6 if right[place, ticker, arm] else 0.4)
        for place, (late, day) in enumerate(zip(later, pd.bdate_range("2011-01-03", periods=days), strict=True))
        for ticker, arm in enumerate(chosen[place])
    ]
    frame = pd.DataFrame(rows, columns=["epoch", "session", "ticker", "model", "probability_up"])
    epochs = [
        replace(
            THREE,
            number=number,
            reason=reason,
            arms=tuple(replace(arm, weight=weight) for arm, weight in zip(THREE.arms[:3], shares, strict=True)),
        )
        for number, reason, shares in zip((1, 2), ("start", "hedge: x"), weights, strict=True)
    ]
    return frame.assign(regime=None, inclusion=1.0, status="ok", up=True), epochs


def test_p_values_of_routed_requests_hold_for_several_challengers() -> None:
    """Equal arms are seldom called better on any day, although their weights follow luck; a better one is found."""
    least: list[float] = []
    for seed in range(120):
        due, epochs = routed_to_three(seed)
        view = routed_view(due, {}, epochs, 0.95)
        assert view is not None
        assert not view.refused
        assert view.arms[0].p_value is None
        least.append(min(float(arm.p_value) for arm in view.arms[1:] if arm.p_value is not None))
    assert np.mean(np.array(least) < 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 120)
    due, epochs = routed_to_three(0, skill=1.0)
    better = routed_view(due, {}, epochs, 0.95)
    assert better is not None
    assert better.arms[1].p_value is not None
    assert better.arms[1].p_value < 0.01
    assert better.arms[2].p_value is not None
    assert better.arms[2].p_value > 0.05


def test_a_refused_accuracy_says_why(undrawn: None) -> None:
    routed, direct, epochs = routed_by_scores(0.0)
    _, _, _, baselines = evidence({CHAMPION: 0.5}, days=10, tickers=2)
    prices = evidence({CHAMPION: 0.5}, days=120, tickers=4)[0]
    scored = routed.assign(up=True)
    assert arm_traffic(CHAMPION, routed, scored, 0.95).accuracy is not None
    arm = arm_traffic(CHAMPION, routed, scored, 0.95, followed=True)
    assert (arm.accuracy, arm.refused) == (None, FOLLOWED)
    successor = WeightEpoch(EPOCH.experiment, 3, EPOCH.opened_at, (replace(EPOCH.champion, weight=100),), "promote: x")
    alone = evaluated(
        routed=routed,
        direct=direct,
        epochs=[*epochs, successor],
        panel=prices,
        baselines=baselines.iloc[:0],
    )
    assert alone.routed is None
    page = " ".join(unescape(report.html(alone)).split())
    assert f"{FOLLOWED}." in page
    assert "What the routed requests alone show" not in page
    assert "right, % of own requests" not in page


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("hedge: would give 0.2/0.8", True), ("thompson by sector: x 30/70", True), ("hedger-v2 enters", False)],
)
def test_weights_that_follow_scores_are_told_by_their_reason(reason: str, expected: bool) -> None:
    assert replace(EPOCH, reason=reason).follows_scores is expected


def test_without_a_challenger_the_headline_says_so(undrawn: None) -> None:
    arms = (replace(EPOCH.champion, weight=100), Arm(SHADOW, "lightweight", 3, "shadow", 0, CUTOFF))
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, SHADOW: 0.5}, days=40, tickers=2)
    result = evaluated(
        routed=routed.assign(model=np.array([CHAMPION] * len(routed), dtype=object)), direct=direct,
        epochs=[replace(EPOCH, arms=arms)], panel=prices, baselines=baselines,
    )  # fmt: skip
    assert ">No challenger</h2>" in report.html(result)
    assert [one.role for one in result.candidates] == ["shadow"]


@pytest.mark.usefixtures("undrawn")
def test_the_page_begins_with_the_questions_and_their_answers(judged: tuple[Evaluation, list[DecisionCase]]) -> None:
    evaluation, found = judged
    asked = found[1]
    test = replace(asked.plan.test, metric="qlike")
    plan = replace(asked.plan, question="risk", traffic_question="direction", test=test, why="QLIKE finds <most> of it")
    plan = replace(plan, uneven=True)
    decision = replace(asked.decision, question="risk", action="promote", ended=True)
    risk = replace(asked, plan=plan, decision=replace(decision, plan_digest=plan.digest))
    unasked = UnaskedQuestion(CHALLENGER, CHAMPION, "ranking", "it needs 20 tickers, and the universe has 4", False)
    page = report.html(evaluation, [asked, risk], unasked=[unasked])
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", page[page.index("<main") :])).split())
    action = {"promote": "promote", "hold": "hold", "rollback": "roll back"}[asked.decision.action]
    assert text.index("The questions and their answers") < text.index(f"Decision on direction: {action}")
    assert f"direction, {CHALLENGER} (moves traffic)" in text
    assert f"risk, {CHALLENGER} {CHALLENGER} is better than {CHAMPION}; it does not replace it, because traffic" in text
    assert "QLIKE, chosen by rule: QLIKE finds <most> of it." in text
    assert "Cannot be asked, because it needs 20 tickers, and the universe has 4." in text
    assert f"{CHALLENGER}, risk: better." in text
    assert f"The evidence over time: {CHALLENGER}, direction (moves traffic)" in text
    assert "a promotion or a rollback is recorded here, and moves no requests" in text
    assert "It moves no weights." in text
    assert "(not in this test: its days are too uneven for a mean to be trusted)" in text
    assert text.count("It is rolled back at a look whose z falls") == 1, "no look of uneven days rolls back"
    assert len(re.findall("What was seen and what is expected", text)) == 2


def test_a_label_names_what_differs(judged: tuple[Evaluation, list[DecisionCase]]) -> None:
    traffic, other = (case.plan for case in judged[1])
    risk = replace(traffic, question="risk", traffic_question="direction", test=replace(traffic.test, metric="qlike"))
    assert label_of(traffic, [traffic]) == ""
    assert label_of(risk, [risk]) == "risk", "an answer that moves nothing never looks like one that does"
    assert label_of(traffic, [traffic, other]) == traffic.challenger
    assert label_of(traffic, [traffic, risk]) == f"{traffic.challenger}, direction (moves traffic)"
    assert label_of(risk, [traffic, risk]) == f"{traffic.challenger}, risk"
