"""Does a forecast of the direction know more than how often prices rise? The tests of Pesaran and Timmermann.

All ask whether forecast and outcome are independent, which a forecaster that always says "up" passes whatever its
accuracy. For one series: ``pesaran_timmermann`` where days are independent, ``pesaran_timmermann_serial`` where they
are not. For many tickers of the same days only ``timing_by_day`` is honest: a day on which all rise is nearly one
observation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import outcomes, same_shape
from financial_assets.scoring.distributions import chi_square_tail, normal_probability
from financial_assets.scoring.intervals import Interval, day_jackknife_of_sums
from financial_assets.scoring.risk import BackTest


def pesaran_timmermann(said_up: ArrayLike, went_up: ArrayLike) -> BackTest:
    """Whether the direction is right more often than independent forecasts of the same frequency would be.

    Parameters
    ----------
    said_up, went_up
        0/1 or booleans ``[n]``, of one series whose days are independent.

    Returns
    -------
    BackTest
        ``statistic`` is standard normal when nothing is known, positive with skill; ``p_value`` is one-sided.

    Raises
    ------
    ValueError
        Bad arguments, or forecasts or outcomes that never change: nothing could be known of their dependence.

    Source: Pesaran and Timmermann (1992), A simple nonparametric test of predictive performance, equation 6.
    """
    said, up = _pair(said_up, went_up)
    share_said, share_up, days = float(said.mean()), float(up.mean()), said.size
    hit = float((said == up).mean())
    chance = share_up * share_said + (1 - share_up) * (1 - share_said)
    of_hit = chance * (1 - chance)
    of_chance = (2 * share_up - 1) ** 2 * share_said * (1 - share_said) + (2 * share_said - 1) ** 2 * share_up * (
        1 - share_up
    )
    of_chance += 4 * share_up * share_said * (1 - share_up) * (1 - share_said) / days
    if not of_hit > of_chance:
        raise ValueError(f"{days} days are too few for forecasts that say up on a share of {share_said:.3g} of them")
    statistic = (hit - chance) / ((of_hit - of_chance) / days) ** 0.5
    return BackTest(statistic, normal_probability(-statistic))


def pesaran_timmermann_serial(said_up: ArrayLike, went_up: ArrayLike, lags: int = 1) -> BackTest:
    """The same question for days that depend on each other; parameters as for ``pesaran_timmermann``.

    The squared correlation of forecast and outcome after the last ``lags`` days of both are taken out of each, times
    the days. Chi-square(1), two-sided: skill and its opposite both reject.

    Parameters
    ----------
    lags
        Days back, at least 1. Outcomes that overlap over h sessions depend on h - 1 of them.

    Source: Pesaran and Timmermann (2009), Testing dependence among serially correlated multicategory variables, section
    3: the dynamically augmented trace test, here for two categories.
    """
    said, up = _pair(said_up, went_up)
    if lags < 1 or said.size <= 4 * lags + 2:
        raise ValueError(f"lags must be at least 1 and well below the number of days, not {lags} of {said.size}")
    both = np.stack([said, up], axis=1).astype(np.float64)
    past = [both[lags - lag : -lag] for lag in range(1, lags + 1)]
    design = np.concatenate([np.ones((len(both) - lags, 1)), *past], axis=1)
    now = both[lags:]
    left = now - design @ np.linalg.lstsq(design, now, rcond=None)[0]
    spread = np.sqrt((left**2).sum(axis=0))
    if not spread.min() > 1e-9 * len(left) ** 0.5:
        raise ValueError("the last days say all about forecasts or outcomes: nothing is left to be dependent")
    correlation = float(left[:, 0] @ left[:, 1] / spread.prod())
    statistic = len(left) * correlation**2
    return BackTest(statistic, chi_square_tail(statistic, 1))


def timing_by_day(said_up: ArrayLike, went_up: ArrayLike, days: ArrayLike, level: float = 0.95) -> Interval:
    """Hit rate minus the one of independent forecasts, over all rows of many tickers, clustered by day.

    The numerator of ``pesaran_timmermann`` with the interval of ``day_jackknife``: it spans 0 where nothing is known.

    Parameters
    ----------
    said_up, went_up
        0/1 or booleans ``[n]``, rows of any tickers.
    days
        The day of each row ``[n]``; ``autocorrelation.day_blocks`` of them where outcomes overlap.
    level
        Confidence.
    """
    said, up = outcomes("said_up", said_up), outcomes("went_up", went_up)
    same_shape(said_up=said, went_up=up)
    columns = np.stack([np.ones(said.size), said, up, said == up], axis=1)
    return day_jackknife_of_sums(_excess, columns, days, level)


def _excess(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, said, up, right = sums.T
    said, up = said / rows, up / rows
    return right / rows - said * up - (1 - said) * (1 - up)


def _pair(said_up: ArrayLike, went_up: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    said, up = outcomes("said_up", said_up), outcomes("went_up", went_up)
    same_shape(said_up=said, went_up=up)
    for name, values in (("said_up", said), ("went_up", up)):
        if values.all() or not values.any():
            raise ValueError(f"{name} never changes: nothing can be known of its dependence on the other")
    return said, up
