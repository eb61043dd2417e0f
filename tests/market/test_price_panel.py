from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import MarketDataError, PriceDataError
from financial_assets.market import calendar
from financial_assets.market.frames import PRICE_COLUMNS
from financial_assets.market.panel import CHANNELS, PricePanel, build_panel

MakePrices = Callable[..., pd.DataFrame]
OHLC = ["open", "high", "low", "close"]
OPEN, HIGH, LOW, CLOSE, VOLUME, MARKET, DAY = range(7)


def same(one: PricePanel, other: PricePanel) -> bool:
    return one.content_hash() == other.content_hash()


def test_layout(make_prices: MakePrices) -> None:
    prices = make_prices()
    panel = build_panel(prices)
    assert CHANNELS == ("open", "high", "low", "close", "volume", "market", "day")
    assert panel.tickers == ("AAA", "BBB")
    assert panel.values.shape == (2, 7, 40)
    assert panel.values.dtype == np.float32
    assert panel.values.flags.c_contiguous
    assert panel.valid.all()
    assert panel.sessions.equals(pd.DatetimeIndex(prices["date"][:40]))
    row = prices.iloc[45]
    factor = row["adj_close"] / row["close"]
    assert panel.values[1, :5, 5] == pytest.approx([*(row[OHLC] * factor), row["volume"] / factor], rel=1e-6)
    assert panel.values[:, DAY, 0].tolist() == [18263.0, 18263.0]  # 2020-01-02


def test_row_order_and_index_do_not_matter(make_prices: MakePrices) -> None:
    prices = make_prices()
    assert same(build_panel(prices), build_panel(prices.sample(frac=1.0, random_state=1)))


@settings(max_examples=40, deadline=None)
@given(ratio=st.floats(0.02, 50.0), at=st.integers(1, 39), dividend=st.floats(0.0, 0.2))
def test_raw_and_split_adjusted_prices_give_the_same_panel(
    make_prices: MakePrices, ratio: float, at: int, dividend: float
) -> None:
    adjusted = make_prices()
    before = (adjusted["ticker"] == "AAA") & (adjusted["date"] < adjusted["date"][at])
    adjusted.loc[before, "adj_close"] *= 1.0 - dividend
    raw = adjusted.copy()
    raw.loc[before, OHLC] *= ratio
    raw.loc[before, "volume"] /= ratio
    one, other = build_panel(adjusted), build_panel(raw)
    np.testing.assert_allclose(one.values, other.values, rtol=3e-7)
    assert np.array_equal(one.valid, other.valid)


def test_a_later_split_only_scales_the_panel(make_prices: MakePrices) -> None:
    before = make_prices()
    after = before.copy()
    after[[*OHLC, "adj_close"]] /= 4.0
    after["volume"] *= 4.0
    one, other = build_panel(before), build_panel(after)
    np.testing.assert_allclose(one.values[:, :4], 4.0 * other.values[:, :4], rtol=3e-7)
    np.testing.assert_allclose(one.values[:, VOLUME], other.values[:, VOLUME] / 4.0, rtol=3e-7)
    np.testing.assert_allclose(one.values[:, MARKET:], other.values[:, MARKET:], rtol=3e-7)


def test_the_samples_raw_prices_equal_their_split_adjusted_ones(sample: pd.DataFrame) -> None:
    adjusted = sample.copy()
    for ticker, ex_date in (("AAPL", "2000-06-21"), ("MSFT", "2003-02-18"), ("AAPL", "2005-02-28")):
        before = (adjusted["ticker"] == ticker) & (adjusted["date"] < ex_date)
        adjusted.loc[before, OHLC] /= 2.0
        adjusted.loc[before, "volume"] *= 2.0
    np.testing.assert_allclose(build_panel(sample).values, build_panel(adjusted).values, rtol=3e-7)


