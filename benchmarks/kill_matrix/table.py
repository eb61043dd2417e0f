"""Which boundaries are points of the matrix, and the matrix as a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.kill_matrix.boundaries import Boundary
from benchmarks.kill_matrix.points import Fault, Outcome

KINDS = ("commit", "rename", "write", "request")


def choose(
    boundaries: Sequence[Boundary], kinds: Iterable[str], fault: Fault, every: int, occurrences: int
) -> list[Boundary]:
    """The points of a job: of each name the first, the last, and as many between them as ``occurrences`` leaves.

    A full disk refuses what has not been done yet, and requests and renames need no room: its points are those before
    commits and writes.
    """
    by_name = defaultdict[tuple[str, str, str], list[Boundary]](list)
    for boundary in boundaries:
        if boundary.kind in kinds and (
            fault == "kill" or (boundary.side == "before" and boundary.kind in ("commit", "write"))
        ):
            by_name[boundary.kind, boundary.name, boundary.side].append(boundary)
    kept = {point for points in by_name.values() for point in _spread(points, occurrences)}
    points = [boundary for boundary in boundaries if boundary in kept]
    # With an even step all would lie on one side of their boundaries: then one further every other time.
    places = (place + (turn % 2 if every % 2 == 0 else 0) for turn, place in enumerate(range(0, len(points), every)))
    return [points[place] for place in places if place < len(points)]


def _spread(points: list[Boundary], count: int) -> list[Boundary]:
    if len(points) <= count:
        return points
    places = {round(place * (len(points) - 1) / max(count - 1, 1)) for place in range(count)}
    return [points[place] for place in sorted(places)]


def print_matrix(found: Mapping[str, Sequence[Boundary]], outcomes: Sequence[Outcome]) -> None:
    """A line per job and fault: boundaries by kind, points, verdicts, seconds."""
    print(f"\n{'job':<15}{'fault':<11}" + "".join(f"{kind + 's':>10}" for kind in KINDS) + f"{'points':>8}{'equal':>7}"
          + f"{'seconds':>9}  otherwise")  # fmt: skip
    for job, boundaries in found.items():
        for fault in ("kill", "disk full"):
            of_job = [one for one in outcomes if (one.job, one.fault) == (job, fault) and one.verdict != "not reached"]
            if not of_job:
                continue
            kinds = Counter(boundary.kind for boundary in boundaries)
            verdicts = Counter(one.verdict for one in of_job)
            equal = verdicts.pop("equal", 0)
            other = ", ".join(f"{count} x {verdict}" for verdict, count in verdicts.items()) or "-"
            print(f"{job:<15}{fault:<11}" + "".join(f"{kinds[kind]:>10}" for kind in KINDS)
                  + f"{len(of_job):>8}{equal:>7}{sum(one.seconds for one in of_job):>9.0f}  {other}")  # fmt: skip
    reached = [one for one in outcomes if one.verdict != "not reached"]
    print(f"{len(reached)} points, {sum(one.verdict == 'equal' for one in reached)} equal, "
          f"{sum(one.seconds for one in reached):.0f} s")  # fmt: skip
