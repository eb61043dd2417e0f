"""Error rates, power and coverage of the decision statistics, by simulation, each beside a naive control.

    OMP_NUM_THREADS=1 python benchmarks/ab/error_rates.py [--only S4 S7 --seed 1]

Worlds are simulated as daily mean differences of two models' scores: the evidence parts of a decision without gateway
and log. Intervals are Clopper and Pearson's at 99 % where a share is measured. "met" compares the goal with the bound
named in the row; a goal that no method can reach is shown beside what the best possible one reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import ville
from many_tests import two_sided_log_e
from numpy.typing import NDArray
from scipy import stats
from table import NEVER, Array, Goal, Row, ever, first, main, running_z, said, share, verdict

from financial_assets.experiment.statistics import bernstein, srm_sequential
from financial_assets.experiment.statistics.asymptotic import asymptotic_interval, asymptotic_radius, precision_for
from financial_assets.experiment.statistics.capital import log_e_process, planned_stakes
from financial_assets.experiment.statistics.group_sequential import GroupSequentialDesign, z_of_t


def accuracy_days(
    rng: np.random.Generator,
    shape: tuple[int, int],
    tickers: int,
    rho: float,
    edge: Array | float,
    q: Array | float = 0.3,
) -> Array:
    """Daily mean differences in accuracy of two models that disagree on a share ``q`` of rows.

    A disagreement is won by the challenger with a probability that a common shock of the day moves, so that two of them
    correlate by ``rho``.
    """
    disagreements = rng.binomial(tickers, q, size=shape)
    shock = rng.choice((-1.0, 1.0), size=shape)
    favour = np.clip(0.5 * (1 + edge / q + shock * math.sqrt(rho)), 0, 1)
    return (2 * rng.binomial(disagreements, favour) - disagreements) / tickers


def heavy_days(
    rng: np.random.Generator, shape: tuple[int, int], tickers: int, rho: float, scale: Array | float
) -> Array:
    """Daily mean differences of a loss with Student's t tails (3 degrees of freedom), not clipped."""
    common = rng.standard_t(3, size=shape) / math.sqrt(3)
    own = rng.standard_t(3, size=(min(tickers, 10), *shape)).mean(axis=0) * math.sqrt(min(tickers, 10) / (3 * tickers))
    return scale * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own)


def regimes(rng: np.random.Generator, shape: tuple[int, int], calm: float, wild: float) -> Array:
    """A level a day that stays 40 days on average before it changes."""
    switches = np.cumsum(rng.random(shape) < 1 / 40, axis=1) + rng.integers(0, 2, size=(shape[0], 1))
    return np.where(switches % 2 == 0, calm, wild)


def s1(rng: np.random.Generator) -> Iterator[Row]:
    """False positives when looking daily, for each correlation, tail and number of tickers."""
    shape = (5000, 500)
    limit, worst, best_naive, cells = math.log(1 / 0.05), (0.0, 0.0, 0.0), 1.0, 0
    for tickers in (1, 10, 50):
        for rho, changing in ((0.0, False), (0.4, False), (0.4, True)):
            for heavy in (False, True):
                if heavy:
                    scale = regimes(rng, shape, 0.05, 0.25) if changing else 0.15
                    days = np.clip(heavy_days(rng, shape, tickers, rho, scale), -1, 1)
                else:
                    q = regimes(rng, shape, 0.15, 0.5) if changing else 0.3
                    days = accuracy_days(rng, shape, tickers, rho, 0.0, q)
                found = share(ever(two_sided_log_e(days) >= limit))
                worst, cells = max(worst, found, key=lambda s: s[2]), cells + 1
                best_naive = min(best_naive, share(ever(np.abs(running_z(days)[:, 19:]) > 1.96))[0])
    target = "99 % upper bound <= 5 % in each cell; naive > 25 %"
    what = f"A/A false positives, daily looks, worst of {cells} cells"
    control = f"peeking t-test: {100 * best_naive:.1f} % in its best cell"
    yield Row("S1", what, target, said(worst), control, verdict(worst[2] <= 0.05 and best_naive > 0.25))
    days = heavy_days(rng, shape, 10, 0.4, 1.0)
    n = np.arange(1, 501)
    half = asymptotic_radius(n, 0.05, precision_for(250, 0.05))
    mean = np.cumsum(days, axis=1) / n
    deviation = np.sqrt(np.maximum(np.cumsum(days**2, axis=1) / n - mean**2, 0) * n / np.maximum(n - 1, 1))
    found = share(ever((np.abs(mean) > half * deviation)[:, 49:]))
    naive = share(ever(np.abs(running_z(days)[:, 49:]) > 1.96))
    what = "the same, unbounded t3 loss, asymptotic sequence from day 50 (no guarantee)"
    yield Row("S1", what, "<= 5 %", said(found), f"peeking t-test: {said(naive)}", verdict(found[2] <= 0.05))


