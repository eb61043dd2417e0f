"""From what is known about a session to what is answered: values into schemas, nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.api.schemas.signals import (
    CAVEAT,
    Edge,
    ReturnRange,
    SideRisk,
    Signal,
    Signals,
    Suggestion,
    TailLosses,
)
from financial_assets.portfolio.joint_risk.measures import TailRisk
from financial_assets.portfolio.trade_edge import RULE
from financial_assets.workflows.desk.session import DeskSession
from financial_assets.workflows.desk.signals import SIZE_RULE, STOP_RULE, Advice


def signal_answers(session: DeskSession, advice: Sequence[Advice]) -> list[Signal]:
    """One answer per ticker, by rank and then ticker."""
    rows = session.by_ticker
    answers = [_signal(session, rows[one.ticker], one) for one in advice]
    return sorted(answers, key=lambda signal: (signal.rank is None, signal.rank or 0, signal.ticker))


def signals_answer(session: DeskSession, signals: Sequence[Signal], *, is_current: bool, halted: str | None) -> Signals:
    """All of them; ``halted`` is the kill switch in a sentence, where it is on."""
    return Signals(
        as_of=session.as_of.date(),
        target_session=session.target.date(),
        current=is_current,
        model=session.arm.model,
        version=session.arm.version,
        halted=halted,
        remarks=[*([halted] if halted else []), *session.remarks],
        without_signal=dict(session.without_signal),
        size_rule=SIZE_RULE,
        stop_rule=STOP_RULE,
        signals=list(signals),
    )


def _signal(session: DeskSession, row: Mapping[str, Any], advice: Advice) -> Signal:
    edge = advice.edge.after_costs
    values: dict[str, Any] = {name: None if pd.isna(value) else value for name, value in row.items()}
    return Signal(
        ticker=advice.ticker,
        as_of=session.as_of.date(),
        target_session=session.target.date(),
        target_session_5d=_day(values["target_session_5d"]),
        direction=advice.edge.direction,
        reason=advice.edge.reason,
        probability_up=float(values["probability_up"]),
        score=None if values["score"] is None else float(values["score"]),
        rank=None if values["rank"] is None else int(values["rank"]),
        ranked=len(session.signals),
        expected_range=_range(values, ""),
        expected_range_5d=None if values["q05_5d"] is None else _range(values, "_5d"),
        edge_after_costs=edge
        and Edge(estimate=edge.estimate, low=edge.low, high=edge.high, level=edge.level, sessions=edge.days),
        cost_per_side=session.cost_per_side,
        long=_side(advice.long, advice.long_5d),
        short=_side(advice.short, advice.short_5d),
        suggested=Suggestion(weight=advice.weight, stop_return=advice.stop_return, stop_price=advice.stop_price),
        last_close=session.prices.get(advice.ticker),
        model=str(values["model"]),
        version=int(values["version"]),
        data_warnings=list(session.warnings.get(advice.ticker, ())),
        rule=RULE,
        caveat=CAVEAT,
    )


def _day(value: object) -> date | None:
    return value.date() if isinstance(value, pd.Timestamp) else None


def _range(values: Mapping[str, Any], suffix: str) -> ReturnRange:
    low, median, high = (float(np.expm1(float(values[f"{name}{suffix}"]))) for name in ("q05", "q50", "q95"))
    return ReturnRange(low=low, median=median, high=high)


def _side(one: TailRisk, five: TailRisk | None) -> SideRisk:
    return SideRisk(one_session=_losses(one), five_sessions=None if five is None else _losses(five))


def _losses(risk: TailRisk) -> TailLosses:
    # A mean that does not exist is null: JSON has no word for infinity.
    es_95, es_99 = (value if math.isfinite(value) else None for value in (risk.es_95, risk.es_99))
    return TailLosses(var_95=risk.var_95, var_99=risk.var_99, es_95=es_95, es_99=es_99)
