"""Shares that follow the daily scores: one allocation step per session of evidence, kept in the log, replayed from it.

Off unless the policy's ``traffic.mode`` is ``thompson`` or ``hedge``. What it may do is bounded: a floor for each arm,
at most ten points per session, a hold of one session, hysteresis, and the policy's own weights at once when a guardrail
fires, the split is wrong or evidence stops coming. With ``traffic.regimes`` each kind of request has a memory and
shares of its own, and learns from its own rows only. Decisions are not touched by any of it: they rest on the paired
scores. Figures of routed requests alone are biased after adaptive weights; see :mod:`.allocation.inference`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.allocation.allocators import Allocator, Hedge, ThompsonGaussian
from financial_assets.experiment.allocation.contextual import advance_regimes, common_session
from financial_assets.experiment.allocation.daily import AllocationPolicy, AllocationState, replay, resume
from financial_assets.experiment.allocation.limits import TOTAL, Limits
from financial_assets.experiment.allocation.record import AllocationRecord, Health
from financial_assets.experiment.allocation.regimes import regime_experiment
from financial_assets.experiment.arms import FOLLOWING_MODES, Arm, WeightEpoch
from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.plan.policy import RolloutPolicy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.regimes import RequestRegimes
from financial_assets.experiment.rollout.roles import share_of
from financial_assets.market.calendar import sessions_later

_RECENT = 24
"""Records that a day's step looks at: enough for a regime to have had evidence."""


@dataclass(frozen=True, slots=True, eq=False)
class PairedScores:
    """The evidence of all challengers of one champion.

    Attributes
    ----------
    rows
        Challenger -> ``session``, ``ticker``, ``difference``: its score minus the champion's.
    deviation
        Largest expected standard deviation of a day's difference, as planned.
    """

    rows: Mapping[str, pd.DataFrame]
    deviation: float

    def daily(self, label: str | None = None) -> pd.DataFrame:
        """Mean difference of each session ``[session, challenger]`` where all have one; of a regime's rows only."""
        selected = {name: rows if label is None else rows[rows["regime"] == label] for name, rows in self.rows.items()}
        daily = {name: rows.groupby("session")["difference"].mean() for name, rows in selected.items()}
        return pd.DataFrame(daily).dropna().sort_index()

    def after(self, session: dt.date | None, regimes: RequestRegimes | None) -> PairedScores:
        """Those of later sessions (of all, for ``None``), with the column ``regime`` if requests are told apart."""
        later: dict[str, pd.DataFrame] = {}
        for name, rows in self.rows.items():
            rows = rows if session is None else rows[rows["session"] > pd.Timestamp(session)]
            if regimes is not None:
                keys = zip(rows["session"], rows["ticker"], strict=True)
                rows = rows.assign(regime=np.array([regimes.label(*key) for key in keys], object))
            later[name] = rows
        return PairedScores(later, self.deviation)


@dataclass(frozen=True, slots=True)
class AdaptiveShares:
    """The weights after the latest step.

    Attributes
    ----------
    weights
        Model -> weight, for requests of no regime of its own.
    regimes
        Regime label -> the same.
    reason
        Why, for the history.
    """

    weights: Mapping[str, int]
    regimes: Mapping[str, Mapping[str, int]]
    reason: str


def is_adaptive(policy: RolloutPolicy) -> bool:
    """Whether shares follow the scores."""
    return policy.traffic.mode in FOLLOWING_MODES


def allocation_policy(policy: RolloutPolicy, challengers: Sequence[Arm], deviation: float) -> AllocationPolicy:
    """What was agreed before the first step: allocator, limits, and the policy's weights for times of trouble.

    Each challenger has the share that the policy gives its variant: one that was withdrawn leaves its own to the
    champion, not to the others.

    Parameters
    ----------
    policy
        The rules.
    challengers
        The current ones.
    deviation
        Expected standard deviation of a day's difference.
    """
    traffic, shares = policy.traffic, [share_of(policy, arm.variant) for arm in challengers]
    allocator: Allocator = Hedge() if traffic.mode == "hedge" else ThompsonGaussian(prior_sd=deviation)
    limits = Limits(
        floor=traffic.floor,
        cap=TOTAL - traffic.floor,
        step=min(traffic.maximum_step, 10),
        hysteresis=traffic.hysteresis,
    )
    default = limits.ideal([share / TOTAL for share in (TOTAL - sum(shares), *shares)])
    return AllocationPolicy(allocator, default=default, limits=limits)


