"""How long a command takes before it answers, as a multiple of the imports that it cannot do without.

Processor seconds of child processes, the median of several, each command alternating with its rival so that both see
the same machine. Goals: ``--help`` at most 1.5 times click and rich, ``status`` without a plane at most 1.5 times
pandas and SQLAlchemy. The state folder does not exist, so the doctor's walk is short.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from financial_assets.cli.main import main as commands

ROUNDS = 9
CLICK, DATA = "import click, rich", "import pandas, sqlalchemy"
GOAL = 1.5


def processor_seconds(arguments: list[str], folder: str) -> float:
    """User and system seconds of one child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"FINANCIAL_ASSETS_HOME": f"{folder}/home", "DAGSTER_HOME": ""}
    subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    program = str(Path(sys.executable).with_name("financial-assets"))
    cases = [(["--help"], CLICK), *(([name, "--help"], CLICK) for name in commands.commands)]
    cases += [(["status"], DATA), (["stop"], DATA), (["signal", "NOPE"], DATA), (["doctor"], DATA)]
    with tempfile.TemporaryDirectory() as folder:
        for arguments, rival in cases:
            times = [
                (
                    processor_seconds([program, *arguments], folder),
                    processor_seconds([sys.executable, "-c", rival], folder),
                )
                for _ in range(ROUNDS)
            ]
            own, other = (statistics.median(column) for column in zip(*times, strict=True))
            verdict = "" if own <= GOAL * other else f"   above {GOAL}"
            print(f"{' '.join(arguments):16} {own / other:5.2f} times `{rival}` ({own:.3f} s / {other:.3f} s){verdict}")


if __name__ == "__main__":
    main()
