"""Kills every job at each of its boundaries and prints what the next run made of it, compared row by row.

    python -m benchmarks.kill_matrix [--only daily,replay] [--kind rename] [--every 3] [--fault kill] [--list]

A boundary is a commit of the prediction log or of MLflow, a rename, a file opened for writing, or a request that
changes something, each before and after. With ``--fault disk-full`` nothing can be written from there on; with
``--fault two-at-once`` the job is started a second time there, while the first goes on. Boundaries are found by running
each job once. The matrix can be interrupted: points that are done are kept in the folder.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

from benchmarks.kill_matrix import processes
from benchmarks.kill_matrix.jobs import environment, jobs
from benchmarks.kill_matrix.points import FAULTS, Bench, Fault, Outcome
from benchmarks.kill_matrix.table import choose, print_left_out, print_matrix
from benchmarks.kill_matrix.world import ROOT, World

_REPLAYED = 17


def main(given: list[str] | None = None) -> int:
    options = _arguments().parse_args(given)
    signal.signal(signal.SIGTERM, _interrupt)
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment(folder))
    os.chdir(ROOT)
    world, rows = World(folder), jobs(_REPLAYED)
    importlib.import_module("financial_assets.definitions")  # reads the environment, once for all processes
    processes.preload(world.modules)
    chosen = [rows[name] for name in options.only.split(",")] if options.only else list(rows.values())
    fault: Fault = next(one for one in FAULTS if _word(one) == options.fault)
    kinds = (options.kind or ("commit,write" if fault == "disk full" else "commit,rename,request")).split(",")
    try:
        world.prepare(rows["full_pipeline"])
        results = folder / "points.jsonl"
        done = [Outcome.from_json(line) for line in results.read_text().splitlines()] if results.exists() else []
        found = {}
        for job in chosen:
            bench = Bench(world, job)
            found[job.name] = bench.boundaries()
            of_a_part = job.of_a_part if options.of_a_part is None else options.of_a_part or None
            points = choose(found[job.name], kinds, fault, options.every, options.occurrences, of_a_part)
            if options.list:
                for point in points:
                    print(job.name, point)
                print_left_out(job.name, fault, found[job.name], points)
                continue
            known = {(one.job, one.fault, one.boundary) for one in done}
            # Those that lie far apart first: a matrix that is interrupted has seen all parts of the run.
            for point in (point for start in (0, 2, 1, 3) for point in points[start::4]):
                if (job.name, fault, point) in known and not options.again:
                    continue
                outcome = bench.break_off(point, fault)
                done.append(outcome)
                with results.open("a") as stream:
                    stream.write(f"{outcome.to_json()}\n")
                print(f"{outcome.seconds:6.1f} s  {job.name:<14} {fault} {point}: {outcome.verdict}", flush=True)
                for detail in outcome.details if outcome.verdict not in ("equal", "not reached") else ():
                    print(f"          {detail}", flush=True)
        if not options.list:
            print_matrix(found, done)
            for job in chosen:
                reached = [one for one in done if (one.job, one.fault) == (job.name, fault)]
                points = [one.boundary for one in reached if one.verdict != "not reached"]
                print_left_out(job.name, fault, found[job.name], points)
    except KeyboardInterrupt:
        print("stopped; points that are done are kept, the same command continues after them", file=sys.stderr)
        return 130
    finally:
        if not options.keep_plane:
            world.stop_plane()
    return 0 if options.list or all(one.verdict in ("equal", "not reached") for one in done) else 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _word(fault: Fault) -> str:
    return fault.replace(" ", "-")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path(".try-kill-matrix"), help="state, snapshots, finished points"
    )
    parser.add_argument("--only", default="", help="jobs, comma-separated; default: all")
    parser.add_argument("--kind", default="", help="kinds of boundary; default: commit,rename,request, or commit,write")
    parser.add_argument("--fault", choices=list(map(_word, FAULTS)), default="kill")
    parser.add_argument("--every", type=int, default=1, help="every n-th boundary only")
    parser.add_argument("--occurrences", type=int, default=3, help="of boundaries of one name, at most so many")
    parser.add_argument(
        "--of-a-part",
        type=int,
        help="of boundaries of one kind and part, at most so many; 0: any number (default: 2 for "
        "retrain and full_pipeline, which pass a thousand)",
    )
    parser.add_argument("--again", action="store_true", help="also points that are done")
    parser.add_argument("--list", action="store_true", help="print the points and break nothing off")
    parser.add_argument("--keep-plane", action="store_true", help="leave the serving plane running for the next call")
    return parser


if __name__ == "__main__":
    sys.exit(main())
