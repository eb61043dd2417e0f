"""Bars to signals: the laws of a signal, batches, and answers that cannot be taken for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

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
from financial_assets.serving.signal_schema import FURTHER_COLUMNS, QUANTILE_5D_COLUMNS
from financial_assets.serving.signals import (
    SIGNAL_SCHEMA,
    ask_signals,
    check_signals,
    make_signals,
    missing_heads,
    without_signal,
)
from tests.serving.signal_builders import (
    FRIDAY,
    LEVELS,
    MODEL,
    MONDAY,
    VERSION,
    answer_of,
    signals_of,
    signals_with_heads,
    whole_answer,
)


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


# --- five sessions and ranking ---------------------------------------------------------------------------------------


def test_all_heads_by_hand() -> None:
    """The shortfall is that of an exponential tail through both quantiles, by numbers of a fine grid of levels."""
    row = signals_with_heads(["AAPL"], [0.55], score=[-0.25]).iloc[0]
    assert row["target_session_5d"] == pd.Timestamp("2010-02-05")
    assert row["expected_low_5d"] == pytest.approx(np.exp(-0.04) - 1)
    assert row["expected_high_5d"] == pytest.approx(np.exp(0.03) - 1)
    assert row["var_95_5d"] == pytest.approx(1 - np.exp(-0.04))
    assert row["var_99_5d"] == pytest.approx(1 - np.exp(-0.06))
    np.testing.assert_allclose(row[[*QUANTILE_5D_COLUMNS]].astype(float), 2 * LEVELS, rtol=1e-6)
    assert (row["score"], row["rank"]) == (-0.25, 1)
    levels = (np.arange(500_000) + 0.5) / 500_000 * 0.05
    for suffix, near, far in (("", -0.02, -0.03), ("_5d", -0.04, -0.06)):
        tail = near + (near - far) * np.log(levels / 0.05) / np.log(5)
        assert np.interp(0.01, levels, tail) == pytest.approx(far, abs=1e-7)
        assert row[f"es_95{suffix}"] == pytest.approx(np.mean(1 - np.exp(tail)), rel=1e-5)


def test_the_fifth_session_steps_over_holidays() -> None:
    answer = whole_answer(np.array([0.5]), LEVELS[None])
    found = make_signals(["A"], answer, as_of=pd.Timestamp("2010-12-22"), model=MODEL, version=VERSION)
    assert found["target_session_5d"].tolist() == [pd.Timestamp("2010-12-30")]


SCORES = st.lists(st.sampled_from([-0.0, 0.0, -1.5, 0.25, 0.25000003, 1e-30, 7.0]), min_size=1, max_size=9)


@settings(deadline=None)
@given(SCORES, st.randoms(use_true_random=False))
def test_ranks_are_one_to_n_by_score_and_ties_by_ticker(scores: list[float], random: Any) -> None:
    names = [f"T{row}" for row in range(len(scores))]
    random.shuffle(names)
    found = signals_with_heads(names, [0.5] * len(names), score=scores)
    assert check_signals(found, names).empty
    by_rank = found.sort_values("rank")
    assert by_rank["rank"].tolist() == list(range(1, len(names) + 1))
    wanted = sorted(zip(np.float32(scores).astype(float), names, strict=True), key=lambda pair: (-pair[0], pair[1]))
    assert by_rank["ticker"].tolist() == [name for _, name in wanted]


def test_a_model_of_an_earlier_version_leaves_its_columns_empty_and_that_is_said_once() -> None:
    found = signals_of(["A", "B"], [0.4, 0.6])
    assert found[[*FURTHER_COLUMNS]].isna().all(axis=None)
    assert found["es_95"].notna().all(), "its quantiles of one session say it"
    assert found.dtypes.equals(signals_with_heads(["A", "B"], [0.4, 0.6]).dtypes)
    assert check_signals(found, ["A", "B"]).empty
    assert missing_heads(found).startswith(f"{MODEL} was deployed by an earlier version and answers for the next sess")
    assert missing_heads(signals_with_heads(["A", "B"], [0.4, 0.6])) == ""


@pytest.mark.parametrize(
    ("further", "score"),
    [((2, 5), None), (None, (2,)), ((2, 4), (2,)), ((1, 5), (2,)), ((2, 5), (3,)), ((2, 5), (2, 1)), ((5,), (2,))],
)
def test_further_heads_of_another_shape_are_refused(
    further: tuple[int, ...] | None, score: tuple[int, ...] | None
) -> None:
    answer = replace(
        answer_of(np.array([0.5, 0.5]), np.tile(LEVELS, (2, 1))),
        return_quantiles_5d=None if further is None else np.zeros(further, np.float32),
        excess_return=None if score is None else np.zeros(score, np.float32),
    )
    with pytest.raises(InferenceError, match="was asked for 2 signals, but answered with shapes"):
        make_signals(["A", "B"], answer, as_of=FRIDAY, model=MODEL, version=VERSION)


def test_not_a_number_is_never_taken_for_no_head() -> None:
    spoilt = np.tile(2 * LEVELS, (2, 1))
    spoilt[1, 4] = np.nan
    with pytest.raises(InferenceError, match=f"{MODEL} answers NaN in return_quantiles_5d of B"):
        signals_with_heads(["A", "B"], [0.5, 0.5], further=spoilt)
    with pytest.raises(InferenceError, match=f"{MODEL} answers NaN in excess_return of A, B"):
        signals_with_heads(["A", "B"], [0.5, 0.5], score=[np.nan, np.nan])


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("q01_5d", -np.inf, "q01_5d is not a possible log return"),
        ("q99_5d", 300.0, "q99_5d is not a possible log return"),
        ("q01_5d", 0.0, "has quantiles of five sessions out of order"),
        ("q01_5d", np.nan, "lacks a part of five sessions and ranking"),
        ("es_95_5d", np.nan, "lacks a part of five sessions and ranking"),
        ("target_session_5d", pd.NaT, "lacks a part of five sessions and ranking"),
        ("target_session_5d", MONDAY, "ends five sessions before one"),
        ("var_99_5d", 1.0, "var_99_5d is a loss of all or more"),
        ("expected_low_5d", -1.0, "expected_low_5d is -100 % or less"),
        ("score", np.inf, "score is not finite"),
        ("score", np.nan, "lacks a part of five sessions and ranking"),
        ("score", 9.0, "is not ranked by its score"),
        ("rank", 3, "is not ranked by its score"),
        ("rank", 0, "rank is not a rank"),
        ("rank", pd.NA, "lacks a part of five sessions and ranking"),
        ("es_95", np.nan, "es_95 is missing"),
    ],
)
def test_unsound_further_values_are_told_by_ticker(column: str, value: Any, problem: str) -> None:
    signals = signals_with_heads(["BAD", "GOOD"], [0.5, 0.5], score=[-1.0, 1.0])
    signals.loc[0, column] = value
    failures = check_signals(signals, ["BAD", "GOOD"])
    assert failures.loc[failures["ticker"] == "BAD", "problem"].str.startswith(problem).any(), failures


def test_rows_of_an_earlier_model_among_those_of_a_new_one_are_told() -> None:
    mixed = pd.concat(
        [signals_of(["A"], [0.5]).astype({"rank": "Int64"}), signals_with_heads(["B", "C"], [0.5, 0.5])],
        ignore_index=True,
    )
    failures = check_signals(mixed, ["A", "B", "C"])
    assert failures.to_dict("records") == [{"ticker": "A", "problem": "lacks a part of five sessions and ranking"}]


def test_ranks_are_those_of_the_whole_table_however_it_was_asked() -> None:
    def score(answer: Answer) -> Answer:
        levels = np.asarray(answer.return_quantiles)
        return whole_answer(answer.probability_up, levels, score=-np.abs(answer.probability_up - 0.98), route=MODEL)

    panel = panel_of(7)
    whole = ask(Double(change=score), panel)
    assert sorted(whole["rank"]) == list(range(1, 8))
    assert whole["rank"].tolist() != sorted(whole["rank"]), "not merely the order of the tickers"
    assert check_signals(whole, panel.tickers).empty
    for rows in (1, 3, 7):
        assert_frame_equal(ask(Double(change=score), panel, batch_rows=rows), whole)


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


# --- a real plane ----------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_through_the_gateway_the_model_itself_answers_and_never_the_split(client: InferenceClient) -> None:
    panel = panel_of(5)
    for model, logit in (("baseline-predictor-v1", -1.0), ("enhanced-predictor-v1", 1.0)):
        found = ask_signals(client, panel, model=model, version=1, batch_rows=2)
        np.testing.assert_allclose(found["probability_up"], 1 / (1 + np.exp(-logit)), rtol=1e-5)
        np.testing.assert_allclose(found["q05"], -0.01 * (100 + np.arange(5)), rtol=1e-5)
        np.testing.assert_allclose(found["q05_5d"], 3 * found["q05"], rtol=1e-5)
        np.testing.assert_allclose(found["score"], 0.001 * (100 + np.arange(5)), rtol=1e-5)
        assert found["rank"].tolist() == [5, 4, 3, 2, 1]
        assert set(found["model"]) == {model}
