"""Metrics of the latest evaluation: value at risk against outcomes, and what the forecasts would have earned.

They are read from the JSON file beside the A/B report, which is small and changes once a session: it is parsed once for
each version of the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from prometheus_client.core import Metric

from financial_assets.errors import MonitoringError, NotMadeYetError
from financial_assets.experiment.evaluation.var_backtest import FAMILY_ALPHA
from financial_assets.monitoring.families import Values, gauge

_TAIL = ("model_name", "horizon_sessions", "side", "level")
_BOOK = ("model_name", "book")
_MODEL = ("model_name",)
_COSTS = "market"
"""Model of costs of the exported books; the flat one is in the report."""

_VAR = {
    "outcomes": "Outcomes of all tickers with a value-at-risk forecast",
    "breaches": "Outcomes beyond the value at risk",
    "expected_breaches": "Outcomes that should be beyond it, as often as promised",
    "breach_ratio": "Share of outcomes beyond the value at risk",
    "breach_ratio_lower": "Lower bound of the share of outcomes beyond the value at risk",
    "breach_ratio_upper": "Upper bound of the share of outcomes beyond the value at risk",
    "promised_breach_ratio": "Share of outcomes that should be beyond the value at risk",
}
_FIGURES = {
    "annual_return_ratio": ("annual_return", "Net return per year, compounded, as a share of the capital"),
    "sharpe_ratio": ("sharpe", "Annual Sharpe ratio of the net returns"),
    "max_drawdown_ratio": ("max_drawdown", "Largest drawdown as a share of the capital, in [-1, 0]"),
}


class EvaluationMetrics:
    """Reads the file beside the report.

    Parameters
    ----------
    path
        ``ab-evaluation.json``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._families: tuple[Metric, ...] = ()

    def read(self) -> tuple[Metric, ...]:
        """The families of the file as it is now.

        Raises
        ------
        NotMadeYetError
            There is no evaluation yet.
        MonitoringError
            The file is not an evaluation.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            raise NotMadeYetError(f"{self._path} does not exist; `financial-assets run` writes it") from None
        version = (status.st_mtime_ns, status.st_size)
        if version != self._version:
            try:
                self._families = tuple(_families(json.loads(self._path.read_text(encoding="utf-8"))))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise MonitoringError(
                    f"{self._path} is not an evaluation ({error!r}); materialize ab_evaluation again"
                ) from error
            self._version = version
        return self._families


def _families(evaluation: Mapping[str, Any]) -> Iterator[Metric]:
    yield from _value_at_risk(evaluation)
    yield from _business(evaluation.get("business"))
    yield from _books(evaluation.get("economics"))
    as_of = {(evaluation["experiment"],): pd.Timestamp(evaluation["as_of"]).timestamp()}
    session = "Session of the latest evaluation, as the start of its day in UTC"
    yield gauge("financial_assets_evaluation_session_timestamp_seconds", session, as_of, ("experiment",))


def _value_at_risk(evaluation: Mapping[str, Any]) -> Iterator[Metric]:
    values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in _VAR}
    for tail in evaluation.get("coverage", ()):  # evaluations of earlier versions have none
        labels = (tail["model"], str(tail["horizon"]), tail["side"], f"{tail['level']:g}")
        promised, share = round(1 - tail["level"], 6), tail["share"]
        found = {
            "outcomes": tail["rows"],
            "expected_breaches": tail["rows"] * promised,
            "promised_breach_ratio": promised,
        }
        if "beyond" in tail:  # evaluations of earlier versions have no counts
            found["breaches"] = tail["beyond"]
        if share is not None:
            found |= {
                "breach_ratio": share["estimate"],
                "breach_ratio_lower": share["low"],
                "breach_ratio_upper": share["high"],
            }
        for name, value in found.items():
            values[name][labels] = value
    for name, meaning in _VAR.items():
        yield gauge(f"financial_assets_var_{name}", f"{meaning}, over the horizon", values[name], _TAIL)
    rejected: dict[tuple[str, ...], float] = {}
    for tail in evaluation.get("backtests", ()):
        tests = [tail[name] for name in ("kupiec_holm", "independence_holm") if tail[name] is not None]
        rejected[tail["model"],] = rejected.get((tail["model"],), 0) + any(p <= FAMILY_ALPHA for p in tests)
    meaning = "Tails of single tickers whose value-at-risk back-test is rejected, after Holm's adjustment"
    yield gauge("financial_assets_var_rejected_tails", meaning, rejected, _MODEL)


def _business(business: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Worth of a promotion, and risk of each arm and baseline; nothing before sessions are scored."""
    if business is None:
        return
    promotion = business["promotion"]
    share: dict[tuple[str, ...], Mapping[str, float]] = {}
    money: dict[tuple[str, ...], Mapping[str, float]] = {}
    if promotion is not None:
        labels = (promotion["challenger"], str(promotion["case"]["horizon_sessions"]))
        share[labels] = promotion["horizon"]
        if promotion["money"] is not None:
            money[labels] = promotion["money"]["net"]
    names = (*_MODEL, "horizon_sessions")
    meaning = "Sum of the daily net returns that a promotion is expected to add, as a share of the capital"
    yield from _interval("promotion_value_ratio", meaning, share, names)
    meaning = "Expected value of a promotion after its costs, in the unit of BUSINESS_AUM; without it, none"
    yield from _interval("promotion_value_money", meaning, money, names)
    risks = business["risks"]
    for name, key, meaning in (
        ("value_at_risk_ratio", "value_at_risk", "Loss of a day at 95 %, by history"),
        ("expected_shortfall_ratio", "expected_shortfall", "Mean loss of the worst 5 % of days"),
    ):
        meaning = f"{meaning}, as a share of the capital; positive is a loss"
        yield gauge(f"financial_assets_arm_{name}", meaning, _of(risks, lambda risk, key=key: risk[key]), _MODEL)


