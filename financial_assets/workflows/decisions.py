"""One step of the experiment, put together from the resources: decide, open the epoch that follows, route by it.

The asset ``rollout`` and the command ``replay --decide`` both run it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.experiment.arms import ROUTED_ROLES, WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.evaluation.deflated_sharpe import deflated_sharpe
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.routing import apply_epoch, point_aliases
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.experiment.rollout.tracking import track_decision
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.installation.serving import ServingAccess
from financial_assets.market.panel import PricePanel

__all__ = ["BaselinePredictions", "Step", "decide_now", "repeat_decision", "take_step"]


@dataclass(frozen=True)
class Step:
    """The decisions of one session, the epoch in force after them, and whether that epoch is new."""

    decisions: tuple[Decision, ...]
    epoch: WeightEpoch
    moved: bool


class BaselinePredictions:
    """Daily predictions of the baselines on a panel, computed once for each of their data cut-offs.

    Parameters
    ----------
    models
        Holds the baselines of every cut-off.
    panel
        Prices.
    """

    def __init__(self, models: ModelStore, panel: PricePanel) -> None:
        self._models, self._panel = models, panel
        self._known: dict[pd.Timestamp, pd.DataFrame] = {}

    def since(self, session: pd.Timestamp) -> pd.DataFrame:
        """Those of the latest baselines that saw nothing after ``session``: for evidence that begins then."""
        fitted = self._models.baselines_for(session)
        cutoff = pd.Timestamp(fitted.cutoff)
        if cutoff not in self._known:
            sessions = self._panel.sessions[self._panel.sessions > cutoff]
            self._known[cutoff] = fitted.predict(compute_panel(self._panel, FeatureGraph()), self._panel, sessions)
        return self._known[cutoff]

    def of(self, epoch: WeightEpoch) -> pd.DataFrame:
        """Those that saw nothing of the sessions that all routed arms may be judged on."""
        return self.since(max(arm.data_cutoff for arm in epoch.arms if arm.role in ROUTED_ROLES))

    def __call__(self, plan: ExperimentPlan) -> pd.DataFrame:
        """Those of a plan's evidence."""
        return self.since(pd.Timestamp(plan.starts_after))


def decide_now(
    market: MarketState,
    models: ModelStore,
    ab_test: ABTestState,
    *,
    panel: PricePanel | None = None,
    rivals: BaselinePredictions | None = None,
) -> tuple[Decision, ...]:
    """Decide about every challenger as of the market clock; empty without one.

    The records stand in the log, beside the report and in the tracker, and each of them can be written again: a
    decision that is the same one is recorded once.

    Parameters
    ----------
    market, models, ab_test
        Prices, models, log and policy.
    panel, rivals
        Prices up to the clock or beyond, and the baselines' predictions on them, if they are at hand.
    """
    as_of = market.clock().now()
    panel = panel or market.panel()
    with ab_test.log() as log:
        conduct = ExperimentController(Rollout(log, ab_test.policy()))
        epoch, plans = conduct.rollout.started(), conduct.plans()
        decisions = conduct.decide(
            panel,
            rivals or BaselinePredictions(models, panel),
            as_of=as_of,
            deflated_sharpe=_luck(log, epoch, panel.until(as_of), ab_test.cost_bps),
        )
    for plan, decision in zip(plans, decisions, strict=True):
        path = ab_test.decisions_folder / f"{decision.as_of}-{decision.digest[:12]}.json"
        atomic_write_text(path, json.dumps(json.loads(decision.to_json()), indent=2) + "\n")
        track_decision(models.tracker(), plan, decision)
    return decisions


def take_step(
    decisions: Sequence[Decision],
    models: ModelStore,
    serving: ServingAccess,
    ab_test: ABTestState,
    *,
    always: bool = True,
) -> Step:
    """Carry decisions out: open the epoch that follows, route as it says, then move the aliases.

    Each part can be repeated: after a crash between two of them the next call goes on where this one stopped.

    Parameters
    ----------
    decisions
        Of one session; none: the epoch in force is only made sure of.
    models, serving, ab_test
        Registry, target, log and policy.
    always
        Make sure of the routes even if the epoch stays.
    """
    with ab_test.log() as log:
        rollout = Rollout(log, ab_test.policy())
        before = rollout.started()
        epoch = ExperimentController(rollout).apply_decisions(decisions) if decisions else before
        former = rollout.former_regimes()
    moved = epoch != before
    if moved or always:
        apply_epoch(epoch, serving.target(), serving.namespace, serving.ready_timeout, former=former)
        point_aliases(models.registry(), epoch)
    return Step(tuple(decisions), epoch, moved)


def repeat_decision(decision: Decision, market: MarketState, models: ModelStore, ab_test: ABTestState) -> Decision:
    """The decision computed anew from log and prices, as of its own session."""
    panel = market.whole_panel().until(pd.Timestamp(decision.as_of))
    with ab_test.log() as log:
        conduct = ExperimentController(Rollout(log, ab_test.policy()))
        epoch = log.known_epoch(decision.experiment, decision.epoch)
        luck = _luck(log, epoch, panel, ab_test.cost_bps)
        return conduct.repeat(decision, panel, BaselinePredictions(models, panel), deflated_sharpe=luck)


def _luck(
    log: PredictionLog, epoch: WeightEpoch, panel: PricePanel, cost_bps: float
) -> Callable[[ExperimentPlan], float | None]:
    """Gives a challenger's deflated Sharpe ratio; versions are numbered through, so that the newest counts them."""

    def compute(plan: ExperimentPlan) -> float | None:
        known = [arm for one in log.epochs(epoch.experiment) if one.number <= epoch.number for arm in one.arms]
        direct = log.direct((plan.challenger,), columns=DIRECT_COLUMNS)
        newest = max(arm.version for arm in known)
        return deflated_sharpe(plan, direct, panel, versions=newest, cost_bps=cost_bps)

    return compute
