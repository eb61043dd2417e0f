"""Each metric has the value that its definition gives by hand."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from financial_assets.experiment.metrics.books import COST_BPS, PROFIT
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.metrics.paired import paired_days, paired_differences
from financial_assets.experiment.metrics.registry import EARLIER_METRICS, GUARDS, METRICS, metrics_of
from financial_assets.experiment.metrics.risk import implied_deviation
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.portfolio.simulation import profit_and_loss
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from tests.experiment.metrics.rows import answers, joined, outcomes

ROW = pd.DataFrame(
    {
        "session": pd.DatetimeIndex(["2020-01-02"]),
        "ticker": ["T00"],
        "probability_up": [0.6],
        "q01": [-0.03],
        "q05": [-0.02],
        "q50": [0.0],
        "q95": [0.02],
        "q99": [0.03],
        "q01_5d": [-0.06],
        "q05_5d": [-0.04],
        "q50_5d": [0.0],
        "q95_5d": [0.04],
        "q99_5d": [0.06],
        "log_return": [-0.025],
        "up": [False],
        "outcome_5d": [0.05],
        "volatility": [0.01],
        "range_variance": [0.0003],
    }
)


def score(name: str, **changed: float) -> float:
    return float(METRICS[name].scores(ROW.assign(**changed))[0])


def test_every_name_of_a_policy_is_a_metric_and_every_question_has_some() -> None:
    assert tuple(METRICS) == get_args(PairedMetric)
    assert all(metrics_of(question) for question in get_args(Question))
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.least_lags == (4 if name.endswith("_5d") else 0)
        assert metric.plausible_effect > 0
    assert all(metrics_of("ranking")[place].fewest_tickers == 20 for place in range(3))


def test_direction() -> None:
    assert score("accuracy") == 0.0
    assert score("accuracy", probability_up=0.5) == 1.0
    assert score("brier") == pytest.approx(-0.36)
    assert score("log_loss") == pytest.approx(np.log(0.4))


def test_pinball_is_in_units_of_the_volatility_known_beforehand() -> None:
    errors = {0.01: 0.005 * 0.01, 0.05: 0.005 * 0.95, 0.5: 0.025 * 0.5, 0.95: 0.045 * 0.05, 0.99: 0.055 * 0.01}
    mean = sum(errors.values()) / 5
    assert score("pinball") == pytest.approx(-mean / 0.01)
    assert score("pinball", volatility=0.02) == pytest.approx(-mean / 0.02)
    assert float(EARLIER_METRICS["pinball"].scores(ROW)[0]) == pytest.approx(-mean)
    longer = {0.01: 0.11 * 0.01, 0.05: 0.09 * 0.05, 0.5: 0.05 * 0.5, 0.95: 0.01 * 0.95, 0.99: 0.01 * 0.01}
    assert score("pinball_5d") == pytest.approx(-sum(longer.values()) / 5 / (0.01 * 5**0.5))


def test_qlike_takes_the_variance_that_the_ranges_have() -> None:
    variance = ((0.04 / (2 * 1.6448536269514722) + 0.06 / (2 * 2.3263478740408408)) / 2) ** 2
    assert score("qlike") == pytest.approx(-(np.log(variance) + 0.025**2 / variance))
    assert score("qlike_range") == pytest.approx(-(np.log(variance) + 0.0003 / variance))
    assert score("qlike_5d") == pytest.approx(-(np.log(4 * variance) + 0.05**2 / (4 * variance)))
    assert np.isfinite(score("qlike", q01=0.02, q05=0.02, q95=0.02, q99=0.02)), (
        "no width at all is taken as one of a basis point"
    )


def test_the_deviation_of_quantiles_is_that_of_the_distribution() -> None:
    assert implied_deviation(norm.ppf([QUANTILE_LEVELS], scale=0.02)) == pytest.approx(0.02)
    for degrees in (4, 5, 8):
        found = implied_deviation(t.ppf([QUANTILE_LEVELS], degrees)) / t.std(degrees)
        assert 1.0 < found[0] < 1.04


def test_var_and_es_are_scored_together() -> None:
    shortfall = -0.02 - 0.01 / np.log(5)
    expected = (-0.02 + (-0.025 + 0.02) / 0.05) / shortfall + np.log(-shortfall) - 1
    assert score("var_es") == pytest.approx(-expected)
    assert score("var_es", log_return=0.01) == pytest.approx(-(-0.02 / shortfall + np.log(-shortfall) - 1))
    assert np.isfinite(score("var_es", q01=0.01, q05=0.02)), "a tail without a loss"
    assert score("var_es", q01=-0.02, q05=-0.03) == score("var_es"), "the pair is ordered"


def test_ranks_are_correlated_within_each_session() -> None:
    known = outcomes(sessions=4)
    ours, theirs = answers(known, 1), answers(known, 2)
    found = paired_days(joined(ours, known), theirs, METRICS["rank_ic"])
    by_hand = []
    for _, rows in known.groupby("session"):
        scores = (frame.loc[rows.index, "excess_return"].rank() for frame in (ours, theirs))
        one, other = (ranks.corr(rows["excess"].rank()) for ranks in scores)
        by_hand.append(one - other)
    np.testing.assert_allclose(found.differences, by_hand)


def test_scores_that_order_nothing_are_worth_nothing() -> None:
    known = outcomes(sessions=3)
    ours = joined(answers(known, 1), known)
    flat = ours.assign(excess_return=0.3)
    assert np.all(METRICS["rank_ic"].scores(flat) == 0.0)
    assert np.all(METRICS["excess_accuracy"].scores(flat) == 0.5)
    assert np.all(METRICS["long_short"].scores(flat) == 0.0)


def test_sides_of_the_median() -> None:
    known = outcomes(sessions=2, tickers=20)
    ours = joined(answers(known, 1), known)
    right = METRICS["excess_accuracy"].scores(ours)
    above = ours.groupby("session")[["excess_return", "excess"]].transform(lambda column: column > column.median())
    np.testing.assert_array_equal(right, (above["excess_return"] == above["excess"]).astype(float))


def book(rows: pd.DataFrame, weights: pd.DataFrame) -> np.ndarray:
    """Net returns of all sessions but the last, whose exit is paid, by the simulation of portfolios."""
    returns = rows.pivot(index="ticker", columns="session", values="traded_return")
    return profit_and_loss(weights.loc[returns.index].to_numpy(), returns.to_numpy(), COST_BPS).net[:-1]


def test_books_earn_what_the_simulation_of_portfolios_says() -> None:
    known = outcomes(sessions=12)
    rows = joined(answers(known, 1), known)
    wide = rows.pivot(index="ticker", columns="session", values="probability_up")
    daily = rows.assign(net=PROFIT.scores(rows)).groupby("session")["net"].mean().to_numpy()
    np.testing.assert_allclose(daily[:-1], book(rows, np.sign(wide - 0.5)), atol=1e-15)
    assert np.ptp(daily) > 0


def test_the_long_short_book_holds_the_best_and_the_worst_fifth() -> None:
    known = outcomes(sessions=5, tickers=20)
    rows = joined(answers(known, 1), known)
    ranks = rows.groupby("session")["excess_return"].rank()
    weights = rows.assign(weight=np.select([ranks > 16, ranks <= 4], [1 / 8, -1 / 8], 0.0))
    wide = weights.pivot(index="ticker", columns="session", values="weight")
    daily = rows.assign(net=METRICS["long_short"].scores(rows)).groupby("session")["net"].mean().to_numpy()
    np.testing.assert_allclose(daily[:-1], book(rows, 20 * wide), atol=1e-15)


def test_a_ranking_needs_twenty_tickers() -> None:
    known = outcomes(sessions=3, tickers=20)
    ours, theirs = joined(answers(known, 1), known), answers(known, 2)
    last = known["session"].iloc[-1]
    theirs.loc[(theirs["session"] == last) & (theirs["ticker"] == "T03"), "excess_return"] = np.nan
    assert last not in paired_days(ours, theirs, METRICS["rank_ic"]).sessions
    assert len(paired_days(ours, theirs, METRICS["rank_ic"])) == 2


def test_what_is_not_known_yet_is_left_out() -> None:
    known = outcomes(sessions=3)
    known.loc[known["session"] == known["session"].iloc[-1], "outcome_5d"] = np.nan
    ours, theirs = joined(answers(known, 1), known), answers(known, 2)
    assert len(paired_days(ours, theirs, METRICS["pinball_5d"])) == 2
    assert len(paired_days(ours, theirs, METRICS["pinball"])) == 3
    ours.loc[5, "q99_5d"] = np.nan
    rows = paired_differences(ours, theirs, METRICS["pinball_5d"])
    assert (len(rows), "T05" in set(rows.loc[rows["session"] == known["session"].iloc[0], "ticker"])) == (47, False)


def test_bounds_hold_what_they_promise() -> None:
    assert METRICS["accuracy"].clip(0.01) == 1.0
    assert METRICS["brier"].clip(0.01) == pytest.approx(0.08)
    assert METRICS["brier"].clip(10.0) == 1.0
    assert METRICS["qlike"].clip(0.2) == pytest.approx(1.6)
    assert METRICS["rank_ic"].clip(1.0) == 2.0
    assert list(GUARDS) == ["accuracy", "profit", "tail"]
