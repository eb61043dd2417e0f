"""What the routed requests alone say about skill, where their weights followed the scores.

The share of right answers among an arm's own requests is biased then and is not shown. Estimates from the logged
propensities are not; beside them stands what is known from the pairs, in which every arm answers every row. Where the
requests of a session are a sample of its tickers, each stands for as many as were not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.inference import ipw_log_e_process
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.statistics.multiplicity import holm
from financial_assets.experiment.statistics.off_policy import LoggedRewards, doubly_robust, ips, past_means, snips
from financial_assets.scoring.classification import hits
from financial_assets.scoring.intervals import Interval

_COIN = 0.5  # what an arm is expected to get right before its first day


@dataclass(frozen=True, slots=True)
class RoutedArm:
    """The share of right directions if this arm had answered every request, by three estimates, and in truth.

    ``p_value`` is anytime-valid, against "not better than the champion", by inverse propensities; of several
    challengers it is adjusted for their number (Holm 1979). ``None`` for the champion.
    """

    model: str
    ips: Interval
    snips: Interval
    doubly_robust: Interval
    paired: Interval | None
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class RoutedView:
    """All routed arms.

    Attributes
    ----------
    arms
        Champion first; empty where the estimates are refused.
    requests, days
        What they rest on.
    refused
        Why nothing is estimated; empty if it is.
    """

    arms: tuple[RoutedArm, ...]
    requests: int
    days: int
    refused: str = ""


def routed_view(
    due: pd.DataFrame, paired: Mapping[str, pd.DataFrame], epochs: Sequence[WeightEpoch], level: float
) -> RoutedView | None:
    """Estimates for the current arms; ``None`` unless some of their weights followed the scores.

    Parameters
    ----------
    due
        Routed predictions with a known outcome: ``epoch``, ``regime``, ``session``, ``ticker``, ``model``, ``status``,
        ``probability_up``, ``up``, and ``inclusion``, the probability that the ticker was in the session's sample
        (NaN in old logs: all were). A failed request counts as wrong; one of no arm is left out.
    paired
        Model -> due paired predictions, for the truth.
    epochs
        The experiment's weight epochs.
    level
        Confidence.
    """
    arms = [epochs[-1].champion.model, *(arm.model for arm in epochs[-1].challengers)]
    # Epochs of other arms, or in which one of these got nothing, have no propensities for all of them.
    usable = {
        epoch.number: epoch for epoch in epochs if set(epoch.weights) == set(arms) and all(epoch.weights.values())
    }
    if len(arms) < 2 or not any(epoch.follows_scores for epoch in usable.values()):
        return None
    rows = due[due["epoch"].isin(list(usable)) & due["model"].isin(arms)].sort_values(["session", "ticker"])
    days = int(rows["session"].nunique())
    if rows.empty:
        return RoutedView((), 0, 0, "no routed request has a known outcome yet")
    try:
        log = _logged(rows, arms, usable)
        expected = past_means(log, _COIN)
        estimates: list[RoutedArm] = []
        for place, arm in enumerate(arms):
            target = np.zeros_like(log.propensity)
            target[:, place] = 1.0  # as if this arm had answered every request
            estimates.append(
                RoutedArm(
                    model=arm,
                    ips=ips(log, target, level=level),
                    snips=snips(log, target, level=level),
                    doubly_robust=doubly_robust(log, target, expected, level=level),
                    paired=_truth(paired.get(arm), rows, level),
                )
            )
        p_values = holm({arm: _p_value(log, place) for place, arm in enumerate(arms) if place})
    except ExperimentError as error:
        return RoutedView((), len(rows), days, str(error))
    return RoutedView(tuple(replace(arm, p_value=p_values.get(arm.model)) for arm in estimates), len(rows), days)


def _logged(rows: pd.DataFrame, arms: Sequence[str], epochs: Mapping[int, WeightEpoch]) -> LoggedRewards:
    # A request that failed has no probability; whatever stands in for it, it is counted as wrong below.
    right = hits(rows["probability_up"].fillna(_COIN).to_numpy(np.float64), rows["up"].to_numpy(bool))
    strata = list(zip(rows["epoch"], rows["regime"], strict=True))
    shares = {
        (number, regime): [epochs[int(number)].propensity(arm, regime) for arm in arms]
        for number, regime in dict.fromkeys(strata)
    }
    places = {arm: place for place, arm in enumerate(arms)}
    return LoggedRewards(
        session=rows["session"].to_numpy(),
        arm=np.array([places[model] for model in rows["model"]], dtype=np.intp),
        reward=(right & (rows["status"] == "ok").to_numpy()).astype(np.float64),
        propensity=np.array([shares[stratum] for stratum in strata], np.float64).reshape(len(rows), len(arms)),
        inclusion=_inclusion(rows),
    )


def _inclusion(rows: pd.DataFrame) -> np.ndarray:
    return rows["inclusion"].fillna(1.0).to_numpy(np.float64)


def _truth(answers: pd.DataFrame | None, rows: pd.DataFrame, level: float) -> Interval | None:
    """What the arm got right on the same sessions and tickers."""
    if answers is None:
        return None
    same = rows[["session", "ticker", "inclusion"]].merge(answers[["session", "ticker", "probability_up", "up"]])
    if same["session"].nunique() < 2:
        return None
    right = hits(same["probability_up"].to_numpy(), same["up"].to_numpy()).astype(np.float64)
    alike = np.full((len(same), 2), 0.5)
    requests = LoggedRewards(
        same["session"].to_numpy(), np.zeros(len(same), np.intp), right, alike, inclusion=_inclusion(same)
    )
    return requests.mean(right, level)


def _p_value(log: LoggedRewards, place: int) -> float:
    """Of one challenger against the champion, on the requests of these two.

    Which arm of the two got a request is as random as before once it is known that another one did not: the propensity
    is that of the arm in the pair's.
    """
    of_pair = np.isin(log.arm, (0, place))
    pair = log.propensity[of_pair][:, [0, place]]
    pair = pair / pair.sum(axis=1, keepdims=True)
    challenger = (log.arm[of_pair] == place).astype(np.intp)
    between = LoggedRewards(log.session[of_pair], challenger, log.reward[of_pair], pair)
    return float(np.exp(-max(0.0, float(ipw_log_e_process(between).max()))))
