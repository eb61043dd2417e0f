"""The business view of an experiment: what a promotion is worth, and each arm's risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.evaluation.business import (
    FEWEST_DAYS,
    BusinessCase,
    Promotion,
    slower_by,
    value_of_promotion,
)
from financial_assets.experiment.evaluation.measures import ProfitAndLoss, Skill
from financial_assets.experiment.evaluation.risk import Risk, SharpeGap, correlation, days_of_both, risk_of, sharpe_gap
from financial_assets.experiment.statistics.estimates import Estimate

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
    no_value
        Why ``promotion`` is ``None``, as a sentence; empty if it is not.
    """

    promotion: Promotion | None
    risks: tuple[Risk, ...]
    gap: SharpeGap | None
    correlation: Estimate | None
    no_value: str = ""


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
        return Business(None, tuple(risks), None, None, _TOO_FEW)
    one, two = np.asarray(first.pnl.daily), np.asarray(second.pnl.daily)
    promotion, no_value = None, _ruin(first, second)
    if not no_value:
        slower = slower_by(routed, first.name, second.name, level)
        promotion = value_of_promotion((first.name, second.name), (one, two), slower, case, level)
        no_value = _TOO_FEW if promotion is None else ""
    lived = days_of_both(one, two)
    return Business(
        promotion=promotion,
        risks=tuple(risks),
        gap=sharpe_gap(one[:lived], two[:lived], level),
        correlation=correlation(one[:lived], two[:lived], level),
        no_value=no_value,
    )


_TOO_FEW = (
    "The value of a promotion is not defined yet: it takes a challenger, and at least "
    f"{FEWEST_DAYS} days on which both arms traded."
)


def _ruin(challenger: Skill, champion: Skill) -> str:
    """Why a mean of daily returns is no forecast of a horizon's: a book that was wiped out has no further days."""
    lost = [one for one in (challenger, champion) if one.pnl is not None and one.pnl.wiped_out is not None]
    if not lost:
        return ""
    books = " and ".join(f"that of {one.name} on {one.pnl.wiped_out}" for one in lost if one.pnl is not None)
    worst = " Promotion would have cost the whole capital." if lost == [challenger] else ""
    return f"The value of a promotion is not defined: a book was wiped out, {books}.{worst}"