def test_before_a_listing_there_is_nothing(make_prices: MakePrices) -> None:
    prices = make_prices().drop(index=range(40, 52))
    panel = build_panel(prices)
    assert np.isnan(panel.values[1, :MARKET, :12]).all()
    assert np.isfinite(panel.values[1, :, 12:]).all()
    assert np.isfinite(panel.values[:, MARKET:]).all()
    assert not panel.valid[1, :12].any()
    assert panel.listed_bars()[1].tolist() == [0] * 12 + list(range(1, 29))
    assert panel.listed_bars().dtype == np.int32


@pytest.mark.parametrize("covariates", [(), ("rate",)])
@pytest.mark.parametrize("sessions", [1, 3, 40])
@pytest.mark.parametrize("lookback", [1, 5, 28, 29, 40, 60])
def test_enough_bars_are_those_that_are_counted(
    make_prices: MakePrices, lookback: int, sessions: int, covariates: tuple[str, ...]
) -> None:
    panel = build_panel(make_prices().drop(index=range(40, 52)))
    if covariates:
        rate = np.ones((2, 1, 40), dtype=np.float32)
        rate[0, 0, [7, 33]] = np.nan
        values = np.concatenate([panel.values, rate], axis=1)
        panel = dataclasses.replace(panel, values=values, covariates=covariates)
    counted = panel.listed_bars()[:, -sessions:] >= lookback
    assert np.array_equal(panel.has_bars(lookback, sessions), counted)


def test_a_gap_is_carried_forward_and_never_back(make_prices: MakePrices) -> None:
    prices = make_prices()
    panel = build_panel(prices.drop(index=[10, 11, 39]))
    last = panel.values[0, CLOSE, 9]
    for session in (10, 11):
        assert panel.values[0, :MARKET, session].tolist() == [last, last, last, last, 0.0]
    assert panel.values[0, CLOSE, 39] == panel.values[0, CLOSE, 38]
    assert np.flatnonzero(~panel.valid[0]).tolist() == [10, 11, 39]
    assert panel.listed_bars()[0].tolist() == list(range(1, 41))


@settings(max_examples=40, deadline=None)
@given(
    gone=st.sets(st.integers(0, 119), max_size=100),
    end=st.integers(0, 39),
)
def test_the_future_changes_nothing(make_prices: MakePrices, gone: set[int], end: int) -> None:
    prices = make_prices(("AAA", "BBB", "^VIX")).drop(index=sorted(gone))
    if prices.empty:
        return
    panel = build_panel(prices)
    session = panel.sessions[min(end, len(panel.sessions) - 1)]
    known = build_panel(prices[prices["date"] <= session])
    seen = panel.until(session)
    rows = [seen.tickers.index(ticker) for ticker in known.tickers]
    columns = seen.sessions.get_indexer(known.sessions)
    assert np.array_equal(seen.values[np.ix_(rows, range(7), columns)], known.values, equal_nan=True)
    assert np.array_equal(seen.valid[np.ix_(rows, columns)], known.valid)


