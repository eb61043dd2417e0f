"""The fundamental law by hand; test_worlds.py simulates it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from financial_assets.portfolio.books import long_only, long_short, market_neutral
from financial_assets.portfolio.fundamental_law import expected_sharpe, from_rank_correlation, transfer_coefficient


def test_by_hand() -> None:
    assert expected_sharpe(0.03, 100) == pytest.approx(0.03 * math.sqrt(25_200))
    assert expected_sharpe(0.03, 100, 0.5) == pytest.approx(expected_sharpe(0.03, 25))
    assert from_rank_correlation(1.0) == pytest.approx(1)
    assert from_rank_correlation(-0.5) == pytest.approx(-2 * math.sin(math.pi / 12))


def test_the_rank_correlation_of_normal_variables() -> None:
    random = np.random.default_rng(0)
    first, noise = random.standard_normal((2, 400_000))
    r = from_rank_correlation(0.3)
    assert stats.spearmanr(first, r * first + math.sqrt(1 - r * r) * noise).statistic == pytest.approx(0.3, abs=0.005)


def test_what_books_transfer() -> None:
    random = np.random.default_rng(1)
    scores = random.standard_normal((500, 40))
    assert transfer_coefficient(market_neutral(scores), scores) == pytest.approx(1)
    # Normal scores in the best and worst fifth, all alike: 2 phi(z) / sqrt(2 / 5).
    fifths = 2 * stats.norm.pdf(stats.norm.ppf(0.8)) / math.sqrt(0.4)
    assert transfer_coefficient(long_short(scores), scores) == pytest.approx(fifths, abs=0.01)
    assert transfer_coefficient(long_only(scores), scores) < 0.75
    risk = random.uniform(0.01, 0.05, scores.shape)
    assert transfer_coefficient(scores / risk, scores, risk) == pytest.approx(1)
    assert transfer_coefficient(scores / risk, scores) < 0.9
    scores[0, 0] = math.nan
    assert transfer_coefficient(market_neutral(scores), scores) == pytest.approx(1)
    assert math.isnan(transfer_coefficient(np.zeros((3, 2)), np.ones((3, 2))))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="information_coefficient must lie"):
        expected_sharpe(1.5, 10)
    with pytest.raises(ValueError, match="transfer must lie"):
        expected_sharpe(0.1, 10, math.nan)
    with pytest.raises(ValueError, match="names must be"):
        expected_sharpe(0.1, 0)
    with pytest.raises(ValueError, match="rank_correlation must lie"):
        from_rank_correlation(2)
    with pytest.raises(ValueError, match=r"weights \(1, 1\), scores \(1, 2\)"):
        transfer_coefficient([[1.0]], [[1.0, 2.0]])
