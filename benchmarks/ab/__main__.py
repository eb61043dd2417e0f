"""All goals of the A/B engine in one table, each with its interval and a naive control.

OMP_NUM_THREADS=1 python benchmarks/ab [--only S2 S7 --seed 1 --workers 2]
"""

import sys

import allocation
import decision
import error_rates
import judge
import off_policy
import questions
import scale
import selection
import traffic
import whole_rule
from table import main

if __name__ == "__main__":
    timed = {**scale.GOALS, **questions.GOALS}
    statistics = {
        **error_rates.GOALS,
        **traffic.GOALS,
        **selection.GOALS,
        **allocation.GOALS,
        **off_policy.GOALS,
        **judge.GOALS,
    }
    goals = {**statistics, **decision.GOALS, **whole_rule.GOALS, **timed}
    sys.exit(main(goals, __doc__, alone=tuple(timed)) > 0)
