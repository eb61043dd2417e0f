"""Guardrails of routed traffic by simulation: the sample-ratio test, and the share of bad answers.

    OMP_NUM_THREADS=1 python benchmarks/ab/traffic.py [--only S7 S8 --seed 1]

Shares have Clopper and Pearson's 99 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from table import NEVER, Array, Goal, Row, ever, first, main, said, share, verdict

from financial_assets.experiment.statistics import guardrails, srm_sequential


def split_counts(rng: np.random.Generator, probability: Array | float, runs: int) -> NDArray[np.int64]:
    """Cumulated requests of both arms ``[run, look, 2]``, 5,000 requests, a look every 5."""
    one = np.cumsum(rng.binomial(5, probability, size=(runs, 1000)), axis=1)
    return np.stack([one, 5 * np.arange(1, 1001) - one], axis=-1)


def s7(rng: np.random.Generator) -> Iterator[Row]:
    """Sequential test of a 70/30 split."""
    limit, shares, prior = math.log(1000), (0.7, 0.3), srm_sequential.CONCENTRATION
    hits, naive = list[NDArray[np.bool_]](), list[NDArray[np.bool_]]()
    for _ in range(10):
        counts = split_counts(rng, 0.7, 2000)
        hits.append(ever(srm_sequential.log_bayes_factor(counts, shares) >= limit))
        n = counts.sum(axis=-1)
        naive.append(ever((np.abs(counts[..., 0] - 0.7 * n) > 3.2905 * np.sqrt(0.21 * n))[:, 19:]))
    raw, peeking = share(np.concatenate(hits)), share(np.concatenate(naive))
    # P(cross) under the weights is the mean of 1 / e at the crossing under the mixture: no rare event to wait for.
    counts = split_counts(rng, rng.beta(0.7 * prior, 0.3 * prior, size=(4000, 1)), 4000)
    log_e = srm_sequential.log_bayes_factor(counts, shares)
    at = first(log_e >= limit)
    crossing = log_e[np.arange(len(at)), np.minimum(at, 1000) - 1]
    rate = np.where(at < NEVER, np.exp(-crossing), 0.0)
    mean, half = float(rate.mean()), 2.576 * float(rate.std()) / math.sqrt(len(rate))
    measured = f"{100 * mean:.4f} % +- {100 * half:.4f} (20,000 runs counted: {said(raw)})"
    what = "SRM false alarms, 5,000 requests, a look every 5"
    control = f"chi-square at .001 every look: {said(peeking)}"
    yield Row("S7", what, "<= 0.1 %", measured, control, verdict(mean + half <= 0.001))
    counts = split_counts(rng, 0.65, 5000)
    at = first(srm_sequential.log_bayes_factor(counts, shares) >= limit)
    found = share(at <= 400)
    in95 = 5 * int(np.sort(at)[math.ceil(0.95 * len(at)) - 1])
    once = share(np.abs(counts[:, 399, 0] - 1400) > 3.2905 * math.sqrt(0.21 * 2000))
    what = f"65/35 instead of 70/30 found by 2,000 requests (95 % by {in95:,})"
    control = f"one chi-square of all 2,000: {said(once)}"
    reached = (
        "met"
        if found[1] >= 0.95
        else "NOT MET: so few requests do not suffice at .001, not even for one test at the end"
        if once[2] < 0.95
        else "NOT MET"
    )
    yield Row("S7", what, ">= 95 %", said(found), control, reached)


def s8(rng: np.random.Generator) -> Iterator[Row]:
    """Guardrail on the share of answers slower than the objective, allowed 1 %, alpha .01, a look each answer."""
    limit, n = math.log(100), np.arange(1, 5001)
    alarms = list[NDArray[np.bool_]]()
    for _ in range(10):
        calm = rng.random((2000, 5000)) < 0.01
        alarms.append(ever(guardrails.log_e_of_rate(calm, 1, 0.01) >= limit))
    found = share(np.concatenate(alarms))
    few = np.cumsum(rng.random((500, 5000)) < 0.01, axis=1)
    naive = share(ever(stats.binom.sf(few - 1, n, 0.01) < 0.01))
    what = "false rollback in 5,000 answers at exactly the allowed 1 %"
    control = f"binomial test at .01 each answer: {said(naive)}"
    yield Row("S8", what, "<= 1 %", said(found), control, verdict(found[2] <= 0.01))
    wild = rng.random((4000, 1500)) < 0.05
    at = np.sort(first(guardrails.log_e_of_rate(wild, 1, 0.01) >= limit))
    rank = 2.576 * math.sqrt(len(at)) / 2
    low, high = (int(at[round(len(at) / 2 + side * rank)]) for side in (-1, 1))
    once = next(m for m in range(10, 400) if stats.binom.sf(stats.binom.ppf(0.99, m, 0.01), m, 0.05) >= 0.5)
    what = "median answers to roll back at 5 times the allowed rate"
    measured = f"{int(np.median(at))} [{low}, {high}]"
    control = f"one binomial test, power 50 %: {once} answers"
    yield Row("S8", what, "<= 150", measured, control, verdict(high <= 150))
    arm = rng.binomial(6, 0.04, size=(20_000, 300))  # an incident of both arms, which get 14 and 6 answers a look
    both = arm + rng.binomial(14, 0.04, size=arm.shape)
    found = share(ever(guardrails.log_e_of_rate(arm, both, guardrails.fair_share(30, 70)) >= limit))
    blamed = share(ever(guardrails.log_e_of_rate(arm, 6, 0.01) >= limit))
    what = "challenger blamed for an incident of both arms (4 % fail), against the champion's rate"
    control = f"against the objective of 1 %: {said(blamed)}"
    yield Row("S8", what, "<= 1 %", said(found), control, verdict(found[2] <= 0.01))


GOALS: dict[str, Goal] = {"S7": s7, "S8": s8}

if __name__ == "__main__":
    main(GOALS, __doc__)
