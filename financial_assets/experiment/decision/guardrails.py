"""What only live routing shows: whether the challenger is slow or failing, and whether traffic obeys the weights.

No outcome is needed, so a bad challenger is rolled back within the session in which it goes wrong, or within a few
where it gets few requests. Every guardrail is valid at every look. A breach that the champion shares is the plane's,
not the challenger's: it is laid at the challenger's door only if its part of the bad answers is more than its share of
the requests explains. Answers that go wrong together are one incident, however many requests it took with it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import compress

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Guardrail, TrafficEvidence
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.row_codes import RowCodes
from financial_assets.experiment.statistics.guardrails import fair_share, incident_answers, peak_log_e
from financial_assets.experiment.statistics.srm_sequential import SequentialSrm

_COLUMNS = ["epoch", "regime", "latency_s"]
_FAILED = ("failed", "rejected", "timeout")
_LOOK = 500  # requests between looks at the split


def watch_traffic(
    plan: ExperimentPlan,
    epochs: Sequence[WeightEpoch],
    routed: pd.DataFrame,
    direct: pd.DataFrame | None = None,
    *,
    longest: pd.DataFrame | None = None,
) -> TrafficEvidence:
    """All guardrails of a plan.

    Parameters
    ----------
    plan
        The pair and its limits.
    epochs
        The experiment's weight epochs.
    routed
        Its routed predictions, in the order of the log: ``epoch``, ``regime``, ``model``, ``status``, ``latency_s``,
        ``sent_at``, without which that order is taken for the order in time, and ``session``.
    direct
        The arms' paired predictions (``session``, ``model``, ``latency_s``). Arms share servers, so that a slow one
        holds up the others' requests; in paired scoring each is asked alone, which tells whose fault it is.
    longest
        What is taken from ``direct``, where it is known already: see :func:`longest_of_pairs`.
    """
    tested = {
        epoch.number: epoch
        for epoch in epochs
        if epoch.champion.model == plan.champion and plan.challenger in {arm.model for arm in epoch.challengers}
    }
    logged = _those(routed, routed["epoch"].isin(list(tested)) & (routed["status"] != "pending"))
    codes, rules = RowCodes(logged), plan.guardrails
    rows = _in_time(plan, logged, codes)
    failed = rows["failed"].to_numpy()
    slow = (rows["latency_s"] > rules.latency_objective_s).to_numpy() | rows["timed_out"].to_numpy()
    if longest is None and direct is not None:
        longest = longest_of_pairs(plan, direct)
    alone = _alone(plan, longest)
    late = f"took over {rules.latency_objective_s:g} s"
    return TrafficEvidence(
        guardrails=(
            _arm(plan, tested, rows, failed, "errors", rules.error_share, "failed"),
            _arm(plan, tested, rows, slow, "latency", rules.slow_share, late, alone),
            _sample_ratio(plan.challenger, tested, logged, codes, rules.srm_alpha, remembers=plan.rule > 1),
            _unattributed(plan, rows),
        ),
        digest=_digest(plan, logged, codes, alone),
    )


def _in_time(plan: ExperimentPlan, logged: pd.DataFrame, codes: RowCodes) -> pd.DataFrame:
    """The requests as they were sent, with ``seconds`` since the first: the log is ordered by session and ticker.

    Besides columns of the log, which of them went to ``challenger`` and ``champion``, and which ``failed``,
    ``timed_out`` or were ``lost`` to all arms.
    """
    columns = {name: logged[name].to_numpy() for name in _COLUMNS}
    columns |= {"challenger": codes.are("model", plan.challenger), "champion": codes.are("model", plan.champion)}
    columns |= {"failed": codes.are("status", *_FAILED), "timed_out": codes.are("status", "timeout")}
    columns["lost"] = codes.are("status", "unattributed")
    columns["day"] = (
        pd.factorize(logged["session"].to_numpy())[0] if "session" in logged else np.zeros(len(logged), int)
    )
    if "sent_at" not in logged or logged.empty:
        return pd.DataFrame(columns | {"seconds": np.zeros(len(logged))}, copy=False)
    sent = _microseconds(logged["sent_at"])
    order = np.argsort(sent, kind="stable")
    if not (np.diff(order) == 1).all():
        columns = {name: values[order] for name, values in columns.items()}
    return pd.DataFrame(columns | {"seconds": (sent[order] - sent.min()) / 1e6}, copy=False)


def _those(rows: pd.DataFrame, some: pd.Series) -> pd.DataFrame:
    """Some rows; the frame itself, where that is all."""
    return rows if some.all() else rows[some]


def _microseconds(instants: pd.Series) -> np.ndarray:
    """Since 1970, int64."""
    return pd.DatetimeIndex(instants).tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)


def _counts(plan: ExperimentPlan, bad: np.ndarray, rows: pd.DataFrame, some: np.ndarray | None = None) -> np.ndarray:
    """Which of the answers ``some``, all by default, count when each incident counts once; ``bad`` is of them."""
    rules, chosen = plan.guardrails, slice(None) if some is None else some
    seconds, day = rows["seconds"].to_numpy(np.float64)[chosen], rows["day"].to_numpy()[chosen]
    return incident_answers(bad, rules.incident_requests, seconds, rules.incident_seconds, day)


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
    own, other = rows["challenger"].to_numpy(), rows["champion"].to_numpy()
    of_challenger, of_champion = bad[own], bad[other]
    incidents, of_champion_counted = (
        arm[_counts(plan, arm, rows, some)] for arm, some in ((of_challenger, own), (of_champion, other))
    )
    count, share = len(of_challenger), float(of_challenger.mean()) if len(of_challenger) else 0.0
    evidence = peak_log_e(incidents, allowed)
    breached, p_value = evidence >= level, math.exp(-evidence)
    shared = peak_log_e(of_champion_counted, allowed) >= level
    together = f", in {np.count_nonzero(incidents):,} incidents" if incidents.sum() < of_challenger.sum() else ""
    seen = f"{share:.1%} of {count:,} requests to {plan.challenger} {what}{together} (allowed {allowed:.1%})"
    # Alone in paired scoring, the challenger may be the slow one more often than a fair coin explains.
    is_slow_alone = alone is not None and peak_log_e(alone, 0.5) >= level
    if breached and shared and not (is_slow_alone or _is_its_own(plan, epochs, rows, bad)):
        seen = f"{seen}, but {plan.champion} does no better"
        return Guardrail(name, "", "hold", True, share, allowed, count, seen, p_value)
    return Guardrail(name, plan.challenger, "rollback", breached, share, allowed, count, seen, p_value)


def _is_its_own(plan: ExperimentPlan, epochs: dict[int, WeightEpoch], rows: pd.DataFrame, bad: np.ndarray) -> bool:
    """Whether the challenger has more of both arms' bad answers than its weight explains."""
    # Only bad answers count: an hour that is bad for both arms adds to both, and proves nothing against one.
    pair = rows["challenger"].to_numpy() | rows["champion"].to_numpy()
    first = _counts(plan, bad[pair], rows, pair)
    guilty = rows.loc[pair].loc[bad[pair] & first]
    weights = [
        epochs[int(number)].weights_in(regime) for number, regime in zip(guilty["epoch"], guilty["regime"], strict=True)
    ]
    # Where one arm answers everything there is nothing to compare.
    is_shared = [split[plan.challenger] > 0 and split[plan.champion] > 0 for split in weights]
    allowed = [fair_share(split[plan.challenger], split[plan.champion]) for split in compress(weights, is_shared)]
    of_challenger = guilty["challenger"].to_numpy()[is_shared]
    return peak_log_e(of_challenger, allowed) >= -math.log(plan.guardrails.alpha)


