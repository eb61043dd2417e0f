"""Covariates: what is known beside the bars, and only from when it was known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import MarketDataError, SettingsError
from financial_assets.market import calendar
from financial_assets.market.covariates.channels import BAR_AGE, MOST, Covariates, covariate_gaps
from financial_assets.market.covariates.sectors import sector_levels
from financial_assets.market.covariates.tables import known_values, read_tables
from financial_assets.market.panel import CHANNELS, PricePanel, build_panel
from financial_assets.market.universe import read_universe
from financial_assets.settings import load_settings

MakePrices = Callable[..., pd.DataFrame]
ZONE = "America/New_York"
YEARS = pd.Timedelta(days=3650)
FILE = """date,known_at,name,value
2020-01-01,2020-01-14,CPI,2.5
2020-02-01,2020-02-13,cpi,2.3
2020-01-31,2020-02-03T10:00:00-05:00,pmi,50.9
2020-02-29,2020-03-02T15:00:00Z,pmi,-1e3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "macro.csv"
    path.write_text(FILE, encoding="utf-8")
    return path


def column(panel: PricePanel, name: str, row: int = 0) -> pd.Series:
    return pd.Series(panel.values[row, panel.channels.index(name)], index=panel.sessions)


def extend(panel: PricePanel, path: Path, **given: object) -> PricePanel:
    return Covariates(table=read_tables(str(path), ZONE), **given).extend(panel, pd.DataFrame(), None)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(folder))
    return folder


@pytest.fixture
def panel(make_prices: MakePrices) -> PricePanel:
    return build_panel(make_prices(count=60))


def test_a_value_is_seen_from_the_first_close_after_it_was_known(file: Path, panel: PricePanel) -> None:
    wide = extend(panel, file)
    assert wide.covariates == ("cpi", "pmi")
    assert wide.channels == (*CHANNELS, "cpi", "pmi")
    assert np.array_equal(wide.values[:, :7], panel.values)
    cpi, pmi = column(wide, "cpi"), column(wide, "pmi")
    assert cpi[:"2020-01-14"].isna().all(), "a day without a time ends after the close of its session"
    assert (cpi["2020-01-15":"2020-02-13"] == np.float32(2.5)).all()
    assert (cpi["2020-02-14":] == np.float32(2.3)).all()
    assert pmi[:"2020-01-31"].isna().all()
    assert (pmi["2020-02-03":"2020-02-28"] == np.float32(50.9)).all(), "10:00 is before the close"
    assert (pmi["2020-03-02":] == -1000).all()


def test_a_value_that_is_known_after_the_close_waits_for_the_next_session(file: Path, panel: PricePanel) -> None:
    file.write_text("date,known_at,name,value\n2020-01-10,2020-01-10T16:00:01-05:00,a,1\n", encoding="utf-8")
    a = column(extend(panel, file), "a")
    assert np.isnan(a["2020-01-10"])
    assert a["2020-01-13"] == 1
    file.write_text("date,known_at,name,value\n2020-01-10,2020-01-10 16:00:00-0500,a,1\n", encoding="utf-8")
    assert column(extend(panel, file), "a")["2020-01-10"] == 1


def test_a_revision_counts_from_its_own_day_and_only_for_the_latest_date(file: Path, panel: PricePanel) -> None:
    file.write_text(
        "date,known_at,name,value\n"
        "2019-12-31,2020-01-10,gdp,1\n"
        "2019-12-31,2020-01-20,gdp,2\n"
        "2020-01-31,2020-02-10,gdp,3\n"
        "2019-12-31,2020-02-20,gdp,4\n",
        encoding="utf-8",
    )
    gdp = column(extend(panel, file), "gdp")
    assert gdp.dropna().drop_duplicates().tolist() == [1, 2, 3]
    assert gdp["2020-01-17"] == 1
    assert gdp["2020-01-21"] == 2
    assert gdp.iloc[-1] == 3


def test_a_value_ages(file: Path, panel: PricePanel) -> None:
    aged = extend(panel, file, max_age=pd.Timedelta(days=20))
    cpi = column(aged, "cpi")
    assert (cpi["2020-01-15":"2020-02-03"] == np.float32(2.5)).all()
    assert cpi["2020-02-04":"2020-02-13"].isna().all()
    assert (cpi["2020-02-14":"2020-03-04"] == np.float32(2.3)).all()


