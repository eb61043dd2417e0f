"""Scores of a session are those of the metrics: unsettled ones are empty, and answers that failed do not count."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.outcomes import KnownPrices, outcome_frame
from financial_assets.experiment.session_scores import PREDICTION_COLUMNS, session_scores
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices

TICKERS = [f"T{number:02d}" for number in range(24)]
QUANTILES = np.array([-0.04, -0.02, 0.0, 0.02, 0.04])


@pytest.fixture(scope="module")
def panel() -> PricePanel:
    return build_panel(SimulatedPrices(SimulatedMarket(sessions=260, seed=3)).fetch(TICKERS).prices)


def predictions(session: pd.Timestamp, model: str, tickers: list[str], seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    numbers = pd.DataFrame(index=range(len(tickers)))
    numbers["probability_up"] = rng.uniform(0.4, 0.6, len(tickers))
    numbers["excess_return"] = rng.normal(size=len(tickers))
    spread = rng.uniform(0.5, 1.5, (len(tickers), 1)) * QUANTILES
    names = ["q01", "q05", "q50", "q95", "q99"]
    numbers[names] = spread
    numbers[[f"{name}_5d" for name in names]] = 2 * spread
    return numbers.assign(session=session, ticker=tickers, model=model, status="ok")[list(PREDICTION_COLUMNS)]


def test_a_settled_session_has_every_score_and_it_is_that_of_the_metric(panel: PricePanel) -> None:
    session = panel.sessions[-10]
    rows = predictions(session, "one", TICKERS)
    [scores] = session_scores(rows, session, KnownPrices.of(panel, panel.sessions[-1])).to_dict("records")
    joined = rows.merge(outcome_frame(panel, scaled=True), on=["session", "ticker"], validate="1:1")
    for name in ("accuracy", "brier", "pinball", "qlike", "qlike_range", "var_es", "pinball_5d", "rank_ic"):
        assert scores[name] == pytest.approx(METRICS[name].scores(joined).mean(), abs=1e-12)
    assert scores["settled"] == scores["answers"] == len(TICKERS)
    assert scores["beyond_var_95"] == (joined["log_return"] < joined["q05"]).sum()
    assert scores["beyond_var_99"] == (joined["log_return"] < joined["q01"]).sum()


def test_a_larger_forecast_of_risk_has_fewer_exceedances(panel: PricePanel) -> None:
    session = panel.sessions[-10]
    rows = predictions(session, "one", TICKERS)
    wide = rows.assign(model="wide", q01=-1.0, q05=-0.9)
    narrow = rows.assign(model="narrow", q01=-1e-9, q05=-1e-10)
    scores = session_scores(pd.concat([wide, narrow]), session, KnownPrices.of(panel, panel.sessions[-1]))
    by_model = scores.set_index("model")["beyond_var_95"]
    assert by_model["wide"] == 0
    assert by_model["narrow"] > 0


def test_five_sessions_are_empty_until_they_are_over(panel: PricePanel) -> None:
    session = panel.sessions[-3]
    [scores] = session_scores(
        predictions(session, "one", TICKERS), session, KnownPrices.of(panel, panel.sessions[-1])
    ).to_dict("records")
    assert np.isnan([scores["pinball_5d"], scores["qlike_5d"], scores["var_es_5d"]]).all()
    assert np.isfinite([scores["pinball"], scores["accuracy"]]).all()


def test_the_last_session_settles_nothing(panel: PricePanel) -> None:
    session = panel.sessions[-1]
    [scores] = session_scores(predictions(session, "one", TICKERS), session, KnownPrices.of(panel, session)).to_dict(
        "records"
    )
    assert scores["settled"] == 0
    assert np.isnan(scores["accuracy"])


def test_other_sessions_and_failed_answers_do_not_count(panel: PricePanel) -> None:
    session, before = panel.sessions[-10], panel.sessions[-11]
    rows = predictions(session, "one", TICKERS)
    rows.loc[:1, "status"] = "failed"
    scores = session_scores(
        pd.concat([rows, predictions(before, "two", TICKERS)]), session, KnownPrices.of(panel, panel.sessions[-1])
    )
    assert list(scores["model"]) == ["one"]
    assert scores["answers"].tolist() == [len(TICKERS) - 2]


def test_a_model_without_a_head_has_its_other_scores(panel: PricePanel) -> None:
    session = panel.sessions[-10]
    rows = predictions(session, "one", TICKERS)
    rows[[name for name in rows if name.endswith("_5d")]] = np.nan
    [scores] = session_scores(rows, session, KnownPrices.of(panel, panel.sessions[-1])).to_dict("records")
    assert np.isnan(scores["qlike_5d"])
    assert np.isfinite(scores["qlike"])


def test_few_tickers_are_not_ranked(panel: PricePanel) -> None:
    session = panel.sessions[-10]
    few = predictions(session, "one", TICKERS[:5])
    [scores] = session_scores(few, session, KnownPrices.of(panel, panel.sessions[-1])).to_dict("records")
    assert np.isnan(scores["rank_ic"])
    assert np.isfinite(scores["accuracy"])


def test_nobody_answered(panel: PricePanel) -> None:
    session = panel.sessions[-10]
    scores = session_scores(
        predictions(session, "one", TICKERS).iloc[:0], session, KnownPrices.of(panel, panel.sessions[-1])
    )
    assert scores.empty
    assert "accuracy" in scores
