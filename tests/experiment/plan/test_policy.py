from __future__ import annotations

import re
from pathlib import Path

import pytest

from financial_assets.errors import SettingsError
from financial_assets.experiment.plan.policy import ArmPolicy, QuestionPolicy, RolloutPolicy, TestPolicy, load_policy
from financial_assets.experiment.plan.sections import HORIZONS, planned_looks

GOOD = """
experiment: my-experiment
champion: {variant: baseline, weight: 60}
challengers: [{variant: enhanced, weight: 40}]
"""


def test_the_package_policy_is_the_designs() -> None:
    # Sections that the file spells out are the defaults, so that a policy that leaves them out is the same one.
    # Only risk is asked beside: whose policy names no further question keeps the whole error probability for the first.
    packaged = load_policy()
    assert packaged == RolloutPolicy(
        "financial-ab-test-experiment",
        ArmPolicy("baseline", 70),
        (ArmPolicy("enhanced", 30),),
        test=TestPolicy(question="direction"),
        questions=(QuestionPolicy("risk"),),
    )
    assert packaged.asked == (QuestionPolicy("direction"), QuestionPolicy("risk"))


@pytest.mark.parametrize(
    ("added", "asked"),
    [
        ("", (QuestionPolicy("direction"),)),
        ("test: {question: risk}", (QuestionPolicy("risk"),)),
        ("test: {metric: pinball, plausible_effect: 0.01}", (QuestionPolicy("risk", "pinball", 0.01),)),
        ("test: {metric: accuracy, margin: 0.01}", (QuestionPolicy("direction", "accuracy", None, 0.01),)),
        (
            "questions: [ranking, {question: risk, metric: qlike, plausible_effect: 0.1}]",
            (QuestionPolicy("direction"), QuestionPolicy("ranking"), QuestionPolicy("risk", "qlike", 0.1)),
        ),
        ("questions:", (QuestionPolicy("direction"),)),
    ],
)
def test_a_policy_that_names_a_metric_only_asks_what_it_answers(
    tmp_path: Path, added: str, asked: tuple[QuestionPolicy, ...]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + added)
    assert load_policy(path).asked == asked


def test_a_plans_test_takes_the_effect_of_its_metric_and_gives_no_requests_back_for_another_question() -> None:
    rules = TestPolicy(at_horizon="release", power=0.9)
    traffic = QuestionPolicy("direction").planned("brier", rules)
    assert (traffic.metric, traffic.plausible_effect, traffic.power) == ("brier", 0.0004, 0.9)
    further = QuestionPolicy("risk", "qlike", 0.1, 0.02).planned("qlike", rules, moves_traffic=False)
    assert (further.plausible_effect, further.margin) == (0.1, 0.02)
    assert (traffic.at_horizon, further.at_horizon) == ("release", "keep")


def test_a_plans_horizon_and_looks_are_numbers() -> None:
    free, named = TestPolicy(), TestPolicy(horizon_sessions=100, looks=5)
    assert (free.horizons, named.horizons) == (HORIZONS, (100,))
    longest = QuestionPolicy("risk").planned("qlike", free)
    assert (longest.horizon_sessions, longest.looks) == (HORIZONS[-1], len(planned_looks(HORIZONS[-1], "auto")))
    assert QuestionPolicy("risk").planned("qlike", free, horizon=63).horizon_sessions == 63
    own = QuestionPolicy("risk").planned("qlike", named)
    assert (own.horizon_sessions, own.looks) == (100, 5)


def test_a_policy_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load_policy(path) == RolloutPolicy("my-experiment", ArmPolicy("baseline", 60), (ArmPolicy("enhanced", 40),))


