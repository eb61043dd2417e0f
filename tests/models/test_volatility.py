"""The HAR volatility of the served graph: its laws, and that it finds a volatility that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import TrainingError
from financial_assets.features.bars import (
    CAUSAL_VOLATILITY_LOOKBACK,
    HAR_WINDOWS,
    LONG_RUN_WINDOW,
    VOLATILITY_FLOOR,
)
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.outcomes import return_ahead
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models import training_data
from financial_assets.models.onnx.adversarial import adversarial_windows
from financial_assets.models.onnx.parity import degenerate_windows
from financial_assets.models.risk.bars import RiskBars, trailing_mean
from financial_assets.models.risk.har import Har
from financial_assets.models.training_data import TrainingData, fit_volatility, following_mean
from financial_assets.models.volatility import LONG_RUN, HarVolatility, known_variances, panel_variances
from financial_assets.scoring.volatility import qlike_losses
from tests.models.risk import worlds
from tests.models.risk.worlds import World

SEEDS = st.integers(0, 2**32 - 1)
SESSIONS = 200


def fitted() -> HarVolatility:
    """Coefficients such as real prices give: persistent, and mean-reverting."""
    slopes = torch.tensor([[0.12, 0.08], [0.28, 0.22], [0.20, 0.18], [0.10, 0.15], [0.14, 0.16]])
    return HarVolatility(torch.tensor([-1.4, -1.9]), slopes, torch.tensor([1.22, 1.25]))


def random_bars(seed: int, batch: int = 2, sessions: int = SESSIONS) -> torch.Tensor:
    """Bars ``[batch, channel, session]`` with gaps, jumps, sessions without a range and stale prices."""
    windows = adversarial_windows(batch, sessions, seed=seed % 100_000)
    return torch.from_numpy(windows).transpose(1, 2).contiguous()


def scaled_prices(bars: torch.Tensor, factor: float) -> torch.Tensor:
    scaled = bars.clone()
    scaled[:, :4] *= factor
    return scaled


@given(SEEDS, st.integers(-12, 12))
@settings(max_examples=30, deadline=None)
def test_a_split_changes_no_bit(seed: int, power: int) -> None:
    bars = random_bars(seed)
    assert torch.equal(fitted()(bars), fitted()(scaled_prices(bars, 2.0**power)))


@given(SEEDS, st.floats(0.01, 100.0))
@settings(max_examples=30, deadline=None)
def test_it_does_not_depend_on_the_unit_of_prices(seed: int, factor: float) -> None:
    # Some hundred bars that move: near the floor rounded prices are all there is to see.
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, SESSIONS)))
    opening = close * np.exp(rng.normal(0.0, 0.005, SESSIONS))
    high, low = np.maximum(opening, close) * 1.01, np.minimum(opening, close) * 0.99
    bars = torch.from_numpy(np.stack([opening, high, low, close, close, close, close])[None]).float()
    assert torch.allclose(fitted()(bars)[:, 1:], fitted()(scaled_prices(bars, factor))[:, 1:], rtol=1e-3)


@given(SEEDS, st.integers(CAUSAL_VOLATILITY_LOOKBACK, SESSIONS - 1))
@settings(max_examples=30, deadline=None)
def test_later_bars_change_no_bit(seed: int, session: int) -> None:
    bars = random_bars(seed)
    changed = bars.clone()
    changed[..., session + 1 :] = 7.0
    before, after = fitted()(bars), fitted()(changed)
    assert torch.equal(before[:, : session + 1], after[:, : session + 1])
    changed[:, :4, session] *= torch.tensor([1.0, 1.5, 0.5, 1.0])
    assert not torch.equal(before[:, session], fitted()(changed)[:, session])


@given(SEEDS, st.integers(CAUSAL_VOLATILITY_LOOKBACK, SESSIONS), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_window_and_a_panel_agree_to_the_last_bit(seed: int, end: int, sessions: int) -> None:
    bars = random_bars(seed, batch=5)
    panel = fitted()(bars)
    one = bars[2:3, :, end - CAUSAL_VOLATILITY_LOOKBACK : end].contiguous()
    assert torch.equal(fitted()(one, sessions=1)[:, 0], panel[2:3, end - 1])
    assert torch.equal(fitted()(bars, sessions=sessions), panel[:, -sessions:])


@given(SEEDS, st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]))
@settings(max_examples=30, deadline=None)
def test_it_is_finite_and_positive_whatever_the_prices(seed: int, size: float) -> None:
    volatility = fitted()(scaled_prices(random_bars(seed, batch=8), size))
    assert bool(torch.isfinite(volatility).all())
    assert float(volatility.min()) >= VOLATILITY_FLOOR * 0.999


def test_degenerate_windows_have_a_volatility(panel: PricePanel) -> None:
    window = panel.window("T0", panel.sessions[600], 256)
    volatility = fitted()(torch.from_numpy(degenerate_windows(window)).transpose(1, 2).contiguous(), sessions=1)
    assert bool(torch.isfinite(volatility).all())
    assert float(volatility.min()) > 0.0


def test_variances_are_those_of_the_forecasters_of_risk(panel: PricePanel) -> None:
    bars = RiskBars.of(panel)
    own = panel_variances(panel).double().numpy()
    for place, window in enumerate((*HAR_WINDOWS, LONG_RUN_WINDOW)):
        expected = trailing_mean(bars.variance, window)
        known = np.isfinite(expected)
        assert np.allclose(own[..., place][known], expected[known], rtol=1e-3, atol=1e-9)
    warm = np.isfinite(bars.ewma)
    assert np.allclose(np.sqrt(own[..., -1][warm]), bars.ewma[warm], rtol=1e-6)


def test_the_regression_finds_what_made_the_variances() -> None:
    rng = np.random.default_rng(0)
    logs = rng.normal(-8.0, 1.0, (20_000, 5))
    slopes = np.array([[0.1, 0.05], [0.3, 0.2], [0.3, 0.3], [0.1, 0.2], [0.1, 0.15]])
    ahead = np.exp(np.array([-0.5, -0.4]) + logs @ slopes + rng.normal(0.0, 0.4, (20_000, 2)))
    # Twice as volatile as the ranges say.
    outcomes = 2.0 * np.sqrt(ahead * [1, 5]) * rng.normal(size=(20_000, 2))
    har = HarVolatility.fit(np.exp(logs), ahead, outcomes)
    assert np.allclose(har.slopes.numpy(), slopes, atol=0.02)
    assert np.allclose(har.intercept.numpy(), [-0.5, -0.4], atol=0.15)
    volatility = har.of_variances(torch.from_numpy(np.exp(logs)).float()).double().numpy()
    assert np.allclose(np.mean((outcomes / volatility) ** 2, axis=0), 1.0, atol=1e-4)


def test_the_slope_of_the_long_run_variance_is_not_negative() -> None:
    """One horizon leans away from the long run, the other towards it: only the first is bounded."""
    rng = np.random.default_rng(1)
    logs = rng.multivariate_normal(np.full(5, -8.0), 0.5 * np.eye(5) + 0.5, 5_000)
    slopes = np.array([[0.2, 0.1], [0.3, 0.2], [0.5, 0.3], [-0.2, 0.2], [0.1, 0.1]])
    ahead = np.exp(-0.5 + logs @ slopes + rng.normal(0.0, 0.4, (5_000, 2)))
    har = HarVolatility.fit(np.exp(logs), ahead, np.sqrt(ahead))
    with_long_run = np.column_stack([np.ones(5_000), logs])
    without = np.delete(with_long_run, 1 + LONG_RUN, axis=1)
    one, five = (
        np.linalg.lstsq(rows, np.log(ahead[:, place]), rcond=None)[0]
        for place, rows in enumerate((without, with_long_run))
    )
    assert np.allclose(har.slopes[:, 0], np.insert(one[1:], LONG_RUN, 0.0), atol=1e-6)
    assert np.allclose(har.slopes[:, 1], five[1:], atol=1e-6)
    assert np.allclose(har.intercept, [one[0], five[0]], atol=1e-5)


@given(seed=st.integers(0, 1000), slopes=st.lists(st.floats(-0.4, 0.6), min_size=5, max_size=5))
def test_no_slope_is_negative_and_no_others_fit_better(seed: int, slopes: list[float]) -> None:
    """At the optimum, a slope that is held at zero would have to become negative to reduce the squares."""
    rng = np.random.default_rng(seed)
    logs = rng.multivariate_normal(np.full(5, -8.0), 0.5 * np.eye(5) + 0.5, 400)
    target = -8.5 + (logs + 8.0) @ np.array(slopes) + rng.normal(0.0, 0.4, 400)
    ahead = np.exp(np.column_stack([target, target]))
    har = HarVolatility.fit(np.exp(logs), ahead, np.sqrt(ahead))
    fitted, intercept = har.slopes[:, 0].double().numpy(), float(har.intercept[0])
    assert (fitted >= 0).all()
    left = target - intercept - logs @ fitted
    gradient = (logs - logs.mean(axis=0)).T @ left / len(logs)
    assert abs(left.mean()) < 1e-5
    assert np.allclose(gradient[fitted > 0], 0.0, atol=1e-4)
    assert (gradient[fitted == 0] < 1e-4).all()


def test_prices_that_stand_still_are_never_forecast_wilder() -> None:
    """Unbounded slopes of a quiet market call a halted stock wild: the logarithm of nothing is far away."""
    rng = np.random.default_rng(3)
    logs = np.cumsum(rng.normal(0.0, 0.05, (3_000, 5)), axis=0) * 0.01 - 9.0 + rng.normal(0.0, 0.3, (3_000, 5))
    ahead = np.exp(-9.0 + (logs + 9.0) @ np.array([[-0.05, 0.1, -0.3, 0.0, 0.4]] * 2).T)
    har = HarVolatility.fit(np.exp(logs), ahead, np.sqrt(ahead))
    usual = torch.full((1, 5), float(np.exp(-9.0)))
    halted = usual.clone()
    halted[:, : len(HAR_WINDOWS)] = VOLATILITY_FLOOR**2
    assert (har.of_variances(halted) <= har.of_variances(usual)).all()
    plain = np.linalg.lstsq(np.column_stack([np.ones(3_000), logs]), np.log(ahead), rcond=None)[0]
    free = HarVolatility(torch.from_numpy(plain[0]), torch.from_numpy(plain[1:]), torch.ones(2))
    assert (free.of_variances(halted) > 3 * free.of_variances(usual)).all(), "the control"


@pytest.fixture(scope="module")
def world() -> World:
    return worlds.heterogeneous(6, 1500)


def usable(panel: PricePanel) -> np.ndarray:
    known = np.isfinite(return_ahead(panel, 5))
    known[:, :CAUSAL_VOLATILITY_LOOKBACK] = False
    return known


def test_a_known_volatility_is_tracked(world: World) -> None:
    panel = world.panel
    har, forecasts = fit_volatility(panel, usable(panel), range(CAUSAL_VOLATILITY_LOOKBACK, 1000))
    own, ewma = forecasts.double().numpy(), panel_variances(panel)[..., -1].double().numpy()
    after = np.s_[:, 1000:-6]
    for place, horizon in enumerate((1, 5)):
        known = own[..., place][after]
        # Out of sample; the true deviation of what follows, most of which is known the session before.
        truth = np.sqrt(following_mean(world.deviation**2, horizon) * horizon)[after]
        correlation, of_ewma = (
            np.corrcoef(np.log(each).ravel(), np.log(truth).ravel())[0, 1] for each in (known, ewma[after])
        )
        assert correlation > max(0.65, of_ewma + 0.02)
        assert np.exp(np.mean(np.log(known / truth))) == pytest.approx(1.0, abs=0.1)
        outcome = return_ahead(panel, horizon)[after].ravel()
        loss = qlike_losses(outcome**2, known.ravel() ** 2).mean()
        assert loss < qlike_losses(outcome**2, ewma[after].ravel() * horizon).mean() - 0.02
    assert float(har.slopes.sum(dim=0).max()) < 1.05


def test_tickers_of_very_different_levels_are_forecast_as_well_as_with_a_level_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pooled slopes of short windows alone would take every level for lasting: no ticker would return to its own."""
    behind = np.mean([_behind_levels_by_ticker(seed) for seed in (1, 2, 3)], axis=0)
    assert (behind < 0.006).all()

    def without_long_run(panel: PricePanel) -> torch.Tensor:
        variances = panel_variances(panel)
        variances[..., LONG_RUN] = 1.0  # its logarithm is 0
        return variances

    monkeypatch.setattr(training_data, "panel_variances", without_long_run)
    control = np.mean([_behind_levels_by_ticker(seed) for seed in (1, 2, 3)], axis=0)
    assert control[1] > 0.008


