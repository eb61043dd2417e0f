"""Scores of tables whose truth is known: the right value, its interval, per fold and pooled; NaN where unknowable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from financial_assets.errors import ForecastError
from financial_assets.market.panel import PricePanel
from financial_assets.models.walk_forward.backtests import UNIVERSE, breaches
from financial_assets.models.walk_forward.quantile_heads import QUANTILE_HEADS, realised_variances
from financial_assets.models.walk_forward.scores import (
    SCORE_COLUMNS,
    comparison_table,
    confidence_sets,
    coverage_table,
    score_table,
)
from financial_assets.scoring.ranking import FEWEST_TICKERS
from tests.models.walk_forward.tables import model, world


def one(table: pd.DataFrame, score: str, fold: str = "all", head: str | None = None) -> pd.Series:
    found = table[(table["score"] == score) & (table["fold"] == fold)]
    if head is not None:
        found = found[found["head"] == head]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture(scope="module")
def right() -> pd.DataFrame:
    """Knows the true distribution, and a fifth of each move."""
    of = world(sessions=400, signal=0.2)
    probability = stats.norm.cdf(0.2 * of["known"] / np.sqrt(1 - 0.2**2))
    return model(of, "right", probability=probability, deviation=0.01, score=0.2 * of["known"].to_numpy())


@pytest.fixture(scope="module")
def scores(right: pd.DataFrame) -> pd.DataFrame:
    return score_table(right)


def test_every_fold_and_all_together_have_every_score(scores: pd.DataFrame) -> None:
    assert list(scores.columns) == list(SCORE_COLUMNS)
    counts = scores.groupby(["head", "score"])["fold"].apply(sorted)
    assert (counts.map(tuple) == ("all", "fold-1", "fold-2")).all()
    assert set(scores["head"]) == {"direction", "excess_return", "return_quantiles", "return_quantiles_5d"}
    named = set(scores["score"])
    assert {"accuracy", "precision", "recall", "f1", "mcc", "auc", "brier", "log_loss", "timing"} <= named
    assert {"ic", "rank_ic", "icir", "rank_icir"} <= named
    assert {"pinball", "pinball_normalised", "crps", "rmse", "mae", "qlike", "variance_rmse"} <= named
    assert {"coverage_1%", "coverage_99%", "fz_lower_5%", "fz_upper_1%"} <= named


def test_values_are_those_of_the_law_within_their_intervals(scores: pd.DataFrame) -> None:
    deviation, density = 0.01, stats.norm.pdf
    truth = {
        ("direction", "accuracy"): 0.5 + np.arcsin(0.2) / np.pi,
        ("excess_return", "ic"): 0.2,
        ("excess_return", "rank_ic"): 6 / np.pi * np.arcsin(0.1),
        ("return_quantiles", "coverage_5%"): 0.05,
        ("return_quantiles", "coverage_99%"): 0.99,
        ("return_quantiles", "rmse"): deviation,
        ("return_quantiles", "mae"): deviation * np.sqrt(2 / np.pi),
        ("return_quantiles_5d", "coverage_5%"): 0.05,
        ("return_quantiles_5d", "rmse"): deviation * 5**0.5,
        ("return_quantiles", "qlike"): 2 * np.log(deviation) + 1,
        # FZ0 of the true quantile and mean of the tail: the log of the shortfall, but for the exponential tail.
        ("return_quantiles", "fz_lower_5%"): np.log(deviation * density(stats.norm.ppf(0.05)) / 0.05),
    }
    for (head, score), value in truth.items():
        found = one(scores, score, head=head)
        half = (found["high"] - found["low"]) / 2
        assert 0 < half < 0.3 * abs(value) + 0.1, score
        assert abs(found["estimate"] - value) < 1.5 * half, (score, found["estimate"], value)
    assert one(scores, "timing")["low"] > 0
    raw, normalised = (
        one(scores, name, head="return_quantiles")["estimate"] for name in ("pinball", "pinball_normalised")
    )
    assert normalised == pytest.approx(raw / deviation, rel=1e-9)


def test_a_score_of_a_fold_is_that_of_its_rows_alone(right: pd.DataFrame, scores: pd.DataFrame) -> None:
    alone = score_table(right[right["fold"] == "fold-2"])
    merged = alone[alone["fold"] == "fold-2"].merge(scores, on=["model", "head", "score", "fold"])
    assert len(merged) == len(alone) / 2
    np.testing.assert_allclose(merged["estimate_x"], merged["estimate_y"])
    np.testing.assert_allclose(merged["low_x"], merged["low_y"])


@pytest.mark.parametrize(("worlds", "fewest"), [(10, 8), pytest.param(40, 33, marks=pytest.mark.statistics)])
def test_overlapping_outcomes_have_intervals_that_are_wide_enough(worlds: int, fewest: int) -> None:
    """Coverage of the 95 % interval of the mean pinball loss over five sessions: days move together."""
    right = 0
    expected = np.mean([stats.norm.pdf(stats.norm.ppf(level)) for level in (0.01, 0.05, 0.5, 0.95, 0.99)])
    for seed in range(worlds):
        table = score_table(model(world(sessions=150, tickers=1, folds=1, seed=seed), "m", deviation=0.01))
        found = one(table, "pinball_normalised", head="return_quantiles_5d")
        right += found["low"] <= expected <= found["high"]
    # Of 40, 38 are expected, and 32 or fewer with a probability of 1 %. Taking days as independent gives 27.
    assert right >= fewest


def test_a_universe_too_small_to_rank_has_no_information_coefficient() -> None:
    of = world(tickers=FEWEST_TICKERS - 1)
    table = score_table(model(of, "small", score=of["known"].to_numpy()))
    assert table.empty
    of = world(tickers=FEWEST_TICKERS)
    assert not score_table(model(of, "enough", score=of["known"].to_numpy())).empty


def test_a_model_has_rows_of_its_heads_only() -> None:
    of = world()
    tables = score_table(pd.concat([model(of, "says", probability=0.6), model(of, "fears", deviation=0.01)]))
    heads = tables.groupby("model")["head"].agg(set)
    assert heads["says"] == {"direction"}
    assert heads["fears"] == {"return_quantiles", "return_quantiles_5d"}


def test_who_never_says_up_has_no_precision_and_no_timing() -> None:
    table = score_table(model(world(), "never", probability=0.4))
    assert np.isnan(one(table, "precision")["estimate"])
    assert one(table, "timing")["estimate"] == pytest.approx(0.0, abs=1e-12)
    assert one(table, "auc")["estimate"] == pytest.approx(0.5)


def test_outcomes_that_are_not_settled_do_not_count(right: pd.DataFrame) -> None:
    last = right["date"] == right["date"].max()
    open_ = right.assign(**{name: right[name].mask(last) for name in ("outcome", "outcome_5d", "excess")})
    pd.testing.assert_frame_equal(score_table(open_), score_table(right[~last]))


def test_a_fold_of_a_few_days_has_estimates_without_intervals() -> None:
    of = world(sessions=5, folds=1)
    table = score_table(model(of, "short", probability=0.6, deviation=0.01, score=of["known"].to_numpy()))
    five = one(table, "pinball", head="return_quantiles_5d")
    assert np.isfinite(five["estimate"])
    assert np.isnan(five["low"])
    assert np.isnan(one(table, "rank_ic")["low"])
    assert score_table(model(world(sessions=1, folds=1), "day", probability=0.6, deviation=0.01)).empty


def test_a_tail_that_is_no_loss_is_not_scored_rather_than_scored_on_other_rows(right: pd.DataFrame) -> None:
    odd = right.assign(
        **{name: right[name].mask(right.index == 7, 0.5) for name in ("q01", "q05", "q50", "q95", "q99")}
    )
    table = score_table(odd)
    assert np.isnan(one(table, "fz_lower_5%", head="return_quantiles")["estimate"])
    assert np.isfinite(one(table, "fz_upper_5%", head="return_quantiles_5d")["estimate"])


def test_variances_of_ranges_are_a_less_noisy_proxy(universe: PricePanel) -> None:
    variances = realised_variances(universe)
    assert list(variances.columns) == ["date", "ticker", "variance", "variance_5d"]
    known = variances.dropna()
    of = known[["date", "ticker"]].assign(
        fold="", volatility=0.015, outcome=0.001, outcome_5d=0.001, excess=0.0, known=0.0
    )
    of = of.reset_index(drop=True)
    table = model(of, "m", deviation=0.015)
    ranged, squared = score_table(table, variances), score_table(table)
    assert one(ranged, "qlike", head="return_quantiles")["estimate"] != pytest.approx(
        one(squared, "qlike", head="return_quantiles")["estimate"]
    )
    expected = (np.log(0.015**2) + known["variance"] / 0.015**2).mean()
    assert one(ranged, "qlike", head="return_quantiles")["estimate"] == pytest.approx(expected, rel=1e-3)


def test_coverage_is_tested_by_ticker_tail_and_for_the_universe() -> None:
    of = world(sessions=500, tickers=6, folds=1, seed=2)
    table = coverage_table(pd.concat([model(of, "right", deviation=0.01), model(of, "low", deviation=0.006)]))
    universe = table[(table["ticker"] == UNIVERSE) & (table["fold"] == "all")].set_index(
        ["model", "head", "tail", "promised"]
    )
    assert len(universe) == 2 * 2 * 2 * 2
    for head in ("return_quantiles", "return_quantiles_5d"):
        for tail in ("lower", "upper"):
            assert universe.loc[("low", head, tail, 0.05), "kupiec"] < 1e-3
            assert universe.loc[("low", head, tail, 0.05), "share"] > 0.1
            assert universe.loc[("right", head, tail, 0.05), "conditional"] > 1e-3
    single = table[(table["ticker"] != UNIVERSE) & (table["fold"] == "fold-1") & (table["model"] == "right")]
    assert single.groupby(["head", "tail", "promised"])["ticker"].nunique().eq(6).all()
    assert (single["kupiec"] < 0.05).mean() < 0.2
    wrong = table[(table["ticker"] != UNIVERSE) & (table["model"] == "low") & (table["promised"] == 0.05)]
    assert (wrong["kupiec"] < 0.05).mean() > 0.6


def test_clusters_of_breaches_are_seen() -> None:
    of = world(sessions=500, folds=1)
    of["outcome"] *= np.repeat(np.where(np.arange(500) // 50 % 2 == 0, 0.3, 1.37), 12)
    table = coverage_table(model(of, "m", deviation=0.01))
    found = table[(table["ticker"] == UNIVERSE) & (table["promised"] == 0.05) & (table["fold"] == "all")]
    assert found.loc[found["head"] == "return_quantiles", "independence"].max() < 1e-3


def test_a_short_fold_has_shares_without_tests() -> None:
    table = coverage_table(model(world(sessions=6, folds=1), "m", deviation=0.01))
    universe = table[table["ticker"] == UNIVERSE]
    assert universe["share"].notna().all()
    assert universe["kupiec"].isna().all()


def test_breaches_are_beyond_the_bound_and_nowhere_else(right: pd.DataFrame) -> None:
    for tail, column, sign in (("lower", "q05", -1), ("upper", "q95", 1)):
        hits = breaches(right, QUANTILE_HEADS[0], tail, 0.05)
        beyond = sign * (right["outcome"] - right[column]) > 0
        assert hits.to_numpy().sum() == beyond.sum()
        assert hits.shape == (12, 400)


def test_the_better_of_two_is_told_from_named_rivals_and_equals_are_not() -> None:
    of = world(sessions=250, seed=3)
    tables = [model(of, "ewma", deviation=0.01), model(of, "wide", deviation=0.02), model(of, "har", deviation=0.0101)]
    table = comparison_table(pd.concat(tables))
    pooled = table[(table["fold"] == "all") & (table["loss"] == "pinball_normalised")]
    assert set(pooled["rival"]) == {"ewma", "har"}
    wide = pooled[(pooled["model"] == "wide") & (pooled["rival"] == "ewma")]
    assert (wide["low"] > 0).all()
    assert (wide["p_value"] < 1e-3).all()
    equal = pooled[(pooled["model"] == "har") & (pooled["rival"] == "ewma")]
    assert (equal["difference"].abs() < 0.01 * wide["difference"].to_numpy()).all()
    both = pooled[pooled["head"] == "return_quantiles"].set_index(["model", "rival"])["difference"]
    assert both["har", "ewma"] == pytest.approx(-both["ewma", "har"])


def test_rivals_are_compared_on_the_rows_that_both_answered() -> None:
    of = world(sessions=100, seed=4)
    ewma, wide = model(of, "ewma", deviation=0.01), model(of, "wide", deviation=0.02)
    half = wide[wide["ticker"] < "T06"]
    table = comparison_table(pd.concat([ewma, half]))
    same = comparison_table(pd.concat([ewma[ewma["ticker"] < "T06"], half]))
    pd.testing.assert_frame_equal(table, same)


def test_directions_are_compared_by_log_loss() -> None:
    of = world(sessions=300, signal=0.3)
    knows = stats.norm.cdf(0.3 * of["known"] / np.sqrt(1 - 0.09))
    table = comparison_table(pd.concat([model(of, "majority", probability=0.52), model(of, "net", probability=knows)]))
    found = table[table["fold"] == "all"].iloc[0]
    assert (found["model"], found["rival"], found["loss"]) == ("net", "majority", "log_loss")
    assert found["high"] < 0


def test_the_confidence_set_keeps_the_best_and_drops_the_worse() -> None:
    of = world(sessions=250, seed=5)
    tables = [
        model(of, "good", deviation=0.01),
        model(of, "same", deviation=0.01),
        model(of, "wide", deviation=0.02),
        model(of, "narrow", deviation=0.005),
        model(of, "says", probability=0.5),
    ]
    table = confidence_sets(pd.concat(tables), repetitions=300)
    pooled = table[(table["fold"] == "all") & (table["head"] == "return_quantiles")]
    for _, found in pooled.groupby("loss"):
        included = found.set_index("model")["included"]
        assert included.to_dict() == {"good = same": True, "wide": False, "narrow": False}
    assert "direction" not in set(table["head"])


def test_scores_of_anything_else_are_refused() -> None:
    with pytest.raises(ForecastError):
        score_table(pd.DataFrame({"date": []}))


def test_rows_of_no_fold_are_judged_once() -> None:
    of = world(sessions=60, folds=2)
    table = model(of, "coin", probability=0.52, deviation=0.01, score=of["known"].to_numpy())
    alone = score_table(table.assign(fold=""))
    assert set(alone["fold"]) == {"all"}
    of_folds = score_table(table)
    whole = of_folds[of_folds["fold"] == "all"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, whole)
    assert set(coverage_table(table.assign(fold=""))["fold"]) == {"all"}


def test_rankings_are_compared_on_demand() -> None:
    of = world(signal=0.3)
    skill, luck = of["known"].to_numpy(), np.random.default_rng(3).normal(size=len(of))
    tables = pd.concat([model(of, "luck", score=luck), model(of, "trees", score=skill)])
    assert comparison_table(tables).empty
    assert confidence_sets(tables).empty
    (row,) = comparison_table(tables, heads=["excess_return"]).query("fold == 'all'").to_dict("records")
    assert (row["model"], row["rival"], row["loss"]) == ("luck", "trees", "minus_rank_ic")
    assert row["low"] > 0
    best = confidence_sets(tables, heads=["excess_return"]).query("fold == 'all' and included")
    assert best["model"].tolist() == ["trees"]
