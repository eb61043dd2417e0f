"""Several arms beside the champion at once: adjusted for their number, and honest about what holds when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.evaluation.candidates import ALWAYS_ALPHA, Candidate, candidates
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.experiment.statistics.capital import log_e_process
from financial_assets.experiment.statistics.multiplicity import e_bh, holm
from tests.experiment.builders import CHALLENGER, CHAMPION
from tests.experiment.decision.builders import evaluated
from tests.experiment.evaluation.builders import EPOCH, KEYS, PRICES, SECOND, evidence, forecasts, routed_by_scores


def judged(skills: dict[str, float], seed: int = 0) -> dict[str, Candidate]:
    rng = np.random.default_rng(seed)
    rows = {name: KEYS.merge(forecasts(KEYS, skill, rng), on=["session", "ticker"]) for name, skill in skills.items()}
    shadows = tuple(
        Arm(name, "x", place, "shadow", 0, EPOCH.data_cutoff)
        for place, name in enumerate(sorted(set(skills) - {CHAMPION, CHALLENGER}), start=3)
    )
    epoch = replace(EPOCH, arms=(*EPOCH.arms[:2], *shadows))
    found = candidates(rows, epoch, PRICES.sessions, level=0.95, cost_bps=5.0)
    return {one.name: one for one in found}


def test_a_candidate_is_compared_by_every_score() -> None:
    one = judged({CHAMPION: 0.45, CHALLENGER: 0.75})[CHALLENGER]
    assert one.difference.estimate == pytest.approx(0.3, abs=0.08)
    assert one.holm == one.p_value < 1e-6
    assert one.better
    by_name = {value.name: value for value in one.further}
    assert list(by_name) == ["average accuracy so far", "log loss", "pinball loss", "net profit per day"]
    assert {name: value.guarantee for name, value in by_name.items()} == {
        "average accuracy so far": "exact",
        **dict.fromkeys(("log loss", "pinball loss", "net profit per day"), "asymptotic"),
    }
    assert by_name["average accuracy so far"].low > 0  # type: ignore[operator]
    assert by_name["log loss"].low > 0  # type: ignore[operator]
    assert by_name["pinball loss"].mean == 0, "their quantiles are the same"


def test_the_p_value_is_that_of_the_daily_means() -> None:
    rng = np.random.default_rng(0)
    rows = {name: KEYS.merge(forecasts(KEYS, 0.5, rng), on=["session", "ticker"]) for name in (CHAMPION, CHALLENGER)}
    (one,) = candidates(rows, EPOCH, PRICES.sessions, level=0.95, cost_bps=5.0)
    right = {name: ((frame["probability_up"] > 0.5) == frame["up"]).astype(float) for name, frame in rows.items()}
    daily = (right[CHALLENGER] - right[CHAMPION]).groupby(rows[CHAMPION]["session"]).mean()
    assert one.p_value == pytest.approx(stats.ttest_1samp(daily, 0).pvalue)
    assert one.difference.estimate == pytest.approx(daily.mean())


def test_an_asymptotic_sequence_says_nothing_about_few_days() -> None:
    short = KEYS[KEYS["session"] < PRICES.sessions[30]]
    rng = np.random.default_rng(0)
    rows = {name: short.merge(forecasts(short, 0.5, rng), on=["session", "ticker"]) for name in (CHAMPION, CHALLENGER)}
    (one,) = candidates(rows, EPOCH, PRICES.sessions, level=0.95, cost_bps=5.0)
    assert [value.low is None for value in one.further] == [False, True, True, True]


def test_without_a_champion_or_common_days_there_is_none() -> None:
    assert candidates({}, EPOCH, PRICES.sessions, level=0.95, cost_bps=5.0) == ()
    frame = KEYS.merge(forecasts(KEYS, 0.5, np.random.default_rng(0)), on=["session", "ticker"])
    early, late = frame[frame["session"] < PRICES.sessions[50]], frame[frame["session"] > PRICES.sessions[60]]
    assert candidates({CHAMPION: early, CHALLENGER: late}, EPOCH, PRICES.sessions, level=0.95, cost_bps=5.0) == ()


@pytest.mark.parametrize("runs", [150, pytest.param(600, marks=pytest.mark.statistics)])
def test_equal_candidates_are_called_better_as_seldom_as_promised(runs: int) -> None:
    """Of five, the naive "any p below .05" errs in more than one world of seven; Holm and e-BH within their level."""
    rng = np.random.default_rng(4)
    naive = adjusted = called = found = 0
    for _ in range(runs):
        champion, arms = 0.08 * rng.standard_normal(120), 0.08 * rng.standard_normal((5, 120))
        days = np.clip(arms - champion, -1, 1)
        p_values = dict(enumerate(stats.ttest_1samp(days, 0, axis=1).pvalue))
        naive += min(p_values.values()) < 0.05
        adjusted += min(holm({str(k): float(p) for k, p in p_values.items()}).values()) < 0.05
        log_e = {str(k): float(e) for k, e in enumerate(log_e_process(days)[:, -1])}
        called += bool(e_bh(log_e, ALWAYS_ALPHA))
        log_e["better"] = float(log_e_process(np.clip(days[0] + 0.15, -1, 1))[-1])
        found += "better" in e_bh(log_e, ALWAYS_ALPHA)
    assert naive / runs > 0.15
    assert adjusted / runs < 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert called / runs < ALWAYS_ALPHA + 3 * np.sqrt(0.01 * 0.99 / runs)
    assert found / runs > 0.5, "a rule that never calls any better would keep its level, too"


def test_more_candidates_make_each_p_value_larger() -> None:
    alone = judged({CHAMPION: 0.5, CHALLENGER: 0.56})[CHALLENGER]
    crowd = judged({CHAMPION: 0.5, CHALLENGER: 0.56, "a": 0.5, "b": 0.5, "c": 0.5})
    assert crowd[CHALLENGER].p_value == alone.p_value
    first = min(crowd.values(), key=lambda one: one.p_value)
    assert first.holm == pytest.approx(min(1.0, 4 * first.p_value))
    assert all(one.holm >= one.p_value for one in crowd.values())
    assert [one.role for one in crowd.values()] == ["challenger", "shadow", "shadow", "shadow"]


def several() -> WeightEpoch:
    arms = (
        replace(EPOCH.champion, weight=60),
        replace(EPOCH.arms[1], weight=20),
        Arm(SECOND, "tiny", 4, "challenger", 20, EPOCH.data_cutoff),
    )
    return replace(EPOCH, arms=arms)


def test_each_challenger_keeps_its_own_days_and_the_table_has_common_ones() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.9, SECOND: 0.5})
    routed = routed.iloc[:0]
    young = (direct["model"] == SECOND) & (direct["session"] < prices.sessions[200])
    for leading in (None, SECOND):
        result = evaluated(
            routed=routed,
            direct=direct[~young],
            epochs=[several()],
            panel=prices,
            baselines=baselines,
            leading=leading,
        )
        days = {c.first: c.difference.days for c in result.comparisons if (c.second, c.score) == (CHAMPION, "accuracy")}
        assert days[SECOND] < 100 < 200 < days[CHALLENGER]
        assert result.skill(SECOND) is None, "too young for the common table"
        assert result.conclusion.verdict == "challenger_better"
        assert result.conclusion.sentence.count(CHALLENGER) >= 1
        assert SECOND in result.conclusion.sentence
    given = {
        "routed": routed,
        "direct": direct,
        "panel": prices,
        "baselines": baselines,
    }
    whole = evaluated(**given, epochs=[several()], leading=SECOND)  # type: ignore[arg-type]
    assert [skill.name for skill in whole.skills[:3]] == [CHAMPION, SECOND, CHALLENGER]
    assert whole.business is not None
    assert whole.business.promotion is not None
    assert whole.business.promotion.challenger == SECOND
    assert {one.name for one in whole.candidates} == {CHALLENGER, SECOND}


def test_after_adaptive_weights_the_naive_share_is_refused_and_estimates_stand_beside_the_truth() -> None:
    routed, direct, epochs = routed_by_scores(0.25)
    baselines = pd.DataFrame(columns=["date", "ticker", "model", "probability_up", *QUANTILE_COLUMNS])
    result = evaluated(routed=routed, direct=direct, epochs=epochs, panel=PRICES, baselines=baselines)
    assert [arm.accuracy for arm in result.traffic] == [None, None]
    view = result.routed
    assert view is not None
    assert not view.refused
    assert view.requests == len(routed)
    for arm in view.arms:
        assert arm.paired is not None
        for estimate in (arm.ips, arm.snips, arm.doubly_robust):
            assert estimate.low < arm.paired.estimate < estimate.high
    naive = routed.merge(KEYS, on=["session", "ticker"])
    share = naive.assign(hit=(naive["probability_up"] > 0.5) == naive["up"]).groupby("model")["hit"].mean()
    truth = {arm.model: arm.paired.estimate for arm in view.arms if arm.paired is not None}
    assert share[CHAMPION] - truth[CHAMPION] > 0.05, "the control: what is refused is wrong"
    champion, challenger = view.arms
    assert champion.p_value is None
    assert challenger.p_value is not None
    assert challenger.p_value > 0.05
    fixed = evaluated(routed=routed, direct=direct, epochs=[replace(one, reason="x") for one in epochs], panel=PRICES,
                     baselines=baselines)  # fmt: skip
    assert fixed.routed is None
    assert fixed.traffic[0].accuracy is not None


def test_too_little_is_refused_in_words() -> None:
    routed, direct, epochs = routed_by_scores(0.0)
    few = routed[routed["session"] > PRICES.sessions[135]]
    baselines = pd.DataFrame(columns=["date", "ticker", "model", "probability_up", *QUANTILE_COLUMNS])
    view = evaluated(routed=few, direct=direct, epochs=epochs, panel=PRICES, baselines=baselines).routed
    assert view is not None
    assert view.arms == ()
    assert "refused" in view.refused