def _behind_levels_by_ticker(seed: int) -> list[float]:
    """QLIKE out of sample ``[horizon]``, minus that of a HAR with a level for each ticker."""
    panel = worlds.levels(16, 1500, seed).panel
    fit, after = range(CAUSAL_VOLATILITY_LOOKBACK, 900), np.s_[:, 900:-6]
    _, pooled = fit_volatility(panel, usable(panel), fit)
    bars = RiskBars.of(panel)
    by_ticker, _ = Har().fit(bars.until(panel.sessions[fit.stop]), np.ones(len(panel.tickers), dtype=bool))
    losses = []
    for place, horizon in enumerate((1, 5)):
        truth = bars.following_variance(horizon)[after].ravel()
        one, other = (
            qlike_losses(truth, each[after].ravel() ** 2).mean()
            for each in (pooled[..., place].double().numpy(), by_ticker.predict(bars, horizon)[0])
        )
        losses.append(float(one - other))
    return losses


def test_squares_are_one_on_average_in_the_fit_block(world: World) -> None:
    panel = world.panel
    span = range(CAUSAL_VOLATILITY_LOOKBACK, 900)
    _, forecasts = fit_volatility(panel, usable(panel), span)
    for place, horizon in enumerate((1, 5)):
        scaled = (return_ahead(panel, horizon) / forecasts[..., place].double().numpy())[:, span.start : span.stop]
        assert np.mean(scaled**2) == pytest.approx(1.0, abs=1e-3)


