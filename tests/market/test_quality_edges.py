"""Faults that adjusted prices hide, copies, absent volume, prices of a few cents, and one leap at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.errors import SettingsError
from financial_assets.market.frames import empty_prices
from financial_assets.market.quality.checks import blocks, results_of
from financial_assets.market.quality.notes import QualityNote, notes_of, still_left_out
from financial_assets.market.quality.overrides import Override, load_overrides
from financial_assets.market.quality.screening import Screening, screen

MakePrices = Callable[..., pd.DataFrame]
OHLC = ["open", "high", "low", "close"]
PRICES = [*OHLC, "adj_close"]
NOW = pd.Timestamp("2025-01-02 12:00", tz="UTC")


def screened(prices: pd.DataFrame) -> Screening:
    return screen(prices, stored=empty_prices(), now=NOW)


def test_closes_in_another_unit_are_found_although_the_adjusted_ones_are_right(make_prices: MakePrices) -> None:
    prices = make_prices(count=120)
    wrong = prices.copy()
    wrong.loc[60:63, OHLC] *= 0.01
    result = screened(wrong)
    assert result.quarantined["date"].tolist() == prices["date"].tolist()[60:64]
    assert "close and adj_close disagree" in result.quarantined["problem"].iloc[0]


def test_the_last_close_in_another_unit_is_doubted(make_prices: MakePrices) -> None:
    wrong = make_prices(count=120)
    wrong.loc[119:119, OHLC] *= 10.0
    note = notes_of(screened(wrong))[0]
    assert (note.ticker, note.outcome) == ("AAA", "suspicious")
    assert "implies a split by 10 that the volume does not show" in note.problem


def test_a_split_that_was_applied_raises_no_doubt(make_prices: MakePrices) -> None:
    prices = make_prices(count=120)
    prices.loc[:59, OHLC] *= 10.0
    prices.loc[:59, "volume"] /= 10.0
    result = screened(prices)
    assert_frame_equal(result.accepted, prices)
    assert result.suspicious.empty


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_a_tenfold_volume_is_doubted_at_both_edges_of_its_span(make_prices: MakePrices, factor: float) -> None:
    wrong = make_prices(count=120)
    wrong.loc[60:79, "volume"] *= factor
    result = screened(wrong)
    assert_frame_equal(result.accepted, wrong)
    assert set(result.suspicious["date"]) == set(wrong["date"].iloc[[59, 60, 79, 80]])
    assert result.suspicious["problem"].str.endswith("another unit?").all()


def test_a_volume_that_trebles_for_good_is_a_market_that_wakes_up(make_prices: MakePrices) -> None:
    prices = make_prices(count=120)
    prices.loc[60:, "volume"] *= 3.0
    assert screened(prices).suspicious.empty


def test_a_negative_dividend_is_doubted_however_small(make_prices: MakePrices) -> None:
    wrong = make_prices(count=120)
    wrong.loc[60:89, "adj_close"] *= 0.97
    result = screened(wrong)
    assert "adj_close is lowered by 3.0 % against the close" in set(result.suspicious["problem"])


def test_bars_that_repeat_those_of_a_month_ago_are_left_out(make_prices: MakePrices) -> None:
    wrong = make_prices(count=200)
    values = [*PRICES, "volume"]
    wrong.loc[60:64, values] = wrong.loc[40:44, values].to_numpy()
    result = screened(wrong)
    assert result.quarantined["date"].tolist() == wrong["date"].tolist()[60:65]
    assert set(result.quarantined["problem"]) == {"is a copy of an earlier bar"}


def test_prices_of_the_bar_before_under_another_volume_are_doubted(make_prices: MakePrices) -> None:
    wrong = make_prices(count=120)
    wrong.loc[60:60, PRICES] = wrong.loc[59:59, PRICES].to_numpy()
    assert screened(wrong).suspicious["problem"].tolist() == ["prices are a copy of the bar before"]


def test_moves_without_volume_are_doubted_but_not_of_an_index(make_prices: MakePrices) -> None:
    wrong = make_prices(count=120)
    wrong.loc[60:69, "volume"] = 0.0
    assert set(screened(wrong).suspicious["problem"]) == {"no volume although the price moves"}
    assert screened(wrong.assign(volume=0.0)).suspicious.empty


def test_a_small_slip_is_doubted(make_prices: MakePrices) -> None:
    wrong = make_prices(count=120)
    wrong.loc[60:60, PRICES] *= 1.3
    first = screened(wrong).suspicious.iloc[0]
    assert first["date"] == wrong["date"][60]
    assert first["problem"].endswith("times those of the bars around")


@pytest.mark.parametrize("factor", [2000.0, 1 / 3700])
def test_one_leap_at_the_end_costs_one_bar_and_not_the_history(make_prices: MakePrices, factor: float) -> None:
    prices = make_prices(count=120)
    wrong = prices.copy()
    wrong.loc[119:119, PRICES] *= factor
    result = screened(wrong)
    assert not result.waiting
    assert_frame_equal(result.accepted, prices.drop(index=119).reset_index(drop=True))


def test_a_share_at_two_cents_may_halve_with_one_tick(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA",), count=120)
    prices[PRICES] = 0.02
    prices.loc[60:60, PRICES] = 0.01
    prices.loc[80:82, PRICES] = 0.03
    prices["volume"] = np.arange(1e6, 1e6 + 120)
    result = screened(prices)
    assert result.quarantined.empty
    assert_frame_equal(result.accepted, prices)


def test_a_note_of_rows_of_one_day_names_the_day_once(make_prices: MakePrices) -> None:
    prices = make_prices(count=40)
    wrong = pd.concat([prices, prices.iloc[[20, 20]]], ignore_index=True)
    (note,) = notes_of(screened(wrong))
    assert note.span == f"{prices['date'][20]:%Y-%m-%d}"


def override(**changes: object) -> Override:
    entry = {"ticker": "AAA", "from": "2020-03-30", "to": "2020-03-30", "action": "accept", "reason": "seen"}
    return Override.model_validate(entry | changes)


@pytest.mark.parametrize("action", ["accept", "drop"])
def test_strict_follows_an_override(make_prices: MakePrices, action: str) -> None:
    wrong = make_prices(count=120)
    wrong.loc[wrong["date"].eq("2020-03-30") & wrong["ticker"].eq("AAA"), PRICES] *= 20.0
    for overrides, is_blocked in (((), True), ((override(action=action),), False)):
        result = screen(wrong, stored=empty_prices(), now=NOW, policy="strict", overrides=overrides)
        assert blocks(results_of(result, empty_prices())) == is_blocked


def test_strict_accepts_no_negative_price(make_prices: MakePrices) -> None:
    wrong = make_prices(count=120)
    wrong.loc[wrong["date"].eq("2020-03-30"), "low"] = -1.0
    result = screen(wrong, stored=empty_prices(), now=NOW, policy="strict", overrides=(override(),))
    assert blocks(results_of(result, empty_prices()))


def test_a_dropped_bar_is_not_a_missing_session(make_prices: MakePrices) -> None:
    result = screen(make_prices(count=120), stored=empty_prices(), now=NOW, overrides=(override(action="drop"),))
    assert result.suspicious.empty


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("- {ticker: AAA, from: 2018-02-30, to: 2018-03-01, action: drop, reason: x}", "day is out of range"),
        ("a: b", "is not a list of entries"),
        ("- {ticker: AAA, from: 2018-02-01, to: 2018-02-01, action: repair, set: {high: .inf}, reason: x}", "entry 1"),
    ],
)
def test_a_file_of_overrides_that_cannot_be_used_is_a_setting_error(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=named):
        load_overrides(path)


def test_a_bar_left_out_stays_so_when_a_live_source_no_longer_delivers_it() -> None:
    old = QualityNote("AAA", "left out", "prices are about 3 times", ("2020-03-30", "2020-06-01"), 2)
    doubt = QualityNote("AAA", "suspicious", "volume repeats", ("2020-03-27",), 1)
    begins = {old.ticker: pd.Timestamp("2020-05-01")}
    (kept,) = still_left_out((old, doubt), begins, ())
    assert kept == QualityNote("AAA", "left out", "prices are about 3 times", ("2020-03-30",), 1)
    assert still_left_out((old,), begins, (override(),)) == ()
    assert still_left_out((old,), {"ZZZ": pd.Timestamp("2020-05-01")}, ()) == (old,), "nothing of it was judged again"
