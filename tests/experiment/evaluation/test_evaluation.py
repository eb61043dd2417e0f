"""The evaluation on constructed evidence: what is true by construction must be what the sentence says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.evaluation.business import BusinessCase
from financial_assets.experiment.evaluation.comparison import compare
from financial_assets.experiment.evaluation.conclusion import conclude
from financial_assets.experiment.evaluation.evaluate import (
    DIRECT_COLUMNS,
    ROUTED_COLUMNS,
    Evaluation,
)
from financial_assets.experiment.evaluation.measures import Comparison
from financial_assets.experiment.evaluation.risk import risk_of
from financial_assets.experiment.plan.criteria import Criteria
from tests.experiment.builders import CHALLENGER, CHAMPION, SHADOW, arms
from tests.experiment.decision.builders import evaluated
from tests.experiment.evaluation.builders import EPOCH, OPENED, evidence, judge


def difference(evaluation: Evaluation, first: str = CHALLENGER, second: str = CHAMPION) -> Comparison:
    return next(c for c in evaluation.comparisons if (c.first, c.second, c.score) == (first, second, "accuracy"))


def test_a_clear_difference_is_found_and_said() -> None:
    evaluation = judge({CHAMPION: 0.50, CHALLENGER: 0.62, SHADOW: 0.5})
    assert evaluation.conclusion.verdict == "challenger_better"
    d = difference(evaluation).difference
    assert 0 < d.low < 0.12 < d.high
    sentence = evaluation.conclusion.sentence
    assert sentence.startswith(f"{CHALLENGER} predicted the direction better than {CHAMPION}")
    assert "it also beats majority and logistic" in sentence
    assert f"over {d.days} days" in sentence


def test_a_clear_loss_is_found_and_said() -> None:
    conclusion = judge({CHAMPION: 0.62, CHALLENGER: 0.50}).conclusion
    assert conclusion.verdict == "champion_better"
    assert "worse than" in conclusion.sentence
    assert "Neither" not in conclusion.sentence  # the champion beats both baselines


def test_better_than_a_bad_champion_is_no_gain_while_the_majority_is_unbeaten() -> None:
    conclusion = judge({CHAMPION: 0.38, CHALLENGER: 0.50}).conclusion
    assert conclusion.verdict == "challenger_better"
    assert "has not been shown to beat majority or logistic" in conclusion.sentence
    assert any(
        f"No measurable difference in accuracy between {CHALLENGER} and the reference majority" in remark
        for remark in conclusion.remarks
    )


def test_no_difference_within_reach_is_underpowered_with_the_days_that_would_do() -> None:
    evaluation = judge({CHAMPION: 0.50, CHALLENGER: 0.50}, seed=4)
    main = difference(evaluation)
    assert evaluation.conclusion.verdict == "underpowered"
    assert main.mde is not None
    assert main.days_needed is not None
    assert main.mde > 0.02
    assert main.days_needed == pytest.approx(main.difference.days * (main.mde / 0.02) ** 2, rel=0.01)
    sentence = evaluation.conclusion.sentence
    assert f"{main.days_needed:,}" not in sentence, "days of one look; the plan's are said by the decision"
    assert "cannot be concluded" in sentence
    assert "Neither has been shown to beat majority and logistic." in sentence
    against = [c for c in evaluation.comparisons if c.second == "majority"]
    ahead = [remark for remark in evaluation.conclusion.remarks if "majority direction was right more often" in remark]
    assert bool(ahead) == all(c.difference.estimate < 0 for c in against)


def test_two_equally_bad_models_are_said_to_be_bad() -> None:
    conclusion = judge({CHAMPION: 0.35, CHALLENGER: 0.35}).conclusion
    assert conclusion.sentence.endswith("and both are worse than majority and logistic.")
    assert sum("is worse than the reference" in remark for remark in conclusion.remarks) == 4
    assert "was right more often than both arms: " in conclusion.remarks[0]
    assert conclusion.remarks[0].endswith("The difference is statistically significant.")


@pytest.mark.parametrize(("stretch", "said"), [(0.01, "are better than"), (0.4, "are worse than")])
def test_probabilities_are_judged_beside_directions(stretch: float, said: str) -> None:
    """The challenger's directions are the champion's; only how sure it is differs, and too sure is worse."""
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5})
    surer = 0.5 + stretch * np.sign(direct["probability_up"] - 0.5)
    both = pd.concat([direct, direct.assign(model=CHALLENGER, probability_up=surer)])
    conclusion = evaluated(routed=routed, direct=both, epochs=[EPOCH], panel=prices, baselines=baselines).conclusion
    (remark,) = [remark for remark in conclusion.remarks if "Brier score" in remark]
    assert said in remark
    assert ("lower by 0.00" in remark) == (stretch < 0.1)
    assert conclusion.verdict == "no_difference"


def test_enough_days_exclude_a_difference_that_matters() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.52, CHALLENGER: 0.52}, days=250, tickers=30, seed=2)
    criteria = replace(Criteria.of_policy(), plausible_effect=0.05)
    result = evaluated(
        routed=routed,
        direct=direct,
        epochs=[EPOCH],
        panel=prices,
        baselines=baselines,
        default=criteria,
    )
    assert result.conclusion.verdict == "no_difference"
    assert "a difference of 5.0 pp or more is excluded with 95 % confidence" in result.conclusion.sentence


def test_a_few_days_decide_nothing_however_clear_they_look() -> None:
    conclusion = judge({CHAMPION: 0.10, CHALLENGER: 0.95}, days=12).conclusion
    assert conclusion.verdict == "underpowered"
    assert conclusion.sentence.startswith("Too few days")


def test_models_that_agree_differ_in_nothing() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5})
    same = direct.assign(model=CHALLENGER)
    result = evaluated(
        routed=routed,
        direct=pd.concat([direct, same]),
        epochs=[EPOCH],
        panel=prices,
        baselines=baselines,
    )
    assert result.conclusion.verdict == "no_difference"
    assert "on only 0 of 2,620 predictions" in result.conclusion.sentence
    assert difference(result).mde is None


def test_the_originals_published_split_is_refused() -> None:
    """1,851 requests at 51.3 % beside 649 at 53.8 %, for 70/30: the published verdict was to deploy."""
    prices, routed, direct, baselines = evidence({CHAMPION: 0.513, CHALLENGER: 0.9})
    routed = routed.head(2500).assign(model=[CHAMPION] * 1851 + [CHALLENGER] * 649)
    result = evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)
    assert result.conclusion.verdict == "refused"
    assert "1,851 to baseline-predictor-v1 and 649 to enhanced-predictor-v2" in result.conclusion.sentence
    assert "require 1,750 and 750" in result.conclusion.sentence
    assert "sample-ratio mismatch, p = " in result.conclusion.sentence
    assert not result.epochs[0].passed
    assert not any("measurable" in remark or "beats" in remark for remark in result.conclusion.remarks)


def test_a_mismatch_between_other_arms_is_remarked_but_does_not_void_this_pair() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.5})
    others = tuple(replace(arm, model=f"old-{arm.model}") for arm in arms())
    old = WeightEpoch("ab-experiment", 1, OPENED, others, "start")
    now = WeightEpoch("ab-experiment", 2, OPENED, arms(), "new arms")
    routed = pd.concat([routed.assign(epoch=2), routed.head(300).assign(model=f"old-{CHAMPION}")])
    result = evaluated(
        routed=routed,
        direct=direct,
        epochs=[old, now],
        panel=prices,
        baselines=baselines,
    )
    assert [epoch.passed for epoch in result.epochs] == [False, True]
    assert result.conclusion.verdict == "underpowered"
    assert any("weight epoch 1, between other arms, was broken" in remark for remark in result.conclusion.remarks)


def test_without_pairs_there_is_no_verdict() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5})
    result = evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)
    assert result.conclusion.verdict == "no_data"
    assert result.skills == ()
    empty = evaluated(
        routed=routed.head(0),
        direct=direct.head(0),
        epochs=[EPOCH],
        panel=prices,
        baselines=baselines.head(0),
    )
    assert empty.conclusion.verdict == "no_data"
    assert empty.epochs[0].p_value == 1
    json.loads(empty.to_json())


def test_a_champion_alone_is_said_to_be_alone() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5})
    alone = WeightEpoch("ab-experiment", 1, OPENED, arms()[:1], "start")
    mine = routed[routed["model"] == CHAMPION]
    result = evaluated(routed=mine, direct=direct, epochs=[alone], panel=prices, baselines=baselines)
    assert result.conclusion.verdict == "no_data"
    assert "no challenger" in result.conclusion.sentence
    assert result.business is not None
    assert result.business.promotion is None
    assert [risk.name for risk in result.business.risks] == [CHAMPION, "majority", "logistic", "buy and hold"]
    assert result.regimes is not None
    assert all(row.advantage is row.correlation is None for row in result.regimes.rows)


def test_only_sessions_after_both_cutoffs_count() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.5, SHADOW: 0.5})
    later, latest = prices.sessions[120], prices.sessions[200]
    moved = (arms()[0], replace(arms()[1], data_cutoff=later), replace(arms()[2], data_cutoff=latest))
    epoch = WeightEpoch("ab-experiment", 1, OPENED, moved, "start")
    result = evaluated(routed=routed, direct=direct, epochs=[epoch], panel=prices, baselines=baselines)
    assert result.first_session == prices.sessions[121].date().isoformat()
    shadow, champion = result.skill(SHADOW), result.skill(CHAMPION)
    assert shadow is not None
    assert champion is not None
    assert shadow.accuracy is not None
    assert champion.accuracy is not None
    assert (champion.accuracy.days, shadow.accuracy.days) == (281 - 121, 281 - 201)


def test_a_pair_needs_the_answers_of_both() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.5})
    direct = direct.reset_index(drop=True)
    silent = [3, 4, 5, len(direct) - 1]  # three of the champion's answers, one of the challenger's
    direct.loc[silent, ["status", "probability_up"]] = ["rejected", np.nan]
    result = evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)
    assert difference(result).rows == len(direct) // 2 - 4
    assert [skill.accuracy.observations for skill in result.skills[:3]] == [len(direct) // 2 - 4] * 3  # type: ignore[union-attr]


def test_nothing_after_the_clock_is_used() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.55})
    as_of = prices.sessions[150]
    cut = prices.until(as_of)
    frames = {
        "routed": routed, "epochs": [EPOCH], "panel": cut, "baselines": baselines
    }  # fmt: skip
    now = evaluated(**frames, direct=direct)
    then = evaluated(**frames, direct=direct[direct["session"] < as_of])
    assert replace(now, outcomes_not_due=0) == then
    assert now.last_session == prices.sessions[149].date().isoformat()
    assert now.outcomes_not_due == 10 * (281 - 150)


def test_the_figures_are_those_of_the_rows() -> None:
    evaluation = judge({CHAMPION: 0.50, CHALLENGER: 0.60, SHADOW: 0.55})
    challenger, majority, historical = (evaluation.skill(name) for name in (CHALLENGER, "majority", "historical"))
    assert challenger is not None
    assert challenger.accuracy is not None
    assert challenger.brier is not None
    assert challenger.log_loss is not None
    accuracy = challenger.accuracy.estimate
    assert accuracy == pytest.approx(0.60, abs=0.03)
    assert challenger.brier.estimate == pytest.approx(accuracy * 0.4**2 + (1 - accuracy) * 0.6**2)
    assert challenger.log_loss.estimate == pytest.approx(-(accuracy * np.log(0.6) + (1 - accuracy) * np.log(0.4)))
    assert [round(b.predicted, 2) for b in challenger.reliability] == [0.4, 0.6]
    assert majority is not None
    assert majority.pinball is None
    assert majority.share_up == 1.0
    assert majority.pnl is not None
    assert evaluation.buy_and_hold is not None
    assert majority.pnl.total_return == pytest.approx(evaluation.buy_and_hold.total_return)
    assert historical is not None
    assert historical.accuracy is None
    assert historical.coverage_98 is not None
    assert challenger.coverage_98 == historical.coverage_98  # the same quantiles
    assert challenger.pnl is not None
    assert challenger.pnl.sharpe > majority.pnl.sharpe
    assert len(challenger.pnl.daily) == len(evaluation.trading_days)


def test_the_value_of_a_promotion_is_the_mean_paired_difference_of_profit() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.50, CHALLENGER: 0.58, SHADOW: 0.55})
    business = BusinessCase(aum=1e6, horizon_sessions=50)
    result = evaluated(
        routed=routed,
        direct=direct,
        epochs=[EPOCH],
        panel=prices,
        baselines=baselines,
        business=business,
    )
    challenger, champion = result.skill(CHALLENGER), result.skill(CHAMPION)
    assert challenger is not None
    assert champion is not None
    assert challenger.pnl is not None
    assert champion.pnl is not None
    assert result.business is not None
    promotion = result.business.promotion
    assert promotion is not None
    gain = np.array(challenger.pnl.daily) - np.array(champion.pnl.daily)
    assert promotion.daily.estimate == pytest.approx(gain.mean())
    assert promotion.money is not None
    assert promotion.money.net.estimate == pytest.approx(1e6 * 50 * gain.mean())
    assert promotion.slower_s is not None  # both were routed
    assert promotion.slower_s.spans_zero
    assert {risk.name for risk in result.business.risks} >= {CHAMPION, CHALLENGER, SHADOW, "buy and hold"}
    total = challenger.pnl.per_trade
    assert total is not None
    assert total * challenger.pnl.trades == pytest.approx(10 * sum(challenger.pnl.daily))
    json.loads(result.to_json())


def test_costs_are_paid() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.5})
    frames = {
        "routed": routed,
        "direct": direct,
        "epochs": [EPOCH],
        "panel": prices,
        "baselines": baselines,
    }
    free = evaluated(**frames, cost_bps=0).skill(CHAMPION)
    paid = evaluated(**frames, cost_bps=5).skill(CHAMPION)
    assert free is not None
    assert paid is not None
    assert free.pnl is not None
    assert paid.pnl is not None
    assert free.pnl.turnover_cost == 0
    assert sum(free.pnl.daily) - sum(paid.pnl.daily) == pytest.approx(paid.pnl.turnover_cost)


def test_traffic_counts_every_way_to_end() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.5})
    routed = routed.reset_index(drop=True)[list(ROUTED_COLUMNS)]
    direct = direct[list(DIRECT_COLUMNS)]
    latencies = np.linspace(0.001, 0.1, len(routed))
    routed = routed.assign(latency_s=latencies)
    for row, (status, model, attempts) in enumerate(
        [("failed", CHAMPION, 8), ("rejected", CHALLENGER, 1), ("timeout", CHAMPION, 8), ("pending", None, 1)]
    ):
        routed.loc[row, ["status", "model", "attempts"]] = [status, model, attempts]
    routed.loc[4:100, ["status", "model"]] = ["unattributed", None]
    result = evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)
    champion, challenger = result.traffic
    assert (champion.failed, champion.timeout, champion.rejected, champion.repeated) == (1, 1, 0, 2)
    assert (challenger.failed, challenger.timeout, challenger.rejected) == (0, 0, 1)
    (epoch,) = result.epochs
    assert (epoch.unattributed, epoch.pending) == (97, 1)
    assert sum(epoch.observed.values()) == len(routed) - 98
    mine = routed[(routed["model"] == CHAMPION) & (routed["status"] == "ok")]["latency_s"]
    assert champion.latency_p95 == pytest.approx(np.percentile(mine, 95))
    assert any("97 of 2,619 requests ended without a known arm" in remark for remark in result.conclusion.remarks)
    assert any("1 requests have no result" in remark for remark in result.conclusion.remarks)


def test_bad_frames_are_refused() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.5}, days=40)
    frames = {
        "routed": routed,
        "direct": direct,
        "epochs": [EPOCH],
        "panel": prices,
        "baselines": baselines,
    }
    with pytest.raises(ExperimentError, match="has not started"):
        evaluated(**{**frames, "epochs": []})
    with pytest.raises(ExperimentError, match="unknown weight epochs"):
        evaluated(**{**frames, "routed": routed.assign(epoch=9)})
    with pytest.raises(ExperimentError, match="several experiments"):
        evaluated(**{**frames, "epochs": [replace(EPOCH, experiment="other"), EPOCH]})
    with pytest.raises(ExperimentError, match="lacks the columns probability_up"):
        evaluated(**{**frames, "baselines": baselines.drop(columns="probability_up")})
    with pytest.raises(ExperimentError, match="more than once"):
        evaluated(**{**frames, "baselines": pd.concat([baselines, baselines.head(1)])})


def test_the_evaluation_is_strict_json() -> None:
    evaluation = judge({CHAMPION: 0.5, CHALLENGER: 0.5})
    document = json.loads(evaluation.to_json())
    assert document["conclusion"]["sentence"] == evaluation.conclusion.sentence
    assert document["skills"][0]["accuracy"]["days"] == evaluation.skills[0].accuracy.days  # type: ignore[union-attr]
    assert len(document["epochs"][0]["observed"]) == 2


@pytest.mark.parametrize(
    ("worlds", "least", "most"),  # binomial(worlds, .05): outside with probability 0.6 and 0.06 %
    [(100, 1, 13), pytest.param(300, 3, 28, marks=pytest.mark.statistics)],
)
def test_equal_models_are_called_different_in_one_case_out_of_twenty(worlds: int, least: int, most: int) -> None:
    """Worlds without a difference in which all tickers of a day share their luck.

    Negative control: the same rows, pooled as if tickers were independent, name a winner far too often.
    """
    rng = np.random.default_rng(11)
    days, tickers = 60, 8
    sessions = np.repeat(pd.bdate_range("2010-02-01", periods=days), tickers)
    names = np.tile([f"T{i}" for i in range(tickers)], days)
    keys = pd.DataFrame({"session": sessions, "ticker": names, "up": True, "log_return": 0.01})
    verdicts, pooled = [], []
    for _ in range(worlds):
        frames = []
        for _arm in range(2):
            luck = rng.normal(size=(days, 1)) + rng.normal(size=(days, tickers))  # correlation 1/2 within a day
            frames.append(keys.assign(probability_up=np.where(luck.ravel() > 0, 0.6, 0.4)))
        main = compare(CHALLENGER, CHAMPION, {CHALLENGER: frames[0], CHAMPION: frames[1]}, Criteria.of_policy())
        assert main is not None
        verdicts.append(conclude(CHAMPION, CHALLENGER, (), (main,)).verdict)
        d = (frames[0]["probability_up"] > 0.5).astype(float) - (frames[1]["probability_up"] > 0.5).astype(float)
        pooled.append(abs(d.mean()) > 1.96 * d.std(ddof=1) / np.sqrt(len(d)))
    named = sum(verdict in ("challenger_better", "champion_better") for verdict in verdicts)
    assert least <= named <= most
    assert np.mean(pooled) > 0.2


def test_the_book_by_direction_earns_the_profit_that_decisions_count() -> None:
    """One computation of profit: flat costs, the same rows, the same days, to the last digit of a sum."""
    prices, routed, direct, baselines = evidence({CHAMPION: 0.50, CHALLENGER: 0.58, SHADOW: 0.55})
    missing = direct.sample(40, random_state=1).index  # answers that failed: no position there
    result = evaluated(routed=routed, direct=direct.drop(missing), epochs=[EPOCH], panel=prices, baselines=baselines)
    found = result.economics
    assert found is not None
    assert found.sessions == result.trading_days
    compared = 0
    for skill in result.skills:
        book = found.book(skill.name, "direction", "flat")
        if skill.pnl is None or book is None or book.figures is None:
            continue
        compared += 1
        assert book.figures.net.total_return == pytest.approx(skill.pnl.total_return, rel=1e-12)
        ours = risk_of(skill.name, skill.pnl).sharpe
        theirs = book.figures.net.sharpe
        assert ours is not None
        assert theirs is not None
        assert (ours.estimate, ours.low, ours.high) == pytest.approx((theirs.estimate, theirs.low, theirs.high))
    assert compared == 5
    hold = next(held for held in found.alternatives if held.name == "buy and hold" and held.costs == "flat")
    assert result.buy_and_hold is not None
    assert hold.daily == pytest.approx(result.buy_and_hold.daily, abs=1e-15)
    assert found.sentence.split(",")[0].startswith("After commission") or "No model has traded" in found.sentence


def test_scores_of_the_log_rank_the_books() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.50, CHALLENGER: 0.58})
    scored = direct.assign(excess_return=np.random.default_rng(0).standard_normal(len(direct)))
    scored.loc[scored["model"] == CHALLENGER, "excess_return"] = np.nan  # deployed from an earlier version
    result = evaluated(routed=routed, direct=scored, epochs=[EPOCH], panel=prices, baselines=baselines)
    assert result.economics is not None
    by = {own.model: own.ranked_by for own in result.economics.books if own.book == "long_short"}
    assert (by[CHAMPION], by[CHALLENGER], by["logistic"]) == ("score", "probability_up", "probability_up")
