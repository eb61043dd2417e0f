"""Whether the challenger's profit is more than the luck of the best of all versions that were ever registered."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from financial_assets.experiment.evaluation.skill import profit_of, trading_grid
from financial_assets.experiment.outcomes import join_outcomes
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.market.panel import PricePanel
from financial_assets.scoring.selection import deflated_sharpe_ratio

__all__ = ["deflated_sharpe"]

_FEWEST_DAYS = 20


def deflated_sharpe(
    plan: ExperimentPlan, direct: pd.DataFrame, panel: PricePanel, *, versions: int, cost_bps: float
) -> float | None:
    """Deflated Sharpe ratio of the challenger's daily profit after costs on its evidence.

    Every registered version is a trial, tried or not, and their ratios are taken to vary as those of models without
    skill do: by ``1 / days`` (Bailey and López de Prado 2014, The deflated Sharpe ratio).

    Parameters
    ----------
    plan
        Who the challenger is, and since when it counts.
    direct
        Paired predictions: ``session``, ``ticker``, ``model``, ``status``, ``probability_up``, quantiles.
    panel
        Prices up to the decision.
    versions
        Registered versions.
    cost_bps
        Costs a side in basis points.

    Returns
    -------
    float or None
        In [0, 1]; 0 for a book that was wiped out, whatever it earned before; ``None`` with fewer than 20 days or
        without any profit or loss.
    """
    mine = direct[
        (direct["model"] == plan.challenger)
        & (direct["status"] == "ok")
        & (direct["session"] > pd.Timestamp(plan.starts_after))
    ]
    rows = join_outcomes(mine, panel)
    if rows["session"].nunique() < _FEWEST_DAYS:
        return None
    grid = trading_grid(rows, panel.sessions)
    answers = rows.dropna(subset=["probability_up"])
    profit = profit_of(answers, grid, cost_bps) if len(answers) else None
    if profit is not None and profit.wiped_out is not None:
        return 0.0
    if profit is None or not np.ptp(profit.daily):
        return None
    days = np.asarray(profit.daily, np.float64)
    value = deflated_sharpe_ratio(days, versions, 1 / len(days))
    return None if math.isnan(value) else float(value)