def test_the_fit_block_alone_is_learnt_from(world: World) -> None:
    panel = world.panel
    span = range(CAUSAL_VOLATILITY_LOOKBACK, 895)  # the last label is settled in session 899
    before, _ = fit_volatility(panel, usable(panel), span)
    values = panel.values.copy()
    values[:, :4, 900:] *= np.random.default_rng(0).uniform(0.5, 2.0, values[:, :4, 900:].shape).astype(np.float32)
    after, _ = fit_volatility(replace(panel, values=values), usable(panel), span)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())
    values[:, :4, 899] *= np.float32(1.1)
    control, _ = fit_volatility(replace(panel, values=values), usable(panel), span)
    assert not torch.equal(before.factor, control.factor)


def test_a_ticker_that_hardly_trades_decides_nothing(world: World) -> None:
    """Flat for months, then a jump: in units of its floored variance a move of thousands."""
    panel = world.panel
    span = range(CAUSAL_VOLATILITY_LOOKBACK, 895)
    before, _ = fit_volatility(panel, usable(panel), span)
    values = panel.values.copy()
    values[0, :4] = 10.0
    values[0, :4, 600:] = 15.0
    after, _ = fit_volatility(replace(panel, values=values), usable(panel), span)
    assert torch.allclose(before.factor, after.factor, rtol=0.1)


