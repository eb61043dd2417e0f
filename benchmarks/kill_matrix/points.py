"""One point of the matrix: break a job off there, run it again, and compare with an undisturbed run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.kill_matrix import processes
from benchmarks.kill_matrix.boundaries import Boundary, Reaction, disk_full_from, kill_at, record, touch_at, watch
from benchmarks.kill_matrix.holdings import Difference, Holdings, compare, holdings, left_open, litter
from benchmarks.kill_matrix.jobs import Job
from benchmarks.kill_matrix.world import World

Fault = Literal["kill", "disk full", "two at once"]
FAULTS: tuple[Fault, ...] = ("kill", "disk full", "two at once")


@dataclass(frozen=True)
class Outcome:
    """What became of one point.

    Attributes
    ----------
    job, fault, boundary
        Where.
    verdict
        ``equal``; ``not reached``; or what is wrong.
    details
        The first rows that differ, or the end of what was printed; of an equal one temporary files that are left.
    seconds
        Of the broken and of the next run.
    """

    job: str
    fault: Fault
    boundary: Boundary
    verdict: str
    details: tuple[str, ...] = field(default=())
    seconds: float = 0.0

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Outcome:
        """The outcome of such a line."""
        value: dict[str, Any] = json.loads(line)
        value["boundary"] = Boundary(**value["boundary"])
        value["details"] = tuple(value["details"])
        return cls(**value)


class Bench:
    """Breaks one job off at its boundaries.

    Parameters
    ----------
    world
        The state folder; snapshots are there.
    job
        The job.
    """

    def __init__(self, world: World, job: Job) -> None:
        self.world, self.job = world, job
        self._undisturbed: list[tuple[Holdings, str]] = []

    def boundaries(self) -> tuple[Boundary, ...]:
        """All that one undisturbed run passes, in order."""
        path = self.world.folder / "boundaries" / f"{self.job.name}.jsonl"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            self.world.restore(self.job.starts)
            ended = self._run(record(partial), noting=True)
            if ended.code != 0:
                raise RuntimeError(f"{self.job.name} fails undisturbed: {ended.output[-4000:]}")
            partial.rename(path)
        return tuple(map(Boundary.from_json, path.read_text().splitlines()))

    def undisturbed(self, runs: int) -> Holdings:
        """What the state folder holds after so many runs that nothing disturbed."""
        if not self._undisturbed:
            self.world.restore(self.job.starts)
        while len(self._undisturbed) < runs:
            if self._undisturbed:  # other points came in between
                self.world.restore(self.job.starts)
                for _ in range(len(self._undisturbed)):
                    self._run()
            ended = self._run()
            if ended.code != 0:
                raise RuntimeError(f"{self.job.name} fails undisturbed: {ended.output[-4000:]}")
            self._undisturbed.append((self._ask(holdings), ""))
        return self._undisturbed[runs - 1][0]

    def break_off(self, boundary: Boundary, fault: Fault) -> Outcome:
        """Break the job off, run it again, compare."""
        if fault == "two at once":
            return self._meet(boundary)
        began = time.monotonic()
        self.world.restore(self.job.starts)
        before = self._clock()
        broken = self._run(kill_at(boundary) if fault == "kill" else disk_full_from(boundary))
        is_complete = self.job.brings_a_session and self._clock() != before

        def outcome(verdict: str, *details: str) -> Outcome:
            return Outcome(self.job.name, fault, boundary, verdict, details, time.monotonic() - began)

        if fault == "kill" and not broken.was_killed:
            return outcome("not reached" if broken.code == 0 else "failed", broken.output[-1500:])
        if fault == "disk full":
            # What escapes a command is a traceback, which must tell of the disk as any message must.
            if broken.code not in (0, 1, processes.FAILED):
                return outcome("crashed", broken.output[-1500:])
            if "no space left" not in broken.output and "disk is full" not in broken.output:
                return outcome("not told", broken.output[-1500:])
        return outcome(*self._finished(2 if is_complete else 1))

    def _meet(self, boundary: Boundary) -> Outcome:
        """Start the job a second time when its first run comes to the boundary; both must end, and one of them well."""
        began = time.monotonic()
        self.world.restore(self.job.starts)
        reached, logs = self.world.folder / "logs" / "reached", (self.world.log, self.world.log.with_name("second.log"))
        reached.unlink(missing_ok=True)
        first = processes.start(self._watched(touch_at(boundary, reached)), logs[0])
        while not reached.exists() and processes.is_alive(first):
            time.sleep(0.02)
        second = processes.start(self._watched(), logs[1])
        try:
            ends = [processes.wait(first, logs[0], began)]
        except (TimeoutError, KeyboardInterrupt):
            processes.kill(second)
            raise
        ends.append(processes.wait(second, logs[1], began))

        def outcome(verdict: str, *details: str) -> Outcome:
            return Outcome(self.job.name, "two at once", boundary, verdict, details, time.monotonic() - began)

        if not reached.exists():
            return outcome("not reached", ends[0].output[-1500:])
        good = [ended.code for ended in ends].count(0)
        if any(ended.code not in (0, 1) for ended in ends) or not good:
            return outcome("both fail", *(ended.output[-1500:] for ended in ends))
        refused = [f"refused: {ended.output.strip()[-400:]}" for ended in ends if ended.code]
        verdict, *details = self._finished(good + 1 if self.job.brings_a_session else 1)
        return outcome(verdict, *details, *refused)

    def _finished(self, runs: int) -> tuple[str, *tuple[str, ...]]:
        """Verdict and details after another run, against so many that nothing disturbed."""
        again = self._run()
        if again.code != 0:
            return "next run fails", again.output[-3000:]
        found, opened, left = self._ask(_looked_at)
        difference = compare(found, self.undisturbed(runs))
        if difference.foreign and self.job.moves_the_clock:
            difference = compare(found, self.undisturbed(1), self.undisturbed(2))
        if difference:
            return _verdict(difference), *_details(difference)
        if opened:
            return "left open", *opened
        return "equal", *(f"left until the next write: {name}" for name in left)

    def _run(self, reaction: Reaction | None = None, *, noting: bool = False) -> processes.Ended:
        return processes.run(self._watched(reaction, noting=noting), self.world.log)

    def _watched(self, reaction: Reaction | None = None, *, noting: bool = False) -> Callable[[], int]:
        home, work = self.world.home, self.job.work
        if noting:
            work = processes.note_modules(work, self.world.modules)

        def watched() -> int:
            if reaction is not None:
                watch(home, reaction)
            return work()

        return watched

    def _clock(self) -> str:
        path = self.world.home / "clock.json"
        return path.read_text() if path.exists() else ""

    def _ask(self, question: Any) -> Any:
        home = self.world.home
        return processes.ask(lambda: question(home), self.world.folder / "logs")


def _looked_at(home: Path) -> tuple[Holdings, tuple[str, ...], tuple[str, ...]]:
    return holdings(home), left_open(home), litter(home)


def _verdict(difference: Difference) -> str:
    kinds = (("lost", difference.lost), ("doubled", difference.doubled), ("different", difference.foreign))
    return ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds if rows)


def _details(difference: Difference) -> Sequence[str]:
    kinds = (("lost", difference.lost), ("doubled", difference.doubled), ("different", difference.foreign))
    first_of_part = [{row.split(": ", 1)[0]: row for row in reversed(rows)} for _, rows in kinds]
    return [
        f"{kind}: {row[:400]}" for (kind, _), rows in zip(kinds, first_of_part, strict=True) for row in rows.values()
    ]