def promotions(days: Array, looks: tuple[int, ...], family: int = 1) -> NDArray[np.bool_]:
    """Whether each test promotes: at a planned look (alpha .04), or when the always-on sequence excludes 0 (.01).

    Both are shared by the ``family`` challengers that are tested at once.
    """
    horizon = days.shape[1]
    design = GroupSequentialDesign.of([look / horizon for look in looks], 0.04 / family)
    z = running_z(days)[:, np.array(looks) - 1]
    z = z_of_t(z, np.array(looks) - 1)
    up, down = first(z >= np.array(design.upper)), first(z <= -np.array(design.upper))
    always = ever(log_e_process(days) >= math.log(2 * family / 0.01))
    return (up < down) | always


LOOKS = tuple(21 * month for month in range(1, 13))


def s2_s3(rng: np.random.Generator) -> Iterator[Row]:
    """Promotion of an equal and of a harmful challenger: both tests of the rule, without its further conditions."""
    shape = (20_000, 252)
    for goal, what, edge, limit in (
        ("S2", "false promotion, equal models", 0.0, 0.025),
        ("S3", "challenger worse by 5 pp promoted", -0.05, 0.005),
    ):
        days = accuracy_days(rng, shape, 10, 0.06, edge)
        found = share(promotions(days, LOOKS))
        naive = share(ever(running_z(days)[:, 19:] > 1.96))
        text = f"{what}, 12 monthly looks and always-on, 10 tickers"
        control = f"first favourable daily t-test: {said(naive)}"
        yield Row(goal, text, f"<= {100 * limit:.1f} %", said(found), control, verdict(found[2] <= limit))


def s2_several(rng: np.random.Generator) -> Iterator[Row]:
    """Promotion of any of several equal challengers at once, and what sharing the error probabilities costs."""
    tests, family = 20_000, 5
    days = accuracy_days(rng, (tests * family, 252), 10, 0.06, 0.0)
    found, alone = (share(ever(promotions(days, LOOKS, members).reshape(tests, family))) for members in (family, 1))
    what = f"false promotion of any of {family} equal challengers tested at once, as above"
    control = f"each with all of alpha: {said(alone)}"
    yield Row("S2", what, "<= 2.5 %", said(found), control, verdict(found[2] <= 0.025 and alone[1] > 0.05))
    better = accuracy_days(rng, (tests, 252), 10, 0.06, 0.05)
    shared, own = (share(promotions(better, LOOKS, members)) for members in (family, 1))
    what = f"power against the champion with {family} challengers at once, 5 points better"
    yield Row("S4", what, "(told, no goal)", said(shared), f"tested alone: {said(own)}", "")


def s2_skew(rng: np.random.Generator) -> Iterator[Row]:
    """What the planned looks are not proof against: rare large losses that have not come yet, the mean being 0."""
    design = GroupSequentialDesign.of([0.25, 0.5, 0.75, 1.0], 0.04)
    looks = np.array((63, 126, 189, 252))
    for chance in (0.02, 0.1):
        days = np.where(rng.random((20_000, 252)) < chance, chance - 1, chance) / 2
        z = z_of_t(running_z(days)[:, looks - 1], looks - 1)
        found = share(ever(z >= np.array(design.upper)))
        sure = share(ever(log_e_process(days) >= math.log(2 / 0.01)))
        what = f"false crossings of the 4 planned looks, one day in {1 / chance:.0f} with a loss that undoes all gains"
        control = f"always-on sequence (<= 0.5 %): {said(sure)}"
        yield Row("S2", what, "(told, no goal; 2 % if normal)", said(found), control, "")