def test_a_gap_begins_the_count_of_bars_anew(file: Path, panel: PricePanel) -> None:
    file.write_text("date,known_at,name,value\n2020-01-01,2020-01-14,a,1\n2020-02-20,2020-02-20,a,2\n")
    aged = extend(panel, file, max_age=pd.Timedelta(days=20))
    known = ~column(aged, "a").isna().to_numpy()
    bars, expected, run = aged.listed_bars(), [], 0
    for is_known in known:
        run = run + 1 if is_known else 0
        expected.append(run)
    assert bars.tolist() == [expected, expected]
    at = aged.sessions[int(np.flatnonzero(known)[4])]
    assert aged.windows(at, 5)[0] == aged.tickers
    assert aged.windows(at, 5)[1].shape == (2, 5, 8)
    assert aged.windows(at, 6)[0] == ()
    assert aged.windows(aged.sessions[0], 1)[1].shape == (0, 1, 8)
    with pytest.raises(MarketDataError, match="has 5 bars"):
        aged.window("AAA", at, 6)
    assert aged.until(at).covariates == ("a",)
    gap = aged.sessions[~known][-1]
    assert aged.until(gap).unknown_covariates("AAA", 3) == ("a",)


def test_values_of_single_tickers(file: Path, panel: PricePanel) -> None:
    file.write_text("date,known_at,name,value,ticker\n2020-01-02,2020-01-02,eps,1.5,aaa\n")
    wide = extend(panel, file)
    assert (column(wide, "eps")["2020-01-03":] == 1.5).all()
    assert column(wide, "eps", 1).isna().all()
    assert wide.windows(wide.sessions[-1], 20)[0] == ("AAA",)
    file.write_text("date,known_at,name,value,ticker\n2020-01-02,2020-01-02,a,1,AAA\n2020-01-02,2020-01-02,a,1,\n")
    with pytest.raises(MarketDataError, match="a has rows with and without a ticker"):
        read_tables(str(file), ZONE)


def test_tickers_that_a_covariate_never_has_a_value_for_are_named(file: Path, make_prices: MakePrices) -> None:
    panel = build_panel(make_prices(tickers=("AAA", "BBB", "CCC"), count=60))
    file.write_text("date,known_at,name,value,ticker\n2020-01-02,2020-01-14,eps,1,AAA\n", encoding="utf-8")
    last = f"{panel.sessions[-1]:%Y-%m-%d}"
    never, partly = covariate_gaps(extend(panel, file))
    assert never == f"covariate eps: never known up to {last} for BBB, CCC, hence no features"
    assert partly.startswith("covariate eps: unknown on 9 of 60 sessions (2020-01-02 to 2020-01-14);")
    file.write_text("date,known_at,name,value\n2020-01-02,2030-01-14,cpi,1\n", encoding="utf-8")
    assert covariate_gaps(extend(panel, file)) == [
        f"covariate cpi: never known up to {last} for any ticker, hence no features"
    ]


@pytest.mark.parametrize("index", [False, True])
def test_parquet_says_the_same_as_csv(file: Path, tmp_path: Path, index: bool) -> None:
    frame = pd.read_csv(file)
    days = pd.to_datetime(frame["date"])
    table = tmp_path / "macro.parquet"
    frame.assign(date=days if index else days.dt.date).to_parquet(table)
    assert read_tables(str(table), ZONE).equals(read_tables(str(file), ZONE))
    instants = pd.DatetimeIndex(["2020-02-03 15:00", "2020-03-02 15:00"], tz="UTC")
    pmi = pd.DataFrame({"date": days[2:], "known_at": instants, "name": "pmi", "value": [50.9, -1000.0]})
    pmi.to_parquet(table)
    both = read_tables(str(file), ZONE)
    assert read_tables(str(table), ZONE).equals(both[both["name"] == "pmi"].reset_index(drop=True))


