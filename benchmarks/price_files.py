"""Damaged files of prices: each gives an error of ours or the true bars, never a traceback or a wrong number.

``python benchmarks/price_files.py [--files 10000] [--seed 1]`` writes files of every form that ``vendor_files.forms``
knows, damages them, and reads them. A table counts the outcomes by kind of damage. It ends with 1 on a traceback, on a
bar that is not among the true ones, and on a history with a hole that the damage did not make. A negative control, a
reader that takes every number for what it looks like (``pandas.read_csv``), must deliver wrong bars.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from vendor_files.trials import Outcome, naive_outcome, prepared, trial

MOST_SHOWN = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    counts: Counter[tuple[str, str]] = Counter()
    failures: list[Outcome] = []
    naive: Counter[str] = Counter()
    folder = Path(tempfile.mkdtemp())
    try:
        samples = prepared(folder / "forms", rng)
        for _ in range(arguments.files):
            outcome = trial(samples, folder / "trial", rng)
            counts[outcome.damage, outcome.kind] += 1
            failures += [outcome] if outcome.is_failure else []
            naive[naive_outcome(folder / "trial", outcome)] += 1
    finally:
        shutil.rmtree(folder)
    table = pd.Series(counts).unstack(fill_value=0)
    print(table.to_string())
    print(f"\n{len(samples)} forms, {arguments.files:,} files, {len(failures)} failures")
    print(f"naive reader: {dict(naive)}")
    for outcome in failures[:MOST_SHOWN]:
        print(f"{outcome.kind}: {outcome.form}, {outcome.damage}: {outcome.detail}")
    sys.exit(1 if failures or not naive["wrong"] else 0)


if __name__ == "__main__":
    main()