def s4(rng: np.random.Generator) -> Iterator[Row]:
    """Power against the test with one look, whose days are the unit."""
    edge, q, runs = 0.05, 0.3, 5000
    deviation = math.sqrt(q - edge**2)
    fixed = math.ceil(((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * deviation / edge) ** 2)
    days = accuracy_days(rng, (runs, 2 * fixed), 1, 0.0, edge, q)
    z = running_z(days)
    oracle = share(z[:, fixed - 1] > 1.96)
    horizon = math.ceil(1.10 * fixed)
    looks = np.array([round(horizon * k / 12) for k in range(1, 13)])
    design = GroupSequentialDesign.of([float(look) / horizon for look in looks], 0.05)
    up = first(z[:, looks - 1] >= np.array(design.upper))
    found = share(up < NEVER)
    stop = float(np.mean(looks[np.minimum(up, 12) - 1])) / fixed
    what = f"power of 12 O'Brien-Fleming looks, horizon 1.10 of {fixed} days; mean stop {stop:.2f}"
    control = f"one look at {fixed} days: {said(oracle)}"
    yield Row("S4", what, ">= 80 %", said(found), control, verdict(found[1] >= 0.8))
    horizon, limit = math.floor(1.75 * fixed), math.log(2 / 0.05)
    stop_at = first(log_e_process(days[:, :horizon], stakes=planned_stakes(edge, deviation)) >= limit)
    unplanned = share(first(log_e_process(days[:, :horizon]) >= limit) < NEVER)
    found, used = share(stop_at < NEVER), np.minimum(stop_at, horizon) / fixed
    half = 2.576 * float(used.std()) / math.sqrt(runs)
    what = f"power of the e-process, horizon 1.75; mean stop {used.mean():.3f} +- {half:.3f} (<= 1.05)"
    control = f"with stakes not planned: {said(unplanned)}"
    met = found[1] >= 0.8 and float(used.mean()) + half <= 1.05
    yield Row("S4", what, ">= 80 %", said(found), control, verdict(met))


def pairing_gain(rng: np.random.Generator, q: float, runs: int = 1_000_000) -> tuple[float, float, float, float]:
    """Variance of a 70/30 split's estimate over that of a paired one with as many labels, its interval, and theory."""
    labels, p, edge = 1000, 0.52, 0.02
    better = rng.binomial(labels, q / 2 + edge / 2, size=runs)
    worse = rng.binomial(labels - better, (q - edge) / 2 / (1 - q / 2 - edge / 2))
    paired = (better - worse) / labels
    split = rng.binomial(300, p + edge, size=runs) / 300 - rng.binomial(700, p, size=runs) / 700
    gain = float(split.var() / paired.var())
    low, high = (gain / float(stats.f.ppf(tail, runs, runs)) for tail in (0.995, 0.005))
    return gain, low, high, (p * (1 - p) / 0.7 + (p + edge) * (1 - p - edge) / 0.3) / (q - edge**2)


def s5(rng: np.random.Generator) -> Iterator[Row]:
    """How many times more labels a 70/30 split needs than the paired comparison, from the estimators' variances."""
    strangers = pairing_gain(rng, 0.5)
    for q in (0.3, 0.2):
        gain, low, high, theory = pairing_gain(rng, q)
        what = f"labels of a 70/30 split over labels of a paired comparison, disagreement {q}"
        measured = f"{gain:.2f} [{low:.2f}, {high:.2f}] (theory {theory:.2f})"
        control = f"models that agree by chance only (.5): {strangers[0]:.2f} [{strangers[1]:.2f}, {strangers[2]:.2f}]"
        yield Row("S5", what, ">= 3.9", measured, control, verdict(low >= 3.9 > strangers[2]))


def s6(rng: np.random.Generator) -> Iterator[Row]:
    """Running coverage with 50 tickers that correlate by .4: all days of a path must be covered."""
    shape, edge, limit = (5000, 500), 0.03, math.log(2 / 0.05)
    days = accuracy_days(rng, shape, 50, 0.4, edge)
    missed = (log_e_process(days, edge) >= limit) | (log_e_process(-days, -edge) >= limit)
    found = share(~ever(missed))
    n = np.arange(1, shape[1] + 1)
    pooled = 1.96 * math.sqrt(0.3) / np.sqrt(50 * n)  # of a mean of 50 n independent rows
    rows = share(~ever((np.abs(np.cumsum(days, axis=1) / n - edge) > pooled)[:, 19:]))
    what = "running coverage of the betting sequence, 50 tickers, rho .4"
    yield Row("S6", what, ">= 95 %", said(found), f"pooled rows, 1.96 SE: {said(rows)}", verdict(found[1] >= 0.95))
    path = regimes(rng, shape, -0.02, 0.06)
    days = accuracy_days(rng, shape, 50, 0.4, path)
    off, spread = np.cumsum(days - path, axis=1), bernstein.variations(days)
    missed = (bernstein.log_mixture(off, spread) >= limit) | (bernstein.log_mixture(-off, spread) >= limit)
    found, naive = share(~ever(missed)), share(~ever((np.abs(off / n) > pooled)[:, 19:]))
    what = "the same of the running-average sequence, mean switching between -2 and +6 pp"
    yield Row("S6", what, ">= 95 %", said(found), f"pooled rows, 1.96 SE: {said(naive)}", verdict(found[1] >= 0.95))


def s17(rng: np.random.Generator) -> Iterator[Row]:
    """Largest difference to the library ville, where both compute the same: log e-values and bounds."""
    days = rng.uniform(-0.6, 0.7, 500)
    # With a tiny alpha ville's bet is always cut at its cap, the fraction c of the most that may be staked.
    theirs = ville.BettingTest(0.02, bounds=(-1, 1), alternative="greater", alpha=1e-300, c=0.2).fit(days)
    betting = np.abs(log_e_process(days, 0.02, stakes=(0.2,)) - theirs.log_e_values_).max()
    bounds = ville.AsymptoticCS(t_opt=250, min_samples=50).fit(days)
    own = [asymptotic_interval(days[:count], 0.05, bounds.rho_**-0.5)[0] for count in range(50, len(days) + 1)]
    sequence = np.abs(np.array(own) - bounds.lower_[49:]).max()
    routed = (rng.random(5000) < 0.68).astype(np.float64)
    prior = (0.7 * srm_sequential.CONCENTRATION, 0.3 * srm_sequential.CONCENTRATION)
    counts = np.stack([np.cumsum(routed), np.cumsum(1 - routed)], axis=-1)
    binomial = ville.BernoulliTest(0.7, prior=prior).fit(routed).log_e_values_
    split = np.abs(srm_sequential.log_bayes_factor(counts, (0.7, 0.3)) - binomial).max()
    worst = float(max(betting, sequence, split))
    other = ville.BettingTest(0.02, bounds=(-1, 1), alternative="greater", c=0.2).fit(days).log_e_values_
    control = f"another bet of ville's: {np.abs(log_e_process(days, 0.02, stakes=(0.2,)) - other).max():.2g}"
    what = "difference to ville: betting e-process, asymptotic sequence, split test"
    yield Row("S17", what, "<= 1e-8", f"{worst:.1e}", control, verdict(worst <= 1e-8))


GOALS: dict[str, Goal] = {
    "S1": s1,
    "S2-statistics": s2_s3,
    "S2-several": s2_several,
    "S2-skew": s2_skew,
    "S4": s4,
    "S5": s5,
    "S6": s6,
    "S17": s17,
}

if __name__ == "__main__":
    main(GOALS, __doc__)
