"""The forecast table: one form, made with the served graph; outcomes beside it, nothing filled in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.errors import ForecastError, MarketDataError
from financial_assets.features.graph import FeatureGraph
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.forecasts import (
    FORECAST_COLUMNS,
    HEADS,
    QUANTILES,
    QUANTILES_5D,
    check_forecasts,
    forecasts_of,
    load_forecasts,
    save_forecasts,
    with_outcomes,
)
from financial_assets.models.predictor import SERVED_LOOKBACK, build_predictor
from financial_assets.models.training import Training


@pytest.fixture
def sessions(panel: PricePanel) -> pd.DatetimeIndex:
    return panel.sessions[810:815]


@pytest.fixture
def forecasts(training: Training, panel: PricePanel, sessions: pd.DatetimeIndex, graph: FeatureGraph) -> pd.DataFrame:
    return forecasts_of(training, panel, sessions, model="tiny", fold="1", graph=graph)


def test_a_row_per_ticker_and_session_says_what_the_served_graph_answers(
    forecasts: pd.DataFrame, training: Training, panel: PricePanel, graph: FeatureGraph
) -> None:
    assert list(forecasts.columns) == list(FORECAST_COLUMNS)
    assert len(forecasts) == 5 * len(panel.tickers)
    row = forecasts.iloc[3]
    bars = panel.window(row["ticker"], row["date"], SERVED_LOOKBACK)
    probability, quantiles = build_predictor(training, graph)(torch.from_numpy(bars[None]))[:2]
    assert row["probability_up"] == pytest.approx(float(probability), abs=1e-6)
    np.testing.assert_allclose(row[list(QUANTILES)].astype(float), quantiles[0].numpy(), atol=1e-6)


def test_a_predictor_is_asked_like_a_training(
    forecasts: pd.DataFrame, training: Training, panel: PricePanel, sessions: pd.DatetimeIndex, graph: FeatureGraph
) -> None:
    again = forecasts_of(build_predictor(training, graph), panel, sessions, model="tiny", fold="1")
    pd.testing.assert_frame_equal(forecasts, again)


def test_outcomes_are_those_of_the_panel_and_unknown_at_its_end(
    training: Training, panel: PricePanel, graph: FeatureGraph
) -> None:
    rows = forecasts_of(training, panel, panel.sessions[-7:], model="tiny", graph=graph)
    one = rows[rows["ticker"] == panel.tickers[0]].set_index("date")
    outcome = pd.Series(next_session_return(panel)[0], index=panel.sessions)
    close = pd.Series(panel.values[0, CHANNELS.index("close")].astype(float), index=panel.sessions)
    market = pd.Series(np.log(panel.values[0, CHANNELS.index("market")].astype(float)), index=panel.sessions)
    np.testing.assert_array_equal(one["outcome"], outcome[one.index])
    np.testing.assert_allclose(one["excess"], (outcome - market.diff().shift(-1))[one.index], atol=1e-12)
    np.testing.assert_allclose(one["outcome_5d"], np.log(close.shift(-5) / close)[one.index], atol=1e-6)
    assert one["outcome"].isna().tolist() == [False] * 6 + [True]
    assert one["outcome_5d"].isna().tolist() == [False] * 2 + [True] * 5
    assert (one["volatility"] > 0).all()


def test_what_comes_later_changes_no_forecast(
    forecasts: pd.DataFrame, training: Training, panel: PricePanel, sessions: pd.DatetimeIndex, graph: FeatureGraph
) -> None:
    known = forecasts_of(training, panel.until(sessions[-1]), sessions, model="tiny", fold="1", graph=graph)
    pd.testing.assert_frame_equal(forecasts[list(HEADS)], known[list(HEADS)])


def test_a_model_without_a_head_leaves_it_empty(panel: PricePanel, sessions: pd.DatetimeIndex) -> None:
    def two_heads(bars: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.full((len(bars), 1), 0.5), torch.arange(5.0).expand(len(bars), 5)

    def four_heads(bars: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (*two_heads(bars), 2 * two_heads(bars)[1], torch.full((len(bars), 1), 0.1))

    two = forecasts_of(two_heads, panel, sessions, model="two")
    assert two[[*QUANTILES_5D, "score"]].isna().all().all()
    four = forecasts_of(four_heads, panel, sessions, model="four")
    assert (four["q99_5d"] == 8.0).all()
    np.testing.assert_allclose(four["score"], 0.1)


@pytest.mark.parametrize(
    "answer",
    [
        lambda bars: (torch.full((len(bars), 1), 0.5),),
        lambda bars: (torch.full((len(bars), 1), 0.5), torch.zeros(len(bars), 4)),
        lambda bars: (torch.full((len(bars), 1), torch.nan), torch.zeros(len(bars), 5)),
    ],
)
def test_an_answer_of_another_shape_or_without_a_number_is_refused(
    answer: object, panel: PricePanel, sessions: pd.DatetimeIndex
) -> None:
    with pytest.raises(ForecastError, match="answer"):
        forecasts_of(answer, panel, sessions, model="broken")  # type: ignore[arg-type]


def test_too_short_a_history_names_the_setting(panel: PricePanel, training: Training, graph: FeatureGraph) -> None:
    with pytest.raises(ForecastError, match="INGESTION_START_DATE"):
        forecasts_of(training, panel, panel.sessions[:3], model="tiny", graph=graph)
    with pytest.raises(MarketDataError):
        forecasts_of(training, panel, pd.DatetimeIndex(["1990-01-01"]), model="tiny", graph=graph)


def test_a_ticker_that_does_not_trade_gets_no_row(
    panel: PricePanel, training: Training, sessions: pd.DatetimeIndex, graph: FeatureGraph
) -> None:
    valid = panel.valid.copy()
    valid[0, 812] = False
    halted = PricePanel(panel.tickers, panel.sessions, panel.values, valid)
    rows = forecasts_of(training, halted, sessions, model="tiny", graph=graph)
    assert len(rows) == 5 * len(panel.tickers) - 1
    before = rows[(rows["ticker"] == panel.tickers[0]) & (rows["date"] == panel.sessions[811])]
    assert before["outcome"].isna().all()


def test_a_saved_table_is_read_as_it_was(forecasts: pd.DataFrame, tmp_path: Path) -> None:
    save_forecasts(forecasts, tmp_path / "one.parquet")
    pd.testing.assert_frame_equal(load_forecasts(tmp_path / "one.parquet"), forecasts)


def test_a_damaged_or_missing_file_is_named(forecasts: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    with pytest.raises(ForecastError, match=r"one\.parquet"):
        load_forecasts(path)
    save_forecasts(forecasts, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ForecastError, match=r"one\.parquet"):
        load_forecasts(path)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("probability_up", 1.5, "probability"),
        ("probability_up", np.inf, "probability_up"),
        ("q50", -9.0, "q01 to q99"),
        ("q05", np.nan, "q01 to q99"),
        ("q95_5d", 0.1, "q01_5d to q99_5d"),
        ("volatility", 0.0, "volatility"),
        ("outcome", -np.inf, "outcome"),
        ("date", pd.Timestamp("2004-02-03 10:00"), "time of day"),
        ("date", pd.NaT, "date"),
        ("ticker", "", "ticker"),
        ("model", None, "model"),
    ],
)
def test_an_impossible_value_is_refused_by_name(forecasts: pd.DataFrame, column: str, value: object, said: str) -> None:
    forecasts.loc[2, column] = value  # type: ignore[call-overload]
    with pytest.raises(ForecastError, match=said):
        check_forecasts(forecasts)


def test_a_key_occurs_once_and_every_column_is_known(forecasts: pd.DataFrame) -> None:
    with pytest.raises(ForecastError, match="ticker"):
        check_forecasts(pd.concat([forecasts, forecasts.tail(1)]))
    with pytest.raises(ForecastError, match="q05_5d"):
        check_forecasts(forecasts.drop(columns="q05_5d"))
    with pytest.raises(ForecastError, match="surprise"):
        check_forecasts(forecasts.assign(surprise=1.0))
    with pytest.raises(ForecastError, match="type"):
        check_forecasts(forecasts.assign(score="high"))


def test_any_order_of_rows_and_columns_gives_the_same_table(forecasts: pd.DataFrame) -> None:
    shuffled = forecasts.sample(frac=1.0, random_state=1)[list(reversed(FORECAST_COLUMNS))]
    pd.testing.assert_frame_equal(check_forecasts(shuffled), forecasts)
    assert (check_forecasts(forecasts.drop(columns="fold"))["fold"] == "").all()


def test_a_row_outside_the_panel_is_refused(forecasts: pd.DataFrame, panel: PricePanel) -> None:
    keys = forecasts[["date", "ticker", "model", "probability_up"]]
    assert with_outcomes(keys, panel)[["q01", "score"]].isna().all().all()
    with pytest.raises(ForecastError, match="NOBODY"):
        with_outcomes(keys.assign(ticker="NOBODY"), panel)
