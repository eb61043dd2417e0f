"""One experiment's tests: register their plans, decide as of a session, let shares learn. All state is in the log."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.evidence import Judgement, gather
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.decision.history import EvidenceHistory, SessionPredictions, evidence_columns
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.series import needs_scaled_outcomes
from financial_assets.experiment.evaluation.risk import deflated_sharpe
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.plan import DailyDeviation, ExperimentPlan, make_plan
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower
from financial_assets.experiment.rollout.adaptive import PairedScores, adapt, is_adaptive
from financial_assets.experiment.rollout.regimes import request_regimes
from financial_assets.experiment.rollout.state import Rollout

TRAFFIC_COLUMNS = ("epoch", "regime", "model", "status", "latency_s", "sent_at", "session")
"""Columns of the log's routed predictions that guardrails watch."""


@dataclass(frozen=True, slots=True)
class ExperimentController:
    """One experiment's plans and decisions.

    Parameters
    ----------
    rollout
        The rollout state, its log and policy.
    history
        Keeps evidence from one decision to the next; ``None``: each is computed from all of its rows.
    """

    rollout: Rollout
    history: EvidenceHistory | None = None

    def register(
        self,
        spread: Callable[[Arm], DailyDeviation],
        as_of: pd.Timestamp,
        *,
        whole_rule: Callable[[ExperimentPlan], WholeRulePower] | None = None,
    ) -> tuple[ExperimentPlan, ...]:
        """The plans of the present challengers, each registered if it has none; see :meth:`waiting` for the others.

        Parameters
        ----------
        spread
            Gives the expected variation of a challenger's daily differences; asked for only for a new plan.
        as_of
            The market clock.
        whole_rule
            Simulates the rule of a new plan.
        """
        epoch, log, policy = self.rollout.started(), self.rollout.log, self.rollout.policy
        for arm in self._without_plan():
            taken = self._taken()
            if taken >= 1:
                break
            seen = self._seen(epoch, arm, as_of)
            plan = make_plan(policy, epoch, arm, spread(arm), as_of, seen=seen, taken=taken, whole_rule=whole_rule)
            log.register_plan(plan)
        return self.plans()

    def waiting(self) -> tuple[Arm, ...]:
        """Challengers that joined while running tests held all of the error probability: theirs start after those.

        Without a test nobody waits: a challenger without a plan is then one that was forgotten.
        """
        missing = self._without_plan()
        return missing if missing and self._taken() >= 1 else ()

    def _without_plan(self) -> tuple[Arm, ...]:
        epoch, log = self.rollout.started(), self.rollout.log
        pairs = [(arm, log.plan(epoch.experiment, epoch.champion.model, arm.model)) for arm in epoch.challengers]
        return tuple(arm for arm, plan in pairs if plan is None)

    def _taken(self) -> float:
        """Part of the error probabilities that the present challengers' running tests hold.

        A test of the second rule gives its part back when it has ended, because it promotes nobody any more; one of the
        first never does.
        """
        epoch, log = self.rollout.started(), self.rollout.log
        plans = [log.plan(epoch.experiment, epoch.champion.model, arm.model) for arm in epoch.challengers]
        over = {decision.plan_digest for decision in log.decisions(epoch.experiment) if decision.ended}
        held = [1 / plan.family for plan in plans if plan and not (plan.rule == 2 and plan.digest in over)]
        return round(math.fsum(held), 9)

    def _seen(self, epoch: WeightEpoch, challenger: Arm, as_of: pd.Timestamp) -> pd.Timestamp | None:
        """Last session on which the outcome of both arms is known already, by an earlier experiment or replay."""
        pair = [epoch.champion.model, challenger.model]
        rows = self.rollout.log.direct(pair, columns=("session", "model"))
        by_model = [set(rows.loc[(rows["model"] == model) & (rows["session"] < as_of), "session"]) for model in pair]
        return max(by_model[0] & by_model[1], default=None)

    def plans(self) -> tuple[ExperimentPlan, ...]:
        """The registered plans of the present challengers, in their order, but for those that wait for one.

        Raises
        ------
        ExperimentError
            A challenger has no plan.
        """
        epoch = self.rollout.started()
        plans: list[ExperimentPlan] = []
        for arm in epoch.challengers:
            plan = self.rollout.log.plan(epoch.experiment, epoch.champion.model, arm.model)
            if plan is None and arm in self.waiting():
                continue
            if plan is None:
                raise ExperimentError(
                    f"no plan was registered for {arm.model} against {epoch.champion.model}, so nothing can be "
                    "decided: materialize the asset `experiment`"
                )
            plans.append(plan)
        return tuple(plans)

    def decide(
        self, known: KnownPrices, baselines: Mapping[str, pd.DataFrame | SessionPredictions], *, cost_bps: float
    ) -> tuple[Judgement, ...]:
        """Decide about every challenger as of a session, and record it; empty without one.

        It moves nothing: see :meth:`update_allocation` and :func:`.steps.apply_decisions`.

        Parameters
        ----------
        known
            What prices say as of that session; no later prediction is looked at.
        baselines
            Challenger -> daily predictions of the baselines that saw nothing of its plan's evidence: ``date``,
            ``ticker``, ``model``, ``probability_up``; or those by session, where a history is kept.
        cost_bps
            Trading costs per side in basis points.
        """
        epoch, plans = self.rollout.started(), self.plans()
        routed = self._routed(known.as_of) if plans else pd.DataFrame()
        judgements = tuple(
            self._judge(plan, epoch, routed, known, baselines[plan.challenger], cost_bps) for plan in plans
        )
        for judgement in judgements:
            self.rollout.log.record_decision(judgement.decision)
        return judgements

    def update_allocation(self, judgements: Sequence[Judgement], known: KnownPrices) -> None:
        """Take the allocation steps that the evidence of all challengers gives; without adaptive shares, nothing.

        No step is taken in a session in which a decision promotes or rolls back: the arms are about to change.

        Parameters
        ----------
        judgements
            All of one session.
        known
            Prices as of that session, for the regimes of requests.
        """
        log, policy = self.rollout.log, self.rollout.policy
        is_moving = any(judgement.decision.action != "hold" for judgement in judgements)
        # Shares are learned for all arms together: none moves while a challenger waits for its test.
        if not is_adaptive(policy) or not judgements or is_moving or self.waiting():
            return
        scores = PairedScores(
            {judgement.plan.challenger: judgement.evidence.by_ticker for judgement in judgements},
            max(judgement.plan.spread.deviation for judgement in judgements),
        )
        guardrails = [rail for judgement in judgements for rail in judgement.decision.guardrails]
        regimes = request_regimes(policy, known.panel)
        adapt(log, policy, self.rollout.started(), scores, guardrails, known.as_of, regimes)

    def latest(self) -> tuple[Decision, ...]:
        """The latest recorded decision about each challenger in the current epoch; none before it is taken."""
        epoch = self.rollout.started()
        decisions = self.rollout.log.decisions(epoch.experiment)
        latest_by_challenger = {
            decision.challenger: decision for decision in decisions if decision.epoch == epoch.number
        }
        return tuple(latest_by_challenger[arm.model] for arm in epoch.challengers if arm.model in latest_by_challenger)

    def repeat(self, decision: Decision, known: KnownPrices, baselines: pd.DataFrame, *, cost_bps: float) -> Decision:
        """The same decision, computed from the log anew; equal bit for bit unless log, prices or rules were changed.

        Parameters
        ----------
        decision
            A recorded one.
        known
            What prices said as of its session.
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
        return self._judge(plan, epoch, self._routed(known.as_of), known, baselines, cost_bps).decision

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
        known: KnownPrices,
        baselines: pd.DataFrame | SessionPredictions,
        cost_bps: float,
    ) -> Judgement:
        """Gather the evidence of a plan and decide; later epochs than ``epoch`` did not exist yet."""
        log = self.rollout.log
        epochs = [opened for opened in log.epochs(plan.experiment) if opened.number <= epoch.number]
        # Versions of all variants are numbered together, so that the newest one counts the trials.
        versions = max(arm.version for opened in epochs for arm in opened.arms)
        if isinstance(baselines, pd.DataFrame):
            direct = self._direct(plan, known.as_of)
            outcomes = known.scaled_outcomes if needs_scaled_outcomes(plan) else known.outcomes
            evidence, always_on = gather(plan, direct, baselines, outcomes), None
            traffic = watch_traffic(plan, epochs, routed, direct)
        elif self.history is None:
            raise ExperimentError("baselines by session are for a controller that keeps a history")
        else:
            gathered = self.history.gather(plan, log, baselines, known)
            evidence, always_on = gathered.evidence, gathered.always_on
            traffic = watch_traffic(plan, epochs, routed, longest=gathered.longest)
        decision = decide(
            plan,
            epoch,
            evidence,
            traffic,
            as_of=known.as_of.date().isoformat(),
            # Profits are computed only if a promotion hangs on them.
            deflated_sharpe=lambda: deflated_sharpe(
                plan, self._direct(plan, known.as_of), known, versions=versions, cost_bps=cost_bps
            ),
            always_on=always_on,
        )
        return Judgement(decision, plan, evidence)

    def _direct(self, plan: ExperimentPlan, as_of: pd.Timestamp) -> pd.DataFrame:
        """The paired predictions of a plan's arms up to a session."""
        pair, since = (plan.champion, plan.challenger), pd.Timestamp(plan.starts_after)
        return self.rollout.log.direct(pair, since=since, until=as_of, columns=evidence_columns(plan))

    def _routed(self, as_of: pd.Timestamp) -> pd.DataFrame:
        return self.rollout.log.routed(self.rollout.policy.experiment, until=as_of, columns=TRAFFIC_COLUMNS)
