"""Plans and series for tests of the judge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.series import Arm, Outcome, read_series, watermark
from financial_assets.experiment.judge.units import Units, units_of

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=800)
REASON = "Days are independent of one another."


def plan(**changes: Any) -> JudgePlan:
    """Daily outcomes between 0 and 1."""
    values = {"outcomes": "daily", "unit_reason": REASON, "low": 0, "high": 1, "effect": 0.03, "deviation": 0.05}
    return JudgePlan.model_validate(values | changes)


def requests_plan(**changes: Any) -> JudgePlan:
    return plan(outcomes="requests", **changes)


def incident_plan(**changes: Any) -> JudgePlan:
    values = {
        "outcomes": "requests",
        "unit": "incident",
        "unit_reason": "A crash fails many requests at once.",
        "low": 0,
        "high": 1,
        "better": "lower",
        "control_share": 0.5,
    }
    return JudgePlan.model_validate(values | changes)


def day(number: int) -> str:
    return (date(2026, 1, 1) + timedelta(days=number)).isoformat()


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def daily(values: Sequence[float], first: int = 0) -> list[Outcome]:
    return [Outcome(day(first + number), float(value)) for number, value in enumerate(values)]


def both(control: Sequence[Outcome], candidate: Sequence[Outcome]) -> dict[Arm, Sequence[Outcome]]:
    return {"control": control, "candidate": candidate}


def days_of_two(count: int, edge: float, seed: int = 0) -> dict[Arm, Sequence[Outcome]]:
    """Daily outcomes of a candidate that is better by ``edge`` on average."""
    rng = np.random.default_rng(seed)
    control = np.clip(rng.normal(0.5, 0.1, count), 0, 1)
    return both(daily(control.tolist()), daily(np.clip(control + rng.normal(edge, 0.05, count), 0, 1).tolist()))


def first_of(outcomes: dict[Arm, Sequence[Outcome]], count: int) -> dict[Arm, Sequence[Outcome]]:
    return both(outcomes["control"][:count], outcomes["candidate"][:count])


def units(made: JudgePlan, outcomes: dict[Arm, Sequence[Outcome]], complete_through: datetime | None = None) -> Units:
    series = read_series(made, outcomes, start=START, now=LATER)
    return units_of(made, series, watermark(made, series, complete_through, LATER))
