"""One experiment's tests: register their plans, decide as of a session, let shares learn. All state is in the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.evidence import Judgement, gather
from financial_assets.experiment.decision.guardrails import longest_of_pairs, watch_traffic
from financial_assets.experiment.decision.history import EvidenceHistory
from financial_assets.experiment.decision.kept.shared import SessionPredictions, SharedTables, evidence_columns
from financial_assets.experiment.decision.record import NO_TRAFFIC, Decision
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.series import needs_scaled_outcomes
from financial_assets.experiment.evaluation.risk import deflated_sharpe
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower
from financial_assets.experiment.prediction_log.sealed.records import DecisionSources
from financial_assets.experiment.prediction_log.shared_reads import SharedReads
from financial_assets.experiment.rollout.adaptive import PairedScores, adapt, is_adaptive
from financial_assets.experiment.rollout.regimes import request_regimes
from financial_assets.experiment.rollout.registration import Measure, Registration, UnaskedQuestion
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
        measure: Measure,
        as_of: pd.Timestamp,
        *,
        whole_rule: Callable[[ExperimentPlan], WholeRulePower] | None = None,
    ) -> tuple[ExperimentPlan, ...]:
        """The plans of the present challengers, for each question of the policy; those that are missing are registered.

        See :meth:`waiting` and :meth:`unasked` for what has none.

        Parameters
        ----------
        measure
            Says what is known of the days of a test; asked only for a new plan.
        as_of
            The market clock.
        whole_rule
            Simulates the rule of a new plan.
        """
        self._registration.register(measure, as_of, whole_rule)
        return self.plans()

    def waiting(self) -> tuple[Arm, ...]:
        """See :meth:`.Registration.waiting`."""
        return self._registration.waiting()

    def unasked(self) -> tuple[UnaskedQuestion, ...]:
        """See :meth:`.Registration.unasked`."""
        return self._registration.unasked()

    def plans(self) -> tuple[ExperimentPlan, ...]:
        """See :meth:`.Registration.plans`."""
        return self._registration.plans()

    @property
    def _registration(self) -> Registration:
        return Registration(self.rollout)

    def decide(
        self,
        known: KnownPrices,
        baselines: Callable[[ExperimentPlan], pd.DataFrame | SessionPredictions],
        *,
        cost_bps: float,
        reads: SharedReads | None = None,
        sources: DecisionSources | None = None,
    ) -> tuple[Judgement, ...]:
        """Answer every question about every challenger as of a session, and record it; empty without one.

        A question that moves no traffic is answered once: after that its answer stands.

        It moves nothing: see :meth:`update_allocation` and :func:`.steps.apply_decisions`.

        Parameters
        ----------
        known
            What prices say as of that session; no later prediction is looked at.
        baselines
            Gives the daily predictions of the baselines that saw nothing of a plan's evidence: ``date``, ``ticker``,
            ``model``, and their answers; or those by session, where a history is kept.
        cost_bps
            Trading costs per side in basis points.
        reads
            Reads of the log that the report shares, with the columns of :func:`.evidence_columns` of every plan and
            :data:`TRAFFIC_COLUMNS`. Default: the decision's own.
        sources
            What the seals of the decisions name beside the log; ``None``: they say that it is unknown.
        """
        epoch, plans = self.rollout.started(), self.plans()
        epochs = self.rollout.log.epochs(epoch.experiment)
        reads, shared = reads or self._reads(plans), SharedTables()
        routed = self._kept_routed(reads, known.as_of) if plans else pd.DataFrame()
        judgements = tuple(
            self._judge(plan, epoch, routed, known, baselines(plan), cost_bps, reads, epochs, shared) for plan in plans
        )
        judgements = self._as_answered(judgements)
        self.rollout.log.record_decisions([(one.decision, one.plan) for one in judgements], sources)
        return judgements

    def _as_answered(self, judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
        """With earlier answers to further questions in the place of today's: such a test ends, but its pair goes on."""
        if all(judgement.plan.moves_traffic for judgement in judgements):
            return tuple(judgements)
        recorded = self.rollout.log.concluded(self.rollout.policy.experiment)
        answers = {decision.plan_digest: decision for decision in reversed(recorded) if not decision.moves_traffic}
        standing = [answers.get(judgement.plan.digest, judgement.decision) for judgement in judgements]
        return tuple(
            replace(judgement, decision=answer) if answer.as_of <= judgement.decision.as_of else judgement
            for judgement, answer in zip(judgements, standing, strict=True)
        )

    def update_allocation(self, judgements: Sequence[Judgement], known: KnownPrices) -> None:
        """Take the allocation steps that the evidence of all challengers gives; without adaptive shares, nothing.

        No step is taken in a session in which a decision promotes or rolls back: the arms are about to change. Nor
        under a halt: those sessions are learned from afterwards.

        Parameters
        ----------
        judgements
            All of one session.
        known
            Prices as of that session, for the regimes of requests.
        """
        log, policy = self.rollout.log, self.rollout.policy
        judgements = [judgement for judgement in judgements if judgement.plan.moves_traffic]
        is_moving = any(judgement.decision.action != "hold" for judgement in judgements)
        # Shares are learned for all arms together: none moves while a challenger waits for its test.
        if not is_adaptive(policy) or not judgements or is_moving or self.waiting() or self.rollout.is_frozen:
            return
        scores = PairedScores(
            {judgement.plan.challenger: judgement.evidence.by_ticker for judgement in judgements},
            max(judgement.plan.spread.deviation for judgement in judgements),
        )
        guardrails = [rail for judgement in judgements for rail in judgement.decision.guardrails]
        regimes = request_regimes(policy, known.panel)
        adapt(log, policy, self.rollout.started(), scores, guardrails, known.as_of, regimes)

    def latest(self) -> tuple[Decision, ...]:
        """The latest recorded answer to each question about each challenger; none before it is taken.

        Those that move traffic are about the current epoch. Answers to further questions may be older than it.
        """
        epoch = self.rollout.started()
        latest: dict[tuple[str, str | None], Decision] = {}
        for decision in self.rollout.log.decisions(epoch.experiment):
            is_of_now = decision.champion == epoch.champion.model and not decision.moves_traffic
            if decision.epoch == epoch.number or is_of_now:
                latest[decision.challenger, decision.question] = decision
        order = {arm.model: place for place, arm in enumerate(epoch.challengers)}
        present = [decision for decision in latest.values() if decision.challenger in order]
        # Stable: the further questions of a challenger stay in the order in which they were asked.
        return tuple(sorted(present, key=lambda one: (order[one.challenger], not one.moves_traffic)))

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
        return self.judge_again(decision, known, baselines, cost_bps=cost_bps).decision

    def judge_again(
        self, decision: Decision, known: KnownPrices, baselines: pd.DataFrame, *, cost_bps: float
    ) -> Judgement:
        """The same with its plan and evidence; see :meth:`repeat`."""
        plan, epoch = self.plan_of(decision), self.rollout.log.known_epoch(decision.experiment, decision.epoch)
        reads = self._reads([plan])
        routed = self._routed(reads, known.as_of)
        return self._judge(plan, epoch, routed, known, baselines, cost_bps, reads)

    def plan_of(self, decision: Decision) -> ExperimentPlan:
        """The registered plan that a decision was taken under.

        Raises
        ------
        ExperimentError
            It is not in the log.
        """
        plan = self.rollout.log.plan_of(decision)
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
        reads: SharedReads,
        epochs: Sequence[WeightEpoch] | None = None,
        shared: SharedTables | None = None,
    ) -> Judgement:
        """Gather the evidence of a plan and decide; later epochs than ``epoch`` did not exist yet."""
        epochs = self.rollout.log.epochs(plan.experiment) if epochs is None else epochs
        epochs = [opened for opened in epochs if opened.number <= epoch.number]
        # Versions of all variants are numbered together, so that the newest one counts the trials.
        versions = max(arm.version for opened in epochs for arm in opened.arms)
        if isinstance(baselines, pd.DataFrame):
            direct = _direct(plan, reads, known.as_of)
            outcomes = known.scaled_outcomes if needs_scaled_outcomes(plan) else known.outcomes
            evidence, always_on = gather(plan, direct, baselines, outcomes), None
            longest = longest_of_pairs(plan, direct)
        elif self.history is None:
            raise ExperimentError("baselines by session are for a controller that keeps a history")
        else:
            gathered = self.history.gather(plan, reads, baselines, known, shared)
            evidence, always_on = gathered.evidence, gathered.always_on
            longest = gathered.longest if plan.moves_traffic else None
        decision = decide(
            plan,
            epoch,
            evidence,
            watch_traffic(plan, epochs, routed, longest=longest) if plan.moves_traffic else NO_TRAFFIC,
            as_of=known.as_of.date().isoformat(),
            # Profits are computed only if a promotion hangs on them.
            deflated_sharpe=lambda: deflated_sharpe(
                plan, _direct(plan, reads, known.as_of), known, versions=versions, cost_bps=cost_bps
            ),
            always_on=always_on,
        )
        return Judgement(decision, plan, evidence)

    def _reads(self, plans: Sequence[ExperimentPlan]) -> SharedReads:
        columns = dict.fromkeys(column for plan in plans for column in evidence_columns(plan))
        return SharedReads(self.rollout.log, tuple(columns), TRAFFIC_COLUMNS)

    def _kept_routed(self, reads: SharedReads, as_of: pd.Timestamp) -> pd.DataFrame:
        """The same rows, by what is kept, where there is a history."""
        if self.history is None:
            return self._routed(reads, as_of)
        return self.history.routed(reads, self.rollout.policy.experiment, as_of, TRAFFIC_COLUMNS)

    def _routed(self, reads: SharedReads, as_of: pd.Timestamp) -> pd.DataFrame:
        return reads.routed(self.rollout.policy.experiment, until=as_of, columns=TRAFFIC_COLUMNS)


def _direct(plan: ExperimentPlan, reads: SharedReads, as_of: pd.Timestamp) -> pd.DataFrame:
    """The paired predictions of a plan's arms up to a session."""
    pair, since = (plan.champion, plan.challenger), pd.Timestamp(plan.starts_after)
    return reads.direct(pair, since=since, until=as_of, columns=evidence_columns(plan))
