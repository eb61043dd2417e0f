"""What only live routing can tell: whether the challenger is slow or failing, and traffic split as the weights say.

No outcome is needed, so a bad challenger is rolled back within the session in which it goes wrong. Every guardrail is
valid at every look. A breach that the champion shares is the plane's, not the challenger's: it is laid at the
challenger's door only if its part of the bad answers is more than its share of the requests explains.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Guardrail, TrafficEvidence
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.statistics.guardrails import ODDS, RateEProcess, fair_share
from financial_assets.experiment.statistics.srm_sequential import StratifiedSrm

__all__ = ["peak_log_e", "watch_traffic"]

_COLUMNS = ["epoch", "regime", "model", "status", "latency_s"]
_FAILED = ("failed", "rejected", "timeout")


def watch_traffic(
    plan: ExperimentPlan, epochs: Sequence[WeightEpoch], routed: pd.DataFrame, direct: pd.DataFrame | None = None
) -> TrafficEvidence:
    """All guardrails of a plan.

    Parameters
    ----------
    plan
        The pair and its limits.
    epochs
        The experiment's weight epochs.
    routed
        Its routed predictions, in the order of the log: ``epoch``, ``regime``, ``model``, ``status``, ``latency_s``.
    direct
        The arms' paired predictions (``session``, ``model``, ``latency_s``). Arms share servers, so that a slow one
        holds up the others' requests; in paired scoring each is asked alone, which tells whose fault it is.
    """
    mine = {epoch.number: epoch for epoch in epochs if _is_of(plan, epoch)}
    rows = routed.loc[routed["epoch"].isin(list(mine)) & (routed["status"] != "pending"), _COLUMNS]
    rules = plan.guardrails
    failed = rows["status"].isin(_FAILED).to_numpy()
    slow = (rows["latency_s"] > rules.latency_objective_s).to_numpy() | (rows["status"] == "timeout").to_numpy()
    alone = _alone(plan, direct)
    late = f"took over {rules.latency_objective_s:g} s"
    return TrafficEvidence(
        guardrails=(
            _arm(plan, mine, rows, failed, "errors", rules.error_share, "failed"),
            _arm(plan, mine, rows, slow, "latency", rules.slow_share, late, alone),
            _split(plan, mine, rows),
            _unattributed(plan, rows),
        ),
        digest=_digest(rows, alone),
    )


def peak_log_e(bad: np.ndarray, allowed: float) -> float:
    """Largest logarithm of a guardrail's e-value over all answers so far.

    The same as feeding :class:`~financial_assets.experiment.statistics.guardrails.Guardrail` one answer at a time.

    Parameters
    ----------
    bad
        Whether each answer was bad, bool ``[answers]`` in order.
    allowed
        Allowed share.
    """
    if not len(bad):
        return 0.0
    count = np.cumsum(bad, dtype=np.float64)
    answers = np.arange(1, len(bad) + 1, dtype=np.float64)
    parts = np.stack([count * math.log(odds) - answers * math.log1p(allowed * (odds - 1)) for odds in ODDS])
    largest = parts.max(axis=0)
    mixed = largest + np.log(np.exp(parts - largest).mean(axis=0))
    return max(0.0, float(mixed.max()))


def _is_of(plan: ExperimentPlan, epoch: WeightEpoch) -> bool:
    return epoch.champion.model == plan.champion and plan.challenger in {arm.model for arm in epoch.challengers}


def _arm(
    plan: ExperimentPlan,
    epochs: dict[int, WeightEpoch],
    rows: pd.DataFrame,
    bad: np.ndarray,
    name: str,
    allowed: float,
    what: str,
    alone: np.ndarray | None = None,
) -> Guardrail:
    """One guardrail of the challenger against its objective, and against the champion if that breaks it too."""
    level = -math.log(plan.guardrails.alpha)
    model = rows["model"].to_numpy()
    of_challenger, of_champion = bad[model == plan.challenger], bad[model == plan.champion]
    count, share = len(of_challenger), float(of_challenger.mean()) if len(of_challenger) else 0.0
    evidence = peak_log_e(of_challenger, allowed)
    breached, p_value = evidence >= level, math.exp(-evidence)
    shared = peak_log_e(of_champion, allowed) >= level
    said = f"{share:.1%} of {count:,} requests to {plan.challenger} {what} (allowed {allowed:.1%})"
    if breached and shared and not (_is_its_own(plan, epochs, rows, bad) or _is_slow_alone(plan, alone)):
        said = f"{said}, but {plan.champion} does no better"
        return Guardrail(name, "", "hold", True, share, allowed, count, said, p_value)
    return Guardrail(name, plan.challenger, "rollback", breached, share, allowed, count, said, p_value)


def _is_its_own(plan: ExperimentPlan, epochs: dict[int, WeightEpoch], rows: pd.DataFrame, bad: np.ndarray) -> bool:
    """Whether the challenger has more of both arms' bad answers than its weight explains."""
    capital = RateEProcess()
    guilty = rows.loc[bad & rows["model"].isin((plan.champion, plan.challenger)).to_numpy()]
    for number, regime, model in zip(guilty["epoch"], guilty["regime"], guilty["model"], strict=True):
        weights = epochs[int(number)].weights_in(regime)
        if weights[plan.challenger] == 0 or weights[plan.champion] == 0:
            continue  # one arm answers everything: nothing to compare
        allowed = fair_share(weights[plan.challenger], weights[plan.champion])
        capital = capital.update(int(model == plan.challenger), 1, allowed=allowed)
    return capital.breached(plan.guardrails.alpha)


