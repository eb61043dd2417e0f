"""The command ``judge``: a plan and two series from files."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from financial_assets.cli.main import main

PLAN = {
    "outcomes": "daily",
    "unit_reason": "Days are independent of one another.",
    "low": 0,
    "high": 1,
    "effect": 0.05,
    "deviation": 0.05,
}


def csv(days: int = 100, edge: float = 0.05) -> str:
    rows = ["arm,at,value"]
    for arm, more in (("control", 0.0), ("candidate", edge)):
        for number in range(days):
            day = date(2025, 1, 1) + timedelta(days=number)
            rows.append(f"{arm},{day},{0.5 + more + 0.05 * (number % 3 - 1):.3f}")
    return "\n".join(rows) + "\n"


def run(folder: Path, series: str, plan: object = PLAN, *options: str) -> Result:
    (folder / "plan.yaml").write_text(plan if isinstance(plan, str) else yaml.safe_dump(plan))
    (folder / "series.csv").write_text(series)
    return CliRunner().invoke(main, ["judge", str(folder / "plan.yaml"), str(folder / "series.csv"), *options])


def test_it_says_the_verdict_in_a_sentence_or_as_json(tmp_path: Path) -> None:
    shown = run(tmp_path, csv())
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("Promote: the candidate is shown to be better at 2025-")
    values = json.loads(run(tmp_path, csv(edge=-0.05), PLAN, "--json").output)
    assert (values["verdict"], len(values["plan_digest"])) == ("rollback", 64)
    assert run(tmp_path, csv(3)).output.startswith("Hold: 3 days so far")
    assert run(tmp_path, "arm,at,value\n").output.startswith("Hold: no day is complete yet.")


@pytest.mark.parametrize(
    ("series", "plan", "message"),
    [
        ("arm,at\n", PLAN, "has no column value"),
        ("", PLAN, "has no column arm, at, value"),
        ("arm,at,value\nboth,2025-01-01,1\n", PLAN, "line 2 of"),
        ("arm,at,value\ncontrol,2025-01-01,much\n", PLAN, "value must be a number, not 'much'"),
        ("arm,at,value\ncontrol,2025-01-01\n", PLAN, "value must be a number, not None"),
        ("arm,at,value\ncontrol,2025-01-01,nan\n", PLAN, "control.0.value: must be a finite number"),
        ("arm,at,value\ncontrol,2025-01-01,0.5\n", PLAN, "control.0.at: the series candidate has no outcome"),
        (csv(), PLAN | {"high": None}, "is not a plan: low, high: give both or neither"),
        (csv(), PLAN | {"unit": "week"}, "is not a plan: unit:"),
        (csv(), "[", "cannot be read as YAML"),
        (csv(), "plan", "is not a plan"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, series: str, plan: object, message: str) -> None:
    found = run(tmp_path, series, plan)
    assert found.exit_code == 1
    assert message in " ".join(found.output.split())