def longest_of_pairs(plan: ExperimentPlan, direct: pd.DataFrame) -> pd.DataFrame:
    """The longest paired scoring of each arm in seconds ``[session, model]``; NaN where there was none."""
    model = direct["model"].to_numpy()
    arms = {name: model == name for name in sorted((plan.champion, plan.challenger))}
    arms = {name: own for name, own in arms.items() if own.any()}
    asked = np.logical_or.reduce([np.zeros(len(model), bool), *arms.values()])
    session, seconds = direct["session"].to_numpy(), direct["latency_s"].to_numpy(np.float64)
    sessions = np.unique(session[asked])
    longest = np.full((len(sessions), len(arms)), np.nan)
    for column, own in enumerate(arms.values()):
        np.fmax.at(longest[:, column], np.searchsorted(sessions, session[own]), seconds[own])
    return pd.DataFrame(longest, pd.DatetimeIndex(sessions), [*arms])


def _alone(plan: ExperimentPlan, longest: pd.DataFrame | None) -> np.ndarray:
    """Sessions in which one arm alone was slow in paired scoring: whether that was the challenger, in order."""
    if longest is None or longest.shape[1] < 2:
        return np.empty(0, bool)
    seconds = longest.to_numpy(np.float64)
    slow = seconds[~np.isnan(seconds).any(axis=1)] > plan.guardrails.latency_objective_s
    challenger, champion = (slow[:, longest.columns.get_loc(model)] for model in (plan.challenger, plan.champion))
    return challenger[challenger != champion]


def sequential_srm(epochs: Mapping[int, WeightEpoch], routed: pd.DataFrame, *, remembers: bool = True) -> SequentialSrm:
    """The sequential sample-ratio test of weight epochs, with a look every 500 requests.

    Requests of a regime with weights of its own are tested against these; strata are (number, regime label).

    Parameters
    ----------
    epochs
        Number -> weight epoch.
    routed
        Attributed requests in the order of the log: ``epoch``, ``regime``, ``model``.
    remembers
        See :class:`.SequentialSrm`.
    """
    return _sequential_srm(epochs, RowCodes(routed), remembers=remembers)


