"""A test of several challengers over a real log, and predictions of given skills for any experiment."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import Arm
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.metrics.choice import MeasuredDays
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.outcomes import KnownPrices, outcome_frame
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.policy import ArmPolicy, QuestionPolicy, RolloutPolicy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.roles import AvailableModel
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.market.panel import PricePanel
from tests.experiment.builders import CUTOFF, panel
from tests.experiment.decision.builders import frames, policy

PRICES = panel(sessions=62, tickers=4)
QUANTILES = (-0.03, -0.02, 0.0, 0.02, 0.03)
BASE, SECOND, THIRD = "baseline-predictor-v1", "enhanced-predictor-v2", "lightweight-predictor-v3"


def model(variant: str, version: int) -> AvailableModel:
    return AvailableModel(f"{variant}-predictor-v{version}", variant, version, CUTOFF)


MODELS = (model("baseline", 1), model("enhanced", 2), model("lightweight", 3))


def rules(**sections: Mapping[str, object]) -> RolloutPolicy:
    quick = {"plausible_effect": 0.3, "horizon_sessions": 20, "looks": 2, "deflated_sharpe": 0.0}
    found = policy(**{**quick, **sections.get("test", {})})
    return replace(
        found,
        champion=ArmPolicy("baseline", 60),
        challengers=(ArmPolicy("enhanced", 25), ArmPolicy("lightweight", 15)),
        shadow=(),
        traffic=replace(found.traffic, **sections.get("traffic", {})),
    )


def begin(log: PredictionLog, **sections: Mapping[str, object]) -> ExperimentController:
    conduct = ExperimentController(Rollout(log, rules(**sections)))
    conduct.rollout.reconcile(MODELS)
    conduct.register(measured, CUTOFF)
    return conduct


def measured(_arm: Arm, _asked: QuestionPolicy) -> MeasuredDays:
    """Days of a test that vary by 0.3 in every metric."""
    return MeasuredDays({name: DailyDeviation(0.3, "the test") for name in METRICS}, len(PRICES.tickers))


def answer(intent: int, up: bool, route: str | None = None) -> Result:
    return Result(intent, Forecast(0.6 if up else 0.4, QUANTILES), route=route, latency_s=0.002)


def predict(
    log: PredictionLog,
    skills: Mapping[str, float],
    prices: PricePanel = PRICES,
    *,
    experiment: str = "ab-experiment",
    first: int = 0,
    last: int | None = None,
) -> None:
    """Sessions after the cut-off: every arm is right with its probability; requests go where the weights say."""
    epoch = log.current_epoch(experiment)
    assert epoch is not None
    ups = outcome_frame(prices).set_index(["session", "ticker"])["up"]
    later = prices.sessions[prices.sessions > epoch.data_cutoff]
    for session, target in list(itertools.pairwise(later))[first:last]:
        # A generator per session, so that sessions predicted in two parts are those predicted in one.
        rng = np.random.default_rng(int(session.value % 2**32))
        direct = log.begin_direct(epoch.arms, session, target, prices.tickers)
        right = {(one.model, one.ticker): rng.random() < skills[one.model] for one in direct}
        log.complete_direct(
            [answer(one.id, bool(ups[(session, one.ticker)]) == right[(one.model, one.ticker)]) for one in direct]
        )
        models, shares = list(epoch.weights), [epoch.propensity(name) for name in epoch.weights]
        routed = log.begin_routed(epoch, session, target, prices.tickers)
        log.complete_routed([answer(one.id, True, str(rng.choice(models, p=shares))) for one in routed])


def judged(conduct: ExperimentController, session: pd.Timestamp | None = None) -> tuple[Decision, ...]:
    as_of = session or PRICES.sessions[-1]
    known, baselines = KnownPrices.of(PRICES.until(as_of), as_of), frames(PRICES)[1]
    judgements = conduct.decide(known, lambda _: baselines, cost_bps=5.0)
    conduct.update_allocation(judgements, known)
    return tuple(judgement.decision for judgement in judgements)
