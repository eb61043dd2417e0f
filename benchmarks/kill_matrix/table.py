"""Which boundaries are points of the matrix, and the matrix as a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.kill_matrix.boundaries import Boundary
from benchmarks.kill_matrix.points import FAULTS, Fault, Outcome

KINDS = ("commit", "rename", "write", "request")


def choose(
    boundaries: Sequence[Boundary],
    kinds: Iterable[str],
    fault: Fault,
    every: int,
    occurrences: int,
    of_a_part: int | None = None,
) -> list[Boundary]:
    """The points of a job: of each name the first, the last, and as many between them as ``occurrences`` leaves.

    Where ``of_a_part`` is given, the same holds for all names of one part (``Boundary.part``): a run that makes three
    models and moves through many sessions passes a thousand boundaries, which are the same few dozen again and again.

    A full disk refuses what has not been done yet, and requests and renames need no room: its points are those before
    commits and writes.
    """
    by_name = defaultdict[tuple[str, str, str], list[Boundary]](list)
    for boundary in boundaries:
        if boundary.kind in kinds and (
            fault != "disk full" or (boundary.side == "before" and boundary.kind in ("commit", "write"))
        ):
            by_name[boundary.kind, boundary.name, boundary.side].append(boundary)
    kept = {point for points in by_name.values() for point in _spread(points, occurrences)}
    points = [boundary for boundary in boundaries if boundary in kept]
    if of_a_part is not None:
        by_part = defaultdict[tuple[str, str], list[Boundary]](list)
        for point in points:
            by_part[point.kind, point.part].append(point)
        kept = {point for part in by_part.values() for point in _spread(part, of_a_part)}
        points = [point for point in points if point in kept]
    # With an even step all would lie on one side of their boundaries: then one further every other time.
    places = (place + (turn % 2 if every % 2 == 0 else 0) for turn, place in enumerate(range(0, len(points), every)))
    return [points[place] for place in places if place < len(points)]


def _spread(points: list[Boundary], count: int) -> list[Boundary]:
    if len(points) <= count:
        return points
    places = {round(place * (len(points) - 1) / max(count - 1, 1)) for place in range(count)}
    return [points[place] for place in sorted(places)]


def print_left_out(job: str, fault: Fault, boundaries: Sequence[Boundary], points: Sequence[Boundary]) -> None:
    """What was not broken off, by kind and part."""
    sides = ("before",) if fault == "disk full" else ("before", "after")
    kinds = ("commit", "write") if fault == "disk full" else ("commit", "rename", "request")
    possible = Counter((one.kind, one.part) for one in boundaries if one.kind in kinds and one.side in sides)
    missing = possible - Counter((point.kind, point.part) for point in points)
    if not missing:
        return
    print(f"{job}, {fault}: {missing.total()} of {possible.total()} boundaries are left out")
    for kind in kinds:
        parts = (f"{part} {count} of {possible[kind, part]}" for (of, part), count in missing.items() if of == kind)
        if text := ", ".join(parts):
            print(f"  {kind}s: {text}")


def print_matrix(found: Mapping[str, Sequence[Boundary]], outcomes: Sequence[Outcome]) -> None:
    """A line per job, fault and kind: boundaries, points, verdicts, seconds."""
    print(f"\n{'job':<15}{'fault':<13}{'kind':<9}{'boundaries':>10}{'points':>8}{'equal':>7}{'seconds':>9}  otherwise")
    for job, boundaries in found.items():
        for fault, kind in ((fault, kind) for fault in FAULTS for kind in KINDS):
            of_kind = [one for one in outcomes if (one.job, one.fault, one.boundary.kind) == (job, fault, kind)]
            reached = [one for one in of_kind if one.verdict != "not reached"]
            if not reached:
                continue
            verdicts = Counter(one.verdict for one in reached)
            equal = verdicts.pop("equal", 0)
            other = ", ".join(f"{count} x {verdict}" for verdict, count in verdicts.items()) or "-"
            count = sum(boundary.kind == kind for boundary in boundaries)
            print(f"{job:<15}{fault:<13}{kind:<9}{count:>10}{len(reached):>8}{equal:>7}"
                  f"{sum(one.seconds for one in reached):>9.0f}  {other}")  # fmt: skip
    reached = [one for one in outcomes if one.job in found and one.verdict != "not reached"]
    print(f"{len(reached)} points, {sum(one.verdict == 'equal' for one in reached)} equal, "
          f"{sum(one.seconds for one in reached):.0f} s")  # fmt: skip