def _of(risks: list[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]) -> Values:
    found = {(risk["name"],): value(risk) for risk in risks}
    return {labels: number for labels, number in found.items() if number is not None}


def _books(economics: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Figures of the books at market costs; nothing before sessions are scored."""
    if economics is None:
        return
    books = {
        (book["model"], book["book"]): book
        for book in economics["books"]
        if book["costs"] == _COSTS and book["figures"] is not None
    }
    at = "at market costs"
    for name, (key, meaning) in _FIGURES.items():
        values = {labels: book["figures"]["net"][key] for labels, book in books.items()}
        if name == "annual_return_ratio":  # the only one without an interval
            yield gauge(f"financial_assets_book_{name}", f"{meaning}, {at}", _known(values), _BOOK)
        else:
            yield from _interval(f"book_{name}", f"{meaning}, {at}", values, _BOOK)
    costs = {labels: sum(book["figures"]["cost_per_year"].values()) for labels, book in books.items()}
    yield gauge("financial_assets_book_annual_cost_ratio", "Costs per year as a share of the capital", costs, _BOOK)
    turnover = {labels: book["figures"]["turnover"] for labels, book in books.items()}
    yield from _interval("book_turnover_ratio", "Traded per session as a share of the capital", turnover, _BOOK)
    deflated = {labels: book["figures"]["deflated_sharpe"] for labels, book in books.items()}
    meaning = "Probability that the Sharpe ratio exceeds what the best of all trials without skill would show"
    yield gauge("financial_assets_book_deflated_sharpe_ratio", meaning, _known(deflated), _BOOK)


def _known(values: Mapping[tuple[str, ...], float | None]) -> Values:
    return {labels: value for labels, value in values.items() if value is not None}


def _interval(
    name: str, meaning: str, intervals: Mapping[tuple[str, ...], Mapping[str, float] | None], labels: tuple[str, ...]
) -> Iterator[Metric]:
    """Estimate and bounds; nothing of an interval that is not defined."""
    for ending, key, what in (
        ("", "estimate", ""),
        ("_lower", "low", "lower bound"),
        ("_upper", "high", "upper bound"),
    ):
        values = {who: interval[key] for who, interval in intervals.items() if interval is not None}
        yield gauge(f"financial_assets_{name}{ending}", f"{meaning}{', ' if what else ''}{what}", values, labels)
