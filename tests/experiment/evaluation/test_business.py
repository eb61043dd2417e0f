"""The business view against hand-made figures, other libraries, and worlds in which the truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from financial_assets.errors import ExperimentError
from financial_assets.experiment.evaluation.business import BusinessCase, Promotion, slower_by, value_of_promotion
from financial_assets.experiment.evaluation.by_regime import view_by_regime
from financial_assets.experiment.evaluation.measures import ProfitAndLoss, Skill
from financial_assets.experiment.evaluation.risk import correlation, equal_correlations, risk_of, sharpe_gap
from financial_assets.experiment.evaluation.skill import buy_and_hold, trading_grid
from financial_assets.market.panel import CHANNELS
from financial_assets.portfolio.estimates import sharpe_interval
from financial_assets.portfolio.selection import probabilistic_sharpe_ratio
from financial_assets.scoring.intervals import Interval
from tests.experiment.builders import CHALLENGER, CHAMPION, panel

NAMES = (CHALLENGER, CHAMPION)
CASE = BusinessCase(aum=1e6, horizon_sessions=100, latency_cost_per_ms=2.0, implementation_cost=500.0)


def worth(
    mean: float, *, days: int = 250, slower: Interval | None = None, case: BusinessCase | None = None
) -> Promotion:
    rng = np.random.default_rng(0)
    champion, gain = 0.01 * rng.standard_normal(days), 0.001 * rng.standard_normal(days)
    found = value_of_promotion(NAMES, (champion + mean + gain - gain.mean(), champion), slower, case or BusinessCase())
    assert found is not None
    return found


def pnl(daily: np.ndarray) -> ProfitAndLoss:
    return ProfitAndLoss(0.0, 0.0, 0.0, 0.5, 0.0, 1, 0.0, tuple(map(float, daily)))


def test_the_value_is_made_of_what_the_user_said_and_nothing_else() -> None:
    slower = Interval(0.003, 0.001, 0.005, 250, 500, 0.95)
    found = worth(0.0004, slower=slower, case=CASE)
    money = found.money
    assert money is not None
    assert money.latency is not None
    assert found.daily.estimate == pytest.approx(0.0004)
    assert money.gain.estimate == pytest.approx(1e6 * 100 * 0.0004)
    assert (money.latency.estimate, money.latency.low) == (pytest.approx(3 * 2 * 100), pytest.approx(200))
    assert money.net.estimate == pytest.approx(40_000 - 600 - 500)
    gain, latency = (one.high - one.estimate for one in (money.gain, money.latency))
    assert money.net.high - money.net.estimate == pytest.approx(math.hypot(gain, latency))
    twice = worth(0.0004, slower=slower, case=replace(CASE, aum=2e6)).money
    assert twice is not None
    assert twice.gain.estimate == pytest.approx(2 * money.gain.estimate)
    free = worth(0.0004, case=BusinessCase(aum=1e6, horizon_sessions=100)).money
    assert free is not None
    assert (free.latency, free.implementation) == (None, 0.0)
    assert (free.net.low, free.net.high) == pytest.approx((free.gain.low, free.gain.high))


def test_without_assets_there_are_only_returns() -> None:
    found = worth(0.0004, case=replace(CASE, aum=None))
    assert found.money is None
    assert found.horizon.estimate == pytest.approx(0.04)
    assert "expected to gain 4.0 % of the capital" in found.sentence
    assert "without BUSINESS_AUM it is not put into money" in found.sentence


@pytest.mark.parametrize(
    ("mean", "said"), [(0.0, "spans zero"), (0.001, "promotion earns money"), (-0.001, "promotion loses money")]
)
@pytest.mark.parametrize("case", [BusinessCase(), BusinessCase(aum=1e6)])
def test_words_say_where_the_interval_lies(mean: float, said: str, case: BusinessCase) -> None:
    found = worth(mean, case=case)
    assert said in found.sentence
    value = found.horizon if found.money is None else found.money.net
    assert value.spans_zero == (said == "spans zero")


def test_costs_can_take_all_of_a_gain() -> None:
    """The return's interval is above zero; what is left of it in money is not."""
    found = worth(0.0004, case=BusinessCase(aum=1e6, horizon_sessions=100, implementation_cost=40_000))
    assert not found.horizon.spans_zero
    assert "spans zero" in found.sentence


