"""Shortcuts over many rows give what pandas gives row by row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.market.frames import (
    VALUE_COLUMNS,
    has_repeats,
    hash_prices,
    in_order,
    of_tickers,
    places_before,
    places_in,
    sort_prices,
    ticker_codes,
)
from financial_assets.market.quality.bars import Bars
from financial_assets.market.quality.shapes import mark_copies

MakePrices = Callable[..., pd.DataFrame]
NAMES = ["AAA", "BBB", "CCC", None, float("nan"), pd.NA]


def drawn(seed: int, rows: int, names: int, run: int) -> pd.Series:
    """Names in runs of about ``run`` rows, equal ones as different objects."""
    rng = np.random.default_rng(seed)
    places = np.repeat(rng.integers(0, names, rows), rng.integers(1, run + 1, rows))[:rows]
    values = [name if not isinstance(name, str) else "".join(list(name)) for name in (NAMES[at] for at in places)]
    return pd.Series(values, dtype=object)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.sampled_from([0, 1, 7, 1500, 4000]),
    names=st.integers(1, len(NAMES)),
    run=st.sampled_from([1, 3, 400]),
    sort=st.booleans(),
)
def test_tickers_are_looked_up_as_pandas_does(seed: int, rows: int, names: int, run: int, *, sort: bool) -> None:
    tickers = drawn(seed, rows, names, run)
    (codes, found), (expected, known) = ticker_codes(tickers, sort=sort), pd.factorize(tickers, sort=sort)
    assert codes.tolist() == expected.tolist()
    assert list(found) == list(known)
    frame = pd.DataFrame({"ticker": tickers})
    assert of_tickers(frame, ["BBB", "CCC"]).tolist() == tickers.isin(["BBB", "CCC"]).tolist()


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        [f"T{number}" for number in range(100, 140)],
        [f"T{number}" for number in range(140, 100, -1)],
        ["A", "B", "B ", "AA"],
        ["A", "B", None],
        ["A", "B", float("nan")],
        [None, "A", "B"],
        [1, 2, 3],
        ["A"],
    ],
)
def test_names_in_order_and_others_are_numbered_as_pandas_does(names: list[object], *, sort: bool) -> None:
    tickers = pd.Series(np.repeat(np.array(names, dtype=object), 1200 // len(names)), dtype=object)
    (codes, found), (expected, known) = ticker_codes(tickers, sort=sort), pd.factorize(tickers, sort=sort)
    assert codes.tolist() == expected.tolist()
    assert list(found) == list(known)
    assert found.dtype == known.dtype


@pytest.mark.parametrize("is_missing", [True, False])
def test_a_few_days_are_found_among_many(*, is_missing: bool) -> None:
    days = pd.bdate_range("2020-01-01", periods=50).repeat(3)
    frame = pd.DataFrame({"date": days, "ticker": ["B", "A", "C"] * 50}).sample(frac=1.0, random_state=0)
    frame["date"] = frame["date"].where(frame.index != 7)
    keys = pd.DataFrame({"date": frame["date"].iloc[[4, 90, 30]], "ticker": frame["ticker"].iloc[[4, 90, 30]]})
    keys = pd.concat([keys[keys["date"] >= keys["date"].max()], keys.head(1).assign(ticker="D")])
    if is_missing:
        keys = pd.concat([keys, frame[frame.index == 7]])
    places = places_in(frame, keys)
    assert places.tolist()[1] == -1
    assert (places[[0, *range(2, len(keys))]] >= 0).all()
    for place, (_, key) in zip(places[places >= 0], keys[places >= 0].iterrows(), strict=True):
        assert frame.iloc[place]["ticker"] == key["ticker"]
        assert frame.iloc[[place]]["date"].equals(pd.Series([key["date"]], [frame.index[place]], name="date"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.sampled_from([0, 1, 60, 3000]), sort=st.booleans())
def test_keys_are_found_as_pandas_does(seed: int, rows: int, *, sort: bool) -> None:
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2010-01-04", periods=1200)

    def keys(names: int) -> pd.DataFrame:
        chosen = rng.choice(names * len(days), size=rows, replace=False)
        frame = pd.DataFrame(
            {"date": days[chosen % len(days)], "ticker": np.array(list("ABCDEF"))[chosen // len(days)]}
        )
        frame["ticker"] = frame["ticker"].astype(object)
        return frame.sort_values(["ticker", "date"], ignore_index=True) if sort else frame

    held, wanted = keys(5), keys(6)
    places = places_in(held, wanted)
    both = wanted.merge(held.assign(place=np.arange(len(held))), on=["ticker", "date"], how="left")
    assert places.tolist() == both["place"].fillna(-1).astype(int).tolist()
    assert not has_repeats(held)
    assert has_repeats(pd.concat([held, held.tail(1)])) == bool(len(held))
    codes = ticker_codes(held["ticker"], sort=True)[0]
    assert in_order(codes, held["date"].to_numpy()) == held.equals(held.sort_values(["ticker", "date"]))


def test_a_copy_of_an_earlier_bar_is_found_among_many(make_prices: MakePrices) -> None:
    prices = make_prices(tuple(f"T{row:02d}" for row in range(40)), count=60)
    copied = [(130, 170), (800, 801), (2399, 2341)]
    for to, origin in copied:
        prices.loc[to, list(VALUE_COLUMNS)] = prices.loc[origin, list(VALUE_COLUMNS)].to_numpy()
    prices.loc[300, list(VALUE_COLUMNS)] = prices.loc[10, list(VALUE_COLUMNS)].to_numpy()  # of another ticker
    marks = [mark for mark in mark_copies(Bars.of(prices)) if mark.severity == "impossible"]
    assert sorted(np.concatenate([mark.rows for mark in marks]).tolist()) == [170, 801, 2399]


def test_a_sorted_frame_is_copied_unless_told_otherwise(make_prices: MakePrices) -> None:
    prices = make_prices()
    shared, copied = sort_prices(prices, copy=False), sort_prices(prices)
    prices.loc[0, "close"] = 1.0
    assert (shared["close"][0], copied["close"][0] == 1.0) == (1.0, False)
    assert sort_prices(prices[::-1]).equals(prices)


@pytest.mark.parametrize("rows", [1, 16_384, 16_385, 40_000])
def test_the_hash_does_not_depend_on_blocks(rows: int) -> None:
    rng = np.random.default_rng(rows)
    dates = pd.bdate_range("1990-01-01", periods=8000)
    frame = pd.DataFrame({"date": np.resize(dates, rows), "ticker": np.resize(np.array(["A", "B", "C"], object), rows)})
    frame = frame.assign(**{name: rng.random(rows) for name in VALUE_COLUMNS})
    halves = [hash_prices(frame[:1]), hash_prices(frame[1:])]
    lanes = [sum(int(half[at : at + 16], 16) for half in halves) % 2**64 for at in (0, 16)]
    assert hash_prices(frame) == "".join(f"{lane:016x}" for lane in lanes)


@pytest.mark.parametrize("is_sorted", [True, False])
def test_the_bar_before_is_found(make_prices: MakePrices, is_sorted: bool) -> None:
    prices = make_prices(("AAA", "BBB", "CCC"), count=20)
    held = prices.drop(index=[3, 4, 20]).query("ticker != 'CCC'")
    held = held if is_sorted else held.sample(frac=1.0, random_state=2)
    found = places_before(held, prices)
    for place, (day, ticker) in zip(found, prices[["date", "ticker"]].itertuples(index=False), strict=True):
        earlier = held[(held["ticker"] == ticker) & (held["date"] < day)]
        expected = None if earlier.empty else earlier["date"].max()
        assert (None if place < 0 else held["date"].iloc[place]) == expected
        assert place < 0 or held["ticker"].iloc[place] == ticker
    assert (places_before(held.iloc[:0], prices) == -1).all()
    assert not len(places_before(held, prices.iloc[:0]))
