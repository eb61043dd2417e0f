"""``financial-assets prices check``: what would be read from files, and what is wrong with them, without a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from financial_assets.cli.main import main

Check = Callable[..., Result]
HEADER = "date,ticker,open,high,low,close,volume,adj_close\n"
ROWS = "".join(f"2020-01-{day:02d},AAA,10,11,9,10.{day},10{day:02d},10.{day}\n" for day in (2, 3, 6))


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TICKERS", "AAA")
    return lambda *arguments: CliRunner().invoke(main, ["prices", "check", *arguments])


def test_sound_files_are_listed_and_nothing_is_stored(check: Check, tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(HEADER + ROWS)
    shown = check("bars.csv")
    assert shown.exit_code == 0
    for part in ("bars.csv", "AAA", "3", "2020-01-02", "2020-01-06", "columns of a price frame", "column"):
        assert part in shown.output
    assert "3 rows pass all checks of prices" in shown.output
    assert [path.name for path in tmp_path.iterdir()] == ["bars.csv"]


def test_every_fault_is_named_once_with_its_count(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKERS", "AAA,ZZZ")
    (tmp_path / "AAA.csv").write_text(HEADER + ROWS.replace("10,11,9", "0,11,9"))
    for name in ("B", "C", "E"):
        (tmp_path / f"{name}.csv").write_text("")
    (tmp_path / "G.csv").write_text(HEADER.replace(",adj_close", "").replace("ticker,", "") + "2020-01-02,1,1,1,1,1\n")
    shown = check(".")
    assert shown.exit_code == 1
    assert shown.output.count("is empty") == 1
    assert "The same in 2 more: C.csv, E.csv" in shown.output
    assert "Set ADJUSTMENT to what its close is" in shown.output
    assert shown.output.count("AAA waits: 3 rows cannot be used (2020-01-02 to 2020-01-06): open is not positive") == 1
    assert "or decide in QUALITY_OVERRIDES: drop, repair or accept these rows" in shown.output
    assert "of TICKERS not there: ZZZ" in shown.output


def test_tickers_of_covariates_are_looked_for_too(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bars.csv").write_text(HEADER + ROWS + ROWS.replace("AAA", "^VIX"))
    monkeypatch.setenv("TICKERS", "AAA,ZZZ")
    monkeypatch.setenv("COVARIATES", "^VIX, ^TNX - ^VIX")
    shown = check("bars.csv").output
    assert "of TICKERS not there: ZZZ; set TICKERS to what is, e.g. TICKERS=AAA\n" in shown
    assert "of COVARIATES not there: ^TNX; without them a run fails" in shown
    monkeypatch.setenv("UNIVERSE_FILE", "universe.csv")
    (tmp_path / "universe.csv").write_text("ticker\nAAA\nBBB\n")
    assert "of UNIVERSE_FILE not there: BBB; correct it" in check("bars.csv").output


def test_without_files_those_of_the_setting_are_looked_at(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "PRICE_FILES: not set" in check().output
    (tmp_path / "bars.csv").write_text("date;open;high;low;close;volume\n03/02/2020;1;1;1;1;1\n")
    for name, value in {"PRICE_SOURCE": "files", "PRICE_FILES": "bars.csv", "ADJUSTMENT": "none"}.items():
        monkeypatch.setenv(name, value)
    assert "is ambiguous: '03/02/2020' is 2020-02-03 (dmy) or 2020-03-02 (mdy)" in check().output
    monkeypatch.setenv("DATE_ORDER", "mdy")
    shown = check()
    assert shown.exit_code == 0
    assert "2020-03-02" in shown.output
    assert "ADJUSTMENT=none" in shown.output
