"""Books: from scores to the weights that a portfolio aims at.

Weights are shares of the capital ``[ticker, session]``, positive for long, indexed by the session after whose close
they are decided. A name without a score (NaN) or that is not ``tradable`` gets no weight. A session's *gross exposure*
is the sum of absolute weights, its *net exposure* their sum. Each session is built from its own scores only, so a book
is as causal as they are; and names stand for nothing, so permuted tickers give permuted weights.

A book that says nothing holds nothing: where all scores are equal, or fewer names are left than a book needs, every
weight of that session is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from financial_assets.portfolio.arguments import Floats, Mask, above_zero, gappy_matrix, mask
from financial_assets.scoring.arguments import same_shape

_ROUNDING = 1e-12
"""Scores that differ by less than this share of their size are equal: their difference is rounding."""


@dataclass(frozen=True)
class Exposure:
    """What a book holds ``[session]``, as shares of the capital: ``gross = long + short``, ``net = long - short``."""

    long: Floats
    short: Floats

    @property
    def gross(self) -> Floats:
        """Sum of absolute weights."""
        return self.long + self.short

    @property
    def net(self) -> Floats:
        """Sum of weights."""
        return self.long - self.short


def exposure(weights: ArrayLike) -> Exposure:
    """Long and short exposure of a book ``[ticker, session]``."""
    book = gappy_matrix("weights", weights)
    return Exposure(np.maximum(book, 0).sum(axis=0), np.maximum(-book, 0).sum(axis=0))


def positions_from_probabilities(probability_up: ArrayLike) -> Floats:
    """Positions in units of a ticker's share of the capital: +1 long above one half, -1 short below it, else 0.

    Parameters
    ----------
    probability_up
        Probabilities, of any shape; NaN (no answer) takes no position.
    """
    probability = np.asarray(probability_up, dtype=np.float64)
    if probability.size == 0:
        raise ValueError("probability_up is empty")
    if np.any((probability < 0) | (probability > 1)):
        raise ValueError("probability_up must lie in [0, 1]")
    return np.where(np.isnan(probability), 0.0, np.sign(probability - 0.5))


def sign_of_probability(probability_up: ArrayLike, tradable: ArrayLike | None = None) -> Floats:
    """Long above one half, short below it, each ticker with an equal, constant share ``1 / tickers`` of the capital.

    What :func:`.simulation.profit_and_loss` trades. Gross exposure: the share of tickers with a position, at most 1;
    the share of a ticker without one waits as cash. Net exposure is what the probabilities make it.

    Parameters
    ----------
    probability_up
        ``[ticker, session]`` in [0, 1]; NaN takes no position.
    tradable
        Booleans ``[ticker, session]``; default: all.
    """
    probability = gappy_matrix("probability_up", probability_up)
    allowed = mask("tradable", tradable, probability.shape)
    return np.where(allowed, positions_from_probabilities(probability), 0.0) / len(probability)


def long_only(
    scores: ArrayLike, tradable: ArrayLike | None = None, *, quantiles: int = 5, gross: float = 1.0
) -> Floats:
    """The best ``1 / quantiles`` of the names by score, held long in equal parts.

    Parameters
    ----------
    scores
        ``[ticker, session]``; NaN: no score.
    tradable
        Booleans ``[ticker, session]``; default: all.
    quantiles
        5 holds the best fifth: ``max(1, names // quantiles)`` names. 1 holds every name with a score.
    gross
        Gross exposure, which is the net exposure too, of each session with a name.

    Returns
    -------
    ndarray
        Weights ``[ticker, session]``. Names with equal scores on the border share the places that are left.
    """
    values, known = _scored(scores, tradable)
    count = known.sum(axis=0)
    lower, upper, order = _tied_places(values, known)
    best = _shares(lower, upper, _places(count, quantiles))
    return _normalised(_by_ticker(best, order, known), above_zero("gross", gross))


def long_short(
    scores: ArrayLike, tradable: ArrayLike | None = None, *, quantiles: int = 5, gross: float = 1.0
) -> Floats:
    """The best ``1 / quantiles`` of the names long and the worst short, in equal parts: dollar-neutral.

    Parameters
    ----------
    scores, tradable
        As for :func:`long_only`.
    quantiles
        At least 2. With fewer names than quantiles one name is long and one short; a single name is not traded.
    gross
        Gross exposure of each session that trades: half of it long, half short.

    Returns
    -------
    ndarray
        Weights ``[ticker, session]``. Equal scores get equal weights: those on a border share its places. Where all
        scores are equal there is no best and no worst: nothing is held.
    """
    if quantiles < 2:
        raise ValueError(f"quantiles must be at least 2, not {quantiles}: a name cannot be long and short at once")
    values, known = _scored(scores, tradable)
    count = known.sum(axis=0)
    places = np.minimum(_places(count, quantiles), count // 2)
    lower, upper, order = _tied_places(values, known)
    # The same places counted from the other end: a group that is the n-th best is the n-th worst backwards.
    best, worst = _shares(lower, upper, places), _shares(count[:, None] - 1 - upper, count[:, None] - 1 - lower, places)
    return _normalised(_by_ticker(best - worst, order, known), above_zero("gross", gross))


def market_neutral(
    scores: ArrayLike, tradable: ArrayLike | None = None, *, betas: ArrayLike | None = None, gross: float = 1.0
) -> Floats:
    """Weights proportional to the scores above or below their mean: dollar-neutral, and beta-neutral given betas.

    With betas, the weights are the residuals of each session's regression of scores on a constant and beta: the book
    nearest to the scores that has neither net exposure nor beta. One outlier can take half the gross exposure: pass
    :func:`centred_ranks` of the scores where their size means little.

    Parameters
    ----------
    scores, tradable
        As for :func:`long_only`. Only distances between the scores of a session count, beside each other:
        ``a * scores + b`` with a > 0 gives the same book.
    betas
        Known at the close of each session ``[ticker, session]``, such as the feature ``beta_60``; a name with NaN is
        left out.
    gross
        Gross exposure of each session that trades: half of it long, half short.
    """
    values, known = _scored(scores, tradable)
    level = above_zero("gross", gross)
    if betas is None:
        return _normalised(_residual(values, known, _demeaned(values, known)), level)
    beta = gappy_matrix("betas", betas)
    same_shape(scores=values, betas=beta)
    known &= ~np.isnan(beta)
    centred, slope = _demeaned(values, known), _demeaned(beta, known)
    # Betas that differ by rounding only are constant: a dollar-neutral book is neutral to them already.
    slope = _residual(beta, known, slope)
    square = (slope**2).sum(axis=0)
    factor = np.divide((slope * centred).sum(axis=0), square, out=np.zeros_like(square), where=square > 0)
    return _normalised(_residual(values, known, _demeaned(centred - factor * slope, known)), level)


def centred_ranks(scores: ArrayLike, tradable: ArrayLike | None = None) -> Floats:
    """Ranks of the scores within each session, spread evenly over [-1, 1]; equal scores share their mean rank.

    Returns
    -------
    ndarray
        ``[ticker, session]``; NaN where there is no score; 0 for a single name.
    """
    values, known = _filled(scores, tradable)  # not scaled: the smallest scores would round to 0, and tie
    lower, upper, order = _tied_places(values, known)
    middle = (lower + upper) / 2
    count = known.sum(axis=0)
    ranks = _by_ticker(1 - 2 * middle / np.maximum(count[:, None] - 1, 1), order, known)
    return np.where(known, np.where(count == 1, 0.0, ranks), np.nan)


def _scored(scores: ArrayLike, tradable: ArrayLike | None) -> tuple[Floats, Mask]:
    """Scores scaled to at most 1 in each session (0 where there is none), and where there is one."""
    values, known = _filled(scores, tradable)
    largest = np.abs(values).max(axis=0)
    # By a power of two: exact, so that equal scores stay equal and the order stays what it is.
    return np.ldexp(values, -np.frexp(largest)[1]), known


def _filled(scores: ArrayLike, tradable: ArrayLike | None) -> tuple[Floats, Mask]:
    """Scores (0 where there is none), and where there is one."""
    values = gappy_matrix("scores", scores)
    known = mask("tradable", tradable, values.shape) & ~np.isnan(values)
    return np.where(known, values, 0.0), known


def _places(count: np.ndarray, quantiles: int) -> np.ndarray:
    if quantiles < 1:
        raise ValueError(f"quantiles must be at least 1, not {quantiles}")
    return np.maximum(count // quantiles, 1)


def _tied_places(values: Floats, known: Mask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and last place of each group of equal scores, best first, and who is in which place.

    All ``[session, place]``: the names of a session are sorted as one piece of memory.
    """
    negative = np.where(known, -values, np.inf).T.copy()
    order = np.argsort(negative, axis=1)  # not stable, and need not be: equal scores are treated alike
    ranked = np.take_along_axis(negative, order, axis=1)
    place = np.arange(len(values))
    new = np.ones(ranked.shape, dtype=bool)
    np.not_equal(ranked[:, 1:], ranked[:, :-1], out=new[:, 1:])
    if new.all():  # no ties: each place is a group
        whole = np.broadcast_to(place, ranked.shape)
        return whole, whole, order
    last = np.ones(ranked.shape, dtype=bool)
    last[:, :-1] = new[:, 1:]
    lower = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    upper = np.minimum.accumulate(np.where(last, place, len(values) - 1)[:, ::-1], axis=1)[:, ::-1]
    return lower, upper, order


def _shares(lower: np.ndarray, upper: np.ndarray, places: np.ndarray) -> Floats:
    """How much of one of the first ``places`` each name holds, in [0, 1]: equal scores share theirs equally."""
    held = np.minimum(upper + 1, places[:, None]) - np.minimum(lower, places[:, None])
    return held / (upper + 1 - lower)


def _by_ticker(ranked: Floats, order: np.ndarray, known: Mask) -> Floats:
    """From ``[session, place]`` back to ``[ticker, session]``; 0 where there is no score."""
    values = np.empty(ranked.shape)
    np.put_along_axis(values, order, ranked, axis=1)
    return np.where(known, values.T, 0.0)


def _demeaned(values: Floats, known: Mask) -> Floats:
    count = np.maximum(known.sum(axis=0), 1)
    return np.where(known, values - np.where(known, values, 0.0).sum(axis=0) / count, 0.0)


def _residual(values: Floats, known: Mask, residual: Floats) -> Floats:
    """What is left of values, without what is rounding beside their size: that would be blown up to a whole book."""
    size = np.abs(np.where(known, values, 0.0)).max(axis=0)
    return np.where(np.abs(residual).max(axis=0) > _ROUNDING * size, residual, 0.0)


def _normalised(weights: Floats, gross: float) -> Floats:
    total = np.abs(weights).sum(axis=0)
    return weights * np.divide(gross, total, out=np.zeros_like(total), where=total > 0)
