"""Sizing: how much of each name a book holds, and how much of the capital all of it takes.

Every function takes weights ``[ticker, session]`` and gives weights of the same signs. What they need must be known at
the close of the session of the decision; :func:`volatility_target` sees to that itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from financial_assets.market import calendar
from financial_assets.portfolio.arguments import Floats, above_zero, finite_matrix, gappy_matrix, mask
from financial_assets.scoring.arguments import levels, same_shape
from financial_assets.scoring.distributions import normal_quantile, normal_quantiles

_ROUNDING = 1e-9
"""Net exposure below this share of the gross exposure is rounding."""

_KNOWN_AFTER = 2
"""Sessions from a decision to the close at which its return is known: it ends at the open of t+2."""


def equal(weights: ArrayLike) -> Floats:
    """Every name of a side with the same weight; long and short exposure stay what they are in each session."""
    book = finite_matrix("weights", weights)
    return _with_exposure_of(book, np.sign(book))


def inverse_volatility(weights: ArrayLike, volatility: ArrayLike) -> Floats:
    """Weights divided by the volatility of their name; long and short exposure stay what they are in each session.

    Of names that do not move together, each then adds the same risk. Beta-neutrality is not kept.

    Parameters
    ----------
    weights
        ``[ticker, session]``.
    volatility
        Forecast at the close ``[ticker, session]``, above 0, in any unit that is the same for all names. A name with
        NaN has no forecast and gets no weight; a book with two sides of which one has no forecast at all holds nothing.
    """
    book, risk = finite_matrix("weights", weights), gappy_matrix("volatility", volatility)
    same_shape(weights=book, volatility=risk)
    if np.any(risk <= 0):
        raise ValueError("volatility must be above 0 (or NaN)")
    return _with_exposure_of(book, np.where(np.isnan(risk), 0.0, book / risk))


def fractional_kelly(
    probability_up: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    tradable: ArrayLike | None = None,
    *,
    range_level: float = 0.9,
    fraction: float = 0.5,
    cap: float = 0.1,
) -> Floats:
    """A share of the weight that makes capital grow fastest, from the chance of a gain and the expected range.

    Kelly's weight of a normal return is ``mean / variance`` (Thorp 2006, The Kelly criterion in blackjack, sports
    betting and the stock market, section 7). The range gives the standard deviation s, and the probability gives the
    mean ``s * z(probability)``: so it is ``z(probability) / s``, thousands of per cent for a daily bet at 52 %. That
    takes the probability as known. It is estimated, and names move together, which bets on each alone ignore: hence a
    fraction and a cap.

    Parameters
    ----------
    probability_up
        ``[ticker, session]`` strictly between 0 and 1; NaN: no answer, no weight.
    low, high
        The expected range of the return, such as its 5 % and 95 % quantiles ``[ticker, session]``, ``low < high``.
    tradable
        Booleans ``[ticker, session]``; default: all.
    range_level
        Probability of the range: 0.9 between the 5 % and 95 % quantiles.
    fraction
        Of Kelly's weight, above 0 and at most 1.
    cap
        Largest absolute weight of a name, above 0.

    Returns
    -------
    ndarray
        Weights; gross exposure is what they add up to, at most ``cap`` times the number of names: see
        :func:`cap_gross`.
    """
    probability, lower, upper = (
        gappy_matrix(n, v) for n, v in (("probability_up", probability_up), ("low", low), ("high", high))
    )
    same_shape(probability_up=probability, low=lower, high=upper)
    if np.any((probability <= 0) | (probability >= 1)):
        raise ValueError("probability_up must lie strictly between 0 and 1: a certain bet has no Kelly weight")
    if np.any(lower >= upper):
        raise ValueError("low must be below high")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, not {fraction}")
    deviation = (upper - lower) / (2 * normal_quantile(0.5 + levels("range_level", range_level) / 2))
    known = mask("tradable", tradable, probability.shape) & ~np.isnan(probability) & ~np.isnan(deviation)
    kelly = normal_quantiles(np.where(known, probability, 0.5)) / np.where(known, deviation, 1.0)
    most = above_zero("cap", cap)
    return np.clip(fraction * kelly, -most, most)


def kelly_of_book(weights: ArrayLike, kelly: ArrayLike) -> Floats:
    """Kelly's weights of the names that a book holds, where both are on the same side.

    The gross exposure is Kelly's, and no longer that of the book. A session in which the book is dollar-neutral stays
    so: its larger side is cut, name by name in proportion, to the smaller one.

    Parameters
    ----------
    weights
        The book ``[ticker, session]``.
    kelly
        From :func:`fractional_kelly` ``[ticker, session]``.
    """
    book, wanted = finite_matrix("weights", weights), finite_matrix("kelly", kelly)
    same_shape(weights=book, kelly=wanted)
    kept = np.where(np.sign(book) == np.sign(wanted), wanted, 0.0)
    is_neutral = np.abs(book.sum(axis=0)) <= _ROUNDING * np.abs(book).sum(axis=0)
    long, short = (np.maximum(side * kept, 0.0).sum(axis=0) for side in (1, -1))
    smaller = np.minimum(long, short)
    for side, whole in ((1, long), (-1, short)):
        share = np.divide(smaller, whole, out=np.ones_like(whole), where=whole > 0)
        kept = np.where(is_neutral & (side * kept > 0), kept * share, kept)
    return kept


def cap_gross(weights: ArrayLike, most: float) -> Floats:
    """Weights scaled down in sessions whose gross exposure would exceed ``most``."""
    book = finite_matrix("weights", weights)
    gross = np.abs(book).sum(axis=0)
    return book * np.minimum(np.divide(above_zero("most", most), gross, out=np.ones_like(gross), where=gross > 0), 1.0)


def cap_names(weights: ArrayLike, most: float) -> Floats:
    """Absolute weights of at most ``most``; long and short exposure keep their proportion.

    What is cut off one side is cut off the other, name by name in proportion, and stays in cash: a dollar-neutral book
    stays so, with less gross exposure.
    """
    book, limit = finite_matrix("weights", weights), above_zero("most", most)
    cut = np.clip(book, -limit, limit)
    long_share, short_share = _kept(cut, book, 1), _kept(cut, book, -1)
    smaller = np.minimum(long_share, short_share)
    return cut * np.where(cut > 0, smaller / long_share, smaller / short_share)


def volatility_target(
    weights: ArrayLike,
    traded_returns: ArrayLike,
    target: float,
    *,
    half_life: float = 30.0,
    warm_up: int = 20,
    most: float = 2.0,
) -> Floats:
    """Weights scaled in each session so that the book's forecast volatility is ``target``.

    The forecast is an exponentially weighted mean of the squared returns, before costs, of the unscaled book (as in
    RiskMetrics 1996). A return is used from the close at which it is known: that of the decision of session t ends at
    the open of t+2.

    Parameters
    ----------
    weights
        The unscaled book ``[ticker, session]``.
    traded_returns
        Returns from the open of t+1 to that of t+2 ``[ticker, session]``; NaN where none was earned.
    target
        Volatility per year, above 0.
    half_life
        Sessions after which a squared return counts half.
    warm_up
        Known returns of the book, not 0, that a forecast takes, at least 1: until then nothing is held.
    most
        Largest factor.
    """
    book, returns = finite_matrix("weights", weights), gappy_matrix("traded_returns", traded_returns)
    same_shape(weights=book, traded_returns=returns)
    daily = above_zero("target", target) / calendar.sessions_per_year() ** 0.5
    if warm_up < 1:
        raise ValueError(f"warm_up must be at least 1, not {warm_up}")
    largest = above_zero("most", most)
    decay = 0.5 ** (1 / above_zero("half_life", half_life))
    earned = (book * np.nan_to_num(returns, nan=0.0)).sum(axis=0)
    factor = np.zeros(book.shape[1])
    squares, mass, count = 0.0, 0.0, 0
    for t in range(_KNOWN_AFTER, book.shape[1]):
        latest = float(earned[t - _KNOWN_AFTER])
        if latest != 0:  # a session in which nothing was held says nothing about the book's risk
            squares, mass, count = decay * squares + latest**2, decay * mass + 1, count + 1
        if count >= warm_up:
            factor[t] = min(daily / (squares / mass) ** 0.5, largest)
    return book * factor


def _with_exposure_of(book: Floats, sized: Floats) -> Floats:
    """``sized`` with the long and short exposure of ``book``; nothing where one of two sides is gone."""
    whole = np.ones(book.shape[1], dtype=bool)
    scale = np.zeros_like(book)
    for side in (1, -1):
        wanted, there = (np.maximum(side * weights, 0.0).sum(axis=0) for weights in (book, sized))
        whole &= (wanted == 0) | (there > 0)
        factor = np.divide(wanted, there, out=np.zeros_like(there), where=there > 0)
        scale += np.where(side * sized > 0, factor, 0.0)
    return np.where(whole, sized * scale, 0.0)


def _kept(cut: Floats, book: Floats, side: int) -> Floats:
    """Share of one side's exposure that is left ``[session]``; 1 for a side that was never there."""
    left, before = (np.maximum(side * weights, 0.0).sum(axis=0) for weights in (cut, book))
    return np.divide(left, before, out=np.ones_like(left), where=before > 0)