@pytest.mark.parametrize(
    ("change", "key", "allowed"),
    [
        (("weight: 60", "weight: 170"), "champion.weight", "from 1 to 99"),
        (("weight: 60", "weight: 60.5"), "champion.weight", "whole number"),
        (("weight: 60", "weight: yes"), "champion.weight", "whole number"),
        (("weight: 60", "weight: 61"), "champion.weight + challengers", "add up to 100"),
        (("variant: enhanced", "variant: baseline"), "challengers[0].variant", "only once"),
        (("variant: enhanced", "variant: Enhanced!"), "challengers[0].variant", "lower-case"),
        (("experiment: my-experiment", "experiment: my.experiment"), "experiment", "hyphens"),
        (("experiment: my-experiment\n", ""), "experiment", "required"),
        (("weight: 60", "wait: 60"), "champion.weight", "required"),
        (("experiment:", "shadow: [baseline]\nexperiment:"), "shadow[0]", "only once"),
        (("experiment:", "shadow: lightweight\nexperiment:"), "shadow", "list"),
        (("experiment:", "surprise: 1\nexperiment:"), "surprise", "keys"),
        (("{variant: baseline, weight: 60}", "70"), "champion", "mapping"),
        (("experiment:", "test: {margin: 2}\nexperiment:"), "test.margin", "a number from 0 to 0.5"),
        (("experiment:", "test: {power: .nan}\nexperiment:"), "test.power", "a number from 0.5"),
        (("experiment:", "test: {looks: 2.5}\nexperiment:"), "test.looks", "a whole number from 1 to 12"),
        (("experiment:", "test: {looks: true}\nexperiment:"), "test.looks", "a whole number"),
        (("experiment:", "test: {metric: sharpe}\nexperiment:"), "test.metric", "'accuracy', 'brier', "),
        (("experiment:", "test: {alpha: 0.05}\nexperiment:"), "test.alpha", "keys"),
        (("experiment:", "test: {question: when}\nexperiment:"), "test.question", "'direction', 'ranking' or 'risk'"),
        (
            ("experiment:", "test: {question: direction, metric: qlike}\nexperiment:"),
            "test.metric",
            "direction: accuracy, brier, log_loss; qlike answers the question of risk",
        ),
        (("experiment:", "test: {plausible_effect: 0.02}\nexperiment:"), "test.plausible_effect", "remove it, or name"),
        (("experiment:", "test: {metric: auto, margin: 0.01}\nexperiment:"), "test.margin", "its unit is not known"),
        (("experiment:", "questions: risk\nexperiment:"), "questions", "a list of questions, such as [risk]"),
        (("experiment:", "questions: [risks]\nexperiment:"), "questions[0].question", "'direction', 'ranking' or"),
        (("experiment:", "questions: [3]\nexperiment:"), "questions[0]", "a mapping with the keys margin, metric"),
        (("experiment:", "questions: [{metric: qlike}]\nexperiment:"), "questions[0].question", "required"),
        (("experiment:", "questions: [{question: risk, alpha: 1}]\nexperiment:"), "questions[0].alpha", "keys"),
        (
            ("experiment:", "questions: [{question: risk, metric: sharpe}]\nexperiment:"),
            "questions[0].metric",
            "'qlike'",
        ),
        (
            ("experiment:", "questions: [ranking, {question: risk, metric: brier}]\nexperiment:"),
            "questions[1].metric",
            "var_es, pinball_5d, qlike_5d, var_es_5d, qlike_range; brier answers the question of direction",
        ),
        (
            ("experiment:", "questions: [{question: risk, plausible_effect: 0.1}]\nexperiment:"),
            "questions[0].plausible_effect",
            "name the metric too, such as pinball",
        ),
        (
            ("experiment:", "questions: [{question: risk, metric: qlike, margin: .nan}]\nexperiment:"),
            "questions[0].margin",
            "a number from 0",
        ),
        (("experiment:", "questions: [direction]\nexperiment:"), "questions[0].question", "asked only once"),
        (
            ("experiment:", "questions: [risk, {question: risk, metric: qlike}]\nexperiment:"),
            "questions[1].question",
            "asked only once",
        ),
        (("experiment:", "test: {metric: pinball}\nquestions: [risk]\nexperiment:"), "questions[0].question", "once"),
        (("experiment:", "guardrails: 3\nexperiment:"), "guardrails", "mapping"),
        (("[{variant: enhanced, weight: 40}]", "[]"), "challengers", "a list of 1 to 5 arms"),
        (("[{variant: enhanced, weight: 40}]", "{variant: enhanced, weight: 40}"), "challengers", "a list of 1 to 5"),
        (("challengers: [{", "challenger: [{"), "challengers", "required"),
        (("weight: 40}]", "weight: 20}, {variant: enhanced, weight: 20}]"), "challengers[1].variant", "only once"),
        (("weight: 40}]", "weight: 20}, {variant: tiny, weight: 21}]"), "champion.weight + challengers", "to 100"),
        (("experiment:", "test: {at_horizon: stop}\nexperiment:"), "test.at_horizon", "'keep' or 'release'"),
        (("experiment:", "test: {horizon_sessions: soon}\nexperiment:"), "test.horizon_sessions", "auto, or a whole"),
        (("experiment:", "test: {looks: 13}\nexperiment:"), "test.looks", "auto, or a whole number from 1 to 12"),
        (("experiment:", "traffic: {mode: bandit}\nexperiment:"), "traffic.mode", "'fixed', 'ladder', "),
        (("experiment:", "traffic: {steps: [30, 10]}\nexperiment:"), "traffic.steps", "rising"),
        (("experiment:", "traffic: {steps: [0, 100]}\nexperiment:"), "traffic.steps[1]", "to 99"),
        (("experiment:", "traffic: {steps: []}\nexperiment:"), "traffic.steps", "rising"),
    ],
)
def test_errors_name_file_key_value_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], key: str, allowed: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(SettingsError) as raised:
        load_policy(path)
    assert str(path) in str(raised.value)
    assert f"key {key} is" in str(raised.value)
    assert allowed in str(raised.value)


