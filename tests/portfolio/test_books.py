"""Books: neutrality, gross exposure, ties, small and empty universes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from financial_assets.portfolio.books import (
    centred_ranks,
    exposure,
    long_only,
    long_short,
    market_neutral,
    positions_from_probabilities,
    sign_of_probability,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8)
# Few distinct values: ties are the rule.
SCORES = SHAPES.flatmap(
    lambda shape: hnp.arrays(
        np.float64, shape, elements=st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3), st.just(math.nan))
    )
)
BOOKS = {
    "long only": long_only,
    "long short": long_short,
    "thirds": lambda scores, tradable=None, **more: long_short(scores, tradable, quantiles=3, **more),
    "market neutral": market_neutral,
    "by rank": lambda scores, tradable=None, **more: market_neutral(centred_ranks(scores, tradable), tradable, **more),
}
EVERY_BOOK = pytest.mark.parametrize("build", BOOKS.values(), ids=BOOKS)
NEUTRAL = pytest.mark.parametrize("build", [BOOKS[n] for n in BOOKS if n != "long only"])


@EVERY_BOOK
@given(scores=SCORES, gross=st.sampled_from([0.5, 1.0, 2.0]), seed=st.integers(0, 99))
def test_laws_of_every_book(build, scores: np.ndarray, gross: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    tradable = random.random(scores.shape) < 0.8
    weights = build(scores, tradable, gross=gross)
    held = exposure(weights)
    assert np.isfinite(weights).all()
    assert (weights[~tradable | np.isnan(scores)] == 0).all()
    np.testing.assert_allclose(held.gross[held.gross > 0], gross, rtol=1e-12)
    order = random.permutation(len(scores))
    np.testing.assert_allclose(build(scores[order], tradable[order], gross=gross), weights[order], atol=1e-12)
    np.testing.assert_array_equal(build(scores * 8, tradable, gross=gross), weights)
    assert (build(np.where(tradable, scores, np.nan), gross=gross) == weights).all(), "without a score or not tradable"


@NEUTRAL
@given(scores=SCORES)
def test_a_neutral_book_has_no_net_exposure_and_its_mirror_image_is_that_of_reversed_scores(build, scores) -> None:
    weights = build(scores)
    np.testing.assert_allclose(exposure(weights).net, 0, atol=1e-14)
    np.testing.assert_allclose(build(-scores), -weights, atol=1e-12)


@EVERY_BOOK
@given(scores=SCORES)
def test_better_scores_have_no_smaller_weights_and_equal_ones_equal_weights(build, scores: np.ndarray) -> None:
    weights = build(scores)
    for session in range(scores.shape[1]):
        known = ~np.isnan(scores[:, session])
        order = np.argsort(scores[known, session])
        steps = np.diff(weights[known, session][order])
        assert (steps >= -1e-15).all()
        ties = np.diff(scores[known, session][order]) == 0
        assert (steps[ties] == 0).all()


@NEUTRAL
@pytest.mark.parametrize("scores", [[[1.0]], [[math.nan], [3.0]], [[2.0], [2.0], [2.0]], [[math.nan], [math.nan]]])
def test_who_has_no_opinion_holds_nothing(build, scores: list) -> None:
    assert (build(scores) == 0).all()


def test_rounding_is_no_opinion() -> None:
    """0.1 + 0.2 and 0.3 differ in the last bit: that must not fill a whole book."""
    assert (market_neutral([[0.1 + 0.2], [0.3], [0.3]]) == 0).all()
    tiny = [[1e-9], [2e-9], [4e-9]]
    np.testing.assert_allclose(market_neutral(tiny), market_neutral([[1], [2], [4]]), rtol=1e-12)
    betas = np.full((3, 1), 0.1 + 0.2) * [[1], [1 + 1e-16], [1 - 1e-16]]
    np.testing.assert_allclose(market_neutral(tiny, betas=betas), market_neutral(tiny), rtol=1e-12)


def test_quintiles_by_hand() -> None:
    scores = np.arange(10.0)[:, None]
    assert long_short(scores).ravel().tolist() == [-0.25, -0.25, 0, 0, 0, 0, 0, 0, 0.25, 0.25]
    assert long_only(scores, gross=2.0).ravel().tolist() == [0] * 8 + [1, 1]
    assert long_only(scores, quantiles=1).ravel().tolist() == [0.1] * 10
    assert long_short(np.arange(3.0)[:, None]).ravel().tolist() == [-0.5, 0, 0.5], "fewer names than quantiles"
    assert long_short([[1.0], [3.0], [math.nan]]).ravel().tolist() == [-0.5, 0.5, 0]
    assert long_only([[math.nan], [7.0]]).ravel().tolist() == [0, 1]
    # Two places for three equal scores: two thirds of a place each.
    tied = [[5.0]] * 3 + [[float(i)] for i in range(-7, 0)]
    np.testing.assert_allclose(long_only(tied).ravel()[:3], 1 / 3)
    assert long_short([[2.0], [1], [1], [1], [0]], quantiles=2).ravel().tolist() == [0.5, 0, 0, 0, -0.5]


def test_score_weighted_by_hand() -> None:
    assert market_neutral([[3.0], [1.0], [2.0]]).ravel().tolist() == [0.5, -0.5, 0]
    np.testing.assert_allclose(market_neutral([[5.0], [1.0], [0.0]], gross=2.0).ravel(), [1, -1 / 3, -2 / 3])


@given(st.integers(0, 500), st.integers(3, 20))
def test_a_beta_neutral_book_has_neither_net_exposure_nor_beta(seed: int, names: int) -> None:
    random = np.random.default_rng(seed)
    scores, betas = random.standard_normal((names, 4)), random.normal(1, 0.4, (names, 4))
    betas[0, 0] = math.nan
    weights = market_neutral(scores, betas=betas)
    np.testing.assert_allclose(weights.sum(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose((weights * np.nan_to_num(betas)).sum(axis=0), 0, atol=1e-12)
    assert weights[0, 0] == 0
    # The residuals of a regression on a constant and beta, by another program.
    fit = stats.linregress(betas[:, 1], scores[:, 1])
    residual = scores[:, 1] - fit.intercept - fit.slope * betas[:, 1]
    np.testing.assert_allclose(weights[:, 1], residual / np.abs(residual).sum(), atol=1e-9)


@given(SCORES)
@example(np.array([[0.0], [1.0], [5e-324]]))
def test_ranks_are_those_of_scipy(scores: np.ndarray) -> None:
    ranks = centred_ranks(scores)
    for session in range(scores.shape[1]):
        known = ~np.isnan(scores[:, session])
        count = int(known.sum())
        expected = 2 * (stats.rankdata(scores[known, session]) - 1) / max(count - 1, 1) - (count > 1)
        np.testing.assert_allclose(ranks[known, session], expected, atol=1e-12)
        assert np.isnan(ranks[~known, session]).all()


def test_the_sign_of_a_probability_has_a_constant_share() -> None:
    weights = sign_of_probability([[0.6, 0.4], [0.5, math.nan], [0.9, 0.1]], [[1, 1], [1, 1], [0, 1]])
    np.testing.assert_allclose(weights, np.array([[1, -1], [0, 0], [0, -1]]) / 3)
    assert positions_from_probabilities([0.2, 0.45, 0.5, 0.55, 0.8]).tolist() == [-1, -1, 0, 1, 1]
    assert positions_from_probabilities([[0.9, math.nan]]).tolist() == [[1, 0]]


@given(hnp.arrays(np.float64, SHAPES, elements=st.integers(0, 64).map(lambda count: count / 64)))
def test_long_and_short_are_mirror_images(probability: np.ndarray) -> None:
    assert (positions_from_probabilities(1 - probability) == -positions_from_probabilities(probability)).all()
    assert (sign_of_probability(1 - probability) == -sign_of_probability(probability)).all()


@EVERY_BOOK
@pytest.mark.parametrize(
    ("scores", "options", "named"),
    [
        ([1.0, 2.0], {}, r"scores must be \[ticker, session\]"),
        ([[]], {}, "scores is empty"),
        ([["a"]], {}, "scores must be numbers"),
        ([[math.inf]], {}, "scores must be finite .*ticker 0 in session 0"),
        ([[1.0]], {"tradable": [[1, 1]]}, r"tradable must have shape \(1, 1\)"),
        ([[1.0]], {"tradable": [[math.nan]]}, "tradable must hold only booleans"),
        ([[1.0]], {"gross": 0.0}, "gross must be finite and above 0"),
        ([[1.0]], {"gross": math.nan}, "gross must be"),
    ],
)
def test_bad_arguments_are_named(build, scores: list, options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build(scores, **options)


def test_other_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="quantiles must be at least 2"):
        long_short([[1.0]], quantiles=1)
    with pytest.raises(ValueError, match="quantiles must be at least 1"):
        long_only([[1.0]], quantiles=0)
    with pytest.raises(ValueError, match=r"scores \(1, 1\), betas \(1, 2\)"):
        market_neutral([[1.0]], betas=[[1.0, 1.0]])
    with pytest.raises(ValueError, match=r"probability_up must lie in \[0, 1\]"):
        sign_of_probability([[1.5]])
    for bad, named in (([], "is empty"), ([1.5], r"lie in \[0, 1\]"), ([-0.5, math.nan], r"lie in \[0, 1\]")):
        with pytest.raises(ValueError, match=f"probability_up (must )?{named}"):
            positions_from_probabilities(bad)
