"""raw_prices and price_panel, run by Dagster in this process over a temporary home."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.assets.checks.prices import PRICE_CHECKS
from financial_assets.assets.market import RawPricesConfig, price_panel, raw_prices
from financial_assets.automation import freshness
from financial_assets.automation.freshness import watch_prices
from financial_assets.errors import SourceError
from financial_assets.market.calendar import next_session
from financial_assets.market.frames import PRICE_COLUMNS
from financial_assets.market.freshness import due
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.market.schemas import PRICE_SCHEMA
from financial_assets.market.sources import FetchResult, deliver
from financial_assets.resources import Market

SESSIONS = 400
CUTOFF_AT = 319  # the last session before the evaluation share of 20 %
BOTH = (raw_prices, price_panel)


def write(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(path, index=False)
    return path


def test_prices_arrive_and_say_what_they_are(make_market: Any, materialize: Any, bars: pd.DataFrame) -> None:
    market = make_market()
    outcome = materialize(BOTH, market)
    assert outcome.success
    metadata = outcome.metadata("raw_prices")
    assert metadata["dagster/row_count"] == 2 * SESSIONS
    assert metadata["rows added"] == 2 * SESSIONS
    assert metadata["source"] == "simulated"
    schema = metadata["dagster/column_schema"]
    assert [column.name for column in schema.columns] == list(PRICE_COLUMNS)
    assert all(column.description for column in schema.columns)
    assert_frame_equal(market.prices(), bars)
    assert outcome.data_version("raw_prices") == market.store().content_hash()


def test_every_check_is_evaluated_and_passes_on_sound_bars(make_market: Any, materialize: Any) -> None:
    outcome = materialize([raw_prices], make_market())
    checks = outcome.checks("raw_prices")
    assert set(checks) == {*PRICE_CHECKS, "extreme_moves", "delivery", "fresh"}
    assert all(check.passed for check in checks.values())
    assert all(checks[name].metadata["rows checked"].value == 2 * SESSIONS for name in PRICE_CHECKS)
    assert checks["delivery"].metadata["rows checked"].value == 2


def test_the_panel_ends_at_the_clock(make_market: Any, materialize: Any, bars: pd.DataFrame) -> None:
    market = make_market()
    outcome = materialize(BOTH, market)
    panel = PricePanel.load(market.panel_path)
    clock = bars["date"].unique()[CUTOFF_AT]
    assert market.clock().now() == clock
    assert panel.sessions[-1] == clock
    assert outcome.metadata("price_panel")["last session"] == f"{clock:%Y-%m-%d}"
    assert outcome.metadata("price_panel")["sessions"] == CUTOFF_AT + 1
    columns = outcome.metadata("price_panel")["dagster/column_schema"].columns
    assert [column.name for column in columns] == list(CHANNELS)
    lineage = outcome.metadata("price_panel")["dagster/column_lineage"].deps_by_column
    assert {dep.column_name for deps in lineage.values() for dep in deps} <= set(PRICE_SCHEMA.columns)
    assert outcome.data_version("price_panel") == panel.version()


def test_what_comes_after_the_clock_does_not_touch_the_panel(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path
) -> None:
    other = bars.copy()
    later = other["date"] > bars["date"].unique()[CUTOFF_AT]
    other.loc[later, ["open", "high", "low", "close", "adj_close"]] *= 1.3
    outcomes = [
        materialize(BOTH, make_market(home=name, files=write(tmp_path / f"{name}.csv", frame)))
        for name, frame in (("one", bars), ("other", other))
    ]
    assert [outcome.success for outcome in outcomes] == [True, True]
    raw = {outcome.data_version("raw_prices") for outcome in outcomes}
    panel = {outcome.data_version("price_panel") for outcome in outcomes}
    assert (len(raw), len(panel)) == (2, 1)


def test_a_second_run_adds_no_row_and_moves_nothing(make_market: Any, materialize: Any) -> None:
    market = make_market()
    first = materialize(BOTH, market)
    pins = (market.clock().now(), market.cutoff().get(), market.first_cutoff().get())
    second = materialize(BOTH, market)
    assert second.metadata("raw_prices")["rows added"] == 0
    assert second.metadata("raw_prices")["rows unchanged"] == 2 * SESSIONS
    for asset in ("raw_prices", "price_panel"):
        assert first.data_version(asset) == second.data_version(asset)
    assert pins == (market.clock().now(), market.cutoff().get(), market.first_cutoff().get())
    assert pins[0] == pins[1] == pins[2]


def test_clock_and_cutoff_stay_when_the_source_grows(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path
) -> None:
    days = bars["date"].unique()
    market = make_market(files=write(tmp_path / "prices.csv", bars[bars["date"] <= days[300]]))
    assert materialize(BOTH, market).success
    begun = market.clock().now()
    assert begun == days[int(301 * 0.8) - 1]
    write(tmp_path / "prices.csv", bars)
    outcome = materialize(BOTH, market)
    assert outcome.metadata("raw_prices")["rows added"] == 2 * (SESSIONS - 301)
    assert market.clock().now() == market.cutoff().get() == market.first_cutoff().get() == begun


def test_a_retraining_cutoff_is_kept_beside_the_first_one(make_market: Any, materialize: Any) -> None:
    market = make_market()
    materialize([raw_prices], market)
    first = market.first_cutoff().get()
    later = market.whole_panel().sessions[350]
    market.cutoff().set(later)
    materialize([raw_prices], market)
    assert (market.first_cutoff().get(), market.cutoff().get()) == (first, later)


def test_the_clock_moves_one_session_when_that_is_complete(
    make_market: Any, materialize: Any, bars: pd.DataFrame
) -> None:
    market, days = make_market(), bars["date"].unique()
    materialize(BOTH, market)
    for step in (1, 2):
        outcome = materialize(BOTH, market, advance=1)  # breaks off before the day is complete
        assert outcome.warnings == []
        assert market.clock().now() == days[CUTOFF_AT + step - 1]
        assert PricePanel.load(market.panel_path).sessions[-1] == days[CUTOFF_AT + step]
        assert materialize(BOTH, market, advance=1, complete=True).success
        assert market.clock().now() == days[CUTOFF_AT + step]
        assert PricePanel.load(market.panel_path).sessions[-1] == days[CUTOFF_AT + step]
    assert market.cutoff().get() == days[CUTOFF_AT]


def test_at_the_end_of_the_source_the_clock_stays_and_says_so(
    make_market: Any, materialize: Any, bars: pd.DataFrame
) -> None:
    market, days = make_market(), bars["date"].unique()
    materialize([raw_prices], market)
    market.clock().advance_to(days[-1])
    outcome = materialize([raw_prices], market, advance=1)
    assert outcome.success
    (warning,) = outcome.warnings
    assert f"0 sessions after {days[-1]:%Y-%m-%d}" in warning
    assert market.clock().now() == days[-1]


def drop(frame: pd.DataFrame, row: int) -> pd.DataFrame:
    return frame.drop(index=row)


def repeat(frame: pd.DataFrame, row: int) -> pd.DataFrame:
    return pd.concat([frame, frame.loc[[row]]])


def spoil(column: str, value: float) -> Callable[[pd.DataFrame, int], pd.DataFrame]:
    def spoilt(frame: pd.DataFrame, row: int) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[row, column] = value
        return frame

    return spoilt


@pytest.mark.parametrize(
    ("corrupt", "check", "problem"),
    [
        (lambda frame, row: spoil("high", 0.9 * frame.loc[row, "low"])(frame, row), "ohlc_order", "high is below low"),
        (spoil("close", -5.0), "impossible_values", "close is not positive"),
        (spoil("open", np.nan), "impossible_values", "open is missing"),
        (repeat, "duplicates", "occur more than once"),
        (drop, "completeness", "no bar on this XNYS session"),
    ],
    ids=["high below low", "negative price", "NaN", "duplicated key", "missing session"],
)
def test_with_strict_bars_that_cannot_be_true_stop_the_run_and_leave_the_store_alone(
    make_market: Any,
    materialize: Any,
    bars: pd.DataFrame,
    tmp_path: Path,
    corrupt: Callable[[pd.DataFrame, int], pd.DataFrame],
    check: str,
    problem: str,
) -> None:
    days = bars["date"].unique()
    market = make_market(files=write(tmp_path / "prices.csv", bars[bars["date"] <= days[350]]), quality_policy="strict")
    assert materialize(BOTH, market).success
    known, panel = market.store().content_hash(), market.panel_path.read_bytes()

    row = int(bars.index[(bars["ticker"] == "BBB") & (bars["date"] == days[370])][0])
    write(tmp_path / "prices.csv", corrupt(bars, row))
    failed = materialize(BOTH, market)
    assert not failed.success
    assert failed.materialized == set()
    evaluation = failed.checks("raw_prices")[check]
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    for shown in (failed.failed_rows("raw_prices", check), failed.failure_text):
        assert "BBB" in shown
        assert f"{days[370]:%Y-%m-%d}" in shown
        assert problem in shown
    assert "price store is unchanged" in failed.failure_text
    assert market.store().content_hash() == known
    assert market.panel_path.read_bytes() == panel

    write(tmp_path / "prices.csv", bars)
    mended = materialize(BOTH, market)
    assert mended.success
    assert mended.metadata("raw_prices")["rows added"] == 2 * (SESSIONS - 351)
    assert_frame_equal(market.prices(), bars)


def test_one_bad_ticker_does_not_stop_the_others(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path
) -> None:
    days = bars["date"].unique()
    bad = bars.copy()
    bad.loc[(bad["ticker"] == "BBB") & (bad["date"] < days[100]), "open"] = 0.0
    slip = (bad["ticker"] == "AAA") & (bad["date"] == days[200])
    bad.loc[slip, ["open", "high", "low", "close", "adj_close"]] *= 10.0
    market = make_market(files=write(tmp_path / "prices.csv", bad))
    outcome = materialize(BOTH, market)
    assert outcome.success
    metadata = outcome.metadata("raw_prices")
    assert metadata["waiting tickers"] == "BBB"
    assert metadata["rows left out, count"] == 101
    stored = market.store().read()
    assert set(stored["ticker"]) == {"AAA"}
    assert days[200] not in set(stored["date"])
    assert not PricePanel.load(market.panel_path).valid[0, 200]
    for check, rows in (("impossible_values", 100), ("consistency", 1)):
        evaluation = outcome.checks("raw_prices")[check]
        assert not evaluation.passed
        assert evaluation.severity == dg.AssetCheckSeverity.WARN
        assert evaluation.metadata["rows failed"].value == rows
    waits, left_out = outcome.warnings
    assert f"the first clean day is {days[100]:%Y-%m-%d}" in waits
    assert "AAA: 1 row left out" in left_out
    assert market.waiting_tickers() == ("BBB",)
    assert {note.ticker for note in market.quality_notes(days)} == {"AAA", "BBB"}

    write(tmp_path / "prices.csv", bars)
    assert materialize(BOTH, market).success
    assert_frame_equal(market.prices(), bars)
    assert market.waiting_tickers() == ()


def test_overrides_decide_and_are_kept_in_the_metadata(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path
) -> None:
    days = bars["date"].unique()
    slip = (bars["ticker"] == "AAA") & (bars["date"] == days[200])
    wrong = bars.copy()
    wrong.loc[slip, ["open", "high", "low", "close", "adj_close"]] *= 10.0
    path = tmp_path / "overrides.yaml"
    day = f"{days[200]:%Y-%m-%d}"
    path.write_text(f"- {{ticker: AAA, from: {day}, to: {day}, action: accept, reason: seen on the tape}}\n")
    market = make_market(files=write(tmp_path / "prices.csv", wrong), quality_overrides=str(path))
    outcome = materialize(BOTH, market)
    assert outcome.success
    assert outcome.metadata("raw_prices")["quality overrides"] == f"accept AAA {day}: seen on the tape (1 rows)"
    assert len(market.prices()) == len(bars)


def test_a_bar_whose_fault_shows_a_day_later_is_taken_back(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path
) -> None:
    days = bars["date"].unique()
    slip = (bars["ticker"] == "AAA") & (bars["date"] == days[350])
    wrong = bars.copy()
    wrong.loc[slip, ["open", "high", "low", "close", "adj_close"]] *= 3.3
    market = make_market(files=write(tmp_path / "prices.csv", wrong[wrong["date"] <= days[350]]))
    assert materialize(BOTH, market).success
    assert len(market.prices()) == 2 * 351, "it may be a squeeze"
    write(tmp_path / "prices.csv", wrong)
    assert materialize(BOTH, market).success
    assert len(market.prices()) == len(bars) - 1
    assert not market.whole_panel().valid[0, 350]


def test_where_no_ticker_can_be_used_the_run_stops_and_says_why(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path
) -> None:
    outcome = materialize(BOTH, make_market(files=write(tmp_path / "prices.csv", bars.assign(open=0.0))))
    assert not outcome.success
    for ticker in ("AAA", "BBB"):
        assert f"{ticker} waits: {SESSIONS} rows cannot be used" in outcome.failure_text
    assert "low is above open" not in outcome.failure_text, "one reason per row"
    assert "the price store is unchanged" in outcome.failure_text


def test_a_ticker_that_never_came_does_not_stop_the_others(
    make_market: Any, materialize: Any, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Faltering(bars, broken=["BBB"]))
    outcome = materialize(BOTH, make_market())
    assert outcome.success
    assert outcome.checks("raw_prices")["delivery"].severity == dg.AssetCheckSeverity.WARN
    (warning,) = outcome.warnings
    assert "did not deliver 1 of 2 tickers" in warning
    assert "BBB: connection reset" in warning


def test_a_first_delivery_that_is_impossible_leaves_no_state_behind(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path
) -> None:
    market = make_market(files=write(tmp_path / "prices.csv", drop(bars, 10)), quality_policy="strict")
    assert not materialize(BOTH, market).success
    assert market.store().read().empty
    assert market.cutoff().get() is None
    assert not market.clock().started


def test_a_move_that_is_rare_but_possible_only_warns(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path
) -> None:
    crash = bars.copy()
    day = bars["date"].unique()[200]
    fallen = (crash["ticker"] == "AAA") & (crash["date"] >= day)
    crash.loc[fallen, ["open", "high", "low", "close", "adj_close"]] *= 0.48  # AAPL on 2000-09-29
    outcome = materialize(BOTH, make_market(files=write(tmp_path / "prices.csv", crash)))
    assert outcome.success
    evaluation = outcome.checks("raw_prices")["extreme_moves"]
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert f"| {day:%Y-%m-%d} | AAA |" in outcome.failed_rows("raw_prices", "extreme_moves")


class Faltering:
    """A source that cannot deliver some of its tickers."""

    name = "faltering"
    live = False

    def __init__(self, prices: pd.DataFrame, broken: Sequence[str] = ()) -> None:
        self.prices = prices
        self.broken = set(broken)

    def fetch(self, tickers: Sequence[str], start: dt.date | None, end: dt.date | None) -> FetchResult:
        held = self.prices[~self.prices["ticker"].isin(self.broken)]
        delivered = deliver(held, tickers, start, end, origin="the test")
        return FetchResult(delivered.prices, dict.fromkeys(delivered.failures, "connection reset"))


def use(monkeypatch: pytest.MonkeyPatch, source: Faltering) -> None:
    def made(market: Market) -> Faltering:
        return source

    monkeypatch.setattr("financial_assets.installation.market.make_source", made)


def test_a_ticker_that_fails_today_is_served_from_the_store(
    make_market: Any, materialize: Any, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = make_market()
    use(monkeypatch, Faltering(bars))
    assert materialize(BOTH, market).success
    use(monkeypatch, Faltering(bars, broken=["BBB"]))
    outcome = materialize(BOTH, market)
    assert outcome.success
    delivery = outcome.checks("raw_prices")["delivery"]
    assert not delivery.passed
    assert delivery.severity == dg.AssetCheckSeverity.WARN
    assert "| BBB | connection reset |" in outcome.failed_rows("raw_prices", "delivery")
    assert PricePanel.load(market.panel_path).tickers == ("AAA", "BBB")


def test_with_strict_a_ticker_that_never_came_stops_the_run_by_name(
    make_market: Any, materialize: Any, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Faltering(bars, broken=["BBB"]))
    market = make_market(quality_policy="strict")
    outcome = materialize(BOTH, market)
    assert not outcome.success
    assert outcome.checks("raw_prices")["delivery"].severity == dg.AssetCheckSeverity.ERROR
    assert "PRICE_SOURCE=simulated never delivered BBB: BBB: connection reset" in outcome.failure_text
    assert outcome.materialized == set()
    use(monkeypatch, Faltering(bars))
    assert materialize(BOTH, market).success


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"price_source": "files", "price_files": "nowhere/*.csv"}, "FINANCIAL_ASSETS_HOME"),
        ({"home": "fresh", "price_source": "files", "price_files": "nowhere/*.csv"}, "PRICE_FILES=nowhere"),
        ({"ingestion_start_date": "2030-01-01"}, "INGESTION_START_DATE"),
    ],
    ids=["another source's home", "no such file", "nothing in the span"],
)
def test_what_only_the_user_can_mend_is_told_at_once(
    make_market: Any, materialize: Any, changes: dict[str, Any], named: str
) -> None:
    market = make_market()
    assert materialize([raw_prices], market).success
    known = market.store().content_hash()
    outcome = materialize([raw_prices], make_market(**changes))
    assert not outcome.success
    assert named in outcome.failure_text
    assert not [event for event in outcome.result.all_events if event.is_step_up_for_retry]
    assert market.store().content_hash() == known


@pytest.mark.parametrize(("source", "retried"), [("yahoo", True), ("sample", False)])
def test_only_a_network_is_asked_again(
    make_market: Any, monkeypatch: pytest.MonkeyPatch, source: str, retried: bool
) -> None:
    class Unreachable(Faltering):
        def fetch(self, tickers: Sequence[str], start: dt.date | None, end: dt.date | None) -> FetchResult:
            raise SourceError("the source is down")

    use(monkeypatch, Unreachable(pd.DataFrame()))
    asked = raw_prices(dg.build_asset_context(), RawPricesConfig(), market=make_market(price_source=source))
    with pytest.raises(dg.Failure, match="the source is down") as caught:
        list(asked)
    assert caught.value.allow_retries is retried


def test_the_panel_without_prices_names_the_asset_to_run(make_market: Any, materialize: Any) -> None:
    outcome = materialize([price_panel], make_market())
    assert not outcome.success
    assert "run `financial-assets run`" in outcome.failure_text


def test_steps_of_a_run_see_its_own_session_and_panel_whatever_another_run_writes(
    make_market: Any, materialize: Any, bars: pd.DataFrame
) -> None:
    market, days = make_market(), bars["date"].unique()
    materialize(BOTH, market)
    seen: list[pd.Timestamp] = []

    @dg.asset(deps=[price_panel])
    def other_run() -> None:
        market.move_clock(days[CUTOFF_AT + 5])
        market.panel().save(market.panel_path)

    @dg.asset(deps=[other_run], name="seen")
    def see(market: Market) -> None:
        seen.extend([market.clock().now(), market.load_panel().sessions[-1], market.panel().sessions[-1]])

    assert materialize((*BOTH, other_run, see), market).success
    assert seen == [days[CUTOFF_AT]] * 3
    assert market.clock().now() == days[CUTOFF_AT + 5]


def test_a_missed_session_fails_the_check_of_freshness_once_and_the_next_update_mends_it(
    make_market: Any, materialize: Any, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tick(cursor: str | None) -> Any:
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        return watch_prices(context)

    assert isinstance(tick(None), dg.SkipReason)
    outcome = materialize([raw_prices], make_market())
    assert outcome.checks("raw_prices")["fresh"].passed
    assert isinstance(tick(None), dg.SkipReason)

    class Later(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return due(next_session(dt.datetime.now(dt.UTC).date())).to_pydatetime() + dt.timedelta(hours=13)

    monkeypatch.setattr(freshness, "datetime", Later)
    late = tick(None)
    (evaluation,) = late.asset_events
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    # Before the close of a trading day, that session is overdue as well by then.
    assert "overdue: " in evaluation.description
    assert f"{next_session(dt.datetime.now(dt.UTC).date()):%Y-%m-%d}" in evaluation.description
    assert isinstance(tick(late.cursor), dg.SkipReason)
    monkeypatch.undo()
    (mended,) = tick(late.cursor).asset_events
    assert mended.passed


def test_files_that_stay_as_they_are_are_read_once(
    make_market: Any, materialize: Any, bars: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "prices.csv", bars)
    market = make_market(home="of files", price_source="files", price_files=str(file))
    first = materialize([raw_prices], market)
    assert first.success
    with monkeypatch.context() as patch:
        place = "financial_assets.market.sources.files.source.read_bars"
        patch.setattr(place, lambda *_: pytest.fail("the files are read again"))
        second = materialize([raw_prices], market, advance=1, complete=True)
    assert second.success
    assert second.data_version("raw_prices") == first.data_version("raw_prices")
    assert second.metadata("raw_prices")["rows unchanged"] == first.metadata("raw_prices")["rows added"]
    write(file, bars.iloc[:-1])
    third = materialize([raw_prices], market)
    assert third.success
    assert third.metadata("raw_prices")["rows removed"] == 1
