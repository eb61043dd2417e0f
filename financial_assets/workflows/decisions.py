"""One step of the experiment, put together from the resources: decide, open the epoch that follows, route by it.

The asset ``rollout`` and the command ``replay --decide`` both run it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.experiment.arms import ROUTED_ROLES, WeightEpoch
from financial_assets.experiment.decision.evidence import Judgement
from financial_assets.experiment.decision.history import EvidenceHistory
from financial_assets.experiment.decision.kept.shared import EVIDENCE_COLUMNS
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS, ROUTED_COLUMNS
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.experiment.prediction_log.sealed.chain import SealedRecord
from financial_assets.experiment.prediction_log.shared_reads import SharedReads
from financial_assets.experiment.rollout.adaptive import is_adaptive
from financial_assets.experiment.rollout.controller import TRAFFIC_COLUMNS, ExperimentController
from financial_assets.experiment.rollout.registration import UnaskedQuestion
from financial_assets.experiment.rollout.routing import apply_epoch, point_aliases
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.experiment.rollout.steps import apply_decisions
from financial_assets.experiment.rollout.tracking import track_decision
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.installation.serving import ServingAccess
from financial_assets.market.log.history import Change
from financial_assets.market.panel import PricePanel
from financial_assets.market.panels.lineage import Lineage
from financial_assets.models.baselines.history import BaselineHistory, DailyPredictions
from financial_assets.models.baselines.monthly import write_by_month
from financial_assets.workflows.passports.sources import StateSources


@dataclass(frozen=True)
class Step:
    """The decisions of one session, the current epoch after them, and whether that epoch is new."""

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
    lineage
        What the panel has in common with earlier ones: predictions are then kept on disk, and only those of new
        sessions are computed. ``None``: that is not known, and all are.
    changes
        History of the price store up to the state that the panel is of; ``None``: unknown.
    """

    def __init__(
        self,
        models: ModelStore,
        panel: PricePanel,
        lineage: Lineage | None = None,
        changes: Sequence[Change] | None = None,
    ) -> None:
        self._models, self._panel, self._lineage, self.changes = models, panel, lineage, changes
        self._by_cutoff: dict[pd.Timestamp, pd.DataFrame] = {}
        self._kept: dict[pd.Timestamp, DailyPredictions] = {}

    @classmethod
    def current(cls, models: ModelStore, market: MarketState) -> BaselinePredictions:
        """Those on the panel of now."""
        stored = market.current_panel()
        # The lineage is one of bars: tables of covariates may say something else of any session than they did.
        lineage = None if stored.covariates else stored.lineage
        return cls(models, stored.panel, lineage, market.store().history()[: stored.basis.changes])

    @property
    def panel(self) -> PricePanel:
        """The prices that they are of."""
        return self._panel

    def kept_since(self, session: pd.Timestamp) -> DailyPredictions | None:
        """Those of :meth:`since` by session, with what tells whether they have changed; ``None`` without a lineage."""
        if self._lineage is None:
            return None
        fitted = self._models.baselines_for(session)
        cutoff = pd.Timestamp(fitted.cutoff)
        if cutoff not in self._kept:
            folder = self._models.folder / "baseline-predictions" / fitted.cutoff
            self._kept[cutoff] = BaselineHistory(folder, fitted).up_to(self._panel, self._lineage)
        return self._kept[cutoff]

    def since(self, session: pd.Timestamp) -> pd.DataFrame:
        """Those of the latest baselines that saw nothing after ``session``: for evidence that begins then."""
        fitted = self._models.baselines_for(session)
        cutoff = pd.Timestamp(fitted.cutoff)
        if cutoff not in self._by_cutoff and (kept := self.kept_since(session)) is not None:
            self._by_cutoff[cutoff] = kept.frame()
        if cutoff not in self._by_cutoff:
            sessions = self._panel.sessions[self._panel.sessions > cutoff]
            features = compute_panel(self._panel, FeatureGraph(covariates=self._panel.covariates))
            self._by_cutoff[cutoff] = fitted.predict(features, self._panel, sessions)
        return self._by_cutoff[cutoff]

    def of(self, epoch: WeightEpoch) -> pd.DataFrame:
        """Those that saw nothing of the sessions that all routed arms may be judged on."""
        return self.since(_last_cutoff(epoch))

    def write(self, folder: Path, epoch: WeightEpoch) -> None:
        """Keep those of :meth:`of` in a folder, by month; only months with news are written."""
        kept = self.kept_since(_last_cutoff(epoch))
        write_by_month(folder, self.of(epoch), {} if kept is None else kept.tokens)
        folder.with_suffix(".parquet").unlink(missing_ok=True)  # all of them in one file, of an earlier version


def _last_cutoff(epoch: WeightEpoch) -> pd.Timestamp:
    return max(arm.data_cutoff for arm in epoch.arms if arm.role in ROUTED_ROLES)


def reads_of_evaluation(log: LogReader) -> SharedReads:
    """Reads of the log that serve both the report and the decisions that it shows.

    The report needs most: what it asks for first holds the rows of every decision.
    """
    direct = dict.fromkeys((*DIRECT_COLUMNS, *EVIDENCE_COLUMNS))
    return SharedReads(log, tuple(direct), tuple(dict.fromkeys((*ROUTED_COLUMNS, *TRAFFIC_COLUMNS))))


