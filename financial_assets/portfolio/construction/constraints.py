"""What a book may hold, as named convex constraints: one definition for optimising and for finding what conflicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from financial_assets.market import calendar

Mode = Literal["long_only", "neutral", "long_short"]


@dataclass(frozen=True)
class Constraints:
    """Limits of a book; weights are signed shares of the capital.

    Attributes
    ----------
    mode
        ``long_only``: nothing is held short. ``neutral``: long and short exposure are equal. ``long_short``: neither.
    gross
        Largest sum of absolute weights.
    per_name
        Largest absolute weight.
    per_sector
        Largest sum of absolute weights of one sector; names without a sector are a sector of their own, "".
    turnover
        Largest sum of absolute changes from the current weights.
    volatility_target
        Highest forecast volatility per year.
    invested
        Smallest sum of weights, of a ``long_only`` book.

    Raises
    ------
    ValueError
        A limit is not a finite number of the right sign, or ``invested`` is asked of a book that may be short.
    """

    mode: Mode = "long_only"
    gross: float = 1.0
    per_name: float = 0.1
    per_sector: float | None = None
    turnover: float | None = None
    volatility_target: float | None = None
    invested: float | None = None

    def __post_init__(self) -> None:
        for name in ("gross", "per_name", "per_sector", "turnover", "volatility_target", "invested"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and at least 0, not {value}")
        if self.invested is not None and self.mode != "long_only":
            raise ValueError("invested is for a long_only book: others hold short positions, too")


@dataclass(frozen=True, eq=False)
class BookProblem:
    """A book to build.

    Attributes
    ----------
    tickers
        Names that may be held.
    current
        Weights that are held now ``[ticker]``.
    expected
        Expected simple return of one session ``[ticker]``.
    covariance
        Of the returns of one session ``[ticker, ticker]``.
    sectors
        Of each ticker; "": none is known.
    constraints
        Limits.
    excluded
        Which names must not be held: what is held of them is sold. Empty: none.
    """

    tickers: tuple[str, ...]
    current: NDArray[np.float64]
    expected: NDArray[np.float64]
    covariance: NDArray[np.float64]
    sectors: tuple[str, ...]
    constraints: Constraints
    excluded: tuple[bool, ...] = ()

    def volatility(self, weights: NDArray[np.float64]) -> float:
        """Forecast volatility per year of a book."""
        return math.sqrt(max(float(weights @ self.covariance @ weights), 0.0) * calendar.sessions_per_year())


def named_constraints(
    weights: cp.Variable, problem: BookProblem, slack: Mapping[str, Any] | None = None
) -> dict[str, list[cp.Constraint]]:
    """All constraints of a book by name, for a cvxpy variable ``[ticker]``.

    Parameters
    ----------
    weights
        The variable.
    problem
        The book.
    slack
        By how much each may be missed (cvxpy expressions, in the unit of its limit); none for a name that is not there.
    """
    limits, room = problem.constraints, slack or {}
    found: dict[str, list[Any]] = {
        "gross": [cp.norm1(weights) <= limits.gross + room.get("gross", 0.0)],
        "per_name": [cp.abs(weights) <= limits.per_name + room.get("per_name", 0.0)],
    }
    if limits.mode == "long_only":
        found["long_only"] = [weights >= -room.get("long_only", 0.0)]
    if limits.mode == "neutral":
        found["neutral"] = [cp.abs(cp.sum(weights)) <= room["neutral"]] if "neutral" in room else [cp.sum(weights) == 0]
    if limits.per_sector is not None:
        for sector, rows in sector_rows(problem.sectors).items():
            name = f"per_sector {sector or '(none known)'}"
            found[name] = [cp.norm1(weights[rows]) <= limits.per_sector + room.get(name, 0.0)]
    if limits.turnover is not None:
        found["turnover"] = [cp.norm1(weights - problem.current) <= limits.turnover + room.get("turnover", 0.0)]
    if limits.volatility_target is not None:
        factor = _factor(problem.covariance) * math.sqrt(calendar.sessions_per_year())
        found["volatility_target"] = [
            cp.norm2(factor @ weights) <= limits.volatility_target + room.get("volatility_target", 0.0)
        ]
    if any(problem.excluded):
        gone = np.flatnonzero(problem.excluded)
        found["excluded"] = [cp.abs(weights[gone]) <= room["excluded"]] if "excluded" in room else [weights[gone] == 0]
    if limits.invested is not None:
        found["invested"] = [cp.sum(weights) >= limits.invested - room.get("invested", 0.0)]
    return found


def sector_rows(sectors: Sequence[str]) -> dict[str, list[int]]:
    """Sector -> places of its names."""
    rows: dict[str, list[int]] = {}
    for place, sector in enumerate(sectors):
        rows.setdefault(sector, []).append(place)
    return rows


def _factor(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """``F`` with ``F' F = covariance``, also of one without full rank."""
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