def test_several_files_and_folders(file: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.csv").write_text("date,known_at,name,value\n2020-01-02,2020-01-02,b,1\n")
    for paths in (f"{file}, {tmp_path}/more", f"{tmp_path}/*.csv,{tmp_path}/more/*.csv"):
        assert set(read_tables(paths, ZONE)["name"]) == {"b", "cpi", "pmi"}
    with pytest.raises(MarketDataError, match=r"COVARIATE_FILES=.*nothing: no file there"):
        read_tables(f"{tmp_path}/nothing", ZONE)


def test_a_table_that_changes_is_read_anew(file: Path) -> None:
    before = read_tables(str(file), ZONE)
    assert read_tables(str(file), ZONE) is before
    file.write_text(FILE + "2020-03-01,2020-03-12,cpi,1.5\n")
    assert len(read_tables(str(file), ZONE)) == len(before) + 1


GOOD = "2020-01-02,2020-01-02,a,1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,name,value\n2020-01-02,a,1\n", "known_at says from when on a value was known; it is never guessed"),
        ("date,known_at,name,value,unit\n2020-01-02,2020-01-02,a,1,%\n", "its columns must be"),
        ("date,known_at,name,value\n", "has no rows"),
        ("", "is empty; its first line names the columns"),
        (f"date,known_at,name,value\n{GOOD},5\n", "cannot be read: .*more cells .* decimal point"),
        (f"date,known_at,name,value\n{GOOD}\n{GOOD}\n", "a on 2020-01-02, known .* stands there more than once"),
        (f"date,known_at,name,value\n{GOOD}\n\n2020-01-03,2020-01-03,a,\n", "row 4, value: '' is not a number"),
        ("date,known_at,name,value\n2020-01-02,2020-01-02,a,nan\n", "row 2, value: 'nan' is not a number"),
        (
            "date,known_at,name,value\n2020-01-02,2020-01-02,a,inf\n",
            "value: 'inf' is not a number from -1e[+]15 to 1e[+]15",
        ),
        ("date,known_at,name,value\n2020-01-02,2020-01-02,a,-2e15\n", "row 2, value: '-2e15' is not a number"),
        ("date,known_at,name,value\n2020-01-02,2020-01-02,a,high\n", "row 2, value: 'high' is not a number"),
        ("date,known_at,name,value\n2020-01-02,,a,1\n", "row 2, known_at: '' is neither a day nor"),
        (
            "date,known_at,name,value\n2020-01-02,2020-01-02 08:30,a,1\n",
            "08:30' is neither a day nor a time with its zone",
        ),
        ("date,known_at,name,value\n2020-01-02,2020-13-02,a,1\n", "known_at: '2020-13-02' is not a day or time"),
        ("date,known_at,name,value\n2.1.2020,2020-01-02,a,1\n", "date: '2.1.2020' is not a date; write YYYY-MM-DD"),
        ("date,known_at,name,value\n2020-03-02,2020-03-01,a,1\n", "a forecast is dated with the day it was made"),
        ("date,known_at,name,value\n2020-01-02,2020-01-02,a b,1\n", "name: 'a b' is not a name"),
        ("date,known_at,name,value\n2020-01-02,2020-01-02,,1\n", "name: '' is not a name"),
    ],
)
def test_a_row_that_cannot_be_is_named_with_the_setting(file: Path, text: str, message: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MarketDataError, match=rf"(?s)^COVARIATE_FILES=.*{message}"):
        read_tables(str(file), ZONE)


def test_a_forecast_of_tokyo_is_known_the_day_before_in_new_york(file: Path) -> None:
    file.write_text("date,known_at,name,value\n2020-01-10,2020-01-10T08:50:00+09:00,tankan,1\n")
    assert len(read_tables(str(file), ZONE)) == 1


def test_a_day_ends_also_where_its_midnight_does_not_exist(file: Path) -> None:
    file.write_text("date,known_at,name,value\n2018-11-01,2018-11-03,a,1\n2018-02-01,2018-02-17,a,1\n")
    known = read_tables(str(file), "America/Sao_Paulo")["known"]
    assert known.tolist() == [pd.Timestamp("2018-02-18 03:00", tz="UTC"), pd.Timestamp("2018-11-04 03:00", tz="UTC")]


# The law: what becomes known after a close changes nothing at that close.

Join = Callable[[pd.DataFrame, pd.DatetimeIndex], np.ndarray]
CLOSES = calendar.session_closes(calendar.sessions("2020-01-02", "2020-03-31"))


def by_known(rows: pd.DataFrame, closes: pd.DatetimeIndex) -> np.ndarray:
    return known_values(rows, closes, YEARS)


def by_date(rows: pd.DataFrame, closes: pd.DatetimeIndex) -> np.ndarray:
    return known_values(rows.assign(known=rows["date"].dt.tz_localize("UTC")), closes, YEARS)


def by_usual_delay(rows: pd.DataFrame, closes: pd.DatetimeIndex) -> np.ndarray:
    delayed = rows["date"].dt.tz_localize("UTC") + pd.Timedelta(days=3)
    return known_values(rows.assign(known=delayed), closes, YEARS)


