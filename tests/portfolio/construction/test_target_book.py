"""Laws of target weights: constraints always hold, impossible ones are named, and no other weights are better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from financial_assets.errors import InfeasibleError, PortfolioError
from financial_assets.portfolio.construction.constraints import BookProblem, Constraints
from financial_assets.portfolio.construction.optimise import TOLERANCE, Appetite, TargetBook, target_book

YEAR = 252


def problem(seed: int, count: int, constraints: Constraints, held: float = 0.0, **changes: Any) -> BookProblem:
    """Names with a common factor; ``held`` is the gross exposure that is there already."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(0, 0.01, (count, 2))
    current = rng.normal(0, 1, count)
    return replace(
        BookProblem(
            tickers=tuple(f"T{number}" for number in range(count)),
            current=held * current / np.abs(current).sum(),
            expected=rng.normal(0, 0.001, count),
            covariance=factor @ factor.T + np.diag(rng.uniform(0.005, 0.02, count) ** 2),
            sectors=tuple("xyz"[number % 3] for number in range(count)),
            constraints=constraints,
        ),
        **changes,
    )


def broken(weights: np.ndarray, asked: BookProblem, tolerance: float = TOLERANCE) -> list[str]:
    """Names of the constraints that do not hold, judged with plain numpy."""
    limits, found = asked.constraints, []
    if np.abs(weights).sum() > limits.gross + tolerance:
        found.append("gross")
    if np.abs(weights).max() > limits.per_name + tolerance:
        found.append("per_name")
    if limits.mode == "long_only" and weights.min() < -tolerance:
        found.append("long_only")
    if limits.mode == "neutral" and abs(weights.sum()) > tolerance:
        found.append("neutral")
    if limits.per_sector is not None:
        for sector in set(asked.sectors):
            rows = [place for place, name in enumerate(asked.sectors) if name == sector]
            if np.abs(weights[rows]).sum() > limits.per_sector + tolerance:
                found.append(f"per_sector {sector}")
    if limits.turnover is not None and np.abs(weights - asked.current).sum() > limits.turnover + tolerance:
        found.append("turnover")
    if limits.volatility_target is not None:
        volatility = np.sqrt(weights @ asked.covariance @ weights * YEAR)
        if volatility > limits.volatility_target + tolerance:
            found.append("volatility_target")
    if limits.invested is not None and weights.sum() < limits.invested - tolerance:
        found.append("invested")
    if any(asked.excluded) and np.abs(weights[np.array(asked.excluded)]).max() > tolerance:
        found.append("excluded")
    return found


limits = st.builds(
    Constraints,
    mode=st.sampled_from(["long_only", "neutral", "long_short"]),
    gross=st.floats(0.1, 3),
    per_name=st.floats(0.02, 1),
    per_sector=st.none() | st.floats(0.05, 1.5),
    turnover=st.none() | st.floats(0.05, 3),
    volatility_target=st.none() | st.floats(0.02, 0.5),
)


def value(weights: np.ndarray, asked: BookProblem, appetite: Appetite) -> float:
    held = appetite.holding_sessions
    risk = 0.5 * appetite.risk_aversion * held * weights @ asked.covariance @ weights
    return float(
        held * asked.expected @ weights - risk - appetite.cost_per_side * np.abs(weights - asked.current).sum()
    )


@settings(deadline=None)
@given(limits, st.integers(1, 12), st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 50))
def test_constraints_hold_or_are_named(
    constraints: Constraints, count: int, seed: int, held: float, aversion: float
) -> None:
    asked = problem(seed, count, constraints, held)
    try:
        book = target_book(asked, Appetite(risk_aversion=aversion))
    except InfeasibleError as infeasible:
        named = infeasible.conflicts
        book = None
    if book is None:
        assert named
        assert feasible_point(asked) is None
        return
    assert broken(book.weights, asked) == []
    assert_described(book, asked)


def assert_described(book: TargetBook, asked: BookProblem) -> None:
    assert book.turnover == pytest.approx(np.abs(book.weights - asked.current).sum())
    assert book.volatility == pytest.approx(np.sqrt(book.weights @ asked.covariance @ book.weights * YEAR), abs=1e-9)
    assert book.expected_return == pytest.approx(book.weights @ asked.expected, abs=1e-12)
    assert book.cost == pytest.approx(book.turnover * Appetite().cost_per_side)


def feasible_point(asked: BookProblem) -> np.ndarray | None:
    """Weights that fulfil all constraints, if it is easy to see that there are some: nothing, or what is held."""
    for candidate in (np.zeros(len(asked.tickers)), asked.current):
        if not broken(candidate, asked, -1e-6):
            return candidate
    return None


