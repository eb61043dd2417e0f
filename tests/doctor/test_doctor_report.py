"""What a person sees of the doctor's findings: a short table, and below it everything that needs action in full."""

from __future__ import annotations

import io

from rich.console import Console

from financial_assets.doctor import Finding, report

ADDRESS = "http://tracking.example.org:5000/a/rather/long/path/that/does/not/fit/into/a/column"
LONG = f"cannot open the store (MLFLOW_TRACKING_URI={ADDRESS}): no connection; " + "more words " * 40
FINDINGS = (
    Finding("settings", "ok", "2 tickers"),
    Finding("MLflow", "broken", LONG.strip(), "start the server"),
    Finding("gateway", "not reached", "needs MLflow"),
)


def shown(findings: tuple[Finding, ...]) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(report.as_table(findings))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_long_finding_takes_few_rows_of_the_table_and_is_whole_below_it() -> None:
    table, _, below = shown(FINDINGS).rpartition("┘")
    rows = [line for line in table.splitlines() if line.startswith("│")]
    assert len(rows) <= 2 + 5
    assert "…" not in table
    assert "".join(LONG.split()) in "".join(below.split())
    assert "fix: start the server" in below


def test_programs_keep_the_key_that_they_know() -> None:
    plain = report.as_json(FINDINGS)
    assert (plain["healthy"], plain["first_broken"]) == (False, "MLflow")
    assert plain["layers"][0] == {"layer": "settings", "state": "ok", "said": "2 tickers", "remedy": ""}
