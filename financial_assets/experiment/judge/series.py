"""Outcomes as they come, checked: the series of one arm, with the place of everything that is wrong."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from financial_assets.errors import JudgeError
from financial_assets.experiment.judge.plan import JudgePlan

Arm = Literal["control", "candidate"]
ARMS: tuple[Arm, Arm] = ("control", "candidate")

CLOCK_SKEW = timedelta(seconds=60)
"""Clocks of clients may be fast by so much."""
_MOST_PROBLEMS = 50
_LONGEST_ID = 128
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ZERO = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome, as a client says it.

    Attributes
    ----------
    at
        A day (``2026-01-05``) of daily outcomes, else the instant of the request with its offset
        (``2026-01-05T09:30:00Z``).
    value
        What was observed.
    id
        Of the request; pairs two answers to the same request.
    """

    at: str
    value: float
    id: str | None = None


@dataclass(frozen=True, eq=False)
class Series:
    """Outcomes of one arm, in order.

    Attributes
    ----------
    times
        Microseconds since 1970 (UTC), or days since 1970 of daily outcomes ``[outcome]``; never falling.
    values
        ``[outcome]``.
    ids
        Of requests that are paired, else empty.
    """

    times: NDArray[np.int64]
    values: NDArray[np.float64]
    ids: tuple[str, ...] = ()

    def before(self, instant: int) -> Series:
        """Outcomes earlier than ``instant``, in units of :attr:`times`."""
        return self.first(int(np.searchsorted(self.times, instant, side="left")))

    def first(self, count: int) -> Series:
        """The first ``count`` outcomes."""
        return Series(self.times[:count], self.values[:count], self.ids[:count])

    def digest(self) -> str:
        """SHA-256 of times, values and ids, to the last bit."""
        found = hashlib.sha256(len(self.times).to_bytes(8, "big"))
        found.update(np.ascontiguousarray(self.times, ">i8").tobytes())
        found.update(np.ascontiguousarray(self.values, ">f8").tobytes())
        for one in self.ids:
            found.update(len(one).to_bytes(4, "big") + one.encode("utf-8", "surrogatepass"))
        return found.hexdigest()