def test_latency_that_nobody_measured_is_left_out_in_words() -> None:
    found = worth(0.0004, case=CASE)
    assert found.money is not None
    assert found.money.latency is None
    assert "the cost of latency is left out" in found.sentence


def test_arms_that_trade_alike_and_too_few_days() -> None:
    same = np.linspace(-0.01, 0.01, 60)
    found = value_of_promotion(NAMES, (same, same), None, BusinessCase())
    assert found is not None
    assert "both arms traded alike" in found.sentence
    assert value_of_promotion(NAMES, (same[:29], same[:29]), None, BusinessCase()) is None
    with pytest.raises(ExperimentError, match="the same sessions"):
        value_of_promotion(NAMES, (same, same[:50]), None, BusinessCase())


@pytest.mark.parametrize("change", [{"aum": 0.0}, {"aum": math.inf}, {"latency_cost_per_ms": -1.0}])
def test_impossible_figures_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ExperimentError, match="business case"):
        replace(BusinessCase(), **change)


def test_latency_is_compared_where_both_were_routed() -> None:
    days = pd.bdate_range("2010-02-01", periods=20).repeat(10)
    rng = np.random.default_rng(0)
    model = np.where(np.arange(200) % 2, CHALLENGER, CHAMPION)
    rows = pd.DataFrame({"session": days, "model": model, "status": "ok", "epoch": 1})
    rows["latency_s"] = np.where(rows["model"] == CHALLENGER, 0.007, 0.004) + 1e-4 * rng.random(200)
    alone = rows[rows["model"] == CHAMPION].assign(epoch=2, latency_s=9.0)  # another time, another load
    broken = rows.assign(status="failed", latency_s=5.0)
    found = slower_by(pd.concat([rows, alone, broken]), *NAMES, 0.95)
    assert found is not None
    assert found.low < 0.003 < found.high
    assert found.high - found.low < 1e-4
    assert slower_by(alone, *NAMES, 0.95) is None


def test_a_sharpe_ratio_has_the_interval_that_all_books_have() -> None:
    daily = 0.0005 + 0.01 * np.random.default_rng(5).standard_t(4, 400)
    risk = risk_of("x", pnl(daily))
    assert risk.sharpe is not None
    assert risk.sharpe == sharpe_interval(daily)
    # Days that are independent: the interval is that of the probability, but for its small-sample corrections.
    assert probabilistic_sharpe_ratio(daily, risk.sharpe.low / math.sqrt(252)) == pytest.approx(0.975, abs=0.01)
    assert risk.worst_day == daily.min()
    assert risk.expected_shortfall > risk.value_at_risk > 0
    assert risk.kurtosis == pytest.approx(stats.kurtosis(daily, fisher=False))
    assert risk.skewness == pytest.approx(stats.skew(daily))
    assert risk_of("flat", pnl(np.zeros(50))).sharpe is None


def test_half_a_sharpe_ratio_takes_decades_and_its_interval_covers() -> None:
    """Returns that correlate by one half, without skill: (1.96 + 0.84)**2 / 0.5**2 = 31 years."""
    first, noise = np.linalg.qr(np.column_stack([np.ones(500), np.random.default_rng(0).standard_normal((500, 2))]))[
        0
    ].T[1:]
    gap = sharpe_gap(0.01 * first, 0.01 * (0.5 * first + math.sqrt(0.75) * noise))
    assert gap is not None
    assert gap.difference.estimate == pytest.approx(0, abs=1e-9)
    assert gap.years == pytest.approx(31.4, abs=0.1)
    rng = np.random.default_rng(7)
    common = rng.standard_normal((1000, 250))
    covered = 0
    for row in common:
        one, two = (0.01 * (0.1 + row + 0.5 * rng.standard_normal(250)) for _ in range(2))
        found = sharpe_gap(one, two)
        assert found is not None
        covered += found.difference.spans_zero
    assert 0.93 < covered / 1000 < 0.97


def test_correlations_are_fishers_and_compared_between_regimes() -> None:
    rng = np.random.default_rng(1)
    common, rest = rng.standard_normal(4000), rng.standard_normal((2, 4000))
    one, two = common + rest[0], common + rest[1]
    found = correlation(one, two)
    assert found is not None
    oracle = stats.pearsonr(one, two)
    assert found.estimate == pytest.approx(oracle.statistic)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)), abs=0.002)
    assert equal_correlations([found, found]) == pytest.approx(1)
    near = correlation(one, 0.93 * two + 0.25 * rest[0])
    assert near is not None
    z = (math.atanh(found.estimate) - math.atanh(near.estimate)) / math.sqrt(2 / 3997)
    assert equal_correlations([found, near]) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.1)
    assert equal_correlations([found]) is None
    assert correlation(one, np.zeros(4000)) is None