def decide_now(market: MarketState, models: ModelStore, ab_test: ABTestState) -> tuple[Judgement, ...]:
    """Answer every question about every challenger as of the market clock; see :func:`decide_as_of`."""
    baselines = BaselinePredictions.current(models, market)
    return decide_as_of(KnownPrices.of(baselines.panel, market.clock().now()), baselines, models, ab_test)


def decide_as_of(
    known: KnownPrices,
    baselines: BaselinePredictions,
    models: ModelStore,
    ab_test: ABTestState,
    made_in: Mapping[str, str] | None = None,
    reads: SharedReads | None = None,
) -> tuple[Judgement, ...]:
    """Answer every question about every challenger as of a session; empty without one. Nothing moves yet.

    The records are kept in the log, beside the report and in the tracker. A decision that is equal to a recorded one is
    not recorded twice.

    Parameters
    ----------
    known
        Prices up to the market clock, and the outcomes that they settle.
    baselines
        Predictions of the baselines.
    models, ab_test
        Tracker, log and policy.
    made_in
        Tags of the tracked decisions that lead to the pipeline which decides.
    reads
        Of the same log, shared with the report (:func:`reads_of_evaluation`). Default: the decision's own.
    """
    with _controller(ab_test) as controller:
        by_session = not is_adaptive(controller.rollout.policy)  # adaptive shares learn from the rows themselves

        def predicted(plan: ExperimentPlan) -> pd.DataFrame | DailyPredictions:
            session = pd.Timestamp(plan.starts_after)
            return (baselines.kept_since(session) if by_session else None) or baselines.since(session)

        sources = StateSources(known, models.folder, baselines.changes)
        judgements = controller.decide(known, predicted, cost_bps=ab_test.cost_bps, reads=reads, sources=sources)
        seals = {seal.subject: seal for seal in controller.rollout.log.seals(one.decision.digest for one in judgements)}
    for judgement in judgements:
        decision = judgement.decision
        path = ab_test.decisions_folder / f"{decision.as_of}-{decision.digest[:12]}.json"
        atomic_write_text(path, decision.document)
        if (seal := seals.get(decision.digest)) is not None:
            write_seal(seal, path.with_suffix(".seal"))
        track_decision(models.tracker(), judgement.plan, decision, made_in)
    return judgements


def write_seal(seal: SealedRecord, path: Path) -> None:
    """Write the text that a seal's digest is of, and beside it, where there is one, its signature for `minisign -V`."""
    atomic_write_text(path, seal.document)
    if seal.signature is not None:
        atomic_write_text(path.with_name(f"{path.name}.minisig"), seal.signature)


def unasked_questions(ab_test: ABTestState) -> tuple[UnaskedQuestion, ...]:
    """The policy's questions about the present challengers that have no plan, and why."""
    with _controller(ab_test) as controller:
        return controller.unasked()


def update_allocation(judgements: Sequence[Judgement], known: KnownPrices, ab_test: ABTestState) -> None:
    """Let adaptive shares learn from the evidence of one session's decisions, if the policy wants them.

    It is separate from :func:`decide_as_of`: whoever only asks what would be decided moves no allocation.
    """
    with _controller(ab_test) as controller:
        controller.update_allocation(judgements, known)


def take_step(
    decisions: Sequence[Decision],
    models: ModelStore,
    serving: ServingAccess,
    ab_test: ABTestState,
    *,
    always: bool = True,
) -> Step:
    """Apply decisions: open the epoch that follows, route by it, then move the aliases.

    Each part can be repeated: after a crash between two of them the next call goes on where this one stopped.

    Parameters
    ----------
    decisions
        Of one session; none: only the routes of the current epoch are made sure of.
    models, serving, ab_test
        Registry, target, log and policy.
    always
        Make sure of the routes even if the epoch stays.
    """
    with _controller(ab_test) as controller:
        before = controller.rollout.started()
        epoch = apply_decisions(controller.rollout, decisions) if decisions else before
        former = controller.rollout.former_regimes()
    moved = epoch != before
    if moved or always:
        # Routes before aliases: an alias may lag behind what is served, but never names a model that is not routed yet.
        apply_epoch(epoch, serving.target(), serving.kubernetes_namespace, serving.ready_timeout, former=former)
        point_aliases(models.registry(), epoch)
    return Step(tuple(decisions), epoch, moved)


def repeat_decision(decision: Decision, market: MarketState, models: ModelStore, ab_test: ABTestState) -> Decision:
    """The decision computed anew from log and prices, as of its own session."""
    as_of = pd.Timestamp(decision.as_of)
    known = KnownPrices.of(market.whole_panel().until(as_of), as_of)
    return judge_again(decision, known, models, ab_test).decision


def judge_again(decision: Decision, known: KnownPrices, models: ModelStore, ab_test: ABTestState) -> Judgement:
    """The decision computed anew from the log and given prices as of its session, with plan and evidence."""
    with _controller(ab_test) as controller:
        starts_after = pd.Timestamp(controller.plan_of(decision).starts_after)
        baselines = BaselinePredictions(models, known.panel).since(starts_after)
        return controller.judge_again(decision, known, baselines, cost_bps=ab_test.cost_bps)


@contextmanager
def _controller(ab_test: ABTestState) -> Generator[ExperimentController]:
    with ab_test.log() as log:
        yield ExperimentController(
            Rollout(log, ab_test.policy(), ab_test.switch), EvidenceHistory(ab_test.evidence_folder)
        )
