"""The screening: what cannot be true is left out, what is doubtful is kept and named, what is true passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from financial_assets.market.frames import empty_prices
from financial_assets.market.panel import build_panel
from financial_assets.market.quality import sieve
from financial_assets.market.quality.overrides import Override
from financial_assets.market.quality.screening import Screening, screen

MakePrices = Callable[..., pd.DataFrame]
OHLC = ["open", "high", "low", "close"]
PRICES = [*OHLC, "adj_close"]
NOW = pd.Timestamp("2025-01-02 12:00", tz="UTC")


def screened(prices: pd.DataFrame, stored: pd.DataFrame | None = None, **more: Any) -> Screening:
    return screen(prices, stored=empty_prices() if stored is None else stored, **{"now": NOW, **more})


def with_factor(prices: pd.DataFrame, rows: slice, factor: float, columns: list[str] = PRICES) -> pd.DataFrame:
    wrong = prices.copy()
    wrong.loc[rows, columns] *= factor
    return wrong


def override(**changes: Any) -> Override:
    entry = {"ticker": "AAA", "from": "2020-01-17", "to": "2020-01-17", "action": "accept", "reason": "seen"}
    return Override.model_validate(entry | changes)


def test_sound_bars_pass_unchanged(make_prices: MakePrices) -> None:
    prices = make_prices(count=120)
    result = screened(prices)
    assert_frame_equal(result.accepted, prices)
    assert not len(result.quarantined) + len(result.suspicious) + len(result.repaired)
    assert not result.waiting


def test_the_real_bars_raise_two_doubts_apples_worst_day_and_a_copied_one(sample: pd.DataFrame) -> None:
    result = screened(sample)
    assert_frame_equal(result.accepted, sample)
    assert result.suspicious[["ticker", "problem"]].to_numpy().tolist() == [
        ["AAPL", "adj_close moved -51.9 % since the bar before"],
        ["AAPL", "prices are a copy of the bar before"],
    ]


@settings(deadline=None)
@given(
    factor=st.sampled_from([10.0, 0.1, 100.0, 0.01, 1000.0, 7.3, 3.0]),
    first=st.integers(1, 60),
    length=st.integers(1, 50),
    seed=st.integers(0, 5),
)
def test_a_block_at_another_level_is_left_out_row_by_row_whatever_the_days_return(
    make_prices: MakePrices, factor: float, first: int, length: int, seed: int
) -> None:
    prices = make_prices(count=120, seed=seed)
    wrong = with_factor(prices, slice(first, first + length - 1), factor)
    result = screened(wrong)
    assert result.quarantined["date"].tolist() == prices.loc[first : first + length - 1, "date"].tolist()
    assert set(result.quarantined["ticker"]) == {"AAA"}
    assert set(result.accepted["ticker"]) == ({"AAA", "BBB"} if length <= 6 else {"BBB"})


@pytest.mark.parametrize("factor", [10.0, 0.01])
def test_the_newest_bars_in_another_unit_are_left_out(make_prices: MakePrices, factor: float) -> None:
    prices = make_prices(("AAA",), count=120)
    result = screened(with_factor(prices, slice(117, None), factor))
    assert result.quarantined["date"].tolist() == prices["date"].tolist()[117:]
    assert "another unit" in result.quarantined["problem"].iloc[0]


@pytest.mark.parametrize(("ratio", "name"), [(4.0, "4:1"), (2.0, "2:1"), (10.0, "10:1"), (0.2, "1:5")])
def test_an_unapplied_split_is_named_and_the_ticker_waits(make_prices: MakePrices, ratio: float, name: str) -> None:
    prices = make_prices(count=120)
    raw = with_factor(with_factor(prices, slice(0, 49), ratio), slice(0, 49), 1.0 / ratio, ["volume"])
    result = screened(raw)
    day = prices["date"][50]
    assert set(result.quarantined["problem"]) == {f"looks like an unapplied {name} split on {day:%Y-%m-%d}"}
    assert list(result.waiting) == ["AAA"]
    assert result.first_clean["AAA"] == day
    assert_frame_equal(result.accepted, prices[120:].reset_index(drop=True))


@pytest.mark.parametrize(("ratio", "name"), [(1.25, "5:4"), (1.2, "6:5"), (1.5, "3:2")])
def test_a_small_split_is_a_doubt(make_prices: MakePrices, ratio: float, name: str) -> None:
    prices = make_prices(count=120, seed=3)
    raw = with_factor(with_factor(prices, slice(0, 49), ratio), slice(0, 49), 1.0 / ratio, ["volume"])
    result = screened(raw)
    assert_frame_equal(result.accepted, raw)
    assert f"unapplied {name} split on {prices['date'][50]:%Y-%m-%d}" in result.suspicious["problem"].iloc[0]


@pytest.mark.parametrize("factor", [3.9, 2.6, 0.45])
def test_a_squeeze_or_a_crash_that_stays_is_possible(make_prices: MakePrices, factor: float) -> None:
    prices = with_factor(make_prices(count=120), slice(100, 119), factor)
    result = screened(prices)
    assert_frame_equal(result.accepted, prices)
    assert set(result.suspicious["ticker"]) == {"AAA"}


def test_a_wild_month_is_possible(make_prices: MakePrices) -> None:
    """GameStop in January 2021: +135 %, -44 %, +68 %, -31 %, -60 %, with ranges and volumes to match."""
    prices = make_prices(count=120)
    level = np.cumprod([1.0, 1.93, 2.35, 0.56, 1.68, 0.69, 0.40])
    for at, factor in enumerate(level):
        last = 119 if at == len(level) - 1 else 60 + at
        prices.loc[60 + at : last, PRICES] *= factor
        prices.loc[60 + at, "high"] *= 1.35
        prices.loc[60 + at, "low"] *= 0.72
        prices.loc[60 + at, "volume"] *= 20.0
    assert_frame_equal(screened(prices).accepted, prices)


def test_a_delisted_tail_is_kept_but_not_traded(make_prices: MakePrices) -> None:
    prices = make_prices(count=120)
    for name in (*OHLC, "adj_close"):
        prices.loc[100:119, name] = prices.loc[99, "adj_close" if name == "adj_close" else "close"]
    prices.loc[100:119, "volume"] = 0.0
    result = screened(prices)
    assert_frame_equal(result.accepted, prices)
    assert set(result.suspicious["problem"]) == {"no volume at an unchanged close: not traded"}
    panel = build_panel(result.accepted)
    assert panel.valid[0].tolist() == [True] * 100 + [False] * 20
    assert panel.valid[1].all()
    assert panel.windows(panel.sessions[-1], 50)[0] == ("BBB",)
    # Nothing later decides whether a session was traded.
    part = build_panel(prices[prices["date"] <= prices["date"][104]])
    assert (part.valid == panel.until(prices["date"][104]).valid).all()


def test_an_index_without_volume_is_traded(make_prices: MakePrices) -> None:
    prices = make_prices(("^VIX",)).assign(volume=0.0)
    prices.loc[20, OHLC] = prices.loc[19, "close"]
    prices.loc[20, "adj_close"] = prices.loc[19, "adj_close"]
    assert build_panel(prices).valid.all()


def test_a_cent_is_repaired_and_counted(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[3, "high"] = prices.loc[3, ["open", "close"]].max() - 0.01
    prices.loc[4, "low"] = prices.loc[4, ["open", "close"]].min() + 0.009
    result = screened(prices)
    assert result.repaired["date"].tolist() == prices.loc[[3, 4], "date"].tolist()
    assert result.accepted.loc[3, "high"] == prices.loc[3, ["open", "close"]].max()
    assert result.accepted.loc[4, "low"] == prices.loc[4, ["open", "close"]].min()
    assert len(result.accepted) == len(prices)
    prices.loc[3, "high"] -= 2.0
    assert screened(prices).quarantined["rule"].tolist() == ["ohlc_order"]


def test_a_row_with_three_faults_is_one_row(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[3, ["open", "low"]] = 0.0
    prices.loc[3, "volume"] = -1.0
    result = screened(prices)
    assert len(result.quarantined) == 1
    assert result.quarantined["problem"].item() == "open is not positive"
    assert len(result.accepted) == len(prices) - 1


def test_too_many_bad_rows_make_a_ticker_wait_and_name_the_first_clean_day(make_prices: MakePrices) -> None:
    prices = make_prices(count=120)
    prices.loc[:20, "open"] = 0.0
    result = screened(prices)
    assert dict(result.waiting) == {"AAA": "21 of 120 rows cannot be used"}
    assert result.first_clean["AAA"] == prices["date"][21]
    assert set(result.accepted["ticker"]) == {"BBB"}


@pytest.mark.parametrize(
    ("column", "factor", "severity"),
    [
        ("high", 10.0, "quarantined"),
        ("low", 0.1, "quarantined"),
        ("high", 1.4, "suspicious"),
        ("volume", 300.0, "suspicious"),
    ],
)
def test_a_value_far_from_its_neighbours(make_prices: MakePrices, column: str, factor: float, severity: str) -> None:
    prices = make_prices(count=120)
    prices.loc[60, column] *= factor
    result = screened(prices)
    table = getattr(result, severity)
    assert (prices["date"][60], "AAA") in list(zip(table["date"], table["ticker"], strict=True))


@pytest.mark.parametrize("by", [1, -1])
def test_closes_of_another_session_are_left_out(make_prices: MakePrices, by: int) -> None:
    prices = make_prices(count=120)
    wrong = prices.copy()
    wrong.loc[30:90, ["close", "adj_close"]] = prices.loc[30 + by : 90 + by, ["close", "adj_close"]].to_numpy()
    result = screened(wrong)
    assert "AAA" in result.waiting
    assert {"close looks like that of the session after", "close looks like that of the session before"} & set(
        result.quarantined["problem"]
    )


def test_a_false_dividend_is_a_doubt_and_a_true_one_is_not(make_prices: MakePrices) -> None:
    false = with_factor(make_prices(count=120), slice(0, 59), 0.8, ["adj_close"])
    assert "implies a distribution of 20 %" in screened(false).suspicious["problem"].iloc[0]
    # On a true ex-date the close falls by what the adjustment adds.
    true = with_factor(make_prices(count=120), slice(60, 119), 0.8, OHLC)
    assert screened(true).suspicious.empty


def test_bars_of_the_future_and_of_a_session_under_way_are_left_out(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA",))
    day = prices["date"][38]
    during = pd.Timestamp(f"{day:%Y-%m-%d} 16:00", tz="UTC")
    result = screened(prices, now=during)
    assert result.accepted["date"].max() == prices["date"][37]
    assert [problem.split(" (")[0] for problem in result.quarantined["problem"]] == [
        "the session was not over when it was fetched",
        "the day lies in the future",
    ]


def test_rows_in_any_order_and_copies_are_put_right_and_counted(make_prices: MakePrices) -> None:
    prices = make_prices()
    shuffled = pd.concat([prices, prices.iloc[[5]]]).sample(frac=1.0, random_state=0)
    result = screened(shuffled)
    assert_frame_equal(result.accepted, prices)
    assert set(result.repaired["rule"]) == {"duplicates", "schema"}
    conflicting = pd.concat([prices, prices.iloc[[5]].assign(volume=1.0)])
    assert screened(conflicting).quarantined["rule"].tolist() == ["duplicates"] * 2


def test_stored_bars_are_the_neighbours_of_new_ones(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA",), count=120)
    stored, new = (
        prices[:110].reset_index(drop=True),
        with_factor(prices[105:].reset_index(drop=True), slice(14, 14), 10.0),
    )
    result = screened(new, stored)
    assert result.quarantined["date"].tolist() == [prices["date"][119]]
    assert not result.waiting


def test_a_restated_history_is_no_unapplied_split(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA",), count=120)
    restated = with_factor(with_factor(prices, slice(None), 0.25), slice(None), 4.0, ["volume"])[105:]
    result = screened(restated, prices[:110].reset_index(drop=True))
    assert result.quarantined.empty
    assert len(result.accepted) == 15


def test_missing_sessions_are_named_until_they_are_acknowledged(make_prices: MakePrices) -> None:
    prices = make_prices()
    gone = prices.drop(index=[11, 12])
    assert screened(gone).suspicious["date"].tolist() == prices.loc[[11, 12], "date"].tolist()
    assert len(screened(gone).accepted) == len(gone)
    result = screened(gone, overrides=[override(to="2020-01-21", reason="halted")])
    assert result.suspicious.empty


def test_overrides_accept_drop_and_repair(make_prices: MakePrices) -> None:
    prices = make_prices(count=120)
    assert prices["date"][11] == pd.Timestamp("2020-01-17")
    wrong = with_factor(prices, slice(11, 11), 10.0)
    assert len(screened(wrong).quarantined) == 1
    accepted = screened(wrong, overrides=[override()])
    assert_frame_equal(accepted.accepted, wrong)
    dropped = screened(wrong, overrides=[override(action="drop")])
    assert dropped.quarantined.empty
    assert len(dropped.accepted) == len(prices) - 1
    repaired = screened(wrong, overrides=[override(action="repair", price_factor=0.1)])
    assert_frame_equal(repaired.accepted, prices)
    assert repaired.repaired["problem"].tolist() == ["repaired by QUALITY_OVERRIDES: seen"]
    assert repaired.overridden[0][1] == 1


def test_an_override_cannot_accept_what_no_panel_can_hold(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[11, "close"] = -1.0
    assert len(screened(prices, overrides=[override()]).quarantined) == 1


CELLS = st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1e-12, 1e9, 1e308])


@settings(deadline=None)
@given(st.data())
def test_whatever_is_planted_what_is_accepted_makes_a_panel(make_prices: MakePrices, data: st.DataObject) -> None:
    prices = make_prices(count=60)
    for _ in range(data.draw(st.integers(1, 8))):
        row = data.draw(st.integers(0, len(prices) - 1))
        column = data.draw(st.sampled_from([*PRICES, "volume"]))
        prices.loc[row, column] = data.draw(CELLS)
    result = screened(prices)
    assert len(result.accepted) + len(result.quarantined) >= len(prices) - 60 * len(result.waiting)
    if len(result.accepted):
        panel = build_panel(result.accepted)
        assert np.isfinite(panel.values[panel.valid[:, None, :].repeat(7, axis=1)]).all()


@pytest.mark.parametrize("together", [1, 150, 400])
@pytest.mark.parametrize("policy", ["quarantine", "strict"])
def test_tickers_are_judged_a_few_at_a_time(
    make_prices: MakePrices, monkeypatch: pytest.MonkeyPatch, together: int, policy: str
) -> None:
    prices = make_prices(tuple(f"T{row}" for row in range(7)), count=100)
    at = prices.groupby("ticker").cumcount()
    stored, delivered = prices[(at < 90) & (prices["ticker"] != "T4")].copy(), prices[at >= 80].copy()
    # A stored slip that shows now, a delivered one, a restated history, a copied bar, and an extreme move.
    stored.loc[(stored["ticker"] == "T1") & (at == 60), PRICES] *= 10.0
    delivered.loc[(delivered["ticker"] == "T2") & (at == 95), PRICES] *= 0.1
    stored.loc[stored["ticker"] == "T3", PRICES] *= 2.0
    rows = (delivered["ticker"] == "T5") & at.isin([92, 93])
    delivered.loc[rows, [*PRICES, "volume"]] = delivered.loc[rows, [*PRICES, "volume"]].iloc[[0, 0]].to_numpy()
    delivered.loc[(delivered["ticker"] == "T6") & (at >= 96), PRICES] *= 1.7
    delivered, stored = delivered.reset_index(drop=True), stored.sample(frac=1.0, random_state=0)
    whole = screened(delivered, stored, policy=policy)
    assert {*whole.quarantined["ticker"]} >= {"T2", "T5"}
    assert ("T1" in {*whole.quarantined["ticker"]}) == (policy == "quarantine")
    monkeypatch.setattr(sieve, "_TOGETHER", together)
    parts = screened(delivered, stored, policy=policy)
    for name in ("accepted", "quarantined", "suspicious", "repaired"):
        assert_frame_equal(getattr(parts, name), getattr(whole, name))
    assert (parts.waiting, parts.first_clean) == (whole.waiting, whole.first_clean)


def test_stored_bars_between_delivered_ones_are_in_their_places(make_prices: MakePrices) -> None:
    prices = with_factor(make_prices(("AAA", "BBB", "CCC"), count=90), slice(120, 121), 10.0)
    prices.loc[230:269, PRICES] *= 1.7
    prices.loc[62, "high"] *= 2.0
    is_stored = prices.index.isin(np.random.default_rng(0).permutation(len(prices))[:200])
    whole, parts = screened(prices), screened(prices[~is_stored].reset_index(drop=True), prices[is_stored])
    keys = ["date", "ticker", "rule", "problem"]
    assert len(whole.quarantined) == 3
    assert len(whole.suspicious)
    for name in ("quarantined", "suspicious"):
        assert_frame_equal(getattr(parts, name)[keys], getattr(whole, name)[keys])
