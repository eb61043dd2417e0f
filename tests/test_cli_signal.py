"""The command ``signal``: what it prints, and how it says why it cannot."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from financial_assets.resources import make_resources
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.signals import SIGNAL_SCHEMA
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
    """Says the same of every ticker."""

    levels: tuple[float, ...] = (-0.03, -0.02, 0.001, 0.015, 0.04)
    asked: list[tuple[str, int]] = field(default_factory=list)

    @contextmanager
    def connect(self) -> Iterator[Double]:
        yield self

    def infer_batch(self, target: str, bars: np.ndarray, /) -> Answer:
        self.asked.append((target, len(bars)))
        quantiles = np.tile(self.levels, (len(bars), 1))
        return Answer(np.full(len(bars), 0.535), quantiles, target, 1, "served", 0.001, "an-id")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Double:
    double = Double()
    monkeypatch.setattr(ServingAccess, "connect", lambda _: double.connect())
    return double


def test_a_table_for_people(command: Command, gateway: Double) -> None:
    begin()
    shown = command("AAA")
    assert shown.exit_code == 0, shown.output
    lines = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in shown.output.splitlines() if "│" in line
    }
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
