"""What all forecasters of risk share: shapes, no look into the future, tickers that cannot be fitted, coverage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import TrainingError
from financial_assets.models.risk.bars import HORIZONS, RiskBars, trailing_mean
from financial_assets.models.risk.forecast import FEWEST_RETURNS, FitFailure, FittedRisk, RiskForecaster, fit
from financial_assets.models.risk.registry import RISK_FORECASTERS, fit_forecasters
from financial_assets.models.risk.simple import Ewma
from financial_assets.scoring.comparison import daily_means, diebold_mariano, model_confidence_set
from financial_assets.scoring.coverage import exceedances, universe_coverage
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from financial_assets.scoring.volatility import qlike_losses
from tests.models.risk import worlds

CUT, SESSIONS = 600, 700


@pytest.fixture(scope="module")
def world() -> worlds.World:
    return worlds.garch(4, SESSIONS)


@pytest.fixture(scope="module")
def bars(world: worlds.World) -> RiskBars:
    return world.bars


@pytest.fixture(scope="module")
def fitted(bars: RiskBars) -> Mapping[str, FittedRisk]:
    return fit_forecasters(bars, bars.sessions[CUT])


@pytest.mark.parametrize("name", RISK_FORECASTERS)
@pytest.mark.parametrize("horizon", HORIZONS)
def test_forecasts_are_sane_from_the_cutoff_on_and_absent_before(
    fitted: Mapping[str, FittedRisk], bars: RiskBars, name: str, horizon: int
) -> None:
    found = fitted[name].forecast(bars, horizon)
    assert found.volatility.shape == (4, SESSIONS)
    assert found.quantiles.shape == (4, SESSIONS, len(QUANTILE_LEVELS))
    assert np.isnan(found.volatility[:, :CUT]).all()
    assert np.isnan(found.quantiles[:, :CUT]).all()
    later = found.quantiles[:, CUT:]
    assert (np.diff(later, axis=-1) > 0).all(), "quantiles rise"
    ratio = (later[..., 3] - later[..., 1]) / found.volatility[:, CUT:]
    assert ((ratio > 2.3) & (ratio < 4.5)).all(), "90 % of the outcomes lie within 3.3 volatilities or so"
    assert fitted[name].failures == {}


def changed_after(world: worlds.World, session: int, seed: int = 1) -> worlds.World:
    """Other prices, and other volatility, after a session."""
    values = world.panel.values.copy()
    shape = values[:, :4, session + 1 :].shape
    factor = np.random.default_rng(seed).uniform(0.7, 1.4, (shape[0], 1, shape[2]))
    values[:, :4, session + 1 :] *= factor.astype(np.float32)
    return replace(world, panel=replace(world.panel, values=values))


def leaks(name: str, forecaster: RiskForecaster, world: worlds.World) -> list[str]:
    """What moves although it lies before the change: parameters, or forecasts."""
    found: list[str] = []
    bars = world.bars
    before = fit(name, forecaster, bars, bars.sessions[CUT])
    for at in (CUT, CUT + 1, CUT + 37):
        other = changed_after(world, at).bars
        again = fit(name, forecaster, other, bars.sessions[CUT])
        for horizon in HORIZONS:
            same = before.forecast(bars, horizon)
            for fitting, model in (("parameters", before), ("forecasts", again)):
                now = model.forecast(other, horizon)
                for matrix in ("volatility", "quantiles"):
                    past = (slice(None), slice(at + 1))
                    if not np.array_equal(getattr(same, matrix)[past], getattr(now, matrix)[past], equal_nan=True):
                        found.append(f"{fitting} {matrix} {horizon} {at}")
            if np.array_equal(same.volatility[:, at + 2 :], again.forecast(other, horizon).volatility[:, at + 2 :]):
                found.append(f"the change after {at} changed nothing: no test")
    return found


@pytest.mark.parametrize("name", RISK_FORECASTERS)
def test_nothing_before_a_change_knows_of_it(world: worlds.World, name: str) -> None:
    assert leaks(name, RISK_FORECASTERS[name], world) == []


@dataclass(frozen=True)
class Centred(Ewma):
    """A planted mistake: smooths over the next session, too."""

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        smooth = np.roll(trailing_mean(bars.ewma, 3), -1, axis=1)
        return smooth, smooth[..., None] * np.arange(-2.0, 3.0)


@dataclass(frozen=True)
class WholeSample(Ewma):
    """A planted mistake: quantiles of all returns it is shown, also the later ones."""

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        volatility, _ = super().predict(bars, horizon)
        shape = np.nanquantile(bars.returns / np.nanstd(bars.returns), QUANTILE_LEVELS)
        return volatility, volatility[..., None] * shape


@dataclass(frozen=True)
class Peeking(Ewma):
    """A planted mistake: fitted on prices that it was not given."""

    everything: RiskBars | None = None

    def fit(self, past: RiskBars, usable: np.ndarray) -> tuple[Ewma, Mapping[int, FitFailure]]:
        assert self.everything is not None
        return Scaled(float(np.nanstd(self.everything.returns))), {}


@dataclass(frozen=True)
class Scaled(Ewma):
    factor: float = 1.0

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        volatility, quantiles = super().predict(bars, horizon)
        return self.factor * volatility, quantiles


@pytest.mark.parametrize("planted", [Centred(), WholeSample()])
def test_planted_looks_into_the_future_are_seen(world: worlds.World, planted: RiskForecaster) -> None:
    assert any("forecasts" in one for one in leaks("planted", planted, world))


def test_a_fit_on_the_future_is_seen(world: worlds.World, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[RiskBars] = []
    whole = RiskBars.until
    monkeypatch.setattr(RiskBars, "until", lambda bars, cutoff: shown.append(bars) or whole(bars, cutoff))

    class Shown(Peeking):
        def fit(self, past: RiskBars, usable: np.ndarray) -> tuple[Ewma, Mapping[int, FitFailure]]:
            return replace(Peeking(), everything=shown[-1]).fit(past, usable)

    assert any("forecasts volatility" in one for one in leaks("planted", Shown(), world))


def test_tickers_that_cannot_be_fitted_are_named_and_the_rest_goes_on(world: worlds.World) -> None:
    values, valid = world.panel.values.copy(), world.panel.valid.copy()
    values[1, :4, :] = np.float32(50.0)
    valid[2, : CUT + 2 - FEWEST_RETURNS] = False
    bars = RiskBars.of(replace(world.panel, values=values, valid=valid))
    for name, one in fit_forecasters(bars, bars.sessions[CUT]).items():
        reasons = {ticker: failure.reason for ticker, failure in one.failures.items()}
        assert reasons == {"T01": "flat prices", "T02": "too few returns"}, name
        assert str(one.failures["T02"]) == f"too few returns: {FEWEST_RETURNS - 1} known, {FEWEST_RETURNS} are needed"
        for horizon in HORIZONS:
            found = one.forecast(bars, horizon)
            assert np.isnan(found.volatility[[1, 2]]).all()
            assert np.isnan(found.quantiles[[1, 2]]).all()
            assert np.isfinite(found.volatility[[0, 3], CUT:]).all()
            assert np.isfinite(found.quantiles[[0, 3], CUT:]).all()


def test_prices_that_stop_moving_after_the_fit_keep_a_volatility_above_zero(
    world: worlds.World, fitted: Mapping[str, FittedRisk]
) -> None:
    values = world.panel.values.copy()
    values[0, :4, CUT:] = values[0, 3, CUT]
    bars = RiskBars.of(replace(world.panel, values=values))
    for name, one in fitted.items():
        for horizon in HORIZONS:
            found = one.forecast(bars, horizon)
            assert (found.volatility[:, CUT:] >= 1e-4).all(), name
            assert np.isfinite(found.quantiles[:, CUT:]).all(), name


def test_a_halted_session_gets_no_forecast_and_the_state_goes_on(
    world: worlds.World, fitted: Mapping[str, FittedRisk]
) -> None:
    valid = world.panel.valid.copy()
    valid[0, CUT + 10 : CUT + 13] = False
    bars = RiskBars.of(replace(world.panel, valid=valid))
    for name, one in fitted.items():
        for horizon in HORIZONS:
            silent = np.isnan(one.forecast(bars, horizon).volatility[:, CUT:])
            assert np.argwhere(silent).tolist() == [[0, 10], [0, 11], [0, 12]], name


def test_one_ticker_with_just_enough_returns_is_fitted_by_all() -> None:
    bars = worlds.garch(1, FEWEST_RETURNS + 20).bars
    for name, one in fit_forecasters(bars, bars.sessions[FEWEST_RETURNS]).items():
        for horizon in HORIZONS:
            assert np.isfinite(one.forecast(bars, horizon).volatility[:, FEWEST_RETURNS:]).all(), name


def test_what_cannot_be_forecast_says_what_to_change(bars: RiskBars, fitted: Mapping[str, FittedRisk]) -> None:
    with pytest.raises(TrainingError, match="no forecaster of risk is called arch: historical, ewma"):
        fit_forecasters(bars, bars.sessions[CUT], ["arch"])
    with pytest.raises(TrainingError, match="set an earlier INGESTION_START_DATE"):
        fit_forecasters(bars, bars.sessions[FEWEST_RETURNS - 1])
    with pytest.raises(TrainingError, match="is not a session"):
        fit_forecasters(bars, pd.Timestamp("1999-01-04"))
    with pytest.raises(TrainingError, match="fitted on 4 other tickers"):
        fitted["har"].forecast(replace(bars, tickers=("A", "B", "C", "D")), 1)
    with pytest.raises(TrainingError, match="is not a session"):
        fitted["har"].forecast(bars.until(bars.sessions[CUT - 1]), 1)


OWN_WORLDS = {
    "historical": worlds.constant,
    "ewma": worlds.riskmetrics,
    "filtered": lambda tickers, sessions: worlds.riskmetrics(tickers, sessions, degrees=6),
    "garch": worlds.garch,
    "gjr": lambda tickers, sessions: worlds.garch(tickers, sessions, gamma=0.1),
    "har": worlds.heterogeneous,
}


@pytest.mark.statistics
@pytest.mark.parametrize("name", RISK_FORECASTERS)
def test_each_forecaster_covers_a_world_of_its_own_kind(name: str) -> None:
    """30 independent tickers, 600 sessions after the fit on 800: 18,000 rows, of which a fifth do not overlap."""
    cut, world = 800, OWN_WORLDS[name](30, 1400)
    bars = world.bars
    one = fit_forecasters(bars, bars.sessions[cut], [name])[name]
    assert one.failures == {}
    for horizon in HORIZONS:
        outcome, found = bars.outcomes(horizon), one.forecast(bars, horizon)
        for place, level in enumerate(QUANTILE_LEVELS):
            beyond = exceedances(outcome, found.quantiles[..., place])
            # Estimation, by ticker, of tails and volatilities is part of what is forecast.
            band = 0.2 * min(level, 1 - level) + 0.004 * horizon**0.5
            assert np.nanmean(beyond) == pytest.approx(level, abs=band), (horizon, level)
        if horizon == 1:
            error = np.log(found.volatility[:, cut:-1] / world.deviation[:, cut + 1 :])
            # The world of HAR has news of each day that no past session tells.
            assert np.sqrt(np.mean(error**2)) < (0.25 if name == "har" else 0.12)


def test_on_garch_the_garch_forecasters_beat_the_history_and_stay_in_the_confidence_set() -> None:
    bars = worlds.garch(8, 1200, seed=3).bars
    names = ("historical", "ewma", "garch")
    fitted = fit_forecasters(bars, bars.sessions[700], names)
    outcome = bars.outcomes(1)
    session = np.broadcast_to(np.arange(1200), outcome.shape)
    forecasts = {name: one.forecast(bars, 1) for name, one in fitted.items()}
    rows = np.isfinite(outcome) & np.isfinite(forecasts["garch"].volatility)
    losses = {
        name: daily_means(qlike_losses(outcome[rows] ** 2, one.volatility[rows] ** 2), session[rows])
        for name, one in forecasts.items()
    }
    days = np.arange(losses["garch"].size)
    assert diebold_mariano(losses["garch"], losses["historical"], days).difference.high < 0
    kept = model_confidence_set(np.stack(list(losses.values()), axis=1), names)
    assert kept.included[0] == "garch"
    assert "historical" not in kept.included
    beyond = exceedances(outcome, forecasts["garch"].quantiles[..., 1])
    assert universe_coverage(beyond, 0.05).p_value > 0.01
    constant = exceedances(outcome, np.where(rows, np.nanquantile(outcome[rows], 0.05), np.nan))
    assert 0.04 < universe_coverage(constant, 0.05).share < 0.06
