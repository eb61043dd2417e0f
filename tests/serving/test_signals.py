"""Bars to signals: the laws of a signal, batches, and answers that cannot be taken for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pandas.testing import assert_frame_equal

from financial_assets.errors import GatewayUnavailableError, InferenceError, MarketDataError, RequestRejectedError
from financial_assets.market import calendar
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.predictor import SERVED_LOOKBACK
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.signals import (
    SIGNAL_SCHEMA,
    ask_signals,
    check_signals,
    make_signals,
    save_signals,
    without_signal,
)

MODEL, VERSION = "baseline-predictor-v3", 3
FRIDAY, MONDAY = pd.Timestamp("2010-01-29"), pd.Timestamp("2010-02-01")
LEVELS = np.array([-0.03, -0.02, 0.001, 0.015, 0.04])


def answer_of(probability: np.ndarray, quantiles: np.ndarray, route: str | None = MODEL) -> Answer:
    return Answer(
        np.asarray(probability, np.float32), np.asarray(quantiles, np.float32), route, 1, "served", 0.01, "an-id"
    )


def signals_of(names: list[str], probability: list[float], quantiles: np.ndarray | None = None) -> pd.DataFrame:
    levels = np.tile(LEVELS, (len(names), 1)) if quantiles is None else quantiles
    answer = answer_of(np.array(probability), levels)
    return make_signals(names, answer, as_of=FRIDAY, model=MODEL, version=VERSION)


def panel_of(tickers: int, sessions: int = SERVED_LOOKBACK + 4) -> PricePanel:
    """Flat prices that differ from ticker to ticker, so that an answer can tell whose bars it got."""
    days = calendar.sessions("2009-01-02", "2012-01-03")[:sessions]
    values = np.full((tickers, len(CHANNELS), sessions), 100.0, dtype=np.float32)
    values += np.arange(tickers, dtype=np.float32)[:, None, None]
    values[:, CHANNELS.index("day")] = days.to_numpy().astype("datetime64[D]").astype(np.int64)
    names = tuple(f"T{row:04d}" for row in range(tickers))
    return PricePanel(names, days, values, np.ones((tickers, sessions), dtype=bool))


@dataclass
class Double:
    """Answers by the price of the last bar; keeps the sizes of the batches; ``change`` spoils an answer."""

    change: Callable[[Answer], Answer] = lambda answer: answer
    batches: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def infer_batch(self, target: str, bars: np.ndarray, /) -> Answer:
        self.batches.append((target, bars.shape))
        return self.change(answer_of(1 / (1 + np.exp(100 - bars[:, -1, 3])), np.tile(LEVELS, (len(bars), 1)), target))


def ask(double: Double, panel: PricePanel, **changes: object) -> pd.DataFrame:
    return ask_signals(double, panel, model=MODEL, version=VERSION, **changes)  # pyright: ignore


# --- laws ------------------------------------------------------------------------------------------------------------


def test_a_signal_by_hand() -> None:
    row = signals_of(["AAPL"], [0.55]).iloc[0]
    assert (row["ticker"], row["direction"], row["model"], row["version"]) == ("AAPL", "up", MODEL, VERSION)
    assert (row["as_of"], row["target_session"]) == (FRIDAY, MONDAY)
    assert row["probability_up"] == pytest.approx(0.55)
    assert row["expected_low"] == pytest.approx(np.exp(-0.02) - 1)
    assert row["expected_high"] == pytest.approx(np.exp(0.015) - 1)
    assert row["var_95"] == pytest.approx(1 - np.exp(-0.02))
    assert row["var_99"] == pytest.approx(1 - np.exp(-0.03))


ANSWERS = st.integers(1, 6).flatmap(
    lambda rows: st.tuples(
        hnp.arrays(np.float32, rows, elements=st.floats(0, 1, width=32)),
        hnp.arrays(np.float32, (rows, 5), elements=st.floats(-0.5, 0.5, width=32)).map(lambda q: np.sort(q, axis=1)),
    )
)


@settings(deadline=None)  # a busy machine needs longer for the first frame than hypothesis allows
@given(ANSWERS)
def test_laws_of_every_sound_answer(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    probability, quantiles = drawn
    names = [f"T{row}" for row in range(len(probability))]
    found = make_signals(names, answer_of(probability, quantiles), as_of=FRIDAY, model=MODEL, version=VERSION)
    assert check_signals(found, names).empty
    assert (found["expected_low"] <= found["expected_high"]).all()
    assert (found["var_95"] <= found["var_99"]).all()
    # A loss is positive: the sign of the value at risk is opposite to that of its quantile.
    np.testing.assert_array_equal(found["var_95"] > 0, np.expm1(quantiles[:, 1].astype(float)) < 0)
    np.testing.assert_array_equal(found["var_99"] > 0, np.expm1(quantiles[:, 0].astype(float)) < 0)
    assert (found["var_99"] < 1).all()
    np.testing.assert_array_equal(found["direction"] == "up", probability > 0.5)


def test_a_coin_is_no_up() -> None:
    assert signals_of(["A", "B"], [0.5, np.nextafter(np.float32(0.5), np.float32(1))])["direction"].tolist() == [
        "down",
        "up",
    ]


def test_the_target_session_steps_over_a_holiday() -> None:
    found = make_signals(
        ["A"],
        answer_of(np.array([0.5]), LEVELS[None]),
        as_of=pd.Timestamp("2010-11-24"),
        model=MODEL,
        version=VERSION,
    )
    assert found["target_session"].tolist() == [pd.Timestamp("2010-11-26")]


def test_rows_are_sorted_and_keep_their_values() -> None:
    found = signals_of(["C", "A", "B"], [0.3, 0.1, 0.2])
    assert found["ticker"].tolist() == ["A", "B", "C"]
    np.testing.assert_allclose(found["probability_up"], [0.1, 0.2, 0.3], rtol=1e-6)


# --- malformed answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [None, "enhanced-predictor-v2"])
def test_an_answer_from_somebody_else_is_refused(route: str | None) -> None:
    with pytest.raises(InferenceError, match=f"{MODEL} was asked for signals, but {route} answered"):
        make_signals(["A"], answer_of(np.array([0.5]), LEVELS[None], route), as_of=FRIDAY, model=MODEL, version=VERSION)


@pytest.mark.parametrize(
    ("probability", "quantiles"),
    [((1,), (2, 5)), ((3,), (2, 5)), ((2, 1), (2, 5)), ((2,), (2, 4)), ((2,), (2,)), ((0,), (0, 5))],
)
def test_an_answer_of_another_shape_is_refused(probability: tuple[int, ...], quantiles: tuple[int, ...]) -> None:
    with pytest.raises(InferenceError, match="asked for 2 signals"):
        make_signals(
            ["A", "B"],
            answer_of(np.zeros(probability), np.zeros(quantiles)),
            as_of=FRIDAY,
            model=MODEL,
            version=VERSION,
        )


def spoilt(column: int, value: float) -> np.ndarray:
    quantiles = np.tile(LEVELS, (2, 1))
    quantiles[0, column] = value
    return quantiles


@pytest.mark.parametrize(
    ("probability", "quantiles", "problem"),
    [
        (np.nan, None, "probability_up is missing"),
        (1.5, None, "probability_up is not a probability"),
        (-0.1, None, "probability_up is not a probability"),
        (0.5, spoilt(0, np.nan), "q01 is missing"),
        (0.5, spoilt(2, np.nan), "q50 is missing"),
        (0.5, spoilt(0, -np.inf), "q01 is not a possible log return"),
        (0.5, spoilt(4, np.inf), "q99 is not a possible log return"),
        (0.5, spoilt(4, 300.0), "q99 is not a possible log return"),
        (0.5, spoilt(0, 0.0), "has quantiles out of order"),
        (0.5, spoilt(4, 0.0), "has quantiles out of order"),
    ],
)
def test_unsound_values_are_told_by_ticker(probability: float, quantiles: np.ndarray | None, problem: str) -> None:
    failures = check_signals(signals_of(["BAD", "GOOD"], [probability, 0.5], quantiles), ["BAD", "GOOD"])
    assert set(failures["ticker"]) == {"BAD"}
    assert failures["problem"].str.startswith(problem).any(), failures


def test_missing_doubled_and_unasked_rows_are_told() -> None:
    sound = signals_of(["A", "B"], [0.4, 0.6])
    assert check_signals(sound, ["A", "B"]).empty
    assert check_signals(sound, ["A", "B", "C"]).to_dict("records") == [{"ticker": "C", "problem": "has no signal"}]
    assert check_signals(sound, ["A"]).to_dict("records") == [{"ticker": "B", "problem": "should have no signal"}]
    doubled = pd.concat([sound, sound.tail(1)], ignore_index=True)
    assert check_signals(doubled, ["A", "B"]).to_dict("records") == [{"ticker": "B", "problem": "has 2 signals"}]
    assert check_signals(sound.iloc[:0], ["A"])["problem"].tolist() == ["has no signal"]


def test_a_signal_about_the_past_is_told() -> None:
    stale = signals_of(["A"], [0.4]).assign(target_session=FRIDAY)
    assert check_signals(stale, ["A"])["problem"].tolist() == ["is about a session that is over"]


@pytest.mark.parametrize("column", list(SIGNAL_SCHEMA.columns))
def test_a_missing_column_is_told(column: str) -> None:
    failures = check_signals(signals_of(["A"], [0.4]).drop(columns=column), ["A"])
    assert failures["problem"].str.contains(column).any()


# --- asking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7]), (512, [7])], ids=lambda value: str(value)
)
def test_batches_change_nothing_but_their_number(rows: int, sizes: list[int]) -> None:
    double, panel = Double(), panel_of(7)
    found = ask(double, panel, batch_rows=rows)
    assert double.batches == [(MODEL, (size, SERVED_LOOKBACK, len(CHANNELS))) for size in sizes]
    assert_frame_equal(found, ask(Double(), panel))
    assert check_signals(found, panel.tickers).empty
    np.testing.assert_allclose(found["probability_up"], 1 / (1 + np.exp(-np.arange(7.0))), rtol=1e-6)
    assert set(found["as_of"]) == {panel.sessions[-1]}


def test_a_batch_without_rows_is_no_batch() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        ask(Double(), panel_of(1), batch_rows=0)


def test_a_full_batch_fits_into_the_customary_message_of_grpc() -> None:
    double = Double()
    ask(double, panel_of(600))
    sizes = [shape for _, shape in double.batches]
    assert [shape[0] for shape in sizes] == [512, 88]
    assert max(4 * int(np.prod(shape)) for shape in sizes) < 4_000_000


def test_covariates_make_batches_smaller_and_not_longer() -> None:
    double, panel = Double(), panel_of(600)
    names = tuple(f"c{number}" for number in range(16))
    more = np.zeros((600, 16, len(panel.sessions)), dtype=np.float32)
    wide = replace(panel, values=np.concatenate([panel.values, more], axis=1), covariates=names)
    assert_frame_equal(ask(double, wide), ask(Double(), panel))
    sizes = [shape for _, shape in double.batches]
    assert [shape[0] for shape in sizes] == [155, 155, 155, 135]
    assert max(4 * int(np.prod(shape)) for shape in sizes) < 4_000_000


def test_only_the_tickers_asked_for_are_sent() -> None:
    double = Double()
    assert ask(double, panel_of(7), tickers=["T0005"])["ticker"].tolist() == ["T0005"]
    assert [shape[0] for _, shape in double.batches] == [1]


def test_one_bad_batch_gives_no_signals_at_all() -> None:
    double = Double()
    double.change = lambda answer: (
        replace(answer, route="enhanced-predictor-v2") if len(double.batches) == 2 else answer
    )
    with pytest.raises(InferenceError, match="enhanced-predictor-v2 answered"):
        ask(double, panel_of(4), batch_rows=2)


def test_an_error_of_the_gateway_comes_through() -> None:
    def away(_: Answer) -> Answer:
        raise GatewayUnavailableError("no connection")

    with pytest.raises(GatewayUnavailableError, match="no connection"):
        ask(Double(change=away), panel_of(2))


def test_a_refusal_names_the_ticker_of_the_row() -> None:
    def refuse(_: Answer) -> Answer:
        raise RequestRejectedError("bars[1, 7, high] high is below low", status=400, route="r")

    with pytest.raises(RequestRejectedError, match=r"the bars of T0001 are refused: bars\[1, 7, high\]") as caught:
        ask(Double(change=refuse), panel_of(4), batch_rows=2)
    assert (caught.value.status, caught.value.route) == (400, "r")


def incomplete() -> PricePanel:
    """T0000 is sound; T0001 did not trade last; T0002 is listed too late; T0003 has no bar yet; T0004 just enough."""
    panel = panel_of(5)
    valid, values = panel.valid.copy(), panel.values.copy()
    valid[1, -1] = False
    for ticker, before in ((2, -SERVED_LOOKBACK + 1), (3, None), (4, -SERVED_LOOKBACK)):
        valid[ticker, :before] = False
        values[ticker, :5, :before] = np.nan
    return replace(panel, valid=valid, values=values)


def test_who_has_no_signal_and_why() -> None:
    panel = incomplete()
    day = f"{panel.sessions[-1]:%Y-%m-%d}"
    reasons = without_signal(panel, [*panel.tickers, "NEW"])
    assert reasons == {
        "T0001": f"did not trade on {day}",
        "T0002": f"has {SERVED_LOOKBACK - 1} bars at {day}; {SERVED_LOOKBACK} are needed",
        "T0003": f"had no bar until {day}",
        "NEW": "has no prices in the store; run `financial-assets run` "
        "(the check `delivery` of raw_prices says what it lacks)",
    }
    # The reasons and the rows are computed apart from each other, and tell the same story.
    assert ask(Double(), panel)["ticker"].tolist() == [name for name in panel.tickers if name not in reasons]


def test_no_ticker_with_enough_bars_is_an_error_that_says_why_for_each() -> None:
    double = Double()
    with pytest.raises(MarketDataError, match=r"T0000 has 9 bars at .*; T0001 has 9 bars"):
        ask(double, panel_of(2, sessions=9))
    assert double.batches == []


# --- files -----------------------------------------------------------------------------------------------------------


def test_both_files_hold_the_same_signals(tmp_path: Path) -> None:
    signals = signals_of(["A", "B"], [0.4, 0.6])
    parquet, csv = save_signals(signals, tmp_path / "signals")
    assert [path.name for path in (parquet, csv)] == ["2010-01-29.parquet", "2010-01-29.csv"]
    assert_frame_equal(pd.read_parquet(parquet), signals)
    assert_frame_equal(pd.read_csv(csv, parse_dates=["as_of", "target_session"]), signals, check_dtype=False)
    assert sorted(path.name for path in parquet.parent.iterdir()) == ["2010-01-29.csv", "2010-01-29.parquet"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet, _ = save_signals(signals_of(["A"], [0.4]), tmp_path)
    before = parquet.read_bytes()

    def dies(_: pd.DataFrame, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", dies)
    with pytest.raises(OSError, match="no space left"):
        save_signals(signals_of(["A"], [0.9]), tmp_path)
    assert parquet.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_signals_of_two_sessions_are_not_one_file(tmp_path: Path) -> None:
    signals = signals_of(["A", "B"], [0.4, 0.6])
    signals.loc[0, "as_of"] = pd.Timestamp("2010-01-28")
    with pytest.raises(ValueError, match="of one session"):
        save_signals(signals, tmp_path)


# --- a real plane ----------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_through_the_gateway_the_model_itself_answers_and_never_the_split(client: InferenceClient) -> None:
    panel = panel_of(5)
    for model, logit in (("baseline-predictor-v1", -1.0), ("enhanced-predictor-v1", 1.0)):
        found = ask_signals(client, panel, model=model, version=1, batch_rows=2)
        np.testing.assert_allclose(found["probability_up"], 1 / (1 + np.exp(-logit)), rtol=1e-5)
        np.testing.assert_allclose(found["q05"], -0.01 * (100 + np.arange(5)), rtol=1e-5)
        assert set(found["model"]) == {model}
