"""What the verifier of passports finds: a thousand tamperings, as they are and with digests made to fit.

OMP_NUM_THREADS=1 python -m benchmarks.passports [--times 1000 --seed 1]

A short test is decided session by session until it promotes. Its passport is changed, a file, a kind and a place at a
time, and must be found broken; in the second column the forger has made the list of digests fit, and the verifier knows
the owner's public key. Then a hundred decisions, of this test and of one without a winner, are exported twice each.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from tests.experiment.rollout.builders import BASE, SECOND, THIRD
from tests.passports.builders import SealedTest, load_verifier, write_files
from tests.passports.tampering import KINDS, tamper


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1000, help="Tamperings of each kind of forger.")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    verifier, rng = load_verifier(), np.random.default_rng(chosen.seed)
    with tempfile.TemporaryDirectory() as name:
        test = SealedTest.start(make_folder(Path(name) / "state"))
        decisions = test.play(15)
        (promotion,) = [decision for decision in decisions if decision.action == "promote"]
        folder = write_files(Path(name) / "passport", test.passport(promotion))
        untouched = verifier.verify(folder, test.key)[1]
        print(f"untouched: exit status {untouched}")
        print("| tampering | found | found, digests made to fit |\n| --- | --- | --- |")
        counts = Counter[tuple[str, bool, bool]]()
        for forge in (False, True):
            for _ in range(chosen.times):
                file, kind, found = tamper(verifier, folder, rng, key=test.key, forge=forge)
                counts[kind, forge, found] += 1
                if not found:
                    print(f"NOT FOUND: {kind} in {file}, digests made to fit: {forge}")
        for kind in (*KINDS, "all"):
            cells = [
                [
                    sum(n for (k, f, ok), n in counts.items() if f == forge and kind in (k, "all") and ok >= only)
                    for only in (True, False)
                ]
                for forge in (False, True)
            ]
            print(f"| {kind} | " + " | ".join(f"{found:,} of {all_:,}" for found, all_ in cells) + " |")
        even = SealedTest.start(make_folder(Path(name) / "even"))
        undecided = even.play(41, dict.fromkeys((BASE, SECOND, THIRD), 0.5))
        asked = [(test, one) for one in decisions] + [(even, one) for one in undecided]
        equal = [world.passport(one) == world.passport(one) for world, one in asked[:100]]
        print(f"{sum(equal)} of {len(equal)} decisions are exported equal byte for byte twice")
        even.log.close()
        test.log.close()


if __name__ == "__main__":
    main()