class _Complaints:
    """Collects what is wrong, and where."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, field: str, message: str) -> None:
        if len(self.found) < _MOST_PROBLEMS:
            self.found.append((field, message))

    def raise_any(self) -> None:
        if self.found:
            field, message = self.found[0]
            more = f" (and {len(self.found) - 1} more)" if len(self.found) > 1 else ""
            raise JudgeError(
                "invalid_series",
                "invalid",
                f"{field}: {message}{more}",
                "correct the fields in `problems`; nothing was judged",
                self.found,
            )


def read_series(
    plan: JudgePlan,
    outcomes: Mapping[Arm, Sequence[Outcome]],
    *,
    start: datetime,
    now: datetime,
) -> dict[Arm, Series]:
    """The two series of a request.

    Parameters
    ----------
    plan
        Says what the series hold.
    outcomes
        Of both arms.
    start
        First instant whose outcomes count.
    now
        Nothing may be later, but for :data:`CLOCK_SKEW`.

    Raises
    ------
    JudgeError
        Anything is malformed, missing, doubled, out of order, out of bounds, before the plan or in the future; each
        place is named.
    """
    complaints = _Complaints()
    found: dict[Arm, Series] = {arm: _one(plan, arm, outcomes[arm], start, now, complaints) for arm in ARMS}
    if not complaints.found and plan.outcomes == "daily":
        _same_days(outcomes, complaints)
    complaints.raise_any()
    return found


def watermark(plan: JudgePlan, series: dict[Arm, Series], complete_through: datetime | None, now: datetime) -> int:
    """The instant before which both series are complete, in units of their times; 0 while nothing is.

    Without word from the client it is the earlier one of the two last times: each series is in order, so that nothing
    that is still to come can be earlier than its last outcome.

    Raises
    ------
    JudgeError
        ``complete_through`` lies in the future, or belongs to daily outcomes, which are complete.
    """
    if plan.outcomes == "daily":
        if complete_through is not None:
            _refuse_through("daily outcomes are complete as they are: leave it out")
        return int(series["control"].times[-1]) + 1 if len(series["control"].times) else 0
    if complete_through is not None:
        if complete_through > now + CLOCK_SKEW:
            _refuse_through(f"lies in the future: the server's clock says {now:%Y-%m-%dT%H:%M:%SZ}")
        return _microseconds(complete_through)
    return min(int(one.times[-1]) if len(one.times) else 0 for one in series.values())


def _refuse_through(message: str) -> None:
    complaints = _Complaints()
    complaints.add("complete_through", message)
    complaints.raise_any()


def _one(
    plan: JudgePlan, arm: Arm, outcomes: Sequence[Outcome], start: datetime, now: datetime, complaints: _Complaints
) -> Series:
    daily, paired = plan.outcomes == "daily", plan.unit == "request"
    first, last = (_day_span if daily else _instant_span)(plan, start, now)
    times, values = np.empty(len(outcomes), np.int64), np.empty(len(outcomes), np.float64)
    seen: set[str] = set()
    before: int | None = None
    for place, outcome in enumerate(outcomes):
        field = f"{arm}.{place}"
        at = _day(outcome.at) if daily else _instant(outcome.at)
        if at is None:
            kind = "a day, YYYY-MM-DD" if daily else "an instant with its offset, such as 2026-01-05T09:30:00Z"
            complaints.add(f"{field}.at", f"must be {kind}")
        else:
            if at < first:
                complaints.add(f"{field}.at", _before_plan(plan, start))
            if at > last:
                complaints.add(f"{field}.at", f"lies in the future: the server's clock says {now:%Y-%m-%dT%H:%M:%SZ}")
            if before is not None and at <= before and (daily or at < before):
                doubled = at == before
                complaints.add(f"{field}.at", "is there twice" if doubled else "is earlier than the one before it")
            before = times[place] = at
        if (message := _wrong_value(plan, outcome.value)) is not None:
            complaints.add(f"{field}.value", message)
        values[place] = outcome.value
        if paired and outcome.id is None:
            complaints.add(f"{field}.id", "is missing: two answers to one request are paired by it")
        if outcome.id is not None:
            if not 0 < len(outcome.id) <= _LONGEST_ID:
                complaints.add(f"{field}.id", f"must have 1 to {_LONGEST_ID} characters")
            if outcome.id in seen:
                complaints.add(f"{field}.id", "is there twice")
            seen.add(outcome.id)
    ids = tuple(outcome.id or "" for outcome in outcomes) if paired else ()
    return Series(times, values, ids)


def _wrong_value(plan: JudgePlan, value: float) -> str | None:
    if not math.isfinite(value):
        return "must be a finite number"
    if plan.low is not None and plan.high is not None and not plan.low <= value <= plan.high:
        return f"must lie between the plan's low and high ({plan.low:g} and {plan.high:g})"
    if plan.unit == "incident" and value not in (0.0, 1.0):
        return "must be 0 (a good answer) or 1 (a bad one)"
    return None


def _before_plan(plan: JudgePlan, start: datetime) -> str:
    whole = "; a day counts if all of it does" if plan.outcomes == "daily" else ""
    return (
        f"lies before the test begins ({start:%Y-%m-%dT%H:%M:%SZ}): a plan must come before its data{whole}. Past data "
        "need a plan with `retrospective`, which no deployment acts on"
    )


def _same_days(outcomes: Mapping[Arm, Sequence[Outcome]], complaints: _Complaints) -> None:
    days = {arm: {outcome.at for outcome in outcomes[arm]} for arm in ARMS}
    for arm, other in (ARMS, ARMS[::-1]):
        for place, outcome in enumerate(outcomes[arm]):
            if outcome.at not in days[other]:
                complaints.add(f"{arm}.{place}.at", f"the series {other} has no outcome of this day")


def _day_span(plan: JudgePlan, start: datetime, now: datetime) -> tuple[int, int]:
    local = start.astimezone(plan.zone)
    begins = local.date().toordinal() + (local.timetz().replace(tzinfo=None) > datetime.min.time())
    return begins - _DAY_ZERO, (now + CLOCK_SKEW).astimezone(plan.zone).date().toordinal() - _DAY_ZERO


def _instant_span(plan: JudgePlan, start: datetime, now: datetime) -> tuple[int, int]:
    return _microseconds(start), _microseconds(now + CLOCK_SKEW)


def _day(text: str) -> int | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found.toordinal() - _DAY_ZERO if found.isoformat() == text else None


def _instant(text: str) -> int | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else _microseconds(found)


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND
