"""Back-tests of the value at risk of a universe, and of outcomes that overlap.

Exceedances are ``[ticker, session]``: 1 where the outcome was beyond the value at risk, 0 where not, NaN where there is
no forecast or no outcome. On a bad day most tickers exceed theirs together: pooled rows reject a forecaster that is
right in every second test instead of every twentieth. The unit here is the session's share of exceedances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels
from financial_assets.scoring.autocorrelation import FEWEST_DAYS, cosines, long_run_covariance
from financial_assets.scoring.distributions import (
    bernoulli_log_likelihood,
    beta_quantile,
    f_tail,
    student_t_quantile,
    student_t_tail,
)
from financial_assets.scoring.intervals import Interval
from financial_assets.scoring.risk import (
    christoffersen_conditional_coverage,
    christoffersen_independence,
    kupiec_unconditional_coverage,
)


def exceedances(outcomes: ArrayLike, bounds: ArrayLike, *, upper: bool = False) -> NDArray[np.float64]:
    """Whether each outcome is beyond its bound: below it, or with ``upper`` above it; NaN where one is unknown.

    Parameters
    ----------
    outcomes, bounds
        Log returns and forecast quantiles of them, of one shape.
    """
    actual, bound = np.asarray(outcomes, np.float64), np.asarray(bounds, np.float64)
    if actual.shape != bound.shape:
        raise ValueError(f"shapes differ: outcomes {actual.shape}, bounds {bound.shape}")
    beyond = actual > bound if upper else actual < bound
    return np.where(np.isnan(actual) | np.isnan(bound), np.nan, beyond)


@dataclass(frozen=True, slots=True)
class UniverseCoverage:
    """Whether the value at risk of a whole universe is exceeded as often as promised, and at unpredictable times.

    Attributes
    ----------
    share
        Of the rows that exceed.
    effective_rows
        Independent rows that would know as much: far fewer than rows.
    coverage
        p-value of the frequency.
    independence
        p-value of the sessions' shares coming in clusters (or, two-sided, avoiding each other).
    sessions, rows
        With a known outcome.
    """

    share: float
    effective_rows: float
    coverage: float
    independence: float
    sessions: int
    rows: int

    def interval(self, level: float = 0.95) -> Interval:
        """The share with its interval, which allows for tickers and sessions that move together.

        Clopper and Pearson's at the effective rows, corrected for the degrees of freedom that these were estimated with
        (Korn and Graubard 1998, as in ``intervals.day_clustered_proportion``). Where no row or each row exceeds, every
        outcome that overlaps with no other counts once.
        """
        tail = (1 - levels("level", level)) / 2
        effective = self.effective_rows
        if 0 < self.share < 1:
            freedom = student_t_quantile(tail, self.rows - 1) / student_t_quantile(tail, cosines(self.sessions))
            effective = min(effective * freedom**2, self.rows)
        beyond, within = self.share * effective, (1 - self.share) * effective
        low = beta_quantile(tail, beyond, within + 1) if beyond > 0 else 0.0
        high = beta_quantile(1 - tail, beyond + 1, within) if within > 0 else 1.0
        return Interval(self.share, low, high, self.sessions, self.rows, level)

    @property
    def p_value(self) -> float:
        """Of both together, by Bonferroni: the universe's conditional coverage."""
        return min(2 * min(self.coverage, self.independence), 1.0)


def universe_coverage(exceeded: ArrayLike, rate: float, horizon: int = 1) -> UniverseCoverage:
    """Back-test of all tickers together.

    *Coverage* is Kupiec's likelihood ratio at the number of independent rows whose share would have the same variance
    (Korn and Graubard's 1998 effective sample size). That covers the dependence of tickers in a session and of sessions
    on each other. Its tail is F(1, ``autocorrelation.cosines``). *Independence* is the rank correlation of a session's
    share with that ``horizon`` sessions before. Ranks, because shares are so skewed that the product moments reject two
    or three times too often.

    Parameters
    ----------
    exceeded
        ``[ticker, session]``, see the module.
    rate
        Promised share.
    horizon
        Sessions of an outcome. Overlapping ones are split into ``horizon`` series that do not overlap, for
        independence; the smallest p-value counts, times their number.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than ``autocorrelation.FEWEST_DAYS`` sessions (in each series) with a known outcome.
    """
    hits = _matrix(exceeded)
    levels("rate", rate)
    series = _apart(hits, horizon)
    if min(len(_shares(one)) for one in series) < FEWEST_DAYS:
        raise ValueError(f"exceeded must hold {FEWEST_DAYS} sessions with a known outcome in each series: lengthen it")
    known = ~np.isnan(hits)
    inside = known.any(axis=0)
    counted, beyond = known.sum(axis=0)[inside], np.nansum(hits, axis=0)[inside]
    rows, sessions = int(counted.sum()), int(inside.sum())
    share = float(beyond.sum() / rows)
    # The share is a ratio of two sums: its error is that of the sum of what each session adds to it.
    error = float(long_run_covariance((beyond - share * counted)[:, None])[0, 0]) * sessions / rows**2
    certain = share in (0.0, 1.0)
    effective = sessions / horizon if certain or not error > 0 else min(share * (1 - share) / error, rows)
    right, wrong = share * effective, (1 - share) * effective
    ratio = 2 * (bernoulli_log_likelihood(right, wrong, share) - bernoulli_log_likelihood(right, wrong, rate))
    return UniverseCoverage(
        share=share,
        effective_rows=effective,
        coverage=f_tail(max(ratio, 0.0), 1, cosines(sessions)),
        independence=min(min(_rank_autocorrelation(_shares(one)) for one in series) * len(series), 1.0),
        sessions=sessions,
        rows=rows,
    )


