"""From two series to the differences that count: one per day, incident or request, positive if the candidate is better.

Only what is complete becomes a unit. The mean of an unfinished day changes with every answer: stopping at its best
moment would bias the test, which the mean of the whole day does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from financial_assets.errors import JudgeError
from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.series import Arm, Series
from financial_assets.experiment.statistics.asymptotic import clipped
from financial_assets.experiment.statistics.guardrails import incident_answers

_MICROSECONDS = 1_000_000
_DAY_ZERO = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, eq=False)
class Units:
    """What counts, in order.

    Attributes
    ----------
    differences
        ``[unit]``, within the plan's bound; positive: the candidate is better.
    labels
        Of the units: a day, or an instant.
    clipped
        How many differences were larger than the plan's largest.
    control, candidate
        Complete outcomes of each arm.
    left_out
        Days on which an arm had too few requests.
    requests
        Requests of control and candidate up to each unit ``[unit, 2]``; none where the split is not checked.
    """

    differences: NDArray[np.float64]
    labels: tuple[str, ...]
    clipped: int
    control: int
    candidate: int
    left_out: int = 0
    requests: NDArray[np.int64] | None = None


def units_of(plan: JudgePlan, series: dict[Arm, Series], complete: int) -> Units:
    """The units of what is complete.

    Parameters
    ----------
    plan
        Registers the unit.
    series
        Checked outcomes of both arms.
    complete
        Instant before which they are complete, see :func:`.series.watermark`.

    Raises
    ------
    JudgeError
        Requests that must be paired are not.
    """
    control, candidate = series["control"].before(complete), series["candidate"].before(complete)
    if plan.outcomes == "daily":
        days = [_day_label(day) for day in control.times.tolist()]
        return _units(plan, candidate.values - control.values, days, control, candidate)
    if plan.unit == "incident":
        return _incidents(plan, control, candidate)
    if plan.unit == "request":
        return _requests(plan, control, candidate)
    return _days(plan, control, candidate, complete)


def _units(
    plan: JudgePlan,
    raw: NDArray[np.float64],
    labels: Sequence[str],
    control: Series,
    candidate: Series,
    *,
    left_out: int = 0,
    requests: NDArray[np.int64] | None = None,
) -> Units:
    signed = raw if plan.better == "higher" else -raw
    return Units(
        differences=clipped(signed, plan.bound),
        labels=tuple(labels),
        clipped=int(np.count_nonzero(np.abs(signed) > plan.bound)),
        control=len(control.times),
        candidate=len(candidate.times),
        left_out=left_out,
        requests=requests,
    )


def _days(plan: JudgePlan, control: Series, candidate: Series, complete: int) -> Units:
    """Mean of the candidate's requests of a day minus that of the control's: a common good or bad day cancels."""
    last = _local_days(plan, np.array([complete]))[0]  # of which a part may still be to come
    days = {"control": _local_days(plan, control.times), "candidate": _local_days(plan, candidate.times)}
    inside = {arm: found < last for arm, found in days.items()}
    seen = np.union1d(days["control"][inside["control"]], days["candidate"][inside["candidate"]])
    counts, sums = (np.zeros((len(seen), 2)) for _ in range(2))
    for column, (arm, one) in enumerate((("control", control), ("candidate", candidate))):
        place = np.searchsorted(seen, days[arm][inside[arm]])
        counts[:, column] = np.bincount(place, minlength=len(seen))
        sums[:, column] = np.bincount(place, one.values[inside[arm]], minlength=len(seen))
    enough = counts.min(axis=1, initial=np.inf) >= plan.least_requests
    means = sums[enough] / counts[enough]
    kept = [_day_label(day) for day in seen[enough].tolist()]
    # All requests show how traffic is split, those of days that are left out as well.
    requests = np.cumsum(counts, axis=0, dtype=np.int64)[enough] if plan.control_share is not None else None
    left_out = int(np.count_nonzero(~enough))
    whole = (control.first(int(inside["control"].sum())), candidate.first(int(inside["candidate"].sum())))
    return _units(plan, means[:, 1] - means[:, 0], kept, *whole, left_out=left_out, requests=requests)


def _incidents(plan: JudgePlan, control: Series, candidate: Series) -> Units:
    """Whose incident it was, minus how often it would be so by the split of the requests.

    When requests are routed at random and both arms fail as often, the first bad answer of an incident is the control's
    with the probability of its share, however bad the hour is for both.
    """
    assert plan.control_share is not None
    times = np.concatenate([control.times, candidate.times])
    is_control = np.repeat([True, False], [len(control.times), len(candidate.times)])
    order = np.argsort(times, kind="stable")
    times, is_control = times[order], is_control[order]
    bad = np.concatenate([control.values, candidate.values])[order] == 1.0
    counts = incident_answers(bad, plan.incident_requests, times / _MICROSECONDS, plan.incident_seconds)
    begins = np.flatnonzero(bad & counts)
    # At one instant both may fail first: no order between the arms is known, and the incident is nobody's.
    both = np.intersect1d(times[bad & is_control], times[bad & ~is_control])
    whose = np.where(is_control[begins], 1.0, 0.0) - plan.control_share
    whose = np.where(np.isin(times[begins], both), 0.0, whose)
    requests = np.stack([np.cumsum(is_control), np.cumsum(~is_control)], axis=1)[begins]
    labels = [_instant_label(time) for time in times[begins].tolist()]
    # The sign of "better" is in it already: an incident of the control is good for the candidate.
    return _units(plan, -whose, labels, control, candidate, requests=requests)


def _requests(plan: JudgePlan, control: Series, candidate: Series) -> Units:
    """Difference of two answers to one request, in the order of the control's."""
    of_candidate = {one: place for place, one in enumerate(candidate.ids)}
    _all_paired(control, candidate)
    second = np.array([of_candidate[one] for one in control.ids], np.int64)
    labels = [_instant_label(time) for time in control.times.tolist()]
    return _units(plan, candidate.values[second] - control.values, labels, control, candidate)


def _all_paired(control: Series, candidate: Series) -> None:
    """Both answers of a request have its time, so that what is complete in one arm is complete in the other."""
    problems: list[tuple[str, str]] = []
    for arm, own, other in (("control", control, candidate), ("candidate", candidate, control)):
        times = dict(zip(other.ids, other.times.tolist(), strict=True))
        for place, (one, time) in enumerate(zip(own.ids, own.times.tolist(), strict=True)):
            if one not in times:
                problems.append((f"{arm}.{place}.id", "the other series has no answer to this request"))
            elif times[one] != time:
                problems.append((f"{arm}.{place}.at", "differs from that of the other answer to this request"))
    if problems:
        raise JudgeError(
            "invalid_series",
            "invalid",
            f"{problems[0][0]}: {problems[0][1]}",
            "send both answers of each request with the instant at which it was asked, or set complete_through to an "
            "instant before which both are there",
            problems[:50],
        )


def _local_days(plan: JudgePlan, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days since 1970 in the plan's zone."""
    if plan.time_zone == "UTC":
        return times // (86_400 * _MICROSECONDS)
    # The zone's rules are asked once for each quarter of an hour: no zone changes its clock within one.
    quarters, place = np.unique(times // (900 * _MICROSECONDS), return_inverse=True)
    days = [
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=900 * quarter)).astimezone(plan.zone).date().toordinal()
        - _DAY_ZERO
        for quarter in quarters.tolist()
    ]
    return np.array(days, np.int64)[place]


def _day_label(day: int) -> str:
    return date.fromordinal(day + _DAY_ZERO).isoformat()


def _instant_label(time: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")
