"""The command ``signal``: what it prints, and how it says why it cannot."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from financial_assets.cli.main import main
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.prediction_log.records import Forecast
from financial_assets.experiment.prediction_log.records import Result as Ended
from financial_assets.installation import ServingAccess
from financial_assets.market import calendar
from financial_assets.resources import make_resources
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.signal_files import save_signals
from financial_assets.serving.signal_schema import FURTHER_COLUMNS, ranks
from financial_assets.serving.signals import SIGNAL_SCHEMA, ask_signals
from financial_assets.settings import load_settings

CHAMPION = "baseline-predictor-v1"
Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs ``signal`` with a home of its own and simulated prices."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRICE_SOURCE", "simulated")
    monkeypatch.setenv("SIMULATED_SESSIONS", "400")
    monkeypatch.setenv("TICKERS", "AAA,BBB")
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(main, ["signal", *arguments])


def begin() -> None:
    """Prices are in, the clock runs, the experiment has a champion; no plane runs."""
    resources = make_resources(load_settings())
    market, ab_test = resources["market"], resources["ab_test"]
    market.ingest()
    market.begin(market.whole_panel().sessions)
    with ab_test.log() as log:
        arm = Arm(CHAMPION, "baseline", 1, "champion", 100, pd.Timestamp("2000-01-03"))
        log.open_epoch(ab_test.policy().experiment, (arm,), "start", after=0)


@dataclass
class Double:
    """Says the same of every ticker; with a ``score``, as a model that has all heads."""

    levels: tuple[float, ...] = (-0.03, -0.02, 0.001, 0.015, 0.04)
    score: float | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    @contextmanager
    def connect(self) -> Iterator[Double]:
        yield self

    def infer_batch(self, target: str, bars: np.ndarray, /) -> Answer:
        self.asked.append((target, len(bars)))
        quantiles = np.tile(self.levels, (len(bars), 1))
        answer = Answer(np.full(len(bars), 0.535), quantiles, target, 1, "served", 0.001, "an-id")
        if self.score is None:
            return answer
        return replace(answer, return_quantiles_5d=2 * quantiles, excess_return=np.full(len(bars), self.score))


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Double:
    double = Double()
    monkeypatch.setattr(ServingAccess, "connect", lambda _: double.connect())
    return double


def test_a_table_for_people(command: Command, gateway: Double) -> None:
    begin()
    shown = command("AAA")
    assert shown.exit_code == 0, shown.output
    lines = lines_of(shown)
    clock = make_resources(load_settings())["market"].clock().now()
    assert lines["direction"] == "up"
    assert lines["probability up"] == "53.5%"
    assert lines["expected range, 5 to 95 %"] == "-1.98% to +1.51%"
    assert lines["value at risk, 95 %"] == "1.98%"
    assert lines["value at risk, 99 %"] == "2.96%"
    assert lines["model"] == f"{CHAMPION} (version 1)"
    assert lines["as of the close of"] == f"{clock:%Y-%m-%d}"
    assert gateway.asked == [(CHAMPION, 1)]
    market = make_resources(load_settings())["market"]
    newest = market.whole_panel().sessions[-1]
    assert (
        f"Market clock: {clock:%Y-%m-%d}. Newest bar: {newest:%Y-%m-%d}, 80 sessions later. `financial-assets replay` "
        "or the `daily` job moves the clock on."
    ) in shown.output
    market.clock().advance_to(newest)
    assert "Market clock" not in command("AAA").output


def test_json_for_programs_has_the_names_of_the_asset(command: Command, gateway: Double) -> None:
    begin()
    shown = command("bbb", "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.output)
    assert list(found) == [
        *SIGNAL_SCHEMA.columns,
        "market_clock",
        "newest_bar",
        "sessions_to_newest_bar",
        "var_backtest",
        "price_quality",
    ]
    market = make_resources(load_settings())["market"]
    assert found["market_clock"] == found["as_of"] == f"{market.clock().now():%Y-%m-%d}"
    assert found["newest_bar"] == f"{market.whole_panel().sessions[-1]:%Y-%m-%d}"
    assert found["sessions_to_newest_bar"] == 80
    assert (found["ticker"], found["direction"], found["version"]) == ("BBB", "up", 1)
    assert found["as_of"] < found["target_session"]
    assert pd.Timestamp(found["target_session"]) > pd.Timestamp(found["as_of"])
    assert found["var_95"] == pytest.approx(1 - np.exp(-0.02))


def lines_of(shown: Result) -> dict[str, str]:
    cells = [line.split("│") for line in shown.output.splitlines() if "│" in line]
    return {cell[1].strip(): cell[2].strip() for cell in cells}


def store(gateway: Double, score: float, **change: object) -> None:
    """The signals of the universe at the clock, as ``daily_signals`` keeps them, with this score of BBB."""
    resources = make_resources(load_settings())
    market = resources["market"]
    signals = ask_signals(gateway, market.panel(), model=CHAMPION, version=1)  # pyright: ignore[reportArgumentType]
    signals.loc[signals["ticker"] == "BBB", "score"] = score
    save_signals(signals.assign(rank=ranks(signals), **change), market.folder / "signals")


def test_five_sessions_and_the_rank_in_the_stored_universe(command: Command, gateway: Double) -> None:
    begin()
    gateway.score = 0.25
    market = make_resources(load_settings())["market"]
    fifth = calendar.sessions(market.clock().now(), "2006-12-29")[5]
    lines = lines_of(command("AAA"))
    assert lines["expected shortfall, 95 %"] == "2.59%"
    assert lines[f"expected range until {fifth:%Y-%m-%d}, 5 to 95 %"] == "-3.92% to +3.05%"
    assert lines["value at risk of five sessions, 95 %"] == "3.92%"
    assert lines["value at risk of five sessions, 99 %"] == "5.82%"
    assert lines["expected shortfall of five sessions, 95 %"] == "5.10%"
    assert lines["score against the market, in volatilities"] == "+0.250"
    assert lines["rank in the universe"] == "known once `daily_signals` of this session is stored"
    assert json.loads(command("AAA", "--json").output)["rank"] is None
    store(gateway, 0.5)
    assert lines_of(command("AAA"))["rank in the universe"] == "2 of 2"
    found = json.loads(command("AAA", "--json").output)
    assert (found["rank"], found["score"], found["target_session_5d"]) == (2, 0.25, f"{fifth:%Y-%m-%d}")


@pytest.mark.parametrize("change", [{"version": 2}, {"model": "enhanced-predictor-v1"}, {}])
def test_a_rank_of_another_signal_is_not_shown(command: Command, gateway: Double, change: dict[str, object]) -> None:
    begin()
    gateway.score = 0.25
    store(gateway, 0.5, **change)
    gateway.score = 0.25 if change else 0.2501
    assert lines_of(command("AAA"))["rank in the universe"].startswith("known once")
    assert json.loads(command("AAA", "--json").output)["rank"] is None


def test_a_model_of_an_earlier_version_says_so_and_shows_no_empty_rows(command: Command, gateway: Double) -> None:
    begin()
    store(gateway, float("nan"))
    shown = command("AAA")
    assert shown.exit_code == 0, shown.output
    assert (
        shown.output.count(f"{CHAMPION} was deployed by an earlier version: it says nothing about five sessions") == 1
    )
    assert not any("five sessions" in line or "rank" in line or "score" in line for line in lines_of(shown))
    found = json.loads(command("AAA", "--json").output)
    assert [name for name, value in found.items() if value is None] == list(FURTHER_COLUMNS)


def predicted(sessions: int) -> None:
    """The log has forecasts of AAA for this many sessions, and the clock stands where all are known."""
    resources = make_resources(load_settings())
    market, ab_test = resources["market"], resources["ab_test"]
    panel = market.panel()
    with ab_test.log() as log:
        epoch = ab_test.current_epoch(log)
        for session, target in list(itertools.pairwise(panel.sessions))[-sessions:]:
            direct = log.begin_direct(epoch.arms, session, target, ("AAA",))
            said = Forecast(0.5, (-0.5, -0.4, 0.0, 0.4, 0.5))
            log.complete_direct([Ended(one.id, said, latency_s=0.001) for one in direct])


def test_the_value_at_risk_comes_with_what_became_of_earlier_ones(command: Command, gateway: Double) -> None:
    begin()
    assert json.loads(command("AAA", "--json").output)["var_backtest"] == []
    predicted(60)
    shown = " ".join(command("AAA").output.replace("│", " ").split())
    assert "VaR 95 %, so far 0 of 60 sessions beyond it (3 expected; Kupiec p = 0.013, independence p = 1)" in shown
    assert "VaR 99 %, so far 0 of 60 sessions beyond it (0.6 expected; too few for a test, 250 sessions" in shown
    (lower, _, _, upper) = json.loads(command("AAA", "--json").output)["var_backtest"]
    assert (lower["side"], lower["level"], lower["sessions"], lower["beyond"]) == ("lower", 0.95, 60, 0)
    assert (upper["side"], upper["level"], upper["kupiec"]) == ("upper", 0.99, None)


def test_an_unknown_ticker_is_told_by_the_setting(command: Command, gateway: Double) -> None:
    begin()
    refused = command("TSLA")
    assert refused.exit_code == 1
    assert "TICKERS: TSLA is not in the universe (AAA, BBB)" in refused.output
    assert gateway.asked == []


def test_a_plane_that_does_not_run_is_told_with_its_remedy(command: Command) -> None:
    begin()
    refused = command("AAA")
    assert refused.exit_code == 1
    assert "no plane runs" in refused.output
    assert "`financial-assets serve` starts it" in refused.output


def test_too_few_bars_are_counted(command: Command, gateway: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALUATION_SHARE", "0.5")
    begin()
    refused = command("AAA")
    assert refused.exit_code == 1
    assert "AAA has 200 bars at " in refused.output
    assert "256 are needed" in refused.output
    assert gateway.asked == []


def test_an_unsound_answer_is_no_signal(command: Command, gateway: Double) -> None:
    begin()
    gateway.levels = (0.0, 0.1, 0.05, 0.2, 0.3)
    refused = command("AAA")
    assert refused.exit_code == 1
    assert "the answer for AAA is not sound: has quantiles out of order" in refused.output


def test_before_anything_was_ingested_the_asset_to_run_is_named(command: Command) -> None:
    refused = command("AAA")
    assert refused.exit_code == 1
    assert "run `financial-assets run`" in refused.output


def test_before_the_experiment_has_started_the_asset_to_run_is_named(command: Command) -> None:
    market = make_resources(load_settings())["market"]
    market.ingest()
    market.begin(market.whole_panel().sessions)
    refused = command("AAA")
    assert refused.exit_code == 1
    assert "run `financial-assets run`" in refused.output


@pytest.mark.parametrize(("arguments", "named"), [([], "Missing argument"), (["AAA", "BBB"], "unexpected extra")])
def test_it_takes_one_ticker(command: Command, arguments: list[str], named: str) -> None:
    refused = command(*arguments)
    assert refused.exit_code == 2
    assert named in refused.output


def test_a_bad_setting_ends_it_by_its_name(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_LENGTH", "ten")
    refused = command("AAA")
    assert refused.exit_code == 1
    assert "SEQUENCE_LENGTH: got 'ten'" in refused.output


def test_help_says_what_it_is(command: Command) -> None:
    shown = command("--help")
    assert shown.exit_code == 0
    assert "SYMBOL" in shown.output
    assert "--json" in shown.output