@settings(deadline=None)
@given(st.sampled_from(["long_only", "neutral", "long_short"]), st.integers(2, 6), st.integers(0, 1000))
def test_no_other_weights_are_better(mode: Any, count: int, seed: int) -> None:
    asked = problem(seed, count, Constraints(mode, gross=1.5, per_name=0.4, volatility_target=0.12), held=0.3)
    appetite = Appetite(risk_aversion=8.0)
    try:
        book = target_book(asked, appetite)
    except InfeasibleError:
        assume(False)
        raise
    best = value(book.weights, asked, appetite)
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 1, (400, count)) * 10.0 ** rng.uniform(-4, 0, (400, 1))
    if mode == "neutral":
        steps -= steps.mean(axis=1, keepdims=True)
    others = [other for step in steps if not broken(other := book.weights + step, asked, 0.0)]
    assert all(value(other, asked, appetite) <= best + 1e-7 for other in others)


def test_the_same_weights_as_another_optimiser() -> None:
    """Sequential quadratic programming, on the smooth case: long only, nothing held, so that costs are linear."""
    asked = problem(3, 6, Constraints("long_only", gross=1.0, per_name=0.35), held=0.0)
    appetite = Appetite(risk_aversion=20.0)
    book = target_book(asked, appetite)
    other = minimize(
        lambda weights: -1e3 * value(weights, asked, appetite),
        np.full(6, 0.1),
        method="SLSQP",
        bounds=[(0, 0.35)] * 6,
        constraints={"type": "ineq", "fun": lambda weights: 1.0 - weights.sum()},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert book.weights == pytest.approx(other.x, abs=2e-4)


def test_the_riskless_book_is_that_of_the_textbook() -> None:
    """Least variance of a fully invested book: proportional to the row sums of the inverse covariance."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.01, 0.02, 5)
    covariance = np.outer(spread, spread) * (0.3 + 0.7 * np.eye(5))
    asked = problem(
        0, 5, Constraints("long_only", per_name=1.0, invested=1.0), covariance=covariance, expected=np.zeros(5)
    )
    book = target_book(asked, Appetite(risk_aversion=1000.0, cost_per_side=0.0))
    exact = np.linalg.solve(covariance, np.ones(5))
    assert book.weights == pytest.approx(exact / exact.sum(), abs=1e-4)


def test_costs_keep_a_book_where_it_is_unless_the_forecast_pays() -> None:
    asked = problem(5, 4, Constraints("long_short", gross=2.0, per_name=1.0), held=0.5)
    stays = target_book(asked, Appetite(risk_aversion=0.0, holding_sessions=1, cost_per_side=0.5))
    assert stays.weights == pytest.approx(asked.current, abs=1e-5)
    moves = target_book(asked, Appetite(risk_aversion=0.0, holding_sessions=60, cost_per_side=0.0005))
    assert moves.turnover > 0.5


@pytest.mark.parametrize(
    ("constraints", "held", "named"),
    [
        (Constraints("long_only", per_name=0.1, invested=0.5), 0.0, {"per_name", "invested"}),
        (Constraints("long_only", gross=0.3, per_name=1.0, invested=0.5), 0.0, {"gross", "invested"}),
        (Constraints("long_short", per_name=0.05, turnover=0.1), 1.0, {"per_name", "turnover"}),
        (
            Constraints("long_only", per_name=1.0, invested=1.0, volatility_target=0.01),
            0.0,
            {"invested", "volatility_target"},
        ),
    ],
)
def test_what_contradicts_each_other_is_named_with_the_way_out(
    constraints: Constraints, held: float, named: set[str]
) -> None:
    asked = problem(1, 3, constraints, held)
    with pytest.raises(InfeasibleError) as caught:
        target_book(asked, Appetite())
    assert set(caught.value.conflicts) == named
    for name, sentence in caught.value.conflicts.items():
        # The advice works: what is named is loosened as far as it says, and there is a book.
        needed = float(sentence.rpartition(" to ")[2].split(" ")[0])
        loosened = replace(asked, constraints=replace(constraints, **{name: needed}))
        assert broken(target_book(loosened, Appetite()).weights, loosened) == []


def test_names_that_must_go_are_sold_and_conflict_with_a_tight_turnover() -> None:
    asked = problem(2, 4, Constraints("long_short", per_name=1.0), held=0.8, excluded=(True, False, False, False))
    assert target_book(asked, Appetite()).weights[0] == 0
    tight = replace(asked, constraints=Constraints("long_short", per_name=1.0, turnover=0.01))
    with pytest.raises(InfeasibleError) as caught:
        target_book(tight, Appetite())
    assert set(caught.value.conflicts) == {"turnover", "excluded"}


def test_what_cannot_be_limits_or_a_problem_is_refused() -> None:
    for wrong in ({"gross": -1.0}, {"per_name": float("nan")}, {"mode": "neutral", "invested": 0.5}):
        with pytest.raises(ValueError, match=r"must be finite|long_only"):
            Constraints(**wrong)  # type: ignore[arg-type]
    asked = problem(0, 3, Constraints())
    for changes in ({"expected": np.zeros(2)}, {"current": np.array([0.0, np.inf, 0.0])}, {"tickers": ()}):
        with pytest.raises(PortfolioError):
            target_book(replace(asked, **changes), Appetite())  # type: ignore[arg-type]
