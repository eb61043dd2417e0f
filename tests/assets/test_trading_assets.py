"""The assets ``paper_book`` and ``orders``, run by Dagster in this process over a finished state folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from benchmarks.desk.home import make_home, write_signals
from financial_assets.assets.trading.orders import orders
from financial_assets.assets.trading.paper_book import paper_book
from financial_assets.installation import open_installation
from financial_assets.market.clock import HistoricalClock
from financial_assets.resources import make_resources
from financial_assets.settings import Settings, load_settings
from tests.assets.alone import execute_checks, verdicts
from tests.assets.conftest import Outcome

Run = Callable[[], Outcome]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trading") / "home"
    make_home(folder, foresight=0.03)
    return folder


@pytest.fixture
def settings(finished: Path, tmp_path: Path) -> Settings:
    shutil.copytree(finished, tmp_path / "home")
    return load_settings(financial_assets_home=tmp_path / "home", orders_per_name=0.4)


@pytest.fixture
def run(settings: Settings, instance: dg.DagsterInstance) -> Run:
    def execute() -> Outcome:
        found = make_resources(settings)
        result = dg.materialize(
            [paper_book, orders],
            resources={name: found[name] for name in ("market", "ab_test", "trading")},
            instance=instance,
            raise_on_error=False,
        )
        return Outcome(result, instance)

    return execute


def passed(outcome: Outcome, asset: str) -> dict[str, bool]:
    return {name: check.passed for name, check in outcome.checks(asset).items()}


def test_a_session_of_the_desk(run: Run, settings: Settings) -> None:
    first = run()
    assert first.success, first.failure_text
    assert passed(first, "orders") == {"chain": True, "within_limits": True, "made": True}
    assert passed(first, "paper_book") == {"chain": True, "reconciles": True}
    shown = first.metadata("orders")
    assert shown["dagster/row_count"] > 0
    assert "by itself the signal says" in shown["orders"]
    assert shown["SHA-256"] == first.data_version("orders")
    assert Path(shown["file"]).is_file()
    again = run()
    assert again.data_version("orders") == first.data_version("orders")
    assert again.data_version("paper_book") == first.data_version("paper_book")

    later = again
    for _ in range(2):
        market = make_resources(settings)["market"]
        clock, whole = market.clock(), market.whole_panel().sessions
        assert isinstance(clock, HistoricalClock)
        clock.advance_to(whole[whole > clock.now()][0])
        write_signals(open_installation(settings))
        later = run()
        assert later.success, later.failure_text
    book = later.metadata("paper_book")
    assert "whole lots, dividends in cash" in book["reconciliation"]
    assert "| BUY |" in first.metadata("orders")["orders"]
    assert later.checks("paper_book")["reconciles"].passed
    assert book["profit since the account was opened"] != 0


def test_under_a_halt_the_check_warns_and_the_run_goes_on(run: Run, settings: Settings) -> None:
    make_resources(settings)["trading"].switch.halt("a test", "me")
    outcome = run()
    assert outcome.success
    assert passed(outcome, "orders") == {"chain": True, "within_limits": True, "made": False}
    made = outcome.checks("orders")["made"]
    assert made.severity is dg.AssetCheckSeverity.WARN
    assert "a test" in str(made.description)
    assert outcome.metadata("orders")["dagster/row_count"] == 0
    assert any("HALTED" in warning for warning in outcome.warnings)


def test_a_broken_chain_stops_the_run_and_is_named(run: Run) -> None:
    path = Path(run().metadata("orders")["file"])
    path.write_text(path.read_text().replace("BUY", "SELL"))
    outcome = run()
    assert not outcome.success
    assert "the record of the desk is broken" in outcome.failure_text
    assert "were edited" in outcome.failure_text
    assert outcome.materialized == set()


def test_the_checks_alone_read_the_record_of_the_desk(
    run: Run, settings: Settings, instance: dg.DagsterInstance
) -> None:
    found = make_resources(settings)
    resources = {name: found[name] for name in ("market", "ab_test", "trading")}
    for asset, lacks in ((paper_book, "materialize `paper_book`"), (orders, "materialize `orders`")):
        nothing = execute_checks(asset, resources, instance)
        assert not nothing.success
        assert lacks in nothing.failure_text
    made = run()
    ledger = found["trading"].paper.path.read_bytes()
    for asset in (paper_book, orders):
        alone = execute_checks(asset, resources, instance)
        assert alone.success, alone.failure_text
        assert verdicts(alone, asset) == verdicts(made, asset) != {}
    assert found["trading"].paper.path.read_bytes() == ledger
    path = Path(made.metadata("orders")["file"])
    path.write_text(path.read_text().replace("BUY", "SELL"))
    for asset in (paper_book, orders):
        broken = execute_checks(asset, resources, instance)
        assert not broken.success, "the check blocks"
        assert {name for name, (passed, *_) in verdicts(broken, asset).items() if passed} == set()
        assert "were edited" in str(broken.checks(asset.key.to_user_string())["chain"].description)
