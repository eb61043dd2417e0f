"""The business view of an experiment: worth of a promotion, each arm's risk, and what its books would have earned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.evaluation.business import (
    FEWEST_DAYS,
    BusinessCase,
    Promotion,
    slower_by,
    value_of_promotion,
)
from financial_assets.experiment.evaluation.measures import ProfitAndLoss, Skill
from financial_assets.experiment.evaluation.risk import Risk, SharpeGap, correlation, days_of_both, risk_of, sharpe_gap
from financial_assets.market.panel import PricePanel
from financial_assets.portfolio.economics.assumptions import Assumptions
from financial_assets.portfolio.economics.evaluate import economics_of
from financial_assets.portfolio.economics.results import Economics
from financial_assets.portfolio.figures import Confidence
from financial_assets.portfolio.selection import Trials
from financial_assets.scoring.intervals import Interval


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
        Challenger's Sharpe ratio minus the champion's; of several, the one that comes first.
    correlation
        Of the two arms' daily net returns.
    no_value
        Why ``promotion`` is ``None``, as a sentence; empty if it is not.
    """

    promotion: Promotion | None
    risks: tuple[Risk, ...]
    gap: SharpeGap | None
    correlation: Interval | None
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
    ours, theirs = np.asarray(first.pnl.daily), np.asarray(second.pnl.daily)
    promotion, no_value = None, _ruin(first, second)
    if not no_value:
        slower = slower_by(routed, first.name, second.name, level)
        promotion = value_of_promotion((first.name, second.name), (ours, theirs), slower, case, level)
        no_value = _TOO_FEW if promotion is None else ""
    traded = days_of_both(ours, theirs)
    return Business(
        promotion=promotion,
        risks=tuple(risks),
        gap=sharpe_gap(ours[:traded], theirs[:traded], level),
        correlation=correlation(ours[:traded], theirs[:traded], level),
        no_value=no_value,
    )


def economics_of_rows(
    rows: Mapping[str, pd.DataFrame],
    epoch: WeightEpoch,
    panel: PricePanel,
    assumptions: Assumptions,
    trials: Trials | None,
    level: float,
) -> Economics | None:
    """What the books of all forecasters would have earned on the rows that they have in common.

    The sentence is about the champion: it trades today. ``None`` where nobody gives a probability.

    Parameters
    ----------
    rows
        By forecaster: ``session``, ``ticker``, ``probability_up``, ``q05``, ``q95``, and ``excess_return`` of those
        that answer it.
    epoch
        Says who is champion.
    panel
        Prices up to the market clock.
    assumptions, trials
        Of books and costs; everything that was ever tried.
    level
        Confidence of the intervals.
    """
    table = pd.concat([_forecasts(name, frame) for name, frame in rows.items()], ignore_index=True)
    if table["probability_up"].isna().all():
        return None
    leading, confidence = [epoch.champion.model], Confidence(level=level)
    return economics_of(table, panel, assumptions, trials=trials, leading=leading, confidence=confidence)


def _forecasts(model: str, rows: pd.DataFrame) -> pd.DataFrame:
    columns = {name: rows[name].to_numpy() for name in ("ticker", "probability_up", "q05", "q95")}
    score = rows["excess_return"].to_numpy() if "excess_return" in rows else np.nan
    return pd.DataFrame({"date": rows["session"].to_numpy(), "model": model, **columns, "score": score})


_TOO_FEW = (
    "The value of a promotion is not defined yet: it takes a challenger, and at least "
    f"{FEWEST_DAYS} days on which both arms traded."
)


def _ruin(challenger: Skill, champion: Skill) -> str:
    """Why a mean of daily returns forecasts no horizon: a book that was wiped out has no further days."""
    wiped_out = {
        skill.name: skill.pnl.wiped_out for skill in (challenger, champion) if skill.pnl and skill.pnl.wiped_out
    }
    if not wiped_out:
        return ""
    books = " and ".join(f"that of {name} on {session}" for name, session in wiped_out.items())
    worst = " Promotion would have cost the whole capital." if [*wiped_out] == [challenger.name] else ""
    return f"The value of a promotion is not defined: a book was wiped out, {books}.{worst}"
