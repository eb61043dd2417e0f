"""GARCH(1,1) and its asymmetric form with Student's t: fitted ticker by ticker with ``arch``, filtered all together.

Source: Bollerslev (1987), A conditionally heteroskedastic time series model; Glosten, Jagannathan and Runkle (1993), On
the relation between the expected value and the volatility of the nominal excess return on stocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.risk.forecast import FitFailure
from financial_assets.scoring.distributions import student_t_quantile
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

_PERCENT = 100.0
_PATHS = 20_000
_SEED = 1
# Variance of the next session over the long-run one, between which the shape of the sum's distribution is interpolated.
_STATES = np.geomspace(0.1, 30.0, 9)
_MOST_PERSISTENT = 0.9999


@dataclass(frozen=True)
class Garch:
    """GARCH(1,1) of returns with mean 0 and Student's t.

    A mean is not estimated: of a few years of daily returns it is mostly noise. The distribution of the sum of several
    sessions has no closed form: it is simulated, with a fixed seed, at nine levels of today's variance for each ticker,
    and interpolated.

    Attributes
    ----------
    asymmetric
        Whether falls raise the variance more than rises (GJR).
    """

    asymmetric: bool = False

    def fit(self, past: RiskBars, usable: np.ndarray) -> tuple[GarchModel, Mapping[int, FitFailure]]:
        """Maximum likelihood, ticker by ticker."""
        parameters = np.full((len(past.tickers), 6), np.nan)
        failures: dict[int, FitFailure] = {}
        for place in np.flatnonzero(usable).tolist():
            row = past.returns[place]
            found = self._fit_one(row[~np.isnan(row)])
            if isinstance(found, FitFailure):
                failures[place] = found
            else:
                parameters[place] = found
        return GarchModel(*parameters.T), failures

    def _fit_one(self, returns: np.ndarray) -> np.ndarray | FitFailure:
        """Omega, alpha, gamma, beta, degrees of freedom and first variance, or why not."""
        from arch import arch_model

        model = arch_model(
            _PERCENT * returns, mean="Zero", vol="GARCH", p=1, o=int(self.asymmetric), q=1, dist="t", rescale=False
        )
        try:
            result = model.fit(disp="off", show_warning=False)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            return FitFailure("no convergence", f"the likelihood of {returns.size} returns broke off: {error}")
        if result.convergence_flag != 0:
            return FitFailure("no convergence", f"{returns.size} returns: {result.optimization_result.message}")
        found = result.params
        omega, alpha, beta, degrees = (float(found[name]) for name in ("omega", "alpha[1]", "beta[1]", "nu"))
        gamma = float(found["gamma[1]"]) if self.asymmetric else 0.0
        first = float(np.asarray(model.volatility.backcast(_PERCENT * returns)))
        values = np.array([omega / _PERCENT**2, alpha, gamma, beta, degrees, first / _PERCENT**2])
        if not (np.isfinite(values).all() and omega > 0 and degrees > 2):
            return FitFailure("no convergence", f"{returns.size} returns: parameters {values.tolist()}")
        return values


@dataclass(frozen=True, eq=False)
class GarchModel:
    """Parameters by ticker, each ``[ticker]``; NaN where not fitted.

    Attributes
    ----------
    omega, alpha, gamma, beta
        ``variance' = omega + (alpha + gamma [return < 0]) return ** 2 + beta variance``.
    degrees
        Of Student's t.
    first
        Variance before the first session, from the first returns as ``arch`` has it.
    """

    omega: np.ndarray
    alpha: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    degrees: np.ndarray
    first: np.ndarray

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``RiskModel``."""
        following = self.next_variance(bars.returns)
        volatility = np.sqrt(self._summed(following, horizon))
        quantiles = np.full((*volatility.shape, len(QUANTILE_LEVELS)), np.nan)
        for ticker in np.flatnonzero(np.isfinite(self.omega)).tolist():
            if horizon == 1:
                shape = self._student_quantiles(ticker)
            else:
                shape = self._simulated_quantiles(ticker, following[ticker], horizon)
            quantiles[ticker] = volatility[ticker, :, None] * shape
        return volatility, quantiles

    def next_variance(self, returns: np.ndarray) -> np.ndarray:
        """Variance of the session after each, from the returns up to it ``[ticker, session]``.

        A session without a return leaves the variance as it was.
        """
        state = self.omega + (self.alpha + self.gamma / 2 + self.beta) * self.first
        result = np.empty(returns.shape)
        for session, today in enumerate(returns.T):
            moved = self.omega + (self.alpha + self.gamma * (today < 0)) * today**2 + self.beta * state
            state = np.where(np.isnan(today), state, moved)
            result[:, session] = state
        return result

    @property
    def persistence(self) -> np.ndarray:
        """Share of an excess variance that is left after a session ``[ticker]``."""
        return self.alpha + self.gamma / 2 + self.beta

    def _summed(self, following: np.ndarray, horizon: int) -> np.ndarray:
        """Expected variance of the sum of the next sessions."""
        total, ahead = following.copy(), following
        for _ in range(horizon - 1):
            ahead = self.omega[:, None] + self.persistence[:, None] * ahead
            total += ahead
        return total

    def _student_quantiles(self, ticker: int) -> np.ndarray:
        degrees = float(self.degrees[ticker])
        unit = math.sqrt((degrees - 2) / degrees)
        return np.array([student_t_quantile(level, degrees) * unit for level in QUANTILE_LEVELS])

    def _simulated_quantiles(self, ticker: int, following: np.ndarray, horizon: int) -> np.ndarray:
        """Quantiles of the sum of the next sessions over its deviation ``[session, level]``."""
        omega, alpha, gamma, beta = (float(of[ticker]) for of in (self.omega, self.alpha, self.gamma, self.beta))
        degrees = float(self.degrees[ticker])
        usual = omega / (1 - min(float(self.persistence[ticker]), _MOST_PERSISTENT))
        states = usual * _STATES
        draws = np.random.default_rng(_SEED).standard_t(degrees, (horizon, _PATHS)) * math.sqrt((degrees - 2) / degrees)
        variance = np.repeat(states[:, None], _PATHS, axis=1)
        total = np.zeros(variance.shape)
        for shock in draws:
            moved = np.sqrt(variance) * shock
            total += moved
            variance = omega + (alpha + gamma * (moved < 0)) * moved**2 + beta * variance
        only = GarchModel(*(of[[ticker]] for of in self._columns()))
        deviation = np.sqrt(only._summed(states[None], horizon)[0])
        shapes = np.quantile(total, QUANTILE_LEVELS, axis=1) / deviation
        place = np.log(following)
        return np.stack([np.interp(place, np.log(states), shape) for shape in shapes], axis=1)

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.omega, self.alpha, self.gamma, self.beta, self.degrees, self.first
