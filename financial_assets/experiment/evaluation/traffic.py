"""What the gateway did with the routed requests: shares by weight epoch, failures, latency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.guardrails import sequential_srm
from financial_assets.experiment.evaluation.measures import ArmTraffic, EpochTraffic
from financial_assets.experiment.evaluation.skill import accuracy_of

FOLLOWED = "weights followed the scores, which makes the share of right answers among an arm's own requests biased"
"""Why an arm's accuracy is refused."""


def epoch_traffic(routed: pd.DataFrame, epochs: Sequence[WeightEpoch], alpha: float) -> Iterator[EpochTraffic]:
    """One record per weight epoch and regime, each with a sequential sample-ratio test of its own attributed requests.

    Requests that are split by weights of their regime are one record for each regime that had any, the others are one.

    Parameters
    ----------
    routed
        Routed predictions of one experiment, as the log gives them.
    epochs
        Its weight epochs.
    alpha
        Error probability of the test.
    """
    for epoch in epochs:
        rows = routed[routed["epoch"] == epoch.number]
        others = rows[rows["regime"].isna()] if epoch.regimes else rows
        if len(others) or not len(rows):
            yield _epoch(others, epoch, None, alpha)
        for label in epoch.regimes:
            if (of_regime := rows["regime"] == label).any():
                yield _epoch(rows[of_regime], epoch, label, alpha)


def _epoch(rows: pd.DataFrame, epoch: WeightEpoch, regime: str | None, alpha: float) -> EpochTraffic:
    weights = epoch.weights_in(regime)
    ended = rows[rows["status"] != "pending"]
    attributed = ended[ended["status"] != "unattributed"]
    requests = attributed["model"].value_counts()
    p_value = sequential_srm({epoch.number: epoch}, attributed).p_value
    return EpochTraffic(
        number=epoch.number,
        opened_at=epoch.opened_at.isoformat(timespec="seconds"),
        reason=epoch.reason,
        weights=weights,
        observed={model: int(requests.get(model, 0)) for model in {**weights, **requests}},
        expected={
            model: len(attributed) * weights.get(model, 0) / sum(weights.values()) for model in {**weights, **requests}
        },
        unattributed=len(ended) - len(attributed),
        pending=len(rows) - len(ended),
        p_value=p_value,
        method="sequential",
        alpha=alpha,
        passed=p_value > alpha,
        regime=regime,
    )


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
