"""The filter against ``arch``, and the distribution of several sessions against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arch import arch_model

from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.risk.forecast import FitFailure
from financial_assets.models.risk.garch import Garch, GarchModel
from financial_assets.models.risk.registry import fit_forecasters
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from tests.models.risk import worlds

CUT = 700


@pytest.fixture(scope="module")
def bars() -> RiskBars:
    return worlds.garch(3, 900, gamma=0.1).bars


@pytest.mark.parametrize("asymmetric", [False, True])
def test_variances_are_those_of_arch_with_the_same_parameters(bars: RiskBars, asymmetric: bool) -> None:
    model, failures = Garch(asymmetric).fit(bars.until(bars.sessions[CUT]), np.ones(3, dtype=bool))
    assert isinstance(model, GarchModel)
    assert failures == {}
    found = np.sqrt(model.predict(bars, 1)[0] ** 2)
    for ticker, row in enumerate(bars.returns[:, 1:]):
        kind = {"mean": "Zero", "vol": "GARCH", "p": 1, "o": int(asymmetric), "q": 1, "dist": "t", "rescale": False}
        own = arch_model(100 * row, **kind).fit(last_obs=CUT, disp="off", show_warning=False)
        everything = arch_model(100 * row, **kind).fix(own.params)
        assert found[ticker, 1:-1] == pytest.approx(everything.conditional_volatility[1:] / 100, rel=1e-6)
        ahead = own.forecast(horizon=5, start=CUT - 1, reindex=False).variance.iloc[0].to_numpy() / 1e4
        total, _ = model.predict(bars, 5)
        assert total[ticker, CUT] == pytest.approx(np.sqrt(ahead.sum()), rel=1e-6)


def test_one_session_ahead_quantiles_are_those_of_arch(bars: RiskBars) -> None:
    one = fit_forecasters(bars, bars.sessions[CUT], ["garch"])["garch"]
    found = one.forecast(bars, 1)
    assert isinstance(one.model, GarchModel)
    distribution = arch_model(bars.returns[0, 1:], dist="t", rescale=False).distribution
    shape = distribution.ppf(np.array(QUANTILE_LEVELS), [float(one.model.degrees[0])])
    assert found.quantiles[0, CUT] / found.volatility[0, CUT] == pytest.approx(shape)


@pytest.mark.parametrize("state", [0.3, 1.0, 4.0])
def test_the_sum_of_five_sessions_is_distributed_as_simulated_from_that_state(bars: RiskBars, state: float) -> None:
    """From multiples of the usual variance that are not on the grid, with other random numbers."""
    alpha, gamma, beta, degrees, usual = 0.04, 0.1, 0.88, 6.0, 4e-4
    omega = usual * (1 - alpha - gamma / 2 - beta)
    random, variance = np.random.default_rng(9), np.full(400_000, state * usual)
    total = np.zeros(variance.size)
    for _ in range(5):
        moved = np.sqrt(variance) * random.standard_t(degrees, variance.size) * ((degrees - 2) / degrees) ** 0.5
        total += moved
        variance = omega + (alpha + gamma * (moved < 0)) * moved**2 + beta * variance
    # Without a return the variance stays where the one before the first session led to.
    first = (state * usual - omega) / (alpha + gamma / 2 + beta)
    model = GarchModel(*np.array([[omega], [alpha], [gamma], [beta], [degrees], [first]]))
    deviation, quantiles = model.predict(replace(bars, returns=np.full((1, 1), np.nan)), 5)
    assert deviation[0, 0] == pytest.approx(total.std(), rel=0.01)
    assert quantiles[0, 0] / deviation[0, 0] == pytest.approx(
        np.quantile(total, QUANTILE_LEVELS) / total.std(), rel=0.03, abs=0.02
    )


def test_a_likelihood_without_a_maximum_is_named(bars: RiskBars, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        convergence_flag = 9
        optimization_result = type("Result", (), {"message": "Iteration limit reached"})

    import arch.univariate.base as base

    real, seen = base.ARCHModel.fit, []

    def stuck(model, *args, **kwargs):
        seen.append(model)
        if len(seen) == 1:
            return Stuck
        if len(seen) == 2:
            raise np.linalg.LinAlgError("singular")
        return real(model, *args, **kwargs)

    monkeypatch.setattr(base.ARCHModel, "fit", stuck)
    one = fit_forecasters(bars, bars.sessions[CUT], ["garch"])["garch"]
    assert one.failures == {
        "T00": FitFailure("no convergence", "700 returns: Iteration limit reached"),
        "T01": FitFailure("no convergence", "the likelihood of 700 returns broke off: singular"),
    }
    found = one.forecast(bars, 5)
    assert np.isnan(found.volatility[:2]).all()
    assert np.isfinite(found.quantiles[2, CUT:]).all()
