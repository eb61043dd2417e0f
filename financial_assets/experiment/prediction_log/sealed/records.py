"""What is sealed beside rows: plans, artefacts, decisions, approvals and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from financial_assets.experiment.arms import WeightEpoch, arm_to_json
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.sealed.chain import (
    APPROVAL,
    ARTEFACT,
    DECISION,
    PLAN,
    WEIGHTS,
    SealedChain,
)


class DecisionSources(Protocol):
    """Says what a decision was taken from, beside the log: values of JSON, with digests."""

    def prices(self, plan: ExperimentPlan) -> Mapping[str, Any]:
        """The state of the price store, and a digest of the closes that the plan's evidence is about."""
        ...

    def artefact(self, model: str) -> Mapping[str, Any] | None:
        """Digests of a served model's files and of what it was made from; ``None`` if it is not known."""
        ...


def seal_plan(chain: SealedChain, plan: ExperimentPlan) -> None:
    """Seal a plan at its registration."""
    pair = {"experiment": plan.experiment, "champion": plan.champion, "challenger": plan.challenger}
    chain.append(PLAN, plan.digest, {**pair, "starts_after": plan.starts_after, "as_of": plan.registered_as_of})


def seal_weights(chain: SealedChain, epoch: WeightEpoch, decisions: Sequence[str]) -> None:
    """Seal a weight epoch when it is opened, with the digests of the decisions that it follows from."""
    chain.append(
        WEIGHTS,
        weights_subject(epoch.experiment, epoch.number),
        {
            "experiment": epoch.experiment,
            "epoch": epoch.number,
            "arms": [arm_to_json(arm) for arm in epoch.arms],
            "regimes": {label: dict(weights) for label, weights in epoch.regimes.items()},
            "reason": epoch.reason,
            "decisions": list(decisions),
        },
    )


def weights_subject(experiment: str, number: int) -> str:
    """What records of weights are called by."""
    return f"{experiment}:{number}"


def seal_artefacts(chain: SealedChain, artefacts: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Seal the artefacts of served models that are not sealed yet: a name always means the same files."""
    for model, values in artefacts.items():
        if values is not None and chain.latest(ARTEFACT, model) is None:
            chain.append(ARTEFACT, model, values)


def seal_decision(
    chain: SealedChain,
    decision: Decision,
    epoch: WeightEpoch | None,
    rows: Mapping[str, str | None],
    prices: Mapping[str, Any] | None,
) -> None:
    """Seal a decision with the digests of what it was taken from.

    Parameters
    ----------
    chain
        All rows that the decision used are sealed in it.
    decision
        New in the log.
    epoch
        That of the decision.
    rows
        Digests of the latest records of rows, by kind.
    prices
        See :class:`DecisionSources`; ``None``: unknown.
    """
    weights = chain.latest(WEIGHTS, weights_subject(decision.experiment, decision.epoch))
    plan = chain.latest(PLAN, decision.plan_digest)
    artefacts = {model: chain.latest(ARTEFACT, model) for model in (decision.champion, decision.challenger)}
    chain.append(
        DECISION,
        decision.digest,
        {
            "experiment": decision.experiment,
            "as_of": decision.as_of,
            "action": decision.action,
            "plan": decision.plan_digest,
            "plan_record": None if plan is None else plan.digest,
            "prices": None if prices is None else dict(prices),
            "artefacts": {model: None if record is None else record.digest for model, record in artefacts.items()},
            "rows": dict(rows),
            "weights_before": {
                "epoch": decision.epoch,
                "weights": None if epoch is None else dict(epoch.weights),
                "record": None if weights is None else weights.digest,
            },
            "weights_after": dict(decision.weights),
        },
    )


def seal_approval(chain: SealedChain, digest: str, by: str) -> None:
    """Seal who approved a decision."""
    chain.append(APPROVAL, digest, {"by": by})
