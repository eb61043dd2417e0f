"""Conducting a test: register its plan, decide as of a session, carry the decision out. All state is in the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.adaptive import adapt, is_adaptive
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision import decide
from financial_assets.experiment.evidence import Evidence, gather
from financial_assets.experiment.guardrails import watch_traffic
from financial_assets.experiment.ladder import next_share
from financial_assets.experiment.plan import DailySpread, ExperimentPlan, make_plan
from financial_assets.experiment.rollout import Rollout
from financial_assets.experiment.verdict import Decision
from financial_assets.market.panel import PricePanel

__all__ = ["Conduct"]

EVIDENCE_COLUMNS = ("session", "ticker", "model", "status", "probability_up", "latency_s")
TRAFFIC_COLUMNS = ("experiment", "epoch", "session", "model", "status", "latency_s")


@dataclass(frozen=True, slots=True)
class Conduct:
    """One experiment's plan, decisions and steps.

    Parameters
    ----------
    rollout
        The rollout state, its log and policy.
    """

    rollout: Rollout

    def register(self, spread: Callable[[], DailySpread], as_of: pd.Timestamp) -> ExperimentPlan | None:
        """The plan of the present pair, registered if it has none; ``None`` without a challenger.

        Parameters
        ----------
        spread
            Gives the expected variation of the daily differences; asked for only for a new plan.
        as_of
            The market clock.
        """
        epoch, log = self.rollout.started(), self.rollout.log
        if epoch.challenger is None:
            return None
        known = log.plan(epoch.experiment, epoch.champion.model, epoch.challenger.model)
        return known or log.register_plan(make_plan(self.rollout.policy, epoch, spread(), as_of))

    def plan(self) -> ExperimentPlan | None:
        """The registered plan of the present pair, ``None`` without a challenger.

        Raises
        ------
        ExperimentError
            There is a challenger, but no plan.
        """
        epoch = self.rollout.started()
        if epoch.challenger is None:
            return None
        found = self.rollout.log.plan(epoch.experiment, epoch.champion.model, epoch.challenger.model)
        if found is None:
            raise ExperimentError(
                f"no plan was registered for {epoch.challenger.model} against {epoch.champion.model}, so nothing can "
                "be decided: materialize the asset `experiment`"
            )
        return found

    def decide(
        self,
        panel: PricePanel,
        baselines: pd.DataFrame,
        *,
        as_of: pd.Timestamp,
        deflated_sharpe: Callable[[], float | None],
    ) -> Decision | None:
        """Decide as of a session and record it; ``None`` without a challenger.

        Parameters
        ----------
        panel
            Prices, for the outcomes.
        baselines
            Daily predictions of the baselines.
        as_of
            Nothing later is looked at.
        deflated_sharpe
            See :func:`~financial_assets.experiment.decision.decide`.
        """
        plan = self.plan()
        if plan is None:
            return None
        log, policy = self.rollout.log, self.rollout.policy
        direct = self._direct(plan, as_of)
        evidence = gather(plan, direct, baselines, panel, as_of=as_of)
        decision = self._decide(plan, self.rollout.started(), evidence, direct, as_of, deflated_sharpe)
        log.record_decision(decision)
        if is_adaptive(policy) and decision.action == "hold":
            adapt(log, policy, plan, evidence.main, decision.guardrails, as_of)
        return decision

    def repeat(
        self,
        decision: Decision,
        panel: PricePanel,
        baselines: pd.DataFrame,
        *,
        deflated_sharpe: Callable[[], float | None],
    ) -> Decision:
        """The same decision, computed from the log anew; equal bit for bit unless log, prices or rules were changed.

        Raises
        ------
        ExperimentError
            The plan or the epoch that it rests on is gone.
        """
        log = self.rollout.log
        plan = log.plan(decision.experiment, decision.champion, decision.challenger)
        if plan is None:
            raise ExperimentError(f"the plan {decision.plan_digest[:12]} of this decision is not in the log")
        epoch = log.known_epoch(decision.experiment, decision.epoch)
        as_of = pd.Timestamp(decision.as_of)
        direct = self._direct(plan, as_of)
        evidence = gather(plan, direct, baselines, panel, as_of=as_of)
        return self._decide(plan, epoch, evidence, direct, as_of, deflated_sharpe)

    def _decide(
        self,
        plan: ExperimentPlan,
        epoch: WeightEpoch,
        evidence: Evidence,
        direct: pd.DataFrame,
        as_of: pd.Timestamp,
        deflated_sharpe: Callable[[], float | None],
    ) -> Decision:
        log = self.rollout.log
        epochs = [known for known in log.epochs(plan.experiment) if known.number <= epoch.number]
        routed = log.routed(plan.experiment, columns=TRAFFIC_COLUMNS)
        return decide(
            plan,
            epoch,
            evidence,
            watch_traffic(plan, epochs, routed[routed["session"] <= as_of], direct),
            as_of=as_of.date().isoformat(),
            deflated_sharpe=deflated_sharpe,
        )

    def carry_out(self, decision: Decision) -> WeightEpoch:
        """What follows from a decision: another weight epoch, a step of the challenger's share, or nothing.

        With manual approval a promotion waits until a person has approved it; a rollback waits for nobody.
        """
        if decision.action == "promote" and not self.is_approved(decision):
            return self.rollout.started()
        if decision.action != "hold":
            return self.rollout.carry_out(decision)
        return self._follow_scores(decision) if is_adaptive(self.rollout.policy) else self._climb(decision)

    def is_approved(self, decision: Decision) -> bool:
        """Whether a promotion may go ahead: this one, or an earlier one of the same test, was approved."""
        if self.rollout.policy.traffic.approval == "automatic":
            return True
        log = self.rollout.log
        same = [
            other
            for other in log.decisions(decision.experiment)
            if other.action == "promote" and other.plan_digest == decision.plan_digest
        ]
        return any(log.approved_by(other.digest) is not None for other in same)

    def _follow_scores(self, decision: Decision) -> WeightEpoch:
        """Adaptive shares: those of the latest allocation step."""
        epoch, plan = self.rollout.started(), self.plan()
        steps = () if plan is None else self.rollout.log.allocations(plan)
        if not steps or epoch.number != decision.epoch:
            return epoch
        return self.rollout.take_step(steps[-1].after[1], f"{self.rollout.policy.traffic.mode}: {steps[-1].reason}")

    def _climb(self, decision: Decision) -> WeightEpoch:
        epoch, log = self.rollout.started(), self.rollout.log
        if epoch.challenger is None or epoch.number != decision.epoch or decision.ended:
            return epoch  # a test that has ended without a winner gives no reason for more exposure
        routed = log.routed(epoch.experiment, epoch=epoch.number, columns=("session",))
        step = next_share(
            self.rollout.policy.traffic, epoch.challenger.weight, routed["session"].nunique(), decision.guardrails
        )
        return epoch if step is None else self.rollout.take_step(*step)

    def _direct(self, plan: ExperimentPlan, as_of: pd.Timestamp) -> pd.DataFrame:
        since = pd.Timestamp(plan.starts_after)
        rows = self.rollout.log.direct((plan.champion, plan.challenger), since=since, columns=EVIDENCE_COLUMNS)
        return rows[rows["session"] <= as_of]
