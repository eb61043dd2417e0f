"""Adaptive allocation by simulation, each figure beside a naive control.

    OMP_NUM_THREADS=1 python benchmarks/ab/allocation.py [--only S13-regret --seed 1]

Shares have Clopper and Pearson's 99 % interval, means one of 1.96 standard errors over independent runs. A year is 250
days with 10 tickers.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence

import numpy as np
from mabwiser.mab import MAB, LearningPolicy
from numpy.typing import NDArray
from rivals import FixedShares, ThompsonBeta, best_of_betas, naive_difference
from table import Goal, Row, ever, main, mean, said, share, shown, verdict

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.allocators import Allocator, Hedge, ThompsonGaussian, best_of_means
from financial_assets.experiment.allocation.contextual import advance_regimes
from financial_assets.experiment.allocation.daily import AllocationPolicy, advance, start
from financial_assets.experiment.allocation.inference import inverse_propensity_differences
from financial_assets.experiment.allocation.limits import Limits
from financial_assets.experiment.allocation.record import Health
from financial_assets.experiment.statistics.capital import log_e_process
from financial_assets.experiment.statistics.off_policy import LoggedRewards

Array = NDArray[np.float64]
DAYS, TICKERS = 250, 10
FIRST = dt.date(2020, 1, 1)
DATES = [FIRST + dt.timedelta(day) for day in range(1000)]
WELL = Health()
ALPHA = 0.05


def year(
    rng: np.random.Generator, allocator: Allocator, level: Array, edge: float, *, routed_only: bool
) -> tuple[LoggedRewards, Array]:
    """A year of two arms whose hit rates are ``level[day]`` and ``level[day] + edge``.

    The allocator sees both arms' daily hit rates, or those of the routed rows only. Returns the routed rows and the
    paired daily differences.
    """
    hits = (rng.random((DAYS, TICKERS, 2)) < np.stack([level, level + edge], axis=-1)[:, None, :]).astype(float)
    draw = rng.random((DAYS, TICKERS))
    policy = AllocationPolicy(allocator, default=(50, 50))
    state, known = start(policy), np.array([0.5, 0.5])
    weights, daily = np.empty(DAYS), hits.mean(axis=1)
    for day in range(DAYS):
        weights[day] = state.weights[1] / 100
        scores = daily[day]
        if routed_only:
            arm = draw[day] < weights[day]
            for number, on in enumerate((~arm, arm)):
                if on.any():
                    known[number] = hits[day, on, number].mean()
            scores = known
        state, _ = advance(policy, state, DATES[day], (float(scores[0]), float(scores[1])), WELL)
    challenger = draw < weights[:, None]
    score = np.where(challenger, hits[..., 1], hits[..., 0])
    sessions = np.repeat(np.arange(DAYS), TICKERS)
    share = weights[sessions]
    propensity = np.column_stack([1 - share, share])
    rows = LoggedRewards(sessions, challenger.ravel().astype(np.intp), score.ravel(), propensity)
    return rows, daily[:, 1] - daily[:, 0]


def two_sample_z(rows: LoggedRewards) -> Array:
    """The test that everybody does, after each day: two-sample z of all rows so far."""
    on = (rows.arm == 1).reshape(DAYS, TICKERS)
    hit = rows.reward.reshape(DAYS, TICKERS)
    n1, n0 = np.cumsum(on.sum(axis=1)), np.cumsum((~on).sum(axis=1))
    k1, k0 = np.cumsum((hit * on).sum(axis=1)), np.cumsum((hit * ~on).sum(axis=1))
    pooled = (k1 + k0) / (n1 + n0)
    error = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-9) * (1 / np.maximum(n1, 1) + 1 / np.maximum(n0, 1)))
    return (k1 / np.maximum(n1, 1) - k0 / np.maximum(n0, 1)) / error


def evidence(runs: Sequence[LoggedRewards]) -> Array:
    """``ipw_log_e_process`` of many runs at once ``[run, day]``."""
    daily = [inverse_propensity_differences(rows) for rows in runs]
    return log_e_process(np.stack([one.value / one.bound for one in daily]))


def s13_inference(rng: np.random.Generator) -> Iterator[Row]:
    """How often equal arms under adaptive weights are called different, and what is left of the power."""
    rows, _ = year(rng, ThompsonGaussian(), np.full(DAYS, 0.52), 0.0, routed_only=False)
    try:
        naive_difference(rows, "adaptive")
        refused = "accepted"
    except ExperimentError as error:
        refused = str(error).split(":")[0]
    yield Row("S13", "naive inference on adaptively routed rows", "refused", refused, "", verdict(refused == "refused"))
    flat, drifting = np.full(DAYS, 0.52), np.linspace(0.62, 0.42, DAYS)
    limit = math.log(1 / ALPHA)
    worlds = (
        ("Thompson on paired scores, steady market", False, flat, ThompsonGaussian()),
        ("Thompson on routed scores only, steady market", True, flat, ThompsonGaussian()),
        ("Hedge on routed scores only, steady market", True, flat, Hedge()),
        ("Thompson on paired scores, market gets harder (62 to 42 %)", False, drifting, ThompsonGaussian()),
    )
    for name, routed_only, level, allocator in worlds:
        runs = [year(rng, allocator, level, 0.0, routed_only=routed_only)[0] for _ in range(1000)]
        e = evidence(runs)
        z = np.stack([two_sample_z(rows) for rows in runs])
        found = share(ever(e >= limit))
        at_end, peeking = share(np.abs(z[:, -1]) > 1.96), share(ever(np.abs(z[:, 19:]) > 1.96))
        control = f"two-sample z: at the end {said(at_end)}, daily look {said(peeking)}"
        what = f"IPW e-process, false positives of equal arms, daily look; {name}"
        yield Row("S13", what, "<= 5 %", said(found), control, verdict(found[2] <= 0.05))
    for edge in (0.05, 0.10):
        runs = [year(rng, ThompsonGaussian(), flat, edge, routed_only=False) for _ in range(300)]
        e = evidence([rows for rows, _ in runs])
        paired = log_e_process(np.stack([difference for _, difference in runs]))
        what = f"power of that e-process in a year, challenger {100 * edge:.0f} points better"
        control = f"paired scores of the same days: {said(share(ever(paired >= limit)))}"
        yield Row("S13", what, "(told, no goal)", said(share(ever(e >= limit))), control, "")


def s13_limits(rng: np.random.Generator) -> Iterator[Row]:
    """Weights after 10,000 random posteriors of each kind."""
    limits, wrong, unlimited = Limits(), 0, 0
    arms_of = {2: (70, 30), 3: (60, 20, 20)}
    for arms, begin in arms_of.items():
        beta = now = begin
        for number in range(10_000):
            days = int(rng.integers(0, 300))
            scores = rng.normal(rng.normal(0, 0.1, arms), rng.exponential(0.2), (max(days, 1), arms))[:days]
            rest = scores - scores.mean(axis=1, keepdims=True)
            shares = best_of_means(
                days, rest.sum(axis=0).tolist(), (rest.T @ rest).ravel().tolist(), 1.0, 0.2, (number,)
            )
            after = limits.move(now, shares)
            wins = rng.uniform(0, 500, arms)
            moved = limits.move(beta, best_of_betas((1 + wins).tolist(), (501 - wins).tolist()))
            for old, new in ((now, after), (beta, moved)):
                steps = [abs(a - b) for a, b in zip(old, new, strict=True)]
                wrong += sum(new) != 100 or min(new) < 10 or max(new) > 90 or max(steps) > 10
            unlimited += max(abs(100 * s - w) for s, w in zip(shares, now, strict=True)) > 10 or min(shares) < 0.1
            now, beta = after, moved
    what = "weights outside [10, 90], not 100 together, or moved by more than 10: 4 x 10,000 random posteriors"
    control = f"shares without limits: {unlimited} of 20,000"
    yield Row("S13", what, "0", str(wrong), control, verdict(wrong == 0))


def our_regret(rng: np.random.Generator, policy: AllocationPolicy, hits: Array, edge: float, best: int) -> float:
    """Hits expected to be lost in a year against the better arm, all arms' scores being known the next day."""
    state, lost = start(policy), 0.0
    for day, scores in enumerate(hits.mean(axis=1).tolist()):
        lost += TICKERS * edge * state.weights[1 - best] / 100
        state, _ = advance(policy, state, DATES[day % 1000] + dt.timedelta(1000 * (day // 1000)), scores, WELL)
    return lost


def reference_regret(rng: np.random.Generator, hits: Array, edge: float, best: int, floor: float) -> float:
    """The same of mabwiser's Thompson sampling, which learns from the rows that it routed, as a bandit does."""
    bandit = MAB([0, 1], LearningPolicy.ThompsonSampling(), seed=int(rng.integers(2**31)))
    bandit.fit([0, 1], [0, 0])
    lost = 0.0
    for day in range(hits.shape[0]):
        arms = [bandit.predict() for _ in range(TICKERS)]
        explored = rng.random(TICKERS) < 2 * floor
        arms = [int(rng.integers(2)) if random else arm for random, arm in zip(explored, arms, strict=True)]
        lost += edge * sum(arm != best for arm in arms)
        bandit.partial_fit(arms, [int(hits[day, row, arm]) for row, arm in enumerate(arms)])
    return lost


def s13_regret(rng: np.random.Generator) -> Iterator[Row]:
    """Regret against the better arm, beside a bandit library's Thompson sampling."""
    allocators: tuple[Allocator, ...] = (ThompsonGaussian(), ThompsonBeta(), Hedge(), FixedShares((0.5, 0.5)))
    for edge, runs in ((0.02, 60), (0.05, 60), (0.10, 60)):
        ours: dict[str, list[float]] = {allocator.name: [] for allocator in allocators}
        free, floored = list[float](), list[float]()
        for run in range(runs):
            best = run % 2
            rates = np.full(2, 0.5)
            rates[best] += edge
            hits = (rng.random((DAYS, TICKERS, 2)) < rates).astype(float)
            for allocator in allocators:
                policy = AllocationPolicy(allocator, default=(50, 50))
                ours[allocator.name].append(our_regret(rng, policy, hits, edge, best))
            free.append(reference_regret(rng, hits, edge, best, 0.0))
            floored.append(reference_regret(rng, hits, edge, best, 0.1))
        for name in ("thompson-gaussian", "thompson-beta", "hedge"):
            same = ratio_of_means(np.array(ours[name]), np.array(floored))
            what = f"regret in a year / reference Thompson with the same floor, edge {100 * edge:.0f} points; {name}"
            lost = f"hits lost of 2,500: ours {np.mean(ours[name]):.1f}, reference {np.mean(floored):.1f}"
            control = f"{lost}, fixed 50/50 {np.mean(ours['fixed']):.1f}"
            yield Row("S13", what, "<= 1.2", shown(same), control, verdict(same[2] <= 1.2))
        ratio = ratio_of_means(np.array(ours["thompson-gaussian"]), np.array(free))
        what = f"the same / reference without a floor, edge {100 * edge:.0f} points; thompson-gaussian"
        control = f"hits lost: reference {np.mean(free):.1f}; our floor alone costs {0.1 * edge * DAYS * TICKERS:.1f}"
        price = "" if ratio[2] <= 1.2 else ": the price of the floor, without which nothing could be inferred"
        yield Row("S13", what, "<= 1.2", shown(ratio), control, verdict(ratio[2] <= 1.2) + price)


def ratio_of_means(first: Array, second: Array) -> tuple[float, float, float]:
    """Ratio of two means over the same runs, with an interval by the delta method."""
    ratio = float(first.mean() / second.mean())
    half = 1.96 * float((first - ratio * second).std(ddof=1)) / (math.sqrt(first.size) * float(second.mean()))
    return ratio, ratio - half, ratio + half


def s13_contextual(rng: np.random.Generator) -> Iterator[Row]:
    """When regimes are worth having: two years of three regimes that last, against the best fixed arm."""
    regimes = ("low", "mid", "high")
    worlds = {
        "arms change places (+5, 0, -5 points)": (0.05, 0.0, -0.05),
        "strongly (+15, 0, -15 points)": (0.15, 0.0, -0.15),
        "one arm is better everywhere (+5 points)": (0.05, 0.05, 0.05),
    }
    days, policy = 500, AllocationPolicy(ThompsonGaussian(), default=(50, 50))
    for name, edges in worlds.items():
        gains: dict[str, list[float]] = {"contextual": [], "plain": [], "oracle": []}
        for _ in range(60):
            current, path = int(rng.integers(3)), np.empty(days, dtype=int)
            for day in range(days):
                current = int(rng.integers(3)) if rng.random() < 1 / 40 else current
                path[day] = current
            edge = np.array(edges)[path]
            rates = np.stack([np.full(days, 0.5), 0.5 + edge], axis=-1)
            scores = (rng.random((days, TICKERS, 2)) < rates[:, None, :]).mean(axis=1)
            plain, contextual = start(policy), {regime: start(policy) for regime in regimes}
            earned = {"plain": 0.0, "contextual": 0.0}
            for day, row in enumerate(scores.tolist()):
                regime = regimes[path[day]]
                earned["plain"] += edge[day] * plain.weights[1] / 100
                earned["contextual"] += edge[day] * contextual[regime].weights[1] / 100
                plain, _ = advance(policy, plain, DATES[day], row, WELL)
                contextual, _ = advance_regimes(policy, contextual, DATES[day], {regime: row}, WELL)
            best_arm = max(0.0, float(edge.sum()))
            for kind, value in earned.items():
                gains[kind].append(100 * (value - best_arm) / days)
            gains["oracle"].append(100 * (float(np.maximum(edge, 0).sum()) - best_arm) / days)
        told = mean(gains["contextual"])
        control = (
            f"one experiment: {shown(mean(gains['plain']))}; regimes and arms known: {shown(mean(gains['oracle']))}"
        )
        what = f"hits gained in 100 requests against the best fixed arm, contextual Thompson; {name}"
        yield Row("S13", what, "(told, no goal)", shown(told), control, "")


GOALS: dict[str, Goal] = {
    "S13-limits": s13_limits,
    "S13-inference": s13_inference,
    "S13-regret": s13_regret,
    "S13-contextual": s13_contextual,
}

if __name__ == "__main__":
    main(GOALS, __doc__)
