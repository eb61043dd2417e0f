"""The forecasters without a likelihood, and HAR, against what they are defined as."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from financial_assets.errors import TrainingError
from financial_assets.features.bars import VOLATILITY_FLOOR
from financial_assets.models.baselines.fitted import HISTORY
from financial_assets.models.risk.bars import HORIZONS, RiskBars
from financial_assets.models.risk.forecast import FittedRisk, RiskForecast, scaled_quantiles
from financial_assets.models.risk.har import Har
from financial_assets.models.risk.registry import fit_forecasters
from financial_assets.models.risk.simple import Ewma
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from tests.models.risk import worlds

CUT = 600


@pytest.fixture(scope="module")
def bars() -> RiskBars:
    """One ticker has a halt before the cut-off and one after it."""
    panel = worlds.heterogeneous(4, 720).panel
    valid = panel.valid.copy()
    valid[0, 300:303] = False
    valid[0, CUT + 50] = False
    return RiskBars.of(replace(panel, valid=valid))


def forecast(bars: RiskBars, name: str, horizon: int) -> RiskForecast:
    return fit_forecasters(bars, bars.sessions[CUT], [name])[name].forecast(bars, horizon)


def known(outcome: np.ndarray) -> np.ndarray:
    """Only outcomes that are over by the cut-off."""
    return outcome[:, : CUT + 1]


@pytest.mark.parametrize("horizon", HORIZONS)
def test_riskmetrics_is_normal_and_grows_with_the_root_of_time(bars: RiskBars, horizon: int) -> None:
    found = forecast(bars, "ewma", horizon)
    traded = np.isfinite(bars.returns)[:, CUT:]
    assert found.volatility[:, CUT:][traded] == pytest.approx((bars.ewma * horizon**0.5)[:, CUT:][traded])
    shape = found.quantiles[:, CUT:][traded] / found.volatility[:, CUT:][traded][:, None]
    assert shape == pytest.approx(np.tile(stats.norm.ppf(QUANTILE_LEVELS), (len(shape), 1)))


@pytest.mark.parametrize("name", ["filtered", "har"])
@pytest.mark.parametrize("horizon", HORIZONS)
def test_scaled_outcomes_of_the_past_are_standard(bars: RiskBars, name: str, horizon: int) -> None:
    """In the fit, outcomes in units of the volatility have a root mean square of 1, and the forecast quantiles."""
    one = fit_forecasters(bars, bars.sessions[CUT], [name])[name]
    volatility, quantiles = one.model.predict(bars, horizon)
    past = known(bars.until(bars.sessions[CUT]).outcomes(horizon))
    scaled = past / known(volatility)
    assert np.nanmean(scaled**2) == pytest.approx(1)
    outcomes = scaled[np.isfinite(scaled)]
    assert quantiles[2, CUT] / volatility[2, CUT] == pytest.approx(np.quantile(outcomes, QUANTILE_LEVELS))


@pytest.mark.parametrize("horizon", HORIZONS)
def test_har_is_least_squares_with_a_level_of_each_ticker(bars: RiskBars, horizon: int) -> None:
    past = bars.until(bars.sessions[CUT])
    rows, targets = [], []
    for ticker, variance in enumerate(past.variance):
        carried = variance.copy()
        for session in np.flatnonzero(np.isnan(carried[1:])) + 1:
            carried[session] = carried[session - 1]
        for session in range(22, CUT + 1 - horizon):
            ahead = variance[session + 1 : session + 1 + horizon]
            if np.isfinite(ahead).all() and np.isfinite(variance[session]):
                terms = [np.log(carried[session - term + 1 : session + 1].mean()) for term in (1, 5, 22)]
                rows.append([*terms, *(np.arange(4) == ticker)])
                targets.append(np.log(ahead.mean()))
    expected = sm.OLS(np.array(targets), np.array(rows, dtype=float)).fit().params
    model, failures = Har().fit(past, np.ones(4, dtype=bool))
    own = model.horizons[horizon]
    assert failures == {}
    assert own.slopes == pytest.approx(expected[:3], rel=1e-6)
    assert own.levels == pytest.approx(expected[3:], rel=1e-6)
    terms = [np.log(bars.variance[1, CUT + 1 - term : CUT + 1].mean()) for term in (1, 5, 22)]
    mean_variance = np.exp(np.dot(expected[:3], terms) + expected[4])
    volatility, _ = model.predict(bars, horizon)
    assert volatility[1, CUT] == pytest.approx((mean_variance * horizon) ** 0.5 * own.scale, rel=1e-6)
    assert 1 < own.scale < 1.3, "the range of few steps and the mean of the log are too low"


def test_historical_quantiles_are_those_of_the_last_known_sums(bars: RiskBars) -> None:
    found, session = forecast(bars, "historical", 5), CUT + 20
    sums = np.array(
        [bars.returns[:, end - 4 : end + 1].sum(axis=1) for end in range(session - HISTORY + 1, session + 1)]
    )
    for ticker in (0, 1):
        own = sums[~np.isnan(sums[:, ticker]), ticker]
        assert own.size == (HISTORY if ticker else HISTORY - 7), "the halt of three sessions is in seven sums"
        assert found.quantiles[ticker, session] == pytest.approx(np.quantile(own, QUANTILE_LEVELS))
        assert found.volatility[ticker, session] == pytest.approx(own.std())


class Nothing(Ewma):
    """Expects no risk at all."""

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        volatility, quantiles = super().predict(bars, horizon)
        return 0 * volatility, 0 * quantiles


def test_no_volatility_is_below_the_floor(bars: RiskBars) -> None:
    found = FittedRisk("nothing", bars.sessions[CUT], bars.tickers, {}, Nothing()).forecast(bars, 1)
    assert (found.volatility[1:, CUT:] == VOLATILITY_FLOOR).all()


def test_too_few_outcomes_for_quantiles_say_what_to_change() -> None:
    with pytest.raises(TrainingError, match="set an earlier INGESTION_START_DATE"):
        scaled_quantiles(np.ones((2, 124)), np.ones((2, 124)))
    assert scaled_quantiles(np.ones((2, 125)), np.ones((2, 125))).tolist() == [1] * 5