@pytest.mark.parametrize("content", ["", "just text", "[1, 2]", "a: [", "\x00"])
def test_what_is_no_policy_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"mine\.yaml"):
        load_policy(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml cannot be read"):
        load_policy(tmp_path / "absent.yaml")


SEVERAL = GOOD.replace("weight: 40}]", "weight: 25}, {variant: tiny, weight: 15}]")


def test_several_challengers(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SEVERAL)
    assert load_policy(path).challengers == (ArmPolicy("enhanced", 25), ArmPolicy("tiny", 15))


@pytest.mark.parametrize(
    ("traffic", "key", "allowed"),
    [
        ("{mode: ladder, steps: [0, 10]}", "traffic.steps[0]", "to one model only"),
        ("{mode: ladder, steps: [1, 10]}", "traffic.steps[0]", "2 or more"),
        ("{mode: hedge, floor: 40}", "traffic.floor", "at most 33"),
    ],
)
def test_what_several_challengers_cannot_do(tmp_path: Path, traffic: str, key: str, allowed: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{SEVERAL}traffic: {traffic}\n")
    with pytest.raises(SettingsError, match=rf"key {re.escape(key)} is .*{allowed}"):
        load_policy(path)


BY_REGIME = "traffic: {mode: hedge, regimes: [sector, volatility], sectors: {A: telecommunications, B: banks}}\n"


def test_the_names_of_all_regimes_must_fit_when_the_policy_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + BY_REGIME)
    labels = [regime.label for regime in load_policy(path).traffic.every_regime()]
    assert len(labels) == len(set(labels)) == 6
    assert "high-telecommunications" in labels
    name = f"{'a' * 40}-experiment"
    path.write_text((GOOD + BY_REGIME).replace("my-experiment", name))
    with pytest.raises(SettingsError, match=r"key experiment is .*at most 39 characters, as the regime high-telecomm"):
        load_policy(path)
    path.write_text((GOOD + BY_REGIME).replace("my-experiment", name[12:]))
    assert load_policy(path).experiment == name[12:]


@pytest.mark.parametrize(
    ("traffic", "key", "allowed"),
    [
        ("{regimes: [trend]}", "traffic.regimes", "only thompson and hedge learn"),
        ("{mode: hedge, regimes: trend}", "traffic.regimes", "a list"),
        ("{mode: hedge, regimes: [trend, trend]}", "traffic.regimes", "each once"),
        ("{mode: hedge, regimes: [weather]}", "traffic.regimes[0]", "'volatility', 'trend', 'sector' or 'time'"),
        ("{mode: hedge, regimes: [sector]}", "traffic.sectors", "a sector for each ticker"),
        (
            "{mode: hedge, regimes: [sector], sectors: {A: Big Tech}}",
            "traffic.sectors",
            "lower-case letters and digits",
        ),
        ("{mode: hedge, regimes: [sector], sectors: [A]}", "traffic.sectors", "a valid dictionary"),
    ],
)
def test_regimes_that_are_none_are_refused(tmp_path: Path, traffic: str, key: str, allowed: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{GOOD}traffic: {traffic}\n")
    with pytest.raises(SettingsError, match=rf"key {re.escape(key)} is .*{allowed}"):
        load_policy(path)
