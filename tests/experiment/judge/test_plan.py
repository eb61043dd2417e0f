"""A plan says all that is asked of it, or names the field that is wrong; its digest is that of the whole."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from financial_assets.experiment.judge.plan import JudgePlan, is_name
from tests.experiment.judge.builders import incident_plan, plan, requests_plan


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"unit": "request"}, "unit"),
        ({"low": None}, "low, high"),
        ({"low": 1, "high": 0}, "low, high"),
        ({"low": float("nan")}, "low"),
        ({"high": float("inf")}, "high"),
        ({"low": None, "high": None, "effect": None, "deviation": None}, "largest_difference"),
        ({"largest_difference": 2}, "largest_difference"),
        ({"effect": None}, "effect, deviation"),
        ({"effect": 0.5}, "effect"),
        ({"effect": 0.03, "least_gain": 0.04}, "effect"),
        ({"least_gain": 0.39}, "least_gain"),
        ({"tolerated_loss": 0.39}, "tolerated_loss"),
        ({"tolerated_loss": -0.1}, "tolerated_loss"),
        ({"horizon": 5}, "horizon"),
        ({"alpha": 0.5}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"control_share": 0.5}, "control_share"),
        ({"outcomes": "requests", "unit": "request", "control_share": 0.5}, "control_share"),
        ({"outcomes": "requests", "unit": "incident"}, "unit"),
        ({"outcomes": "requests", "unit": "incident", "better": "lower"}, "control_share"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"starts": "2026-01-01T00:00:00"}, "starts"),
        ({"unit_reason": ""}, "unit_reason"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        plan(**changes)
    (problem, *_) = caught.value.errors()
    place = ".".join(str(part) for part in problem["loc"])
    assert place == field or (not place and problem["msg"].removeprefix("Value error, ").startswith(f"{field}:"))


def test_the_digest_is_that_of_every_field() -> None:
    made = plan()
    assert made.digest == plan(alpha=made.alpha, time_zone="UTC").digest  # defaults are part of it
    changed = [plan(alpha=0.01), plan(better="lower"), plan(tolerated_loss=0.01), plan(revision="a"), plan(high=2)]
    changed += [plan(starts="2026-01-01T00:00:00Z"), requests_plan(), incident_plan(), plan(unit_reason="Another one.")]
    assert len({made.digest, *(one.digest for one in changed)}) == len(changed) + 1
    assert plan(starts="2026-01-01T00:00:00Z").digest == plan(starts="2026-01-01T01:00:00+01:00").digest
    assert JudgePlan.model_validate(made.model_dump(mode="json")) == made


def test_the_largest_difference_is_eight_deviations_where_values_allow_more() -> None:
    assert plan().bound == pytest.approx(0.4)
    assert plan(deviation=0.2).bound == 1.0
    assert plan(effect=None, deviation=None).bound == 1.0
    assert plan(largest_difference=0.2).bound == 0.2
    assert incident_plan().bound == 1.0


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a/b", "a b", "..", "a" * 129, "ä", "a\n"])
def test_a_name_is_a_file_name_and_a_part_of_a_url(name: str) -> None:
    assert not is_name(name)
    assert is_name("checkout-v4.2_b")
