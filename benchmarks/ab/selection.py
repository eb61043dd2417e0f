"""The best of many strategies without skill: what the deflated Sharpe ratio and its second opinion say of it.

    OMP_NUM_THREADS=1 python benchmarks/ab/selection.py [--seed 1]

Shares have Clopper and Pearson's 99 % interval, means one of 1.96 standard errors over independent runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from overfitting import backtest_overfitting
from table import Goal, Row, main, mean, said, share, shown, verdict

from financial_assets.portfolio.selection import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    probabilistic_sharpe_ratio,
)


def s12(rng: np.random.Generator) -> Iterator[Row]:
    """Deflated Sharpe ratio and probability of backtest overfitting on strategies without skill."""
    naive, deflated = list[bool](), list[bool]()
    for _ in range(1000):
        returns = rng.standard_t(5, (504, 100)) * 0.01
        ratios = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
        best = returns[:, int(np.argmax(ratios))]
        naive.append(probabilistic_sharpe_ratio(best) >= 0.95)
        deflated.append(deflated_sharpe_ratio(best, 100, float(ratios.var(ddof=1))) >= 0.95)
    passed = share(np.array(deflated))
    what = "best of 100 noise strategies (t5, 504 days) passes DSR >= .95, 1,000 times"
    yield Row(
        "S12",
        what,
        "<= 5 %",
        said(passed),
        f"PSR of the winner alone: {said(share(np.array(naive)))}",
        verdict(passed[2] <= 0.05),
    )
    benchmark = expected_maximum_sharpe(100, 0.5 / 250)
    found = probabilistic_sharpe(2.5 / math.sqrt(250), benchmark, 1250, -3, 10)
    what = "worked example of Bailey and López de Prado (2014): SR0 .1132, DSR .9004"
    undeflated = probabilistic_sharpe(2.5 / math.sqrt(250), 0.0, 1250, -3, 10)
    met = abs(benchmark - 0.1132) <= 1e-4 and abs(found - 0.9004) <= 1e-4
    yield Row("S12", what, "to 1e-4", f"{benchmark:.4f}, {found:.4f}", f"not deflated: {undeflated:.4f}", verdict(met))
    noise = [backtest_overfitting(rng.standard_t(5, (504, 100)), blocks=12).probability for _ in range(300)]
    skilled = [
        backtest_overfitting(rng.standard_t(5, (504, 100)) + np.r_[0.3, np.zeros(99)], blocks=12).probability
        for _ in range(30)
    ]
    spread = (
        f"of one set of returns: 5 to 95 % quantile {np.quantile(noise, 0.05):.2f} to {np.quantile(noise, 0.95):.2f}"
    )
    value = mean(noise)
    what = "PBO of 100 noise strategies, mean of 300 sets"
    annual = 0.3 / math.sqrt(5 / 3) * math.sqrt(252)
    control = f"one strategy with an annual Sharpe of {annual:.1f}: {np.mean(skilled):.2f}; {spread}"
    yield Row("S12", what, ".45 to .55", shown(value), control, verdict(value[1] >= 0.45 and value[2] <= 0.55))


GOALS: dict[str, Goal] = {"S12": s12}

if __name__ == "__main__":
    main(GOALS, __doc__)