def with_last_revision(rows: pd.DataFrame, closes: pd.DatetimeIndex) -> np.ndarray:
    return known_values(rows.assign(value=rows.groupby("date")["value"].transform("last")), closes, YEARS)


def interpolated(rows: pd.DataFrame, closes: pd.DatetimeIndex) -> np.ndarray:
    return pd.Series(by_known(rows, closes)).where(lambda series: series.diff() != 0).interpolate().to_numpy()


def look_ahead(join: Join, rows: pd.DataFrame) -> list[str]:
    """Sessions at which ``join`` sees something of a row that is known only after their close."""
    whole = join(rows, CLOSES)
    found: list[str] = []
    for place in range(len(rows)):
        before = rows["known"].iloc[place] > CLOSES
        others = [rows.drop(index=place).reset_index(drop=True), rows.copy()]
        others[1].loc[place, "value"] = 1e9
        for other in others:
            differs = ~((whole == join(other, CLOSES)) | (np.isnan(whole) & np.isnan(join(other, CLOSES))))
            found += [str(close) for close in CLOSES[before & differs]]
    return found


def table_of(seed: int, count: int = 12) -> pd.DataFrame:
    """Random rows: weekly dates, known up to 40 days later, some revised."""
    rng = np.random.default_rng(seed)
    dates = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.choice(80, count), unit="D")
    known = dates.tz_localize("UTC") + pd.to_timedelta(rng.uniform(0, 40 * 24, count), unit="h")
    rows = pd.DataFrame({"name": "a", "ticker": "", "date": dates, "known": known, "value": rng.normal(size=count)})
    return rows.sort_values(["name", "ticker", "known", "date"], ignore_index=True)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_known_later_changes_nothing_earlier(seed: int) -> None:
    assert look_ahead(by_known, table_of(seed)) == []


@pytest.mark.parametrize("join", [by_date, by_usual_delay, with_last_revision, interpolated])
def test_a_join_that_looks_ahead_is_caught(join: Join) -> None:
    assert any(look_ahead(join, table_of(seed)) for seed in range(5))


def test_of_all_that_is_known_the_latest_date_counts_in_its_latest_revision() -> None:
    for seed in range(20):
        rows = table_of(seed)
        expected = []
        for close in CLOSES:
            known = rows[rows["known"] <= close].sort_values(["date", "known"])
            expected.append(known["value"].iloc[-1] if len(known) else np.nan)
        np.testing.assert_array_equal(by_known(rows, CLOSES), expected)


# Tickers, spreads and the sector.