def test_the_market_is_the_mean_return_of_what_traded(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA", "BBB", "CCC")).drop(index=[*range(40, 50), 5, 85])
    panel = build_panel(prices)
    level = panel.values[0, MARKET].astype(float)
    assert (panel.values[:, MARKET] == panel.values[0, MARKET]).all()
    close = panel.values[:, CLOSE].astype(float)
    simple = close[:, 1:] / close[:, :-1] - 1.0
    growth = level[1:] / level[:-1] - 1.0
    assert growth[2] == pytest.approx(simple[[0, 2], 2].mean(), abs=1e-6)  # BBB is not listed yet
    assert growth[9] == pytest.approx(simple[[0, 2], 9].mean(), abs=1e-6)  # its first bar has no return
    assert growth[10] == pytest.approx(simple[:, 10].mean(), abs=1e-6)
    assert growth[4] == pytest.approx(0.0, abs=1e-9)  # nobody traded
    assert growth[5] == pytest.approx((close[[0, 2], 6] / close[[0, 2], 4] - 1.0).mean(), abs=1e-6)


def test_an_index_is_no_part_of_the_market(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA", "^VIX"))
    assert np.array_equal(
        build_panel(prices).values[0, MARKET], build_panel(prices[prices["ticker"] == "AAA"]).values[0, MARKET]
    )
    alone = build_panel(prices[prices["ticker"] == "^VIX"])
    assert alone.values[0, MARKET, -1] / alone.values[0, MARKET, 0] == pytest.approx(
        alone.values[0, CLOSE, -1] / alone.values[0, CLOSE, 0], rel=1e-6
    )


def test_the_market_of_one_ticker_is_its_close_to_the_last_bit(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices(("AAA", "^VIX")))
    np.testing.assert_array_equal(panel.values[0, MARKET], panel.values[0, CLOSE])


def test_the_market_goes_on_from_its_only_ticker_when_others_come(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA", "BBB"))
    panel = build_panel(prices.drop(index=range(40, 50)))
    close, market = panel.values[:, CLOSE].astype(float), panel.values[0, MARKET].astype(float)
    np.testing.assert_array_equal(market[:10], close[0, :10])
    simple = close[:, 1:] / close[:, :-1] - 1.0
    assert market[10] / market[9] - 1.0 == pytest.approx(simple[0, 9], abs=1e-6)
    assert market[11:] / market[10:-1] - 1.0 == pytest.approx(simple[:, 10:].mean(axis=0), abs=1e-6)


def test_until(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices())
    part = panel.until(panel.sessions[9])
    assert len(part.sessions) == 10
    assert part.values.flags.c_contiguous
    assert same(panel.until(panel.sessions[9] + pd.Timedelta(hours=12)), part)
    assert same(panel.until(pd.Timestamp("2030-01-01")), panel)
    with pytest.raises(MarketDataError, match="begins at 2020-01-02, after 2020-01-01"):
        panel.until(pd.Timestamp("2020-01-01"))


def test_windows_are_served_oldest_first(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices().drop(index=range(40, 52)))
    session = panel.sessions[29]
    names, windows = panel.windows(session, 20)
    assert names == ("AAA",)  # BBB has 18 bars
    assert windows.shape == (1, 20, 7)
    assert windows.dtype == np.float32
    assert windows.flags.c_contiguous
    assert np.array_equal(windows[0], panel.values[0, :, 10:30].T)
    assert np.array_equal(panel.window("AAA", session, 20), windows[0])
    assert panel.windows(session, 18, ["BBB", "AAA"])[0] == ("BBB", "AAA")
    assert panel.windows(session, 18)[1].shape == (2, 18, 7)
    empty = panel.windows(panel.sessions[5], 20)
    assert empty[0] == ()
    assert empty[1].shape == (0, 20, 7)


def test_who_did_not_trade_has_no_window(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices().drop(index=20))
    assert panel.windows(panel.sessions[20], 5)[0] == ("BBB",)
    with pytest.raises(MarketDataError, match=r"AAA did not trade at 2020-01-31"):
        panel.window("AAA", panel.sessions[20], 5)
    assert panel.windows(panel.sessions[22], 5)[0] == ("AAA", "BBB")


def test_windows_that_cannot_be(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices())
    with pytest.raises(MarketDataError, match=r"AAA has 6 bars at .*; 7 bars are needed"):
        panel.window("AAA", panel.sessions[5], 7)
    with pytest.raises(MarketDataError, match="has no ZZZ; it holds AAA, BBB"):
        panel.window("ZZZ", panel.sessions[5], 3)
    with pytest.raises(MarketDataError, match="2020-01-04 is not a session of the panel"):
        panel.window("AAA", pd.Timestamp("2020-01-04"), 3)
    with pytest.raises(MarketDataError, match="at least one bar"):
        panel.windows(panel.sessions[5], 0)


def test_a_saved_panel_is_the_same(tmp_path: Path, make_prices: MakePrices) -> None:
    panel = build_panel(make_prices(("AAA", "^VIX")).drop(index=[0, 1]))
    panel.save(tmp_path / "deep" / "panel.npz")
    loaded = PricePanel.load(tmp_path / "deep" / "panel.npz")
    assert same(panel, loaded)
    assert loaded.tickers == panel.tickers
    assert loaded.sessions.equals(panel.sessions)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["panel.npz"]


def test_the_hash_sees_every_part(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices())
    values, valid = panel.values.copy(), panel.valid.copy()
    values[1, CLOSE, 3] *= 1.0001
    valid[1, 3] = False
    others = [
        dataclasses.replace(panel, tickers=("AAA", "CCC")),
        dataclasses.replace(panel, sessions=panel.sessions + pd.Timedelta(days=7)),
        dataclasses.replace(panel, values=values),
        dataclasses.replace(panel, valid=valid),
    ]
    assert len({candidate.content_hash() for candidate in (panel, *others)}) == 5
    assert len({candidate.version() for candidate in (panel, *others)}) == 5


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04half"])
def test_a_damaged_panel_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(MarketDataError, match="there is no price panel at"):
        PricePanel.load(tmp_path / "panel.npz")
    (tmp_path / "panel.npz").write_bytes(content)
    with pytest.raises(MarketDataError, match=r"panel\.npz is not a price panel"):
        PricePanel.load(tmp_path / "panel.npz")
    with (tmp_path / "panel.npz").open("wb") as stream:
        np.savez(stream, values=np.zeros(3))
    with pytest.raises(MarketDataError, match=r"panel\.npz is not a price panel"):
        PricePanel.load(tmp_path / "panel.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((2, 7, 39), np.float32)}, r"float32 \(2, 7, 40\)"),
        ({"values": np.zeros((2, 7, 40))}, "not float64"),
        ({"values": np.zeros((40, 7, 2), np.float32).T}, "C-contiguous"),
        ({"valid": np.ones((2, 40), np.int8)}, "must be bool"),
        ({"valid": np.ones((2, 39), bool)}, "must be bool"),
    ],
)
def test_a_panel_of_another_form_is_refused(
    make_prices: MakePrices, change: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(MarketDataError, match=message):
        dataclasses.replace(build_panel(make_prices()), **change)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[:0], "there are no prices"),
        (lambda f: f.drop(columns="close"), "lacks close"),
        (lambda f: pd.concat([f, f[3:4]]), "2 impossible rows, the first AAA on 2020-01-07"),
        (lambda f: f.assign(adj_close=f["adj_close"].where(f.index != 4)), "adj_close is missing"),
        (lambda f: f.assign(date=f["date"].where(f.index != 39, pd.Timestamp("2020-03-01"))), "without a session"),
        (lambda f: f.assign(date=f["date"].where(f.index != 39)), "AAA on a missing date: date is missing"),
        (lambda f: f.assign(ticker=f["ticker"].where(f.index != 39)), "ticker is missing"),
    ],
)
def test_impossible_prices_make_no_panel(
    make_prices: MakePrices, spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(PriceDataError, match=message) as caught:
        build_panel(spoil(make_prices()))
    assert set(PRICE_COLUMNS) - {"close"} <= set(caught.value.failures.columns)


def test_a_large_universe_takes_seconds() -> None:
    sessions = calendar.sessions("2005-01-03", "2018-12-31")[:3300]
    tickers = [f"T{number:03}" for number in range(100)]
    rng = np.random.default_rng(0)
    close = 50.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((100, 3300)), axis=1)).ravel()
    prices = pd.DataFrame(
        {
            "date": np.tile(sessions, 100),
            "ticker": np.repeat(tickers, 3300),
            **dict.fromkeys([*OHLC, "adj_close"], close),
            "volume": 1e6,
        }
    )
    began = time.process_time()
    panel = build_panel(prices)
    assert time.process_time() - began < 3.0  # 330,000 bars; about 0.2 s on one idle core
    assert panel.values.shape == (100, 7, 3300)
    assert panel.windows(sessions[-1], 256)[1].shape == (100, 256, 7)
