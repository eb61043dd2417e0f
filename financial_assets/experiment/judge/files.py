"""A plan and two series from files, for whoever has no server."""

from __future__ import annotations

import csv
from pathlib import Path

import yaml
from pydantic import ValidationError

from financial_assets.errors import JudgeError
from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.series import Arm, Outcome

_COLUMNS = {"arm", "at", "value"}


def read_plan(path: Path) -> JudgePlan:
    """The plan in a YAML file.

    Raises
    ------
    JudgeError
        It cannot be read, or is not a plan; the field is named.
    """
    try:
        return JudgePlan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _wrong(f"{path} cannot be read as YAML ({error})") from error
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        message = str(problem["msg"]).removeprefix("Value error, ")
        raise _wrong(f"{path} is not a plan: {place}{': ' if place else ''}{message}") from error


def read_outcomes(path: Path) -> dict[Arm, list[Outcome]]:
    """The outcomes of both arms in a CSV file with the columns ``arm``, ``at``, ``value`` and perhaps ``id``.

    Raises
    ------
    JudgeError
        It cannot be read, or a line is not an outcome.
    """
    found: dict[Arm, list[Outcome]] = {"control": [], "candidate": []}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows: csv.DictReader[str] = csv.DictReader(stream)
            missing = sorted(_COLUMNS - set(rows.fieldnames or ()))
            if missing:
                raise _wrong(f"line 1 of {path}: has no column {', '.join(missing)}")
            for row in rows:
                place, arm = f"line {rows.line_num} of {path}", row["arm"]
                if arm not in ("control", "candidate"):
                    raise _wrong(f"{place}: arm must be control or candidate, not {arm!r}")
                try:
                    value = float(row["value"])
                except (TypeError, ValueError):
                    raise _wrong(f"{place}: value must be a number, not {row['value']!r}") from None
                found[arm].append(Outcome(row["at"] or "", value, row.get("id") or None))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _wrong(f"{path} cannot be read as CSV ({error})") from error
    return found


def _wrong(message: str) -> JudgeError:
    return JudgeError("invalid_file", "invalid", message, "correct the file")
