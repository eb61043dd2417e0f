"""An evaluation as a whole: everything that the report shows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.evaluation import measures
from financial_assets.experiment.evaluation.business_view import Business
from financial_assets.experiment.evaluation.by_regime import RegimeView
from financial_assets.experiment.evaluation.candidates import Candidate
from financial_assets.experiment.evaluation.heads.ranking import ArmRanking
from financial_assets.experiment.evaluation.heads.var_coverage import TailCoverage
from financial_assets.experiment.evaluation.routed import RoutedView
from financial_assets.experiment.evaluation.var_backtest import TailBackTest
from financial_assets.models.scores import LeakCheck
from financial_assets.portfolio.economics.results import Economics


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the common rows of champion and challengers give; nothing where fewer than two sessions are scored."""

    skills: tuple[measures.Skill, ...] = ()
    tickers: tuple[measures.TickerSkill, ...] = ()
    trading_days: tuple[str, ...] = ()
    buy_and_hold: measures.ProfitAndLoss | None = None
    business: Business | None = None
    economics: Economics | None = None
    regimes: RegimeView | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation(Scored):
    """Everything the report shows.

    Sessions are ISO dates, instants ISO times in UTC, shares and accuracies fractions, latencies seconds. ``plan``
    holds what was fixed before looking, by name, and where it comes from. ``sample_ratio`` is the guardrail of that
    name by challenger, as the decisions have it; without a challenger, that of the champion. ``business``,
    ``economics`` and ``regimes`` are ``None`` without scored sessions; they, the skills and the plots are about what
    the champion and the challengers have in common. ``candidates`` has each challenger and shadow on its own rows;
    ``routed`` is ``None`` unless weights followed scores; ``backtests`` are of each arm's value at risk, on its own
    rows, ``coverage`` that of the whole universe over one and five sessions, ``rankings`` by the score of arms that
    have one, and ``leaks`` the leak alarms of the same rows.
    """

    experiment: str
    as_of: str
    first_session: str | None
    last_session: str | None
    arms: tuple[dict[str, Any], ...]
    conclusion: measures.Conclusion
    comparisons: tuple[measures.Comparison, ...]
    epochs: tuple[measures.EpochTraffic, ...]
    traffic: tuple[measures.ArmTraffic, ...]
    cost_bps: float
    level: float
    plan: dict[str, Any]
    outcomes_not_due: int
    data_hash: str
    candidates: tuple[Candidate, ...] = ()
    routed: RoutedView | None = None
    backtests: tuple[TailBackTest, ...] = ()
    coverage: tuple[TailCoverage, ...] = ()
    rankings: tuple[ArmRanking, ...] = ()
    sample_ratio: dict[str, Guardrail] = field(default_factory=dict)
    leaks: dict[str, LeakCheck] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is not a number becomes ``None``."""
        return json.loads(to_json(self, inf_nan_mode="null"))

    def to_json(self) -> str:
        """Strict JSON (no NaN)."""
        return to_json(self, inf_nan_mode="null", indent=2).decode()

    def skill(self, name: str) -> measures.Skill | None:
        """The skill of the forecaster called ``name``."""
        return next((skill for skill in self.skills if skill.name == name), None)
