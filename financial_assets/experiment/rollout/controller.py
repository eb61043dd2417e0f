"""One experiment's tests: register their plans, decide as of a session, apply what follows. All state is in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.evidence import Judgement, gather
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.evaluation.risk import deflated_sharpe
from financial_assets.experiment.paired_score import answer_columns
from financial_assets.experiment.plan.plan import DailyDeviation, ExperimentPlan, make_plan
from financial_assets.experiment.rollout.adaptive import PairedScores, adapt, adaptive_shares, is_adaptive
from financial_assets.experiment.rollout.regimes import request_regimes
from financial_assets.experiment.rollout.roles import next_share
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.market.panel import PricePanel

__all__ = ["ExperimentController"]

EVIDENCE_COLUMNS = ("session", "ticker", "model", "status", "probability_up", "latency_s")
TRAFFIC_COLUMNS = ("experiment", "epoch", "session", "regime", "model", "status", "latency_s")


@dataclass(frozen=True, slots=True)
class ExperimentController:
    """One experiment's plan, decisions and steps.

    Parameters
    ----------
    rollout
        The rollout state, its log and policy.
    """

    rollout: Rollout

    def register(self, spread: Callable[[Arm], DailyDeviation], as_of: pd.Timestamp) -> tuple[ExperimentPlan, ...]:
        """The plans of the present challengers, each registered if it has none.

        Parameters
        ----------
        spread
            Gives the expected variation of a challenger's daily differences; asked for only for a new plan.
        as_of
            The market clock.
        """
        epoch, log, policy = self.rollout.started(), self.rollout.log, self.rollout.policy
        return tuple(
            log.plan(epoch.experiment, epoch.champion.model, arm.model)
            or log.register_plan(make_plan(policy, epoch, arm, spread(arm), as_of, seen=self._seen(epoch, arm, as_of)))
            for arm in epoch.challengers
        )

    def _seen(self, epoch: WeightEpoch, challenger: Arm, as_of: pd.Timestamp) -> pd.Timestamp | None:
        """Last session on which the outcome of both arms is known already, by an earlier experiment or replay."""
        pair = [epoch.champion.model, challenger.model]
        rows = self.rollout.log.direct(pair, columns=("session", "model"))
        by_model = [set(rows.loc[(rows["model"] == model) & (rows["session"] < as_of), "session"]) for model in pair]
        return max(by_model[0] & by_model[1], default=None)

    def plans(self) -> tuple[ExperimentPlan, ...]:
        """The registered plans of the present challengers, in their order.

        Raises
        ------
        ExperimentError
            A challenger has no plan.
        """
        epoch = self.rollout.started()
        plans: list[ExperimentPlan] = []
        for arm in epoch.challengers:
            plan = self.rollout.log.plan(epoch.experiment, epoch.champion.model, arm.model)
            if plan is None:
                raise ExperimentError(
                    f"no plan was registered for {arm.model} against {epoch.champion.model}, so nothing can be "
                    "decided: materialize the asset `experiment`"
                )
            plans.append(plan)
        return tuple(plans)

    def decide(
        self,
        outcomes: pd.DataFrame,
        sessions: pd.DatetimeIndex,
        baselines: Mapping[str, pd.DataFrame],
        *,
        as_of: pd.Timestamp,
        cost_bps: float,
    ) -> tuple[Judgement, ...]:
        """Decide about every challenger as of a session, and record it; empty without one.

        It moves nothing: see :meth:`update_allocation` and :meth:`apply_decisions`.

        Parameters
        ----------
        outcomes, sessions
            Outcomes that are known as of that session, and the sessions with prices up to it.
        baselines
            Challenger -> daily predictions of the baselines that saw nothing of its plan's evidence: ``date``,
            ``ticker``, ``model``, ``probability_up``.
        as_of
            The market clock; no later prediction is looked at.
        cost_bps
            Trading costs per side in basis points.
        """
        epoch, plans = self.rollout.started(), self.plans()
        routed = self._routed(as_of) if plans else pd.DataFrame()
        judgements = tuple(
            self._judge(plan, epoch, routed, outcomes, sessions, baselines[plan.challenger], as_of, cost_bps)
            for plan in plans
        )
        for judgement in judgements:
            self.rollout.log.record_decision(judgement.decision)
        return judgements

    def update_allocation(self, judgements: Sequence[Judgement], panel: PricePanel, as_of: pd.Timestamp) -> None:
        """Take the allocation steps that the evidence of all challengers gives; without adaptive shares, nothing.

        No step is taken in a session in which a decision promotes or rolls back: the arms are about to change.

        Parameters
        ----------
        judgements
            All of one session.
        panel
            Prices, for the regimes of requests.
        as_of
            The market clock.
        """
        log, policy = self.rollout.log, self.rollout.policy
        if (
            not is_adaptive(policy)
            or not judgements
            or any(judgement.decision.action != "hold" for judgement in judgements)
        ):
            return
        scores = PairedScores(
            {judgement.plan.challenger: judgement.evidence.by_ticker for judgement in judgements},
            max(judgement.plan.spread.deviation for judgement in judgements),
        )
        guardrails = [rail for judgement in judgements for rail in judgement.decision.guardrails]
        adapt(log, policy, self.rollout.started(), scores, guardrails, as_of, request_regimes(policy, panel))

    def latest(self) -> tuple[Decision, ...]:
        """The latest recorded decision about each challenger in the current epoch; none before it is taken."""
        epoch = self.rollout.started()
        decisions = self.rollout.log.decisions(epoch.experiment)
        latest_by_challenger = {
            decision.challenger: decision for decision in decisions if decision.epoch == epoch.number
        }
        return tuple(latest_by_challenger[arm.model] for arm in epoch.challengers if arm.model in latest_by_challenger)

    def repeat(
        self,
        decision: Decision,
        outcomes: pd.DataFrame,
        sessions: pd.DatetimeIndex,
        baselines: pd.DataFrame,
        *,
        cost_bps: float,
    ) -> Decision:
        """The same decision, computed from the log anew; equal bit for bit unless log, prices or rules were changed.

        Parameters
        ----------
        decision
            A recorded one.
        outcomes, sessions
            Outcomes that were known as of its session, and the sessions with prices up to it.
        baselines
            Daily predictions of the baselines that saw nothing of its plan's evidence.
        cost_bps
            Trading costs per side in basis points.

        Raises
        ------
        ExperimentError
            The plan or the epoch that it rests on is gone.
        """
        plan, epoch = self.plan_of(decision), self.rollout.log.known_epoch(decision.experiment, decision.epoch)
        as_of = pd.Timestamp(decision.as_of)
        routed = self._routed(as_of)
        return self._judge(plan, epoch, routed, outcomes, sessions, baselines, as_of, cost_bps).decision

    def plan_of(self, decision: Decision) -> ExperimentPlan:
        """The registered plan that a decision was taken under.

        Raises
        ------
        ExperimentError
            It is not in the log.
        """
        plan = self.rollout.log.plan(decision.experiment, decision.champion, decision.challenger)
        if plan is None:
            raise ExperimentError(f"the plan {decision.plan_digest[:12]} of this decision is not in the log")
        return plan

    def _judge(
        self,
        plan: ExperimentPlan,
        epoch: WeightEpoch,
        routed: pd.DataFrame,
        outcomes: pd.DataFrame,
        sessions: pd.DatetimeIndex,
        baselines: pd.DataFrame,
        as_of: pd.Timestamp,
        cost_bps: float,
    ) -> Judgement:
        """Gather the evidence of a plan and decide; later epochs than ``epoch`` did not exist yet."""
        log, pair = self.rollout.log, (plan.champion, plan.challenger)
        epochs = [opened for opened in log.epochs(plan.experiment) if opened.number <= epoch.number]
        columns = tuple(dict.fromkeys((*EVIDENCE_COLUMNS, *answer_columns(plan.test.metric))))
        direct = log.direct(pair, since=pd.Timestamp(plan.starts_after), columns=columns)
        direct = direct[direct["session"] <= as_of]
        # Versions of all variants are numbered together, so that the newest one counts the trials.
        versions = max(arm.version for opened in epochs for arm in opened.arms)
        evidence = gather(plan, direct, baselines, outcomes)
        decision = decide(
            plan,
            epoch,
            evidence,
            watch_traffic(plan, epochs, routed, direct),
            as_of=as_of.date().isoformat(),
            # Profits are computed only if a promotion hangs on them.
            deflated_sharpe=lambda: deflated_sharpe(
                plan, direct, outcomes, sessions, versions=versions, cost_bps=cost_bps
            ),
        )
        return Judgement(decision, plan, evidence)

    def apply_decisions(self, decisions: Sequence[Decision]) -> WeightEpoch:
        """What follows from the decisions of one session: another weight epoch, or nothing.

        Of several challengers that are to be promoted, the one that gains most is; that ends the others' tests.
        Otherwise those that are rolled back, or released at their horizon, give up their requests, and what remains
        may take a step. With manual approval a promotion waits until a person has approved it; a rollback waits for
        nobody.
        """
        # A promotion ends all tests, so it comes first; a rollback waits for nobody, so it comes before what waits.
        promoted = [decision for decision in decisions if decision.action == "promote" and self.is_approved(decision)]
        if promoted:
            return self.rollout.promote(max(promoted, key=lambda one: one.estimate or 0.0))
        # Released: a test that ended without a winner, whose decision takes the challenger's requests away.
        released = [
            decision
            for decision in decisions
            if decision.action == "hold" and decision.challenger not in decision.weights
        ]
        withdrawn = [decision for decision in decisions if decision.action == "rollback" or decision in released]
        if withdrawn:
            return self.rollout.withdraw(withdrawn)
        if any(decision.action == "promote" for decision in decisions):
            return self.rollout.started()
        return self._follow_scores(decisions) if is_adaptive(self.rollout.policy) else self._climb(decisions)

    def is_approved(self, decision: Decision) -> bool:
        """Whether a promotion may go ahead: this one, or an earlier one of the same test, was approved."""
        if self.rollout.policy.traffic.approval == "automatic":
            return True
        log = self.rollout.log
        return any(
            log.approved_by(other.digest) is not None
            for other in log.decisions(decision.experiment)
            if other.action == "promote" and other.plan_digest == decision.plan_digest
        )

    def _follow_scores(self, decisions: Sequence[Decision]) -> WeightEpoch:
        """Adaptive shares: those of the latest allocation step."""
        epoch = self.rollout.started()
        shares = adaptive_shares(self.rollout.log, self.rollout.policy, epoch)
        if shares is None or not _are_about(decisions, epoch):
            return epoch
        return self.rollout.change_weights(shares.weights, shares.reason, regimes=shares.regimes)

    def _climb(self, decisions: Sequence[Decision]) -> WeightEpoch:
        epoch, log = self.rollout.started(), self.rollout.log
        if not _are_about(decisions, epoch) or all(decision.ended for decision in decisions):
            return epoch  # a test that has ended without a winner gives no reason for more exposure
        routed = log.routed(epoch.experiment, epoch=epoch.number, columns=("session",))
        share = sum(challenger.weight for challenger in epoch.challengers)
        guardrails = [rail for decision in decisions for rail in decision.guardrails]
        step = next_share(self.rollout.policy.traffic, share, routed["session"].nunique(), guardrails)
        return epoch if step is None else self.rollout.take_step(*step)

    def _routed(self, as_of: pd.Timestamp) -> pd.DataFrame:
        routed = self.rollout.log.routed(self.rollout.policy.experiment, columns=TRAFFIC_COLUMNS)
        return routed[routed["session"] <= as_of]


def _are_about(decisions: Sequence[Decision], epoch: WeightEpoch) -> bool:
    return bool(decisions) and all(decision.epoch == epoch.number for decision in decisions) and bool(epoch.challengers)
