"""What a command imports before it answers: seconds at every call, so it is held to what the command needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from financial_assets.cli.main import main
from financial_assets.experiment.arms import Arm
from financial_assets.installation import open_installation
from financial_assets.settings import load_settings

SCRIPT = """
import json, sys
from financial_assets.cli.main import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
print(json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]))
"""
NEVER = {"torch", "dagster", "scipy", "mlflow", "sklearn", "statsmodels", "matplotlib", "onnxruntime"}
SLOW = NEVER | {"pandas", "numpy", "sqlalchemy", "pydantic", "rich", "httpx"}


def run(folder: Path, *commands: list[str], **variables: str) -> tuple[int, str, set[str]]:
    """Exit code of the last command, what was printed, and the packages that are imported after it."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", "PYTHONPATH")}
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        cwd=folder,
        env=inherited | {"FINANCIAL_ASSETS_HOME": str(folder / "home")} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    code, packages = json.loads(child.stdout.splitlines()[-1])
    return code, child.stdout + child.stderr, set(packages)


def test_help_imports_nothing_but_click(tmp_path: Path) -> None:
    code, _, packages = run(tmp_path, ["--help"], *([name, "--help"] for name in main.commands))
    assert code == 0
    assert packages & SLOW == set()
    assert "click" in packages


def test_an_unknown_ticker_is_refused_before_anything_slow_is_imported(tmp_path: Path) -> None:
    code, printed, packages = run(tmp_path, ["signal", "nope"], TICKERS="AAPL,MSFT")
    assert code == 1
    assert "TICKERS: NOPE is not in the universe (AAPL, MSFT); to add it, append it to TICKERS and run" in printed
    assert packages & (SLOW - {"pydantic"}) == set()


@pytest.mark.parametrize("name", ["status", "stop"])
def test_a_plane_that_does_not_run_needs_no_data_stack(tmp_path: Path, name: str) -> None:
    _, printed, packages = run(tmp_path, [name])
    assert ("no plane runs" if name == "status" else "nothing was running") in printed
    assert packages & (SLOW - {"pydantic", "rich", "httpx"}) == set()


def test_the_doctor_imports_what_the_layers_need_that_it_reaches(tmp_path: Path) -> None:
    code, printed, packages = run(tmp_path, ["doctor"])
    assert code == 1
    assert "first broken: state folder" in printed
    assert packages & NEVER == set()


def test_a_signal_needs_neither_torch_nor_dagster_nor_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path / "home"))
        for name, value in {"PRICE_SOURCE": "simulated", "SIMULATED_SESSIONS": "400", "TICKERS": "AAA,BBB"}.items():
            patch.setenv(name, value)
        installation = open_installation(load_settings())
        installation.market.ingest()
        installation.market.begin(installation.market.whole_panel().sessions)
        with installation.ab_test.log() as log:
            arm = Arm("baseline-predictor-v1", "baseline", 1, "champion", 100, pd.Timestamp("2000-01-03"))
            log.open_epoch(installation.ab_test.policy().experiment, (arm,), "start", after=0)
    code, printed, packages = run(tmp_path, ["signal", "AAA", "--request"], ["signal", "AAA"])
    assert '"inputs"' in printed, "source and universe come from the state folder"
    assert code == 1
    assert "no plane runs" in printed, "everything before the gateway was done"
    assert packages & NEVER == set()


def test_looking_at_files_of_prices_needs_nothing_of_the_models(tmp_path: Path) -> None:
    (tmp_path / "AAA.csv").write_text("date,open,high,low,close,volume,adj_close\n2020-01-02,10,11,9,10.5,1000,10.25\n")
    code, printed, packages = run(tmp_path, ["prices", "check", "AAA.csv"])
    assert code == 0
    assert "1 rows pass" in printed
    assert packages & NEVER == set()