@dataclass(frozen=True, slots=True)
class SeriesCoverage:
    """p-values of the back-tests of one ticker.

    Attributes
    ----------
    sessions, beyond
        With a known outcome, and those that exceed; overlapping outcomes each count.
    kupiec, independence, conditional
        Kupiec's frequency, Christoffersen's independence and conditional coverage.
    """

    sessions: int
    beyond: int
    kupiec: float
    independence: float
    conditional: float


def ticker_coverage(exceeded: ArrayLike, rate: float, horizon: int = 1) -> tuple[SeriesCoverage | None, ...]:
    """Back-tests of each ticker by itself; parameters as for ``universe_coverage``.

    Overlapping outcomes are split into ``horizon`` series that do not overlap; the smallest p-value counts, times
    ``horizon`` (Diebold, Gunther and Tay 1998, Evaluating density forecasts, section 3). The p-values are those of one
    ticker: adjust them for the number of tickers.

    Returns
    -------
    tuple
        One per ticker; ``None`` with fewer than two known outcomes in one of the series.
    """
    return tuple(_series_coverage(row, levels("rate", rate), horizon) for row in _matrix(exceeded))


def _series_coverage(row: NDArray[np.float64], rate: float, horizon: int) -> SeriesCoverage | None:
    series = [part[~np.isnan(part)] for part in _apart(row[None], horizon)]
    if min(part.size for part in series) < 2:
        return None
    known = row[~np.isnan(row)]

    def combined(p_values: list[float]) -> float:
        return min(min(p_values) * horizon, 1.0)

    return SeriesCoverage(
        sessions=known.size,
        beyond=int(known.sum()),
        kupiec=combined([kupiec_unconditional_coverage(part, rate).p_value for part in series]),
        independence=combined([christoffersen_independence(part).p_value for part in series]),
        conditional=combined([christoffersen_conditional_coverage(part, rate).p_value for part in series]),
    )


def _matrix(exceeded: ArrayLike) -> NDArray[np.float64]:
    hits = np.asarray(exceeded, np.float64)
    if hits.ndim != 2 or hits.size == 0:
        raise ValueError(f"exceeded must be [ticker, session], not of shape {hits.shape}")
    if not np.isin(hits[~np.isnan(hits)], (0.0, 1.0)).all():
        raise ValueError("exceeded must hold only 0, 1 and NaN")
    return hits


def _apart(hits: NDArray[np.float64], horizon: int) -> list[NDArray[np.float64]]:
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, not {horizon}")
    return [hits[:, start::horizon] for start in range(horizon)]


def _shares(hits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of exceedances of each session with a known outcome."""
    known = ~np.isnan(hits)
    inside = known.any(axis=0)
    return np.nansum(hits, axis=0)[inside] / known.sum(axis=0)[inside]


def _rank_autocorrelation(shares: NDArray[np.float64]) -> float:
    """p-value of the correlation of the ranks of neighbours; 1 where all shares are equal."""
    from scipy import stats

    ranks = np.asarray(stats.rankdata(shares), np.float64)
    before, after = ranks[:-1] - ranks[:-1].mean(), ranks[1:] - ranks[1:].mean()
    spread = float(np.sqrt((before @ before) * (after @ after)))
    if not spread > 0:
        return 1.0
    correlation = min(max(float(before @ after) / spread, -1 + 1e-12), 1 - 1e-12)
    degrees = len(before) - 2
    return 2 * student_t_tail(abs(correlation) * (degrees / (1 - correlation**2)) ** 0.5, degrees)
