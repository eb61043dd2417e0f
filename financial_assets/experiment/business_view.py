"""The business view of an experiment: what a promotion is worth, and each arm's risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.business import BusinessCase, Promotion, slower_by, value_of_promotion
from financial_assets.experiment.estimates import Estimate
from financial_assets.experiment.results import ProfitAndLoss, Skill
from financial_assets.experiment.risk_view import Risk, SharpeGap, correlation, risk_of, sharpe_gap

__all__ = ["Business", "business_of"]


@dataclass(frozen=True, slots=True)
class Business:
    """The business view of an experiment.

    Attributes
    ----------
    promotion
        ``None`` without a challenger, or with fewer than 30 days.
    risks
        Of the arms, of the baselines, and of holding everything.
    gap
        Challenger's Sharpe ratio less the champion's; of several, the one that comes first.
    correlation
        Of the two arms' daily net returns.
    """

    promotion: Promotion | None
    risks: tuple[Risk, ...]
    gap: SharpeGap | None
    correlation: Estimate | None


def business_of(
    skills: Sequence[Skill],
    hold: ProfitAndLoss | None,
    routed: pd.DataFrame,
    case: BusinessCase,
    level: float,
) -> Business:
    """The business view of scored arms.

    Parameters
    ----------
    skills, hold
        Scores with roles, and what holding everything brought.
    routed
        Routed predictions, for the latency.
    case
        The user's figures.
    level
        Confidence of the intervals.
    """
    risks = [risk_of(skill.name, skill.pnl, level) for skill in skills if skill.pnl is not None]
    if hold is not None:
        risks.append(risk_of("buy and hold", hold, level))
    first, second = (next((s for s in skills if s.role == role), None) for role in ("challenger", "champion"))
    if first is None or second is None or first.pnl is None or second.pnl is None:
        return Business(None, tuple(risks), None, None)
    one, two = np.asarray(first.pnl.daily), np.asarray(second.pnl.daily)
    slower = slower_by(routed, first.name, second.name, level)
    return Business(
        promotion=value_of_promotion((first.name, second.name), (one, two), slower, case, level),
        risks=tuple(risks),
        gap=sharpe_gap(one, two, level),
        correlation=correlation(one, two, level),
    )
