"""One step of the experiment, put together from the resources: decide, open the epoch that follows, route by it.

The asset ``rollout`` and the command ``replay --decide`` both run it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.experiment.arms import ROUTED_ROLES, WeightEpoch
from financial_assets.experiment.conduct import Conduct
from financial_assets.experiment.enforcement import enforce, point_aliases
from financial_assets.experiment.evaluation import DIRECT_COLUMNS
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.luck import deflated_sharpe
from financial_assets.experiment.plan import ExperimentPlan
from financial_assets.experiment.rollout import Rollout
from financial_assets.experiment.tracked_decisions import track_decision
from financial_assets.experiment.verdict import Decision
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.resources.experiment import Experiment
from financial_assets.resources.market import Market
from financial_assets.resources.serving import Serving
from financial_assets.resources.workshop import Workshop

__all__ = ["Step", "baseline_predictions", "decide_now", "repeat_decision", "take_step"]


@dataclass(frozen=True)
class Step:
    """A decision, the epoch in force after it, and whether that epoch is new."""

    decision: Decision | None
    epoch: WeightEpoch
    moved: bool


def baseline_predictions(workshop: Workshop, panel: PricePanel, epoch: WeightEpoch) -> pd.DataFrame:
    """Daily predictions of the baselines that were fitted by the time at which the epoch's evidence begins."""
    fitted = workshop.baselines_for(max(arm.data_cutoff for arm in epoch.arms if arm.role in ROUTED_ROLES))
    sessions = panel.sessions[panel.sessions > pd.Timestamp(fitted.cutoff)]
    return fitted.predict(compute_panel(panel, FeatureGraph()), panel, sessions)


def decide_now(
    market: Market,
    workshop: Workshop,
    ab_test: Experiment,
    *,
    panel: PricePanel | None = None,
    baselines: pd.DataFrame | None = None,
) -> Decision | None:
    """Decide as of the market clock; ``None`` without a challenger.

    The record stands in the log, beside the report and in the tracker, and each of them can be written again: a
    decision that is the same one is recorded once.

    Parameters
    ----------
    market, workshop, ab_test
        Prices, models, log and policy.
    panel, baselines
        Prices up to the clock or beyond, and the baselines' predictions, if they are at hand.
    """
    as_of = market.clock().now()
    panel = panel or market.panel()
    with ab_test.log() as log:
        rollout = Rollout(log, ab_test.policy())
        conduct, epoch = Conduct(rollout), rollout.started()
        rivals = baselines if baselines is not None else baseline_predictions(workshop, panel, epoch)
        plan = conduct.plan()
        luck = _luck(log, plan, epoch, panel.until(as_of), ab_test.cost_bps)
        decision = conduct.decide(panel, rivals, as_of=as_of, deflated_sharpe=luck)
    if decision is not None and plan is not None:
        path = ab_test.decisions_folder / f"{decision.as_of}-{decision.digest[:12]}.json"
        atomic_write_text(path, json.dumps(json.loads(decision.to_json()), indent=2) + "\n")
        track_decision(workshop.tracker(), plan, decision)
    return decision


def take_step(
    decision: Decision | None, workshop: Workshop, serving: Serving, ab_test: Experiment, *, always: bool = True
) -> Step:
    """Carry a decision out: open the epoch that follows, route as it says, then move the aliases.

    Each part can be repeated: after a crash between two of them the next call goes on where this one stopped.

    Parameters
    ----------
    decision
        ``None``: there is no challenger, the epoch in force is only made sure of.
    workshop, serving, ab_test
        Registry, target, log and policy.
    always
        Make sure of the routes even if the epoch stays.
    """
    with ab_test.log() as log:
        rollout = Rollout(log, ab_test.policy())
        before = rollout.started()
        epoch = before if decision is None else Conduct(rollout).carry_out(decision)
    moved = epoch != before
    if moved or always:
        enforce(epoch, serving.target(), serving.namespace, serving.ready_timeout)
        point_aliases(workshop.registry(), epoch)
    return Step(decision, epoch, moved)


def repeat_decision(decision: Decision, market: Market, workshop: Workshop, ab_test: Experiment) -> Decision:
    """The decision computed anew from log and prices, as of its own session."""
    panel = market.whole_panel().until(pd.Timestamp(decision.as_of))
    with ab_test.log() as log:
        conduct = Conduct(Rollout(log, ab_test.policy()))
        epoch = log.known_epoch(decision.experiment, decision.epoch)
        rivals = baseline_predictions(workshop, panel, epoch)
        plan = log.plan(decision.experiment, decision.champion, decision.challenger)
        luck = _luck(log, plan, epoch, panel, ab_test.cost_bps)
        return conduct.repeat(decision, panel, rivals, deflated_sharpe=luck)


def _luck(
    log: PredictionLog, plan: ExperimentPlan | None, epoch: WeightEpoch, panel: PricePanel, cost_bps: float
) -> Callable[[], float | None]:
    """Gives the challenger's deflated Sharpe ratio; versions are numbered through, so that the newest counts them."""

    def compute() -> float | None:
        if plan is None:
            return None
        known = [arm for one in log.epochs(epoch.experiment) if one.number <= epoch.number for arm in one.arms]
        direct = log.direct((plan.challenger,), columns=DIRECT_COLUMNS)
        newest = max(arm.version for arm in known)
        return deflated_sharpe(plan, direct, panel, versions=newest, cost_bps=cost_bps)

    return compute
