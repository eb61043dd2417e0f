from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from financial_assets.errors import PriceDataError
from financial_assets.market.frames import PRICE_COLUMNS, empty_prices
from financial_assets.market.quality.values import (
    duplicates,
    impossible_moves,
    missing_keys,
    require_possible,
    row_faults,
)
from financial_assets.market.schemas import PRICE_SCHEMA, QualityResult, check_prices
from financial_assets.market.sources.sample import SAMPLE_TICKERS

MakePrices = Callable[..., pd.DataFrame]
NAMES = ("schema", "duplicates", "ohlc_order", "impossible_values", "completeness", "extreme_moves")


def by_name(prices: pd.DataFrame) -> dict[str, QualityResult]:
    results = {result.name: result for result in check_prices(prices)}
    assert tuple(results) == NAMES
    for result in results.values():
        assert list(result.failures.columns) == [*PRICE_COLUMNS, "problem"]
        assert result.passed == result.failures.empty
        assert result.checked == len(prices)
    return results


def failed(prices: pd.DataFrame) -> set[str]:
    return {name for name, result in by_name(prices).items() if not result.passed}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    column=st.sampled_from([None, *PRICE_COLUMNS]),
    value=st.sampled_from([float("nan"), float("inf"), 0.0, -1.0, 1e-12, 1e8, 1e13, 70.0]),
    row=st.integers(0, 59),
    change=st.sampled_from(["none", "shuffled", "twice", "other index"]),
)
def test_only_what_no_rule_refuses_is_let_by(
    make_prices: MakePrices, column: str | None, value: float, row: int, change: str
) -> None:
    prices = make_prices(("AAA", "BBB", "CCC"), count=20)
    if column in ("date", "ticker"):
        prices.loc[row, column] = None
    elif column is not None:
        prices.loc[row, column] = value
    if change == "shuffled":
        prices = prices.sample(frac=1.0, random_state=row)
    elif change == "twice":
        prices = pd.concat([prices, prices.iloc[[row]]]).sort_values(["ticker", "date"], kind="stable")
    elif change == "other index":
        prices = prices.set_axis(prices.index + 7)
    broken = [rule(prices) for rule in (missing_keys, duplicates, impossible_moves)]
    broken += [prices[mask] for mask, _ in row_faults(prices)]
    if any(map(len, broken)):
        with pytest.raises(PriceDataError, match="not these: "):
            require_possible(prices, "not these")
    else:
        require_possible(prices, "not these")


def test_clean_bars_pass(make_prices: MakePrices) -> None:
    prices = make_prices()
    assert failed(prices) == set()
    assert [result.blocking for result in check_prices(prices)] == [True] * 5 + [False]
    assert isinstance(PRICE_SCHEMA.validate(prices), pd.DataFrame)


def test_real_bars_pass_and_apples_worst_day_only_warns(sample: pd.DataFrame) -> None:
    assert set(sample["ticker"]) == set(SAMPLE_TICKERS)
    assert failed(sample) == {"extreme_moves"}
    warning = by_name(sample)["extreme_moves"]
    assert not warning.blocking
    # The one extreme move is real; the three splits in the raw closes are none.
    assert warning.failures[["date", "ticker"]].to_numpy().tolist() == [[pd.Timestamp("2000-09-29"), "AAPL"]]
    assert warning.failures["problem"].item() == "adj_close moved -51.9 % since the bar before"


def test_an_index_without_volume_is_possible(make_prices: MakePrices) -> None:
    assert failed(make_prices(("^VIX",)).assign(volume=0.0)) == set()


