"""Writes the results page: the walk-forward of all variants and baselines on bundled, simulated or your own prices.

python -m benchmarks.results --output docs/results.md
python -m benchmarks.results --prices mine.parquet --variants baseline,linear --output mine.md

It can be interrupted: folds that are there are reused. Only the simulated world and the bundled sample make the page of
the manual; prices of your own make one of their own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from benchmarks.results.page import results_page
from benchmarks.results.walks import DEFAULT_VARIANTS, compute, walk_over
from benchmarks.results.worlds import World, sample_world, simulated_world, world_of_files
from financial_assets.atomic import atomic_path
from financial_assets.errors import FinancialAssetsError
from financial_assets.models.walk_forward.folds import FoldPlan

PLANS = {"sample": FoldPlan(), "simulated": FoldPlan(splits=3, test_sessions=50)}
"""As many decisions in both; the simulated universe is larger, so that it is fitted less often."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="page to write")
    parser.add_argument("--folder", type=Path, default=Path(".try-results"), help="where finished folds are kept")
    parser.add_argument("--variants", default=",".join(DEFAULT_VARIANTS), help="comma-separated")
    parser.add_argument("--splits", type=int, help="folds; default: 5, and 3 of the simulated universe")
    parser.add_argument("--test-sessions", type=int, help="decisions of a fold; default: 30, and 50 of the simulated")
    parser.add_argument("--max-epochs", type=int, help="at most so many epochs; default: as production")
    parser.add_argument("--prices", type=Path, help="file of prices of your own, instead of sample and simulated")
    parser.add_argument("--tickers", default="", help="of --prices, comma-separated; default: all")
    parser.add_argument("--end", type=pd.Timestamp, help="last session of --prices that is read")
    return parser


def main(given: list[str] | None = None) -> int:
    options = arguments().parse_args(given)
    try:
        text = _page(options)
        with atomic_path(options.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except FinancialAssetsError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished folds are kept, the same command continues after them", file=sys.stderr)
        return 130
    print(options.output)
    return 0


def _page(options: argparse.Namespace) -> str:
    variants = _listed(options.variants)
    walks = [
        (world, walk_over(world, _plan(world, options), variants, folder=options.folder, max_epochs=options.max_epochs))
        for world in _worlds(options)
    ]
    for world, walk in walks:
        compute(walk, world)
    return results_page(walks, "make results" if options.prices is None else "python -m benchmarks.results --prices")


def _worlds(options: argparse.Namespace) -> list[World]:
    if options.prices is None:
        return [sample_world(), simulated_world()]
    return [world_of_files(options.prices, _listed(options.tickers), options.end)]


def _plan(world: World, options: argparse.Namespace) -> FoldPlan:
    plan = PLANS.get(world.name, FoldPlan())
    return FoldPlan(
        splits=plan.splits if options.splits is None else options.splits,
        test_sessions=plan.test_sessions if options.test_sessions is None else options.test_sessions,
    )


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
