"""Off-policy estimates from logged traffic whose shares moved, by simulation, each beside a naive control.

    OMP_NUM_THREADS=1 python benchmarks/ab/off_policy.py [--seed 1]

Shares have Clopper and Pearson's 99 % interval, means one of 1.96 standard errors over independent runs. A year is 250
days with 10 tickers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from allocation import DAYS, TICKERS
from table import Array, Goal, Row, main, mean, said, share, shown, verdict

from financial_assets.experiment.statistics.off_policy import LoggedRewards, doubly_robust, ips, past_means, snips
from financial_assets.scoring.intervals import Interval

MEANS = np.array([[0.50, 0.56], [0.53, 0.47]])
TARGET = np.array([[0.1, 0.9], [0.9, 0.1]])
TRUTH = float(np.mean(np.sum(MEANS * TARGET, axis=1)))


def log_of(rng: np.random.Generator, days: int = DAYS) -> tuple[LoggedRewards, Array]:
    """Rows of two arms in two alternating regimes, with weights that change and a mood of the day for all tickers."""
    day = np.repeat(np.arange(days), TICKERS)
    regime = (np.arange(days) % 2)[day]
    weight = rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], days)[day]
    arm = (rng.random(day.size) < weight).astype(np.intp)
    mood = rng.uniform(-0.3, 0.3, days)[day]
    reward = (rng.random(day.size) < MEANS[regime, arm] + mood).astype(float)
    return LoggedRewards(day, arm, reward, np.column_stack([1 - weight, weight])), TARGET[regime]


def s14(rng: np.random.Generator) -> Iterator[Row]:
    """What another policy would have earned: 2,000 logs of a year, whose answer is known."""
    found: dict[str, list[Interval]] = {"DR": [], "IPS": [], "SNIPS": [], "rows": [], "logged": []}
    for _ in range(2000):
        log, target = log_of(rng)
        found["DR"].append(doubly_robust(log, target, past_means(log, 0.5)))
        found["IPS"].append(ips(log, target))
        found["SNIPS"].append(snips(log, target))
        alone = LoggedRewards(np.arange(log.reward.size), log.arm, log.reward, log.propensity)
        found["rows"].append(doubly_robust(alone, target, past_means(log, 0.5)))
        found["logged"].append(ips(log, log.propensity))
    values = {name: np.array([one.estimate for one in each]) for name, each in found.items()}
    cover = {name: share(np.array([o.low <= TRUTH <= o.high for o in each])) for name, each in found.items()}
    off = (float(values["logged"].mean()) - TRUTH) / float(values["logged"].std(ddof=1))
    for name in ("DR", "IPS", "SNIPS"):
        error = float(values[name].std(ddof=1))
        bias, low, high = (x / error for x in mean(values[name] - TRUTH))
        what = f"bias of {name} in standard errors of one log"
        control = f"mean of what was logged: {off:.2f}"
        yield Row(
            "S14",
            what,
            "< 1, 0 inside",
            shown((bias, low, high), 3),
            control,
            verdict(abs(bias) < 1 and low <= 0 <= high),
        )
        control = f"rows as if independent (DR): {said(cover['rows'])}; what was logged: {said(cover['logged'])}"
        target_met = verdict(cover[name][1] >= 0.93 and cover[name][2] <= 0.97)
        yield Row("S14", f"coverage of {name}'s 95 % interval", "93 to 97 %", said(cover[name]), control, target_met)


GOALS: dict[str, Goal] = {"S14": s14}

if __name__ == "__main__":
    main(GOALS, __doc__)