PLANTED = [
    ("close", np.nan, "impossible_values", "close is missing"),
    ("open", np.inf, "impossible_values", "open is infinite"),
    ("low", 0.0, "impossible_values", "low is not positive"),
    ("adj_close", -1.0, "impossible_values", "adj_close is not positive"),
    ("adj_close", 0.0, "impossible_values", "adj_close is not positive"),
    ("high", 1e9, "impossible_values", "high is above 1e+07"),
    ("volume", -1.0, "impossible_values", "volume is negative"),
    ("volume", np.nan, "impossible_values", "volume is missing"),
    ("volume", np.inf, "impossible_values", "volume is infinite"),
    ("volume", 1e15, "impossible_values", "volume is above 1e+12"),
    ("adj_close", 5e3, "impossible_values", "adj_close leaves tenfold and comes back on the next bar"),
    ("adj_close", 100.0, "impossible_values", "close and adj_close disagree on this bar only"),
    ("adj_close", 1e-10, "impossible_values", "adj_close is below 1e-09"),
    ("high", 5e6, "impossible_values", "high is more than 1000 times low"),
    ("high", 1.0, "ohlc_order", "high is below low"),
    ("high", 1.0, "ohlc_order", "high is below open"),
    ("high", 1.0, "ohlc_order", "high is below close"),
    ("low", 500.0, "ohlc_order", "low is above open"),
    ("low", 500.0, "ohlc_order", "low is above close"),
    ("date", pd.Timestamp("2020-01-18"), "completeness", "XNYS does not trade on this day"),
    (
        "date",
        pd.Timestamp("1961-12-29"),
        "completeness",
        "the XNYS calendar begins at 1962-01-02: set INGESTION_START_DATE",
    ),
    (
        "date",
        pd.Timestamp("2199-01-02"),
        "completeness",
        "the XNYS calendar ends a year from now and does not know this day: set INGESTION_END_DATE",
    ),
    ("date", pd.Timestamp("2020-01-17 09:30"), "schema", "date has a time of day"),
    ("date", pd.NaT, "schema", "date is missing"),
    ("ticker", None, "schema", "ticker is missing"),
    ("ticker", "A B", "schema", "ticker is not a ticker"),
]


@pytest.mark.parametrize(("column", "value", "check", "problem"), PLANTED)
def test_each_planted_problem_blocks_and_shows_its_row(
    make_prices: MakePrices, column: str, value: object, check: str, problem: str
) -> None:
    prices = make_prices()
    row = 11
    assert prices.loc[row, "date"] == pd.Timestamp("2020-01-17")
    prices.loc[row, column] = value
    result = by_name(prices)[check]
    assert result.blocking
    shown = result.failures[result.failures["problem"] == problem]
    assert len(shown) == 1
    untouched = [name for name in ("date", "ticker", "close") if name != column]
    assert shown[untouched].iloc[0].tolist() == prices.loc[row, untouched].tolist()