def _alone(plan: ExperimentPlan, direct: pd.DataFrame | None) -> np.ndarray:
    """Sessions in which one arm alone was slow in paired scoring: whether that was the challenger, in order."""
    if direct is None:
        return np.empty(0, bool)
    mine = direct[direct["model"].isin((plan.champion, plan.challenger))]
    longest = mine.groupby(["session", "model"])["latency_s"].max().unstack()
    if longest.shape[1] < 2:
        return np.empty(0, bool)
    slow = longest.dropna() > plan.guardrails.latency_objective_s
    return slow.loc[slow[plan.challenger] != slow[plan.champion], plan.challenger].to_numpy(bool)


def _is_slow_alone(plan: ExperimentPlan, alone: np.ndarray | None) -> bool:
    """Whether the challenger is the slow one more often than a fair coin explains."""
    return alone is not None and peak_log_e(alone, 0.5) >= -math.log(plan.guardrails.alpha)


def _split(plan: ExperimentPlan, epochs: dict[int, WeightEpoch], rows: pd.DataFrame) -> Guardrail:
    """The sequential sample-ratio test over the pair's epochs, with a look every 500 requests.

    Requests of a regime with weights of its own are tested against these.
    """
    test = StratifiedSrm()
    attributed = rows[rows["status"] != "unattributed"]
    for number, epoch in epochs.items():
        mine = attributed[attributed["epoch"] == number]
        models, labels = mine["model"].to_numpy(), mine["regime"].to_numpy()
        for start in range(0, len(mine), _LOOK):
            look = slice(start, start + _LOOK)
            counts = Counter(zip(labels[look], models[look].astype(str), strict=True))
            test.update(
                {
                    (number, label): (epoch.weights_in(label), {m: n for (of, m), n in counts.items() if of == label})
                    for label in dict.fromkeys(labels[look])
                }
            )
    p_value, alpha = test.p_value, plan.guardrails.srm_alpha
    share = float((attributed["model"] == plan.challenger).mean()) if len(attributed) else 0.0
    wanted = _expected_share(plan, epochs, attributed)
    return Guardrail(
        name="sample ratio",
        model="",
        action="hold",
        fired=p_value <= alpha,
        p_value=p_value,
        observed=share,
        objective=wanted,
        count=len(attributed),
        reason=f"traffic is not split as the weights say: {plan.challenger} got {share:.1%} of {len(attributed):,} "
        f"requests instead of {wanted:.1%} (anytime-valid p = {p_value:.1g})"
        if p_value <= alpha
        else f"{plan.challenger} got {share:.1%} of {len(attributed):,} requests; the weights say {wanted:.1%}",
    )


_LOOK = 500  # requests between looks at the split


def _expected_share(plan: ExperimentPlan, epochs: dict[int, WeightEpoch], attributed: pd.DataFrame) -> float:
    if not len(attributed):
        return 0.0
    strata = Counter(zip(attributed["epoch"].to_numpy(), attributed["regime"].to_numpy(), strict=True))
    expected = sum(
        count * epochs[int(number)].propensity(plan.challenger, regime) for (number, regime), count in strata.items()
    )
    return expected / len(attributed)


def _unattributed(plan: ExperimentPlan, rows: pd.DataFrame) -> Guardrail:
    lost = (rows["status"] == "unattributed").to_numpy()
    allowed, share = plan.guardrails.error_share, float(lost.mean()) if len(lost) else 0.0
    evidence = peak_log_e(lost, allowed)
    return Guardrail(
        name="attribution",
        model="",
        action="hold",
        fired=evidence >= -math.log(plan.guardrails.alpha),
        p_value=math.exp(-evidence),
        observed=share,
        objective=allowed,
        count=len(rows),
        reason=f"{share:.1%} of {len(rows):,} requests belong to no arm (allowed {allowed:.1%})",
    )


def _digest(rows: pd.DataFrame, alone: np.ndarray) -> str:
    digest = hashlib.sha256()
    for column in ("model", "status", "regime") if rows["regime"].notna().any() else ("model", "status"):
        digest.update("\n".join(rows[column].fillna("").astype(str)).encode())
    digest.update(rows["epoch"].to_numpy("<i8").tobytes())
    digest.update(rows["latency_s"].to_numpy("<f8").tobytes())
    digest.update(alone.tobytes())
    return digest.hexdigest()