def test_another_ticker_is_a_channel(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA", "BBB"), count=60)
    other = make_prices(("^VIX",), count=60, seed=5)
    panel = build_panel(prices)
    covariates = Covariates(("^VIX",))
    assert covariates.tickers == covariates.names == ("^VIX",)
    wide = covariates.extend(panel, other, None)
    expected = other.sort_values("date")["adj_close"].to_numpy().astype(np.float32)
    assert (wide.values[:, 7] == expected).all()
    gone = other[~other["date"].isin(panel.sessions[[0, 10, 11]])]
    held = column(covariates.extend(panel, gone, None), "^VIX")
    assert np.isnan(held.iloc[0]), "nothing is filled backwards"
    assert (held.iloc[9:12] == expected[9]).all()
    ended = column(covariates.extend(panel, other[other["date"] <= panel.sessions[30]], None), "^VIX")
    fresh = panel.sessions <= panel.sessions[30] + BAR_AGE
    assert (ended.notna() == fresh).all(), "an old close is not today's"
    with pytest.raises(MarketDataError, match=r"COVARIATES: there are no prices of \^VIX"):
        covariates.extend(panel, prices, None)


def test_spreads_and_ratios(make_prices: MakePrices, file: Path) -> None:
    prices = make_prices(("^TNX", "^IRX", "HYG", "LQD"), count=60, seed=5)
    panel = build_panel(make_prices(count=60))
    table = read_tables(str(file), ZONE)
    covariates = Covariates(("^TNX - ^IRX", "HYG / LQD", "^TNX - CPI", "CPI"), table)
    assert covariates.tickers == ("^TNX", "^IRX", "HYG", "LQD")
    assert covariates.names == ("^TNX - ^IRX", "HYG / LQD", "^TNX - CPI", "cpi", "pmi")
    wide = covariates.extend(panel, prices, None)
    close = {ticker: bars["adj_close"].to_numpy() for ticker, bars in prices.groupby("ticker")}
    np.testing.assert_array_equal(wide.values[0, 7], (close["^TNX"] - close["^IRX"]).astype(np.float32))
    np.testing.assert_array_equal(wide.values[1, 8], (close["HYG"] / close["LQD"]).astype(np.float32))
    cpi = column(wide, "cpi").to_numpy().astype(np.float64)
    np.testing.assert_allclose(wide.values[0, 9], close["^TNX"] - cpi, rtol=1e-6)
    with pytest.raises(MarketDataError, match=r"each dividend rescales .* HYG, .* take the ratio, HYG / LQD"):
        Covariates(("HYG - LQD",))
    with pytest.raises(MarketDataError, match="PMI is not always positive"):
        Covariates(("^TNX / PMI",), table).extend(panel, prices, None)
    with pytest.raises(MarketDataError, match="no prices of FOO"):
        Covariates(("^TNX / FOO",), table).extend(panel, prices, None)


def test_a_market_that_closes_later_is_seen_a_session_later(make_prices: MakePrices) -> None:
    prices = make_prices(("SPY", "^TNX"), count=60, seed=5)
    panel = build_panel(make_prices(count=60))
    covariates = Covariates(("SPY[-1]", "SPY", "SPY / SPY[-2]"))
    assert covariates.tickers == ("SPY",)
    wide = covariates.extend(panel, prices, None)
    lagged, today, growth = (column(wide, name) for name in covariates.names)
    assert np.isnan(lagged.iloc[0])
    assert lagged.iloc[1:].tolist() == today.iloc[:-1].tolist()
    assert growth.iloc[:2].isna().all()
    np.testing.assert_allclose(growth.iloc[2:], today.to_numpy()[2:] / today.to_numpy()[:-2], rtol=1e-6)


def test_too_many_covariates_are_refused() -> None:
    with pytest.raises(MarketDataError, match=f"at most {MOST}"):
        Covariates(tuple(f"T{number}" for number in range(MOST + 1)))


def test_the_index_of_a_sector(make_prices: MakePrices, tmp_path: Path) -> None:
    path = tmp_path / "universe.csv"
    path.write_text(
        "ticker,from,to,sector\nAAA,,,Banks\nBBB,,,Banks\nCCC,,,Energy\nDDD,,2020-02-03,Energy\nDDD,2020-02-04,,Banks\n"
        "EEE,,,\n"
    )
    universe = read_universe(path)
    prices = make_prices(("AAA", "BBB", "CCC", "DDD", "EEE"), count=60)
    panel = build_panel(prices, universe.members)
    levels = sector_levels(panel, universe)
    close = panel.values[:, 3].astype(np.float64)
    returns = np.zeros_like(close)
    returns[:, 1:] = close[:, 1:] / close[:, :-1] - 1
    later = np.asarray(panel.sessions >= pd.Timestamp("2020-02-04"))
    market = panel.values[0, 5].astype(np.float64)
    average = np.concatenate([[0.0], market[1:] / market[:-1] - 1])
    peers = [
        np.where(later, returns[[1, 3]].mean(axis=0), returns[1]),
        np.where(later, returns[[0, 3]].mean(axis=0), returns[0]),
        np.where(later, average, returns[3]),
        np.where(later, returns[[0, 1]].mean(axis=0), returns[2]),
    ]
    for row, expected in enumerate(peers):
        np.testing.assert_allclose(levels[row], 100 * np.cumprod(1 + expected), rtol=1e-9)
    np.testing.assert_allclose(levels[4], panel.values[4, 5], rtol=1e-6)
    wide = Covariates(sector=True).extend(panel, prices, universe)
    assert wide.covariates == ("sector",)
    cut = panel.sessions[30]
    assert np.array_equal(sector_levels(panel.until(cut), universe), levels[:, :31]), "nothing later counts"
    path.write_text("ticker\nAAA\nBBB\nCCC\nDDD\nEEE\n")
    for nobody in (None, read_universe(path)):
        with pytest.raises(MarketDataError, match="SECTOR_INDEX: UNIVERSE_FILE names no sector"):
            Covariates(sector=True).extend(panel, prices, nobody)


def test_a_table_may_not_take_the_name_of_the_sector(file: Path) -> None:
    file.write_text("date,known_at,name,value\n2020-01-02,2020-01-02,Sector,1\n")
    with pytest.raises(MarketDataError, match="COVARIATE_FILES: sector is the name of the sector's index"):
        Covariates(table=read_tables(str(file), ZONE))


# The settings.


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("^vix, spy", ("^VIX", "SPY")),
        ("^TNX  -  ^IRX,hyg / lqd", ("^TNX - ^IRX", "HYG / LQD")),
        ("baa_yield - ^TNX", ("BAA_YIELD - ^TNX",)),
        ("BRK-B", ("BRK-B",)),
        ("^ftse[-1], ^TNX - ^IRX[-2]", ("^FTSE[-1]", "^TNX - ^IRX[-2]")),
        ("", ()),
    ],
)
def test_the_setting_names_tickers_and_pairs(text: str, entries: tuple[str, ...], home: Path) -> None:
    assert load_settings(covariates=text).covariates == entries


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"covariates": "^VIX SPY"},
            "COVARIATES: .* '.VIX SPY' is neither a ticker nor two of them",
        ),
        ({"covariates": "A - B - C"}, "COVARIATES: .* is neither"),
        ({"covariates": "SPY[-10]"}, "COVARIATES: .* 1 to 9 sessions before"),
        ({"covariates": "A,a"}, "COVARIATES: .* listed more than once"),
        ({"covariate_max_age": 0}, "COVARIATE_MAX_AGE"),
        ({"covariate_files": "s3://bucket/macro.csv"}, "COVARIATE_FILES: .* is an address"),
        ({"sector_index": True}, "SECTOR_INDEX: set, but UNIVERSE_FILE is not"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(given: dict[str, object], message: str, home: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(**given)


def test_a_state_folder_remembers_them(home: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {"COVARIATES", "COVARIATE_FILES", "SECTOR_INDEX"} & set(load_settings().remembered)
    (home / "universe.csv").write_text("ticker,sector\nAAA,Banks\n")
    monkeypatch.chdir(file.parent)
    told = load_settings(
        covariates="^TNX - ^IRX,HYG",
        covariate_files=f"{file.name}, *.parquet",
        universe_file=home / "universe.csv",
        sector_index=True,
    ).remembered
    assert told["COVARIATES"] == "^TNX - ^IRX,HYG"
    assert told["COVARIATE_FILES"] == f"{file},{file.parent}/*.parquet"
    assert told["SECTOR_INDEX"] == "True"
    (home / "training.json").write_text("{}")
    (home / "market.json").write_text(json.dumps({"PRICE_SOURCE": "sample", "settings": told}))
    again = load_settings()
    assert again.covariates == ("^TNX - ^IRX", "HYG")
    assert again.covariate_files == told["COVARIATE_FILES"]
    assert again.sector_index is True


def test_an_empty_variable_means_no_covariates_any_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "training.json").write_text("{}")
    (home / "market.json").write_text(json.dumps({"PRICE_SOURCE": "sample", "settings": {"COVARIATES": "HYG"}}))
    assert load_settings().covariates == ("HYG",)
    monkeypatch.setenv("COVARIATES", "")
    assert load_settings().covariates == ()


# The panel's file and hash.


def test_a_panel_keeps_its_covariates(file: Path, panel: PricePanel, tmp_path: Path) -> None:
    wide = extend(panel, file)
    wide.save(tmp_path / "wide.npz")
    read = PricePanel.load(tmp_path / "wide.npz")
    assert read.covariates == wide.covariates
    assert read.content_hash() == wide.content_hash() != panel.content_hash()
    renamed = PricePanel(wide.tickers, wide.sessions, wide.values, wide.valid, ("a", "b"))
    assert renamed.content_hash() != wide.content_hash()
    panel.save(tmp_path / "narrow.npz")
    with np.load(tmp_path / "narrow.npz") as held:
        assert "covariates" not in held, "without covariates the file is what it always was"
    assert PricePanel.load(tmp_path / "narrow.npz").covariates == ()
    assert Covariates().extend(panel, pd.DataFrame(), None) is panel


def test_a_later_row_does_not_change_the_hash_of_the_past(file: Path, panel: PricePanel) -> None:
    cut = panel.sessions[40]
    known = extend(panel, file).until(cut).content_hash()
    file.write_text(FILE + f"2020-02-10,{panel.sessions[41]:%Y-%m-%d},cpi,9\n")
    assert extend(panel, file).until(cut).content_hash() == known
    file.write_text(FILE + "2020-02-10,2020-02-25,cpi,9\n")
    assert extend(panel, file).until(cut).content_hash() != known