def adapt(
    log: PredictionLog,
    policy: RolloutPolicy,
    epoch: WeightEpoch,
    scores: PairedScores,
    guardrails: Collection[Guardrail],
    as_of: pd.Timestamp,
    regimes: RequestRegimes | None = None,
) -> AdaptiveShares | None:
    """Take the steps that are due, keep them in the log, and return the weights that follow; ``None`` before any.

    A day's scores are the challengers' advantages and the champion's zero: only differences matter to an allocator.

    Parameters
    ----------
    log
        Keeps the steps.
    policy, epoch
        What was agreed, and the arms.
    scores
        The evidence; sessions that have their step already are not taken again.
    guardrails
        As of now: the newest session is judged by them.
    as_of
        The market clock.
    regimes
        Which rows belong to which kind of request; ``None``: all are alike.

    Raises
    ------
    ExperimentError
        The steps in the log are not what this policy would have made.
    """
    agreed = allocation_policy(policy, epoch.challengers, scores.deviation)
    days = scores.daily()
    # Guardrails are known as of now only: sessions that are caught up with are taken for healthy ones.
    health = [Health()] * (len(days) - 1)
    if len(days):
        health.append(_health(guardrails, days.index[-1], as_of))
    # A step in every session for each experiment: that of every regime, or the only one. A regime without a row of its
    # own learns nothing in a session, but takes its step.
    labels = [regime.label for regime in policy.traffic.every_regime()] if regimes else [None]
    names = {label: regime_experiment(epoch.experiment, label) for label in labels}
    states = {name: _state(log, agreed, name, epoch) for name in names.values()}
    latest = common_session(states)
    fresh = scores.after(latest, regimes)
    daily = {name: fresh.daily(label) for label, name in names.items()}
    records: dict[str, list[AllocationRecord]] = {name: [] for name in states}
    for session, well in zip(days.index, health, strict=True):
        if latest is None or session.date() > latest:
            # The champion's own advantage is 0; each challenger's is its mean difference from the champion.
            given = {name: (0.0, *own.loc[session].tolist()) for name, own in daily.items() if session in own.index}
            states, made = advance_regimes(agreed, states, session.date(), given, well)
            for name, record in made.items():
                records[name].append(record)
    log.record_allocations(epoch, records)
    return adaptive_shares(log, policy, epoch)


def adaptive_shares(log: PredictionLog, policy: RolloutPolicy, epoch: WeightEpoch) -> AdaptiveShares | None:
    """The weights of an epoch's arms by the log; ``None`` before the first step."""
    models = (epoch.champion.model, *(arm.model for arm in epoch.challengers))
    mode = policy.traffic.mode
    if not policy.traffic.regimes:
        steps = log.allocations(epoch.experiment, epoch, last=1)
        if not steps:
            return None
        return AdaptiveShares(dict(zip(models, steps[-1].after, strict=True)), {}, f"{mode}: {steps[-1].reason}")
    weights_by_regime: dict[str, dict[str, int]] = {}
    for regime in policy.traffic.every_regime():
        steps = log.allocations(regime_experiment(epoch.experiment, regime.label), epoch, last=1)
        if steps:
            weights_by_regime[regime.label] = dict(zip(models, steps[-1].after, strict=True))
    if not weights_by_regime:
        return None
    moved = [
        f"{label} {'/'.join(map(str, weights.values()))}"
        for label, weights in weights_by_regime.items()
        if weights != epoch.weights_in(label)
    ]
    reason = f"{mode} by {', '.join(policy.traffic.regimes)}: {'; '.join(moved) or 'weights stay'}"
    return AdaptiveShares(epoch.weights, weights_by_regime, reason)


def _state(log: PredictionLog, agreed: AllocationPolicy, experiment: str, epoch: WeightEpoch) -> AllocationState:
    """The state of allocation by the log: from the newest records where these suffice, else from all."""
    latest = log.allocations(experiment, epoch, last=_RECENT)
    resumed = resume(agreed, latest) if len(latest) == _RECENT else None
    return resumed or replay(agreed, log.allocations(experiment, epoch))


def _health(guardrails: Collection[Guardrail], newest: pd.Timestamp, as_of: pd.Timestamp) -> Health:
    fired = {rail.name for rail in guardrails if rail.fired}
    behind = max(0, sessions_later(newest, as_of) - 1)  # a label is due the session after
    return Health(
        sessions_behind=behind, srm_passed="sample ratio" not in fired, guardrails_passed=not fired - {"sample ratio"}
    )
