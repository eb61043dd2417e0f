"""What follows from the decisions of a session: another weight epoch, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.rollout.adaptive import adaptive_shares, is_adaptive
from financial_assets.experiment.rollout.roles import next_share
from financial_assets.experiment.rollout.state import Rollout


def apply_decisions(rollout: Rollout, decisions: Sequence[Decision]) -> WeightEpoch:
    """What follows from the decisions of one session: another weight epoch, or nothing.

    Of several challengers that are to be promoted, the one that gains most is; that ends the others' tests.
    Otherwise those that are rolled back, or released at their horizon, give up their requests, and what remains
    may take a step. With manual approval a promotion waits until a person has approved it; a rollback waits for
    nobody. Answers to questions that move no traffic change nothing here.
    """
    decisions = [decision for decision in decisions if decision.moves_traffic]
    # A promotion ends all tests, so it comes first; a rollback waits for nobody, so it comes before what waits.
    promoted = [decision for decision in decisions if decision.action == "promote" and is_approved(rollout, decision)]
    if promoted:
        return rollout.promote(max(promoted, key=lambda one: one.estimate or 0.0))
    # Released: a test that ended without a winner, whose decision takes the challenger's requests away.
    released = [
        decision for decision in decisions if decision.action == "hold" and decision.challenger not in decision.weights
    ]
    withdrawn = [decision for decision in decisions if decision.action == "rollback" or decision in released]
    if withdrawn:
        return rollout.withdraw(withdrawn)
    if any(decision.action == "promote" for decision in decisions):
        return rollout.started()
    return _follow_scores(rollout, decisions) if is_adaptive(rollout.policy) else _climb(rollout, decisions)


def is_approved(rollout: Rollout, decision: Decision) -> bool:
    """Whether a promotion may go ahead: this one, or an earlier one of the same test, was approved."""
    if rollout.policy.traffic.approval == "automatic":
        return True
    log = rollout.log
    return any(
        log.approved_by(other.digest) is not None
        for other in log.decisions(decision.experiment)
        if other.action == "promote" and other.plan_digest == decision.plan_digest
    )


def _follow_scores(rollout: Rollout, decisions: Sequence[Decision]) -> WeightEpoch:
    """Adaptive shares: those of the latest allocation step."""
    epoch = rollout.started()
    shares = adaptive_shares(rollout.log, rollout.policy, epoch)
    if shares is None or not _are_about(decisions, epoch):
        return epoch
    return rollout.change_weights(shares.weights, shares.reason, regimes=shares.regimes)


def _climb(rollout: Rollout, decisions: Sequence[Decision]) -> WeightEpoch:
    epoch, log = rollout.started(), rollout.log
    if not _are_about(decisions, epoch) or all(decision.ended for decision in decisions):
        return epoch  # a test that has ended without a winner gives no reason for more exposure
    routed = log.routed(epoch.experiment, epoch=epoch.number, columns=("session",))
    share = sum(challenger.weight for challenger in epoch.challengers)
    guardrails = [rail for decision in decisions for rail in decision.guardrails]
    step = next_share(rollout.policy.traffic, share, routed["session"].nunique(), guardrails)
    return epoch if step is None else rollout.take_step(*step)


def _are_about(decisions: Sequence[Decision], epoch: WeightEpoch) -> bool:
    return bool(decisions) and all(decision.epoch == epoch.number for decision in decisions) and bool(epoch.challengers)
