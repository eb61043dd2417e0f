"""What counts once: days, incidents, pairs of answers; and nothing before it is complete."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import JudgeError
from financial_assets.experiment.judge.series import Outcome
from tests.experiment.judge.builders import (
    START,
    at,
    both,
    daily,
    first_of,
    incident_plan,
    plan,
    requests_plan,
    units,
)

DAY = 86_400


def test_a_day_is_the_difference_of_the_arms_means() -> None:
    control = [Outcome(at(1), 0.2), Outcome(at(2), 0.4), Outcome(at(DAY + 1), 1.0), Outcome(at(2 * DAY), 0.5)]
    candidate = [Outcome(at(3), 0.5), Outcome(at(DAY + 2), 0.0), Outcome(at(2 * DAY), 0.5)]
    made = requests_plan(largest_difference=1)
    found = units(made, both(control, candidate))
    assert found.differences == pytest.approx([0.2, -1.0])
    assert found.labels == ("2026-01-01", "2026-01-02")
    assert (found.control, found.candidate) == (3, 2)
    lower = units(requests_plan(largest_difference=1, better="lower"), both(control, candidate))
    assert lower.differences == pytest.approx([-0.2, 1.0])


def test_the_last_day_counts_once_it_is_over() -> None:
    requests = [Outcome(at(second), 0.5) for second in (1, DAY + 1, DAY + 2)]
    assert len(units(requests_plan(), both(requests, requests)).labels) == 1
    assert len(units(requests_plan(), both(requests, requests), START + timedelta(days=2)).labels) == 2
    # One arm that goes on says nothing of the other.
    assert len(units(requests_plan(), both(requests, requests[:1])).labels) == 0


def test_days_are_those_of_the_plans_zone() -> None:
    requests = [Outcome(at(hour * 3600), 0.5) for hour in range(72)]
    assert units(requests_plan(), both(requests, requests)).labels == ("2026-01-01", "2026-01-02")
    eastern = units(requests_plan(time_zone="America/New_York"), both(requests, requests)).labels
    assert eastern == ("2025-12-31", "2026-01-01", "2026-01-02")


def test_a_day_on_which_an_arm_is_missing_is_left_out_and_counted() -> None:
    control = [Outcome(at(number * DAY + 1), 0.5) for number in range(4)]
    candidate = [one for number, one in enumerate(control) if number != 1]
    found = units(requests_plan(), both(control, candidate))
    assert (found.labels, found.left_out) == (("2026-01-01", "2026-01-03"), 1)
    assert units(requests_plan(least_requests=2), both(control, candidate)).left_out == 3


def test_what_is_larger_than_the_largest_difference_is_clipped_and_counted() -> None:
    found = units(plan(), both(daily([0.0, 0.5]), daily([1.0, 0.6])))
    assert found.differences == pytest.approx([0.4, 0.1])
    assert found.clipped == 1


def test_an_incident_counts_once_and_for_the_arm_that_failed_first() -> None:
    control = [Outcome(at(second), float(second in (10, 500))) for second in range(0, 1000, 10)]
    candidate = [Outcome(at(second), float(300 < second < 340)) for second in range(5, 1000, 10)]
    found = units(incident_plan(), both(control, candidate))
    assert found.differences.tolist() == [0.5, -0.5, 0.5]  # the candidate's four bad answers are one incident
    longer = units(incident_plan(incident_requests=4), both(control, candidate))
    assert longer.differences.tolist() == [0.5, -0.5, -0.5, 0.5]
    uneven = units(incident_plan(control_share=0.9), both(control, candidate))
    assert uneven.differences == pytest.approx([0.1, -0.9, 0.1])


def test_an_incident_of_both_arms_at_one_instant_is_nobodys() -> None:
    both_fail = [Outcome(at(1), 1.0), Outcome(at(900), 0.0)]
    assert units(incident_plan(), both(both_fail, both_fail)).differences.tolist() == [0.0]


def test_answers_are_paired_by_the_request() -> None:
    made = requests_plan(unit="request")
    control = [Outcome(at(1), 0.2, "a"), Outcome(at(2), 0.3, "b"), Outcome(at(3), 0.0, "c")]
    candidate = [Outcome(at(1), 0.3, "a"), Outcome(at(2), 0.1, "b"), Outcome(at(3), 0.0, "c")]
    assert units(made, both(control, candidate)).differences == pytest.approx([0.1, -0.2])
    for changed, field in (
        ([candidate[0], Outcome(at(2), 0.1, "x"), candidate[2]], "control.1.id"),
        ([candidate[0], candidate[2]], "control.1.id"),
        ([Outcome(at(1.5), 0.3, "a"), *candidate[1:]], "control.0.at"),
    ):
        with pytest.raises(JudgeError) as caught:
            units(made, both(control, changed))
        assert caught.value.problems[0][0] == field


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["day", "incident", "request"]))
def test_more_outcomes_change_no_earlier_unit(seed: int, unit: str) -> None:
    """Whatever prefix is sent, its units are the first ones of the whole: polls see one test grow, and no other."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, 4 * DAY, 60))
    values = rng.integers(0, 2, (2, 60)).astype(float)
    if unit == "request":
        made = requests_plan(unit="request", largest_difference=1)
        outcomes = both(
            *(
                [Outcome(at(int(s)), v, str(i)) for i, (s, v) in enumerate(zip(seconds, arm, strict=True))]
                for arm in values
            )
        )
    else:
        made = incident_plan() if unit == "incident" else requests_plan(largest_difference=1)
        arms = [np.sort(rng.integers(0, 4 * DAY, 60)) for _ in range(2)]
        outcomes = both(
            *(
                [Outcome(at(int(s)), v) for s, v in zip(arm, of_arm, strict=True)]
                for arm, of_arm in zip(arms, values, strict=True)
            )
        )
    whole = units(made, outcomes)
    for count in (1, 7, 30, 59):
        part = units(made, first_of(outcomes, count))
        assert part.labels == whole.labels[: len(part.labels)]
        assert part.differences.tolist() == whole.differences[: len(part.labels)].tolist()
