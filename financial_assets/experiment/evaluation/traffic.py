"""What the gateway did with the routed requests: shares by weight epoch, failures, latency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.evaluation.measures import ArmTraffic, EpochTraffic
from financial_assets.experiment.evaluation.skill import accuracy_of
from financial_assets.experiment.statistics.srm import srm_test

__all__ = ["FOLLOWED", "arm_traffic", "epoch_traffic"]

FOLLOWED = "weights followed the scores, which makes the share of right answers among an arm's own requests biased"
"""Why an arm's accuracy is refused."""


def epoch_traffic(routed: pd.DataFrame, epochs: Sequence[WeightEpoch], alpha: float) -> tuple[EpochTraffic, ...]:
    """One record a weight epoch and regime, with a sample-ratio test of the requests that can be attributed.

    Requests that are split by weights of their regime are a record for each regime that had any, the others are one.

    Parameters
    ----------
    routed
        Routed predictions of one experiment, as the log gives them.
    epochs
        Its weight epochs.
    alpha
        Level of the sample-ratio test.
    """
    found: list[EpochTraffic] = []
    for epoch in epochs:
        rows = routed[routed["epoch"] == epoch.number]
        mine = {label: rows[rows["regime"] == label] for label in epoch.regimes}
        others = rows[rows["regime"].isna()] if epoch.regimes else rows
        if len(others) or not len(rows):
            found.append(_epoch(others, epoch, None, alpha))
        found += [_epoch(part, epoch, label, alpha) for label, part in mine.items() if len(part)]
    return tuple(found)


def arm_traffic(
    model: str, routed: pd.DataFrame, due: pd.DataFrame, level: float, *, followed: bool = False
) -> ArmTraffic:
    """One arm's requests over all epochs.

    Parameters
    ----------
    model
        Served name.
    routed
        Routed predictions.
    due
        Those with an outcome, for the accuracy.
    level
        Confidence of its interval.
    followed
        Whether some of its weights followed the scores: the accuracy is refused then.
    """
    rows = routed[routed["model"] == model]
    count = rows["status"].value_counts()
    answered = rows.loc[rows["status"] == "ok", "latency_s"].to_numpy()
    grid = np.percentile(answered, np.arange(101)) if len(answered) else np.full(101, np.nan)
    scored = due[(due["model"] == model) & (due["status"] == "ok")]
    return ArmTraffic(
        model=model,
        requests=len(rows),
        ok=int(count.get("ok", 0)),
        failed=int(count.get("failed", 0)),
        rejected=int(count.get("rejected", 0)),
        timeout=int(count.get("timeout", 0)),
        repeated=int((rows["attempts"] > 1).sum()),
        latency_p50=float(grid[50]),
        latency_p95=float(grid[95]),
        latency_p99=float(grid[99]),
        latency_grid=tuple(map(float, grid)) if len(answered) else (),
        accuracy=None if followed else accuracy_of(scored, level),
        refused=FOLLOWED if followed else "",
    )


def _epoch(rows: pd.DataFrame, epoch: WeightEpoch, regime: str | None, alpha: float) -> EpochTraffic:
    weights = epoch.weights_in(regime)
    ended = rows[rows["status"] != "pending"]
    attributed = ended.loc[ended["status"] != "unattributed", "model"].value_counts()
    observed = {model: int(attributed.get(model, 0)) for model in {**weights, **attributed}}
    test = srm_test(observed, weights, alpha=alpha)
    return EpochTraffic(
        number=epoch.number,
        opened_at=epoch.opened_at.isoformat(timespec="seconds"),
        reason=epoch.reason,
        weights=weights,
        observed=observed,
        expected=dict(test.expected),
        unattributed=int((ended["status"] == "unattributed").sum()),
        pending=int((rows["status"] == "pending").sum()),
        p_value=test.p_value,
        method=test.method,
        alpha=test.alpha,
        passed=test.passed,
        regime=regime,
    )
