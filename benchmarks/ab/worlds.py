"""Simulated years of two models and their baselines, and the real rule on each of their days.

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
from scipy import special
from table import Array, Bools

from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.record import Decision, TrafficEvidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.paired_score import PairedDays
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.experiment.plan.whole_rule.power import simulate_power
from financial_assets.experiment.plan.whole_rule.worlds import Worlds
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
COST_BPS = 5.0


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
    rules = replace(rules, experiment="ab-experiment", questions=())

    def hoping(effect: float) -> ExperimentPlan:
        hopeful = replace(rules, test=replace(rules.test, metric="accuracy", plausible_effect=effect))
        return make_plan(hopeful, EPOCH, EPOCH.challengers[0], spread, CUTOFF, whole_rule=simulate_power)

    if edge_hoped is not None:
        return hoping(edge_hoped)
    found = hoping(math.ceil(100 * hoping(0.04).detectable) / 100)
    return found if found.can_promote else hoping(found.test.plausible_effect + 0.01)


class Court:
    """The real rule over simulated years, decided on each day with all that it looks at."""

    def __init__(self, rng: np.random.Generator, years: Years, plan: ExperimentPlan) -> None:
        self.years, self.plan, self.count = years, plan, len(years.champion)
        self.daily = {name: years.daily(name) for name in ("champion", *plan.must_beat)}
        shape = years.routed.shape
        self.latency = np.where(rng.random(shape) < 0.005, 1.0, 0.003)  # half of what is allowed
        self.failed = rng.random(shape) < 0.003
        self.profit = self._profits(years.challenger) - self._profits(years.champion)

    def _profits(self, right: Bools) -> Array:
        """Net return of each day, of positions by direction ``[world, day]``."""
        signs = np.where(right, 1.0, -1.0) * np.where(self.years.returns > 0, 1.0, -1.0)
        pairs = zip(signs, self.years.returns, strict=True)
        return np.stack([profit_and_loss(own.T, moves.T, COST_BPS).net for own, moves in pairs])

    def worlds(self) -> Worlds:
        """The same days as the vectorised rule takes them."""
        against = {name: days for name, days in self.daily.items() if name != "champion"}
        return Worlds(self.daily["champion"], against, {"profit": self.profit}, "simulated")

    def decide(self, world: int, day: int) -> Decision:
        """The real rule on one day."""
        series = {
            name: PairedDays(SESSIONS[:day], values[world, :day], day * TICKERS, 0)
            for name, values in (*self.daily.items(), ("profit", self.profit))
        }
        main, guards = series.pop("champion"), {"profit": series.pop("profit")}
        return decide(
            self.plan,
            EPOCH,
            Evidence(main, main, series, day * TICKERS, 0, "simulated", guards=guards),
            self._traffic(world, day),
            as_of=SESSIONS[day - 1].date().isoformat(),
            deflated_sharpe=lambda: None,
        )

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

    def each_day(self, world: int) -> tuple[str, int]:
        """What a test ends with, and its day."""
        for day in range(1, DAYS + 1):
            decision = self.decide(world, day)
            if decision.ended:
                return decision.action, day
        return "hold", DAYS