def test_rounding_is_no_violation_but_a_cent_is(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[3, "high"] = prices.loc[3, ["open", "close"]].max() * (1 - 5e-6)
    assert failed(prices) == set()
    prices.loc[3, "high"] = prices.loc[3, ["open", "close"]].max() - 0.01
    assert failed(prices) == {"ohlc_order"}


def test_duplicated_keys_show_every_copy(make_prices: MakePrices) -> None:
    prices = make_prices()
    twice = pd.concat([prices.iloc[:6], prices.iloc[5:]], ignore_index=True)
    assert failed(twice) == {"duplicates"}
    assert by_name(twice)["duplicates"].failures["date"].tolist() == [prices.loc[5, "date"]] * 2


def test_a_missing_session_is_shown_but_only_inside_a_listing(make_prices: MakePrices) -> None:
    prices = make_prices()
    gone = prices.drop(index=[7, 8, 40, 79])  # 40 and 79 are the first and last bar of BBB
    result = by_name(gone)["completeness"]
    assert result.failures["date"].tolist() == prices.loc[[7, 8], "date"].tolist()
    assert set(result.failures["ticker"]) == {"AAA"}
    assert set(result.failures["problem"]) == {"no bar on this XNYS session"}
    assert failed(prices.drop(index=[40, 79])) == set()


@pytest.mark.parametrize("order", [[1, 0, 2], [40, 41, 0]])
def test_rows_out_of_order_block(make_prices: MakePrices, order: list[int]) -> None:
    prices = make_prices().loc[order]
    assert "row is not sorted by ticker and date" in set(by_name(prices)["schema"].failures["problem"])


def test_moves_are_judged_on_the_adjusted_close_of_one_ticker(make_prices: MakePrices) -> None:
    prices = make_prices()
    raw = prices.copy()
    before_split = raw.index < 20
    raw.loc[before_split, ["open", "high", "low", "close"]] *= 2.0
    raw.loc[40:, ["open", "high", "low", "close", "adj_close"]] *= 50.0  # another price level is no move
    assert failed(raw) == set()
    raw.loc[before_split, "adj_close"] *= 2.0
    assert failed(raw) == {"extreme_moves"}


def test_a_thousandfold_move_blocks(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[:20, ["open", "high", "low", "close", "adj_close"]] /= 2000.0
    assert by_name(prices)["impossible_values"].failures["date"].tolist() == [prices.loc[21, "date"]]


def test_what_does_not_come_back_is_no_slip(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[9:39, ["open", "high", "low", "close", "adj_close"]] *= 15.0
    prices.loc[10:39, ["open", "high", "low", "close", "adj_close"]] *= 15.0
    assert failed(prices) == {"extreme_moves"}


def test_a_move_beyond_all_numbers_is_told(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[9, "adj_close"] = 1e308
    assert by_name(prices)["extreme_moves"].failures["problem"][0] == "adj_close moved +inf % since the bar before"


def test_a_slipped_decimal_point_blocks_though_the_bar_is_in_order(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[9, ["open", "high", "low", "close", "adj_close"]] *= 100.0
    assert failed(prices) == {"impossible_values", "extreme_moves"}
    assert by_name(prices)["impossible_values"].failures["date"].tolist() == [prices.loc[9, "date"]]


def test_what_cannot_be_read_is_shown_as_given(make_prices: MakePrices) -> None:
    prices = make_prices().astype({"open": object, "volume": object})
    prices.loc[4, "open"] = "n/a"
    prices.loc[5, "volume"] = [1]
    failures = by_name(prices)["schema"].failures
    assert failures.loc[failures["problem"] == "open cannot be read", "open"].tolist() == ["n/a"]
    assert failures.loc[failures["problem"] == "volume cannot be read", "volume"].tolist() == [[1]]
    assert "column open is object, not float64" in set(failures["problem"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda f: f.drop(columns="adj_close"), "column adj_close is missing"),
        (lambda f: f.astype({"volume": "int64"}), "column volume is int64, not float64"),
        (lambda f: f.assign(date=f["date"].dt.tz_localize("UTC")), "column date is datetime64[ns, UTC], not"),
        (lambda f: f.assign(date=f["date"].astype(str)), "column date is object, not datetime64[ns]"),
        (lambda f: f.iloc[:0], "the frame has no rows"),
        (lambda f: pd.concat([f, f[["close"]]], axis=1), "column close occurs more than once"),
    ],
)
def test_the_form_of_the_frame_is_checked(
    make_prices: MakePrices, change: Callable[[pd.DataFrame], pd.DataFrame], problem: str
) -> None:
    failures = by_name(change(make_prices()))["schema"].failures
    assert any(text.startswith(problem) for text in failures["problem"])


def test_an_empty_frame_has_the_schemas_columns() -> None:
    assert failed(empty_prices()) == {"schema"}
    assert isinstance(PRICE_SCHEMA, pa.DataFrameSchema)
    assert list(PRICE_SCHEMA.columns) == list(PRICE_COLUMNS)
    assert all(column.description for column in PRICE_SCHEMA.columns.values())


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.complex_numbers(),
    st.text(max_size=12),
    st.datetimes(),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_garbage_never_raises_and_never_passes(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from([*PRICE_COLUMNS, "x", "7"]), min_size=0, max_size=10))
    count = data.draw(st.integers(0, 5))
    columns = [data.draw(st.lists(CELLS, min_size=count, max_size=count)) for _ in names]
    frame = pd.DataFrame({at: pd.Series(cells, dtype=object) for at, cells in enumerate(columns)})
    frame.columns = pd.Index(names)
    assert "schema" in failed(frame)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_one_garbage_cell_among_clean_bars_never_raises(make_prices: MakePrices, data: st.DataObject) -> None:
    column = data.draw(st.sampled_from(PRICE_COLUMNS))
    cell = data.draw(CELLS)
    prices = make_prices(count=6).astype({column: object})
    prices.at[2, column] = cell
    assert "schema" in failed(prices)
