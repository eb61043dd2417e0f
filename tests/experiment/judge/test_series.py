"""Series are taken as they are, or each wrong place is named and nothing is judged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import JudgeError
from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.series import Outcome, read_series, watermark
from tests.experiment.judge.builders import LATER, START, at, both, daily, day, incident_plan, plan, requests_plan

GOOD = daily([0.1, 0.2])
REQUESTS = [Outcome(at(1), 0.5), Outcome(at(2), 0.5)]
PAIRED = requests_plan(unit="request")


def wrong(made: JudgePlan, control: Sequence[Outcome], candidate: Sequence[Outcome]) -> list[tuple[str, str]]:
    with pytest.raises(JudgeError) as caught:
        read_series(made, both(control, candidate), start=START, now=LATER)
    assert caught.value.kind == "invalid"
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("made", "candidate", "field", "message"),
    [
        (plan(), daily([0.1]), "control.1.at", "no outcome of this day"),
        (plan(), [*GOOD, *daily([0.3], 2)], "candidate.2.at", "no outcome of this day"),
        (plan(), [GOOD[0], GOOD[0]], "candidate.1.at", "twice"),
        (plan(), GOOD[::-1], "candidate.1.at", "earlier than the one before"),
        (plan(), daily([0.1, float("nan")]), "candidate.1.value", "finite"),
        (plan(), daily([0.1, float("inf")]), "candidate.1.value", "finite"),
        (plan(), daily([0.1, 1.01]), "candidate.1.value", "between the plan's low and high"),
        (plan(), [Outcome("2026-01-01T00:00:00Z", 0.1), GOOD[1]], "candidate.0.at", "a day"),
        (plan(), [Outcome("2026-02-30", 0.1), GOOD[1]], "candidate.0.at", "a day"),
        (plan(), [Outcome("", 0.1), GOOD[1]], "candidate.0.at", "a day"),
        (plan(), daily([0.1, 0.2], -1), "candidate.0.at", "before the test begins"),
        (plan(), daily([0.1, 0.2], 800), "candidate.1.at", "future"),
    ],
)
def test_daily_outcomes(made: JudgePlan, candidate: Sequence[Outcome], field: str, message: str) -> None:
    found = dict(wrong(made, GOOD, candidate))
    assert message in found[field]


@pytest.mark.parametrize(
    ("made", "candidate", "field", "message"),
    [
        (requests_plan(), [Outcome("2026-01-01T00:00:00", 0.5)], "candidate.0.at", "instant with its offset"),
        (requests_plan(), [Outcome("2026-01-01", 0.5)], "candidate.0.at", "instant with its offset"),
        (requests_plan(), [Outcome("now", 0.5)], "candidate.0.at", "instant with its offset"),
        (requests_plan(), [Outcome(at(-1), 0.5)], "candidate.0.at", "before the test begins"),
        (requests_plan(), [Outcome(at(800 * 86_400 + 61), 0.5)], "candidate.0.at", "future"),
        (requests_plan(), [Outcome(at(2), 0.5), Outcome(at(1), 0.5)], "candidate.1.at", "earlier"),
        (requests_plan(), [Outcome(at(1), 0.5, "a"), Outcome(at(1), 0.5, "a")], "candidate.1.id", "twice"),
        (incident_plan(), [Outcome(at(1), 0.5)], "candidate.0.value", "0 (a good answer) or 1"),
        (PAIRED, [Outcome(at(1), 0.5)], "candidate.0.id", "is missing"),
        (PAIRED, [Outcome(at(1), 0.5, "")], "candidate.0.id", "1 to 128 characters"),
    ],
)
def test_requests(made: JudgePlan, candidate: Sequence[Outcome], field: str, message: str) -> None:
    found = dict(wrong(made, [], candidate))
    assert message in found[field]


def test_a_flood_of_wrong_places_is_cut() -> None:
    found = wrong(requests_plan(), [], [Outcome("?", float("nan"))] * 1000)
    assert len(found) == 50


def test_two_requests_of_one_instant_are_two() -> None:
    series = read_series(requests_plan(), both(REQUESTS, [REQUESTS[0], REQUESTS[0]]), start=START, now=LATER)
    assert len(series["candidate"].times) == 2


def test_a_day_counts_if_all_of_it_does() -> None:
    noon = START + timedelta(hours=12)
    for zone, first in (("UTC", day(1)), ("Pacific/Auckland", day(1)), ("America/New_York", day(1))):
        made = plan(time_zone=zone)
        with pytest.raises(JudgeError, match="before the test begins"):
            read_series(made, both(daily([0.1]), daily([0.1])), start=noon, now=LATER)
        later = [Outcome(day(2), 0.1)]
        assert read_series(made, both(later, later), start=noon, now=LATER)["control"].times.size == 1
        assert first == "2026-01-02"


def test_what_is_complete_is_what_lies_before_the_earlier_end() -> None:
    made = requests_plan()
    series = read_series(made, both(REQUESTS, REQUESTS[:1]), start=START, now=LATER)
    assert watermark(made, series, None, LATER) == int(START.timestamp() + 1) * 1_000_000
    assert len(series["control"].before(watermark(made, series, None, LATER)).times) == 0
    assert watermark(made, series, START + timedelta(seconds=9), LATER) == int(START.timestamp() + 9) * 1_000_000
    with pytest.raises(JudgeError, match="complete_through: lies in the future"):
        watermark(made, series, LATER + timedelta(hours=1), LATER)
    with pytest.raises(JudgeError, match="complete_through: daily outcomes"):
        watermark(plan(), series, START, LATER)


@given(st.text(max_size=40), st.floats(), st.none() | st.text(max_size=10))
def test_no_outcome_breaks_the_reader(text: str, value: float, name: str | None) -> None:
    for made in (plan(), requests_plan(), incident_plan(), PAIRED):
        one = [Outcome(text, value, name)]
        with suppress(JudgeError):
            read_series(made, both(one, one), start=START, now=LATER)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(0, 5), st.floats(0, 1))
def test_the_digest_sees_every_change(values: list[float], place: int, other: float) -> None:
    place %= len(values)
    changed = [*values[:place], other, *values[place + 1 :]]
    first, second = (
        read_series(plan(), both(daily(one), daily(one)), start=START, now=LATER)["control"]
        for one in (values, changed)
    )
    same = all(str(a) == str(b) for a, b in zip(values, changed, strict=True))
    assert (first.digest() == second.digest()) == same
    assert first.first(1).digest() != first.digest()
