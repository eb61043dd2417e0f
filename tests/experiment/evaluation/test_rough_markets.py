"""Any possible market can be evaluated: jumps, gaps, one ticker, one day, a book that is wiped out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from financial_assets.experiment.evaluation.evaluate import Evaluation
from financial_assets.experiment.evaluation.risk import deflated_sharpe
from financial_assets.experiment.outcomes import KnownPrices, outcome_frame
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.experiment.report import html as report
from financial_assets.market.panel import CHANNELS, PricePanel
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, panel
from tests.experiment.decision.builders import evaluated
from tests.experiment.evaluation.builders import EPOCH, QUANTILES, routed_rows

WARM_UP = 19  # sessions of the panel until the cut-off


def market(steps: np.ndarray, valid: np.ndarray | None = None) -> PricePanel:
    """Prices that move by the factors ``steps`` ``[ticker, session]`` from open to open, after some quiet weeks."""
    tickers, days = steps.shape
    quiet = panel(sessions=WARM_UP + days, tickers=tickers)
    values = quiet.values.astype(np.float64)
    path = np.cumprod(np.hstack([np.ones((tickers, WARM_UP)), steps]), axis=1)
    for channel in ("open", "high", "low", "close"):
        values[:, CHANNELS.index(channel)] = 100 * path
    values[:, CHANNELS.index("market")] = 100 * np.exp(np.log(path).mean(axis=0))
    known = quiet.valid.copy()
    if valid is not None:
        known[:, WARM_UP:] = valid
    return PricePanel(quiet.tickers, quiet.sessions, values.astype(np.float32), known)


def judged(prices: PricePanel, ups: dict[str, Sequence[float] | float]) -> Evaluation:
    """The evaluation of arms that say these probabilities, one a session."""
    keys = outcome_frame(prices)
    keys = keys[keys["session"] > CUTOFF].reset_index(drop=True)
    direct = answers(prices, keys, ups)
    majority = keys[["session", "ticker"]].assign(model="majority", probability_up=0.53)
    logistic = majority.assign(model="logistic", probability_up=0.47)
    historical = majority.assign(model="historical", probability_up=np.nan)
    baselines = pd.concat([majority, logistic, historical]).rename(columns={"session": "date"})
    baselines[list(QUANTILE_COLUMNS)] = QUANTILES
    routed = routed_rows(keys, np.random.default_rng(0))
    return evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)


def answers(prices: PricePanel, keys: pd.DataFrame, ups: dict[str, Sequence[float] | float]) -> pd.DataFrame:
    later = prices.sessions[prices.sessions > CUTOFF]
    parts = []
    for model, said in ups.items():
        by_day = pd.Series(np.broadcast_to(np.asarray(said, np.float64), len(later)), index=later)
        rows = keys[["session", "ticker"]].assign(model=model, status="ok")
        rows["probability_up"] = by_day.reindex(pd.DatetimeIndex(rows["session"])).to_numpy()
        parts.append(rows)
    direct = pd.concat(parts, ignore_index=True)
    direct[list(QUANTILE_COLUMNS)] = QUANTILES
    return direct


def page(evaluation: Evaluation) -> str:
    """The text of the page, without its plots."""
    json.loads(evaluation.to_json())
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", report.html(evaluation), flags=re.DOTALL)
    return " ".join(text.split())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.charts, "svg", lambda evaluation, name: "<svg></svg>")


moves = st.one_of(st.floats(0.97, 1.03), st.sampled_from([0.001, 0.2, 0.5, 1.0, 1.0, 1.9, 2.0, 2.5, 5.0, 100.0]))
markets = st.tuples(st.integers(1, 3), st.integers(1, 45)).flatmap(
    lambda shape: st.tuples(
        st.lists(moves, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
            lambda steps: np.clip(np.cumprod(np.reshape(steps, shape), axis=1), 1e-4, 1e4)
        ),
        st.lists(st.booleans(), min_size=shape[1], max_size=shape[1]),
        st.lists(st.sampled_from([0.3, 0.5, 0.7]), min_size=shape[1], max_size=shape[1]),
        st.sampled_from([0.3, 0.5, 0.7]),
    )
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(markets)
def test_no_market_ends_the_evaluation_and_every_figure_is_a_number(undrawn: None, drawn: tuple) -> None:
    path, gaps, said, other = drawn
    steps = np.diff(np.hstack([np.ones((len(path), 1)), path]).astype(np.float64), axis=1)
    steps = np.hstack([np.ones((len(path), 1)), path])[:, 1:] / np.hstack([np.ones((len(path), 1)), path])[:, :-1]
    valid = np.ones(path.shape, dtype=bool)
    valid[0] = np.array(gaps) if len(path) > 1 else True
    evaluation = judged(market(steps, valid), {CHAMPION: other, CHALLENGER: said})
    text = page(evaluation)
    assert not re.search(r"\b(nan|inf)\b", text, flags=re.IGNORECASE)
    for skill in evaluation.skills:
        if skill.pnl is not None:
            assert min(skill.pnl.daily) >= -1
            assert -1 <= skill.pnl.max_drawdown <= 0
            assert (skill.pnl.wiped_out is not None) == (min(skill.pnl.daily) == -1)


def squeezed(days: int, on: int, tickers: int = 1) -> PricePanel:
    """Quiet days, and one on whose open every price is four times that of the day before."""
    steps = np.exp(0.01 * np.random.default_rng(5).standard_normal((tickers, days)))
    steps[:, on] = 4.0
    return market(steps)


@pytest.mark.parametrize("tickers", [1, 3])
@pytest.mark.parametrize("on", [2, 30, 59])
@pytest.mark.parametrize("short", [(CHAMPION,), (CHALLENGER,), (CHAMPION, CHALLENGER)])
def test_a_squeezed_book_is_wiped_out_on_its_day_for_each_arm_alike(
    undrawn: None, tickers: int, on: int, short: tuple[str, ...]
) -> None:
    """A position is left at the open of the session that is squeezed; decided two sessions before."""
    prices = squeezed(60, on, tickers)
    evaluation = judged(prices, {name: 0.3 if name in short else 0.7 for name in (CHAMPION, CHALLENGER)})
    day = prices.sessions[WARM_UP + on].date().isoformat()
    for skill in evaluation.skills[:2]:
        book = skill.pnl
        assert book is not None
        assert book.wiped_out == (day if skill.name in short else None)
        if skill.name in short:
            assert (book.total_return, book.max_drawdown) == (-1.0, -1.0)
            assert set(book.daily[book.daily.index(-1.0) + 1 :]) <= {0.0}
    text = page(evaluation)
    for name in short:
        assert f"The book of {name} was wiped out on {day}" in text
    assert evaluation.business is not None
    assert evaluation.business.promotion is None
    assert "a book was wiped out" in evaluation.business.no_value
    assert ("cost the whole capital" in evaluation.business.no_value) == (short == (CHALLENGER,))
    risk = next(risk for risk in evaluation.business.risks if risk.name in short)
    assert risk.worst_day == -1.0


def test_profit_that_ended_in_ruin_is_the_worst_there_is_for_a_decision() -> None:
    prices = squeezed(60, 40)
    keys = outcome_frame(prices)
    steady = answers(prices, keys, {CHALLENGER: 0.7})
    packaged = load_policy()
    rules = replace(packaged, experiment=EPOCH.experiment, test=replace(packaged.test, metric="accuracy"))
    plan = make_plan(rules, EPOCH, EPOCH.challengers[0], DailyDeviation(0.1, "the test"), CUTOFF)
    known = {"known": KnownPrices.of(prices, prices.sessions[-1]), "versions": 3, "cost_bps": 5.0}
    found = deflated_sharpe(plan, steady, **known)
    assert found is not None
    assert 0 < found <= 1
    assert deflated_sharpe(plan, answers(prices, keys, {CHALLENGER: 0.3}), **known) == 0.0
    assert math.isfinite(found)