def test_prices_that_never_move_are_refused(world: World) -> None:
    panel = world.panel
    values = panel.values.copy()
    values[:, :4] = 10.0
    with pytest.raises(TrainingError, match="INGESTION_START_DATE"):
        fit_volatility(replace(panel, values=values), usable(panel), range(200, 800))
    ones = np.ones((50, 2))
    with pytest.raises(TrainingError, match="no price of the fit block moves"):
        HarVolatility.fit(np.ones((50, 5)), ones, np.zeros((50, 2)))
    with pytest.raises(TrainingError, match="finite"):
        HarVolatility.fit(np.full((50, 5), np.nan), ones, ones)


def test_nothing_fitted_is_the_ewma_volatility(panel: PricePanel) -> None:
    volatility = HarVolatility.random_walk().of_panel(panel)[:, 200:]
    ewma = panel_variances(panel)[:, 200:, -1].sqrt()
    assert torch.allclose(volatility[..., 0], ewma, rtol=1e-5)
    assert torch.allclose(volatility[..., 1], ewma * 5**0.5, rtol=1e-5)


def test_means_of_sessions_ahead() -> None:
    values = np.arange(6.0)[None]
    assert np.array_equal(following_mean(values, 1), [[1, 2, 3, 4, 5, np.nan]], equal_nan=True)
    assert np.array_equal(following_mean(values, 3), [[2, 3, 4, np.nan, np.nan, np.nan]], equal_nan=True)


def test_training_data_carry_the_forecasts_of_their_own_fit_block(world: World, graph: FeatureGraph) -> None:
    panel = world.panel
    features = compute_panel(panel, graph)
    data = TrainingData.until(panel.sessions[1399], features, panel, sequence_length=5)
    har, volatility = fit_volatility(panel.until(panel.sessions[1399]), data.usable, data.blocks.fit)
    assert torch.equal(data.volatility, volatility)
    assert torch.equal(data.har.slopes, har.slopes)
    # What is served for a session is what the network was trained with.
    bars = torch.from_numpy(np.ascontiguousarray(panel.values[:, :, 744:1000]))
    assert torch.equal(har(bars, sessions=1)[:, 0], data.volatility[:, 999])
    assert known_variances(bars, 3).shape == (6, 3, 5)
    assert panel.values.shape[1] == len(CHANNELS)
