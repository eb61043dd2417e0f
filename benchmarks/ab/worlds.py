"""Simulated years of two models and their baselines, judged by the real rule on each day until it ends the test.

Ten tickers whose returns, and whose days of disagreement, move together (a Gaussian copula with correlation .3): on a
share ``q`` of the rows the two models disagree, and the challenger wins a disagreement with probability
``(1 + edge / q) / 2``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special
from table import NEVER, Array, Bools, first, running_z

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.record import Decision, TrafficEvidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.paired_score import PairedDays
from financial_assets.experiment.plan.plan import DailyDeviation, ExperimentPlan, make_plan
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.experiment.statistics.capital import log_e_process, planned_stakes
from financial_assets.experiment.statistics.group_sequential import z_of_t
from financial_assets.portfolio.selection import deflated_sharpe_ratio
from financial_assets.portfolio.simulation import profit_and_loss

DAYS, TICKERS, RHO, Q = 252, 10, 0.3, 0.3
CUTOFF = pd.Timestamp("2010-01-29")
SESSIONS = pd.bdate_range(CUTOFF + pd.Timedelta(days=3), periods=DAYS)
CHAMPION, CHALLENGER = "baseline-predictor-v1", "enhanced-predictor-v2"
ARMS = (
    Arm(CHAMPION, "baseline", 1, "champion", 70, CUTOFF),
    Arm(CHALLENGER, "enhanced", 2, "challenger", 30, CUTOFF),
)
EPOCH = WeightEpoch("ab-experiment", 1, pd.Timestamp("2010-02-01", tz="UTC"), ARMS, "start")
VERSIONS, COST_BPS = 3, 5.0


def together(rng: np.random.Generator, shape: tuple[int, ...], chance: Array | float) -> Bools:
    """Events ``[..., day, ticker]`` of the given probability, correlated over the tickers of a day."""
    common = rng.standard_normal((*shape[:-1], 1))
    return math.sqrt(RHO) * common + math.sqrt(1 - RHO) * rng.standard_normal(shape) < special.ndtri(chance)


@dataclass(frozen=True)
class Years:
    """Simulated years.

    Attributes
    ----------
    champion, challenger, majority, logistic
        Who was right, bool ``[world, day, ticker]``.
    returns
        Simple returns ``[world, day, ticker]``.
    routed
        Whether the challenger answered the live request, bool ``[world, day, ticker]``.
    """

    champion: Bools
    challenger: Bools
    majority: Bools
    logistic: Bools
    returns: Array
    routed: Bools

    def daily(self, rival: str) -> Array:
        """Daily mean differences of challenger and rival ``[world, day]``."""
        return (self.challenger.astype(float) - getattr(self, rival)).mean(axis=-1)


def simulate(rng: np.random.Generator, worlds: int, *, edge: float, skill: float, rivals: float) -> Years:
    """Years of a champion that is right with probability ``skill``, and of baselines with ``rivals``."""
    shape = (worlds, DAYS, TICKERS)
    apart = together(rng, shape, Q)
    wins = together(rng, shape, (1 + edge / Q) / 2)
    alike = together(rng, shape, (skill - Q * (1 - edge / Q) / 2) / (1 - Q))
    volatility = 0.012 * np.exp(0.4 * rng.standard_normal((worlds, DAYS, 1)))
    common = rng.standard_normal((worlds, DAYS, 1))
    moves = math.sqrt(RHO) * common + math.sqrt(1 - RHO) * rng.standard_normal(shape)
    return Years(
        champion=np.where(apart, ~wins, alike),
        challenger=np.where(apart, wins, alike),
        majority=together(rng, shape, rivals),
        logistic=together(rng, shape, rivals),
        returns=np.clip(volatility * moves, -0.5, 0.5),
        routed=rng.random(shape) < 0.3,
    )


@cache
def plan_for(edge_hoped: float | None = None) -> ExperimentPlan:
    """A plan whose spread was measured on a calibration year of equal models.

    Its plausible effect is the given one, or the smallest whole point that it is able to find.
    """
    reference = simulate(np.random.default_rng(0), 1, edge=0.0, skill=0.52, rivals=0.5).daily("champion")[0]
    spread = DailyDeviation.of_days(reference, "a simulated calibration year")
    assert spread is not None
    rules = load_policy()
    rules = replace(rules, experiment="ab-experiment")
    found = make_plan(rules, EPOCH, EPOCH.challengers[0], spread, CUTOFF)
    hoped = math.ceil(100 * found.detectable) / 100 if edge_hoped is None else edge_hoped
    return make_plan(
        replace(rules, test=replace(rules.test, plausible_effect=hoped)), EPOCH, EPOCH.challengers[0], spread, CUTOFF
    )


@dataclass(frozen=True)
class Ending:
    """How a test ended: the last decision and its day."""

    decision: Decision
    day: int


def planned_day(plan: ExperimentPlan, daily: list[Array]) -> NDArray[np.int64]:
    """Day of the first planned look at which the challenger beats each of the series ``[world]``, or ``NEVER``."""
    looks = np.array(plan.looks)
    z = np.stack([z_of_t(running_z(days)[:, looks - 1], looks - 1) for days in daily])
    crossed = (z >= np.array(plan.boundaries)).all(axis=0)
    return np.where(crossed.any(axis=-1), looks[crossed.argmax(axis=-1)], NEVER)


class Court:
    """The real rule over simulated years.

    What it looks at is watched on each day in all worlds at once; :func:`decide` is called on the days on which it can
    do anything but hold, and at the horizon. Planned looks, always-on bounds and guardrails that have fired stay so,
    hence the shortcut loses nothing: :meth:`each_day` decides without it.
    """

    def __init__(self, rng: np.random.Generator, years: Years, plan: ExperimentPlan) -> None:
        self.years, self.plan, self.worlds = years, plan, len(years.champion)
        self.daily = {name: years.daily(name) for name in ("champion", *plan.must_beat)}
        shape = years.routed.shape
        self.latency = np.where(rng.random(shape) < 0.005, 1.0, 0.003)  # half of what is allowed
        self.failed = rng.random(shape) < 0.003
        self.in_favour, self.worse = self._screened()

    def _screened(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        test = self.plan.test
        limit, stakes = (
            math.log(2 / test.alpha_always),
            planned_stakes(test.plausible_effect, self.plan.spread.deviation),
        )
        main, rivals = self.daily["champion"], [self.daily[name] for name in self.plan.must_beat]
        sure = np.maximum.accumulate(log_e_process(main, stakes=stakes), axis=1) >= limit
        for days in rivals:
            sure &= np.maximum.accumulate(log_e_process(days), axis=1) >= limit
        worse = log_e_process(-main, stakes=stakes) >= limit
        return np.minimum(planned_day(self.plan, [main, *rivals]), first(sure)), first(worse)

    def decide(self, world: int, day: int) -> Decision:
        """The real rule on one day."""
        series = {
            name: PairedDays(SESSIONS[:day], values[world, :day], day * TICKERS, 0)
            for name, values in self.daily.items()
        }
        main = series.pop("champion")
        return decide(
            self.plan,
            EPOCH,
            Evidence(main, main, series, day * TICKERS, 0, "simulated"),
            self._traffic(world, day),
            as_of=SESSIONS[day - 1].date().isoformat(),
            deflated_sharpe=lambda: self.sharpe(world, day),
        )

    def sharpe(self, world: int, day: int) -> float:
        """Deflated Sharpe ratio of the challenger's positions so far, after costs."""
        returns, right = self.years.returns[world, :day].T, self.years.challenger[world, :day].T
        positions = np.where(right, 1.0, -1.0) * np.where(returns > 0, 1.0, -1.0)
        net = profit_and_loss(positions, returns, COST_BPS).net
        return deflated_sharpe_ratio(net, VERSIONS, 1 / day) if day > 1 else 0.0

    def _traffic(self, world: int, day: int) -> TrafficEvidence:
        chosen = self.years.routed[world, :day].ravel()
        frame = {
            "epoch": np.ones(chosen.size, np.int64),
            "regime": None,
            "model": np.where(chosen, CHALLENGER, CHAMPION).astype(object),
            "status": np.where(self.failed[world, :day].ravel(), "failed", "ok").astype(object),
            "latency_s": self.latency[world, :day].ravel(),
        }
        return watch_traffic(self.plan, [EPOCH], pd.DataFrame(frame))

    def ending(self, world: int) -> Ending:
        """The first decision that is not to hold, or the one at the horizon."""
        begin = int(min(self.in_favour[world], self.worse[world], DAYS))
        for day in range(begin, DAYS):
            if day < self.worse[world] and self.sharpe(world, day) < self.plan.test.deflated_sharpe:
                continue  # in favour, but a promotion would be held for this
            decision = self.decide(world, day)
            if decision.action != "hold":
                return Ending(decision, day)
        return Ending(self.decide(world, DAYS), DAYS)

    def each_day(self, world: int) -> Ending:
        """The same, deciding on each day."""
        for day in range(1, DAYS):
            decision = self.decide(world, day)
            if decision.action != "hold":
                return Ending(decision, day)
        return Ending(self.decide(world, DAYS), DAYS)