def _sequential_srm(epochs: Mapping[int, WeightEpoch], codes: RowCodes, *, remembers: bool) -> SequentialSrm:
    test = SequentialSrm(remembers=remembers)
    numbered, names = codes.together("epoch", "regime", "model")
    epoch_of = np.array([number for number, _, _ in names], np.int64)[numbered]
    for number, epoch in epochs.items():
        of_epoch = numbered[epoch_of == number].tolist()
        for start in range(0, len(of_epoch), _LOOK):
            counts = Counter(of_epoch[start : start + _LOOK])
            split: dict[Hashable, tuple[Mapping[str, int], dict[str, int]]] = {}
            for code, count in counts.items():
                _, label, model = names[code]
                split.setdefault((number, label), (epoch.weights_in(label), {}))[1][model] = count
            test.update(split)
    return test


def sample_ratio(
    model: str, epochs: Mapping[int, WeightEpoch], routed: pd.DataFrame, alpha: float, *, remembers: bool = True
) -> Guardrail:
    """Whether requests are split as the weights say: one test over all of ``epochs``, valid at every look.

    Parameters
    ----------
    model
        Whose share is told: any arm of these epochs.
    epochs
        Number -> weight epoch.
    routed
        Routed requests in the order of the log: ``epoch``, ``regime``, ``model``, ``status``.
    alpha
        Error probability over all looks.
    remembers
        See :class:`.SequentialSrm`.
    """
    rows = _those(routed, routed["epoch"].isin(list(epochs)) & (routed["status"] != "pending"))
    return _sample_ratio(model, epochs, rows, RowCodes(rows), alpha, remembers=remembers)


def _sample_ratio(
    model: str,
    epochs: Mapping[int, WeightEpoch],
    rows: pd.DataFrame,
    codes: RowCodes,
    alpha: float,
    *,
    remembers: bool,
) -> Guardrail:
    """See :func:`sample_ratio`; ``rows`` are of these epochs, none of them pending."""
    lost = codes.are("status", "unattributed")
    if lost.any():
        rows = rows[~lost]
        codes = RowCodes(rows)
    p_value = _sequential_srm(epochs, codes, remembers=remembers).p_value
    share = float(codes.are("model", model).mean()) if len(rows) else 0.0
    numbered, strata = codes.together("epoch", "regime")
    counts = zip(np.bincount(numbered, minlength=len(strata)).tolist(), strata, strict=True)
    # Weights change between epochs and regimes: the share asked for is the mean over the requests as they came.
    asked_for = sum(count * epochs[int(number)].propensity(model, regime) for count, (number, regime) in counts)
    expected = asked_for / len(rows) if len(rows) else 0.0
    return Guardrail(
        name="sample ratio",
        model="",
        action="hold",
        fired=p_value <= alpha,
        p_value=p_value,
        observed=share,
        objective=expected,
        count=len(rows),
        reason=f"traffic is not split as the weights say: {model} got {share:.1%} of {len(rows):,} requests instead "
        f"of {expected:.1%} (anytime-valid p = {p_value:.1g})"
        if p_value <= alpha
        else f"{model} got {share:.1%} of {len(rows):,} requests; the weights say {expected:.1%}",
    )


def _unattributed(plan: ExperimentPlan, rows: pd.DataFrame) -> Guardrail:
    lost, allowed = rows["lost"].to_numpy(), plan.guardrails.error_share
    count, share = len(lost), float(lost.mean()) if len(lost) else 0.0
    evidence = peak_log_e(lost[_counts(plan, lost, rows)], allowed)
    fired, p_value = evidence >= -math.log(plan.guardrails.alpha), math.exp(-evidence)
    seen = f"{share:.1%} of {count:,} requests belong to no arm (allowed {allowed:.1%})"
    return Guardrail("attribution", "", "hold", fired, share, allowed, count, seen, p_value)


def _digest(plan: ExperimentPlan, rows: pd.DataFrame, codes: RowCodes, alone: np.ndarray) -> str:
    digest = hashlib.sha256()
    # Logs without any regime keep the digest that they had before there were regimes.
    for column in ("model", "status", "regime") if rows["regime"].notna().any() else ("model", "status"):
        numbers, distinct = codes.of(column)
        texts = np.array([*map(str, distinct), ""], dtype=object)  # -1, the last one, is nothing
        digest.update("\n".join(texts[numbers].tolist()).encode())
    digest.update(rows["epoch"].to_numpy("<i8").tobytes())
    digest.update(rows["latency_s"].to_numpy("<f8").tobytes())
    digest.update(alone.tobytes())
    if plan.guardrails.incident_requests > 1 and "sent_at" in rows:
        digest.update(_microseconds(rows["sent_at"]).astype("<i8").tobytes())
    if plan.guardrails.incident_requests > 1 and "session" in rows:
        digest.update(rows["session"].to_numpy("datetime64[s]").astype("<i8").tobytes())
    return digest.hexdigest()