def test_fat_tails_do_not_make_two_regimes_different() -> None:
    """Days of one law, split in two: Fisher's own variance finds a difference four times as often as it says."""
    rng = np.random.default_rng(3)
    size = rng.standard_t(4, (400, 2, 250)) / rng.standard_normal((400, 2, 250)).std()
    first = size * rng.standard_normal((400, 2, 250))
    second = 0.8 * first + 0.6 * size * rng.standard_normal((400, 2, 250))
    robust = naive = 0
    for one, two in zip(first, second, strict=True):
        found = [correlation(one[half], two[half]) for half in (0, 1)]
        assert all(found)
        p = equal_correlations([half for half in found if half is not None])
        assert p is not None
        robust += p < 0.05
        gap = np.diff([math.atanh(half.estimate) for half in found if half is not None])[0]
        naive += 2 * stats.norm.sf(abs(gap) / math.sqrt(2 / 247)) < 0.05
    assert robust / 400 < 0.11
    assert naive / 400 > 0.2


def test_a_trade_lasts_from_entry_to_exit() -> None:
    prices = panel(sessions=60, tickers=3)
    rows = pd.DataFrame(
        {
            "session": prices.sessions[:40].repeat(3),
            "ticker": np.tile(np.array(prices.tickers, dtype=object), 40),
            "traded_return": 0.01,
        }
    )
    hold = buy_and_hold(trading_grid(rows, prices.sessions), cost_bps=10)
    assert hold is not None
    assert hold.trades == 3  # each ticker once, held to the end
    assert hold.per_trade == pytest.approx(40 * 0.01 - 2 * 0.001)  # entry and exit are paid


def test_what_holds_in_one_regime_only_is_seen_there() -> None:
    prices = panel(sessions=900, tickers=3)
    market = CHANNELS.index("market")
    calm = np.repeat([0.2, 3.0, 1.0], 300)[: len(prices.sessions)]
    steps = np.diff(np.log(prices.values[0, market].astype(np.float64)), prepend=np.log(100.0)) * calm
    prices.values[:, market] = 100 * np.exp(np.cumsum(steps))
    sessions = prices.sessions[100:]
    rng = np.random.default_rng(0)
    first = pd.Series(sessions).repeat(3).reset_index(drop=True)
    keys = pd.DataFrame({"session": first, "ticker": np.tile(prices.tickers, len(sessions)), "up": True})
    wild = keys["session"].between(prices.sessions[310], prices.sessions[560]).to_numpy()
    rows = {
        CHAMPION: keys.assign(probability_up=np.where(rng.random(len(keys)) < 0.5, 0.6, 0.4)),
        CHALLENGER: keys.assign(probability_up=np.where(wild | (rng.random(len(keys)) < 0.4), 0.6, 0.4)),
    }
    common = rng.standard_normal(len(sessions))
    daily = {CHAMPION: 0.01 * common, CHALLENGER: 0.01 * (common + 0.3 * rng.standard_normal(len(sessions)))}
    empty = (None,) * 7
    skills = [
        Skill(name, role, *empty, pnl(daily[name]), ())
        for name, role in ((CHAMPION, "champion"), (CHALLENGER, "challenger"))
    ]
    view = view_by_regime(prices, sessions, rows, skills, 0.95)
    by_name = {f"{row.dimension} {row.value}": row for row in view.rows}
    assert set(by_name) == {"volatility low", "volatility mid", "volatility high", "trend down", "trend up"}
    high, low = by_name["volatility high"], by_name["volatility low"]
    assert high.advantage is not None
    assert low.advantage is not None
    assert low.advantage.high < 0 < high.advantage.low
    assert high.accuracy[CHALLENGER] > 0.6 > low.accuracy[CHALLENGER]
    assert high.correlation is not None
    assert high.correlation.low < 1 / math.hypot(1, 0.3) < high.correlation.high
    assert view.unknown == 272 - 100  # a year of terciles after a month of volatility
    assert sum(row.days for row in view.rows if row.dimension == "volatility") == len(sessions) - view.unknown
    assert view.stable["volatility"] is not None
    assert view.stable["volatility"] > 0.01
