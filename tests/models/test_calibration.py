from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from financial_assets.errors import TrainingError
from financial_assets.models.calibration import Calibration, conformal_shifts, fit_platt
from financial_assets.models.heads import QUANTILE_LEVELS


def draw(scale: float, bias: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 1.0, count)
    return logits, (rng.random(count) < expit(scale * logits + bias)).astype(float)


@pytest.mark.parametrize(("scale", "bias"), [(0.3, 0.1), (1.0, -0.4), (2.5, 0.0)])
def test_platt_finds_the_map_that_made_the_labels(scale: float, bias: float) -> None:
    fitted = fit_platt(*draw(scale, bias, 40_000), np.arange(40_000))
    assert fitted.scale == pytest.approx(scale, abs=0.06)
    assert fitted.bias == pytest.approx(bias, abs=0.05)
    assert fitted.unconstrained_scale == pytest.approx(fitted.scale, abs=0.02)


def test_platt_never_turns_a_ranking_round_nor_flattens_it() -> None:
    logits, up = draw(-0.5, 0.0, 700)
    fitted = fit_platt(0.2 * logits, up, np.arange(700))
    assert fitted.unconstrained_scale < 0 < fitted.scale
    assert fitted.scale > 0.02


def test_tickers_that_move_together_count_as_one_day() -> None:
    logits, up = draw(1.0, 0.3, 300)
    alone = fit_platt(logits, up, np.arange(300))
    copied = fit_platt(np.repeat(logits, 10), np.repeat(up, 10), np.repeat(np.arange(300), 10))
    assert (copied.scale, copied.bias) == pytest.approx((alone.scale, alone.bias), abs=1e-4)


def test_a_bear_market_does_not_teach_to_answer_down_for_ever() -> None:
    rng = np.random.default_rng(3)
    days = np.arange(250)
    up = (days % 20 < 9).astype(float)  # 45 % of 250 days: well within chance for a fair coin
    fitted = fit_platt(rng.normal(0.0, 0.3, 250), up, days)
    assert -0.2 < fitted.bias < 0.0
    assert abs(fitted.bias) < 0.6 * abs(np.log(0.45 / 0.55))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 30.0))
@settings(max_examples=25, deadline=None)
def test_platt_is_finite_and_positive_on_noise(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    fitted = fit_platt(spread * rng.normal(size=150), (np.arange(150) % 2).astype(float), np.arange(150))
    assert np.isfinite([fitted.scale, fitted.bias]).all()
    assert fitted.scale > 0


@pytest.mark.parametrize("case", ["few", "one class", "not finite"])
def test_platt_refuses_what_cannot_be_calibrated(case: str) -> None:
    logits, up = draw(1.0, 0.0, 99 if case == "few" else 200)
    if case == "one class":
        up[:] = 1.0
    if case == "not finite":
        logits[3] = np.nan
    with pytest.raises(TrainingError, match=r"windows|direction|finite"):
        fit_platt(logits, up, np.arange(len(logits)))


@pytest.mark.parametrize("misfit", [0.4, 1.0, 3.0])
def test_conformal_quantiles_cover_fresh_exchangeable_returns(misfit: float) -> None:
    rng = np.random.default_rng(1)
    multiples = np.tile(np.asarray([-2.33, -1.64, 0.3, 1.64, 2.33]) * misfit, (2000, 1))
    shifts = conformal_shifts(multiples, rng.standard_t(4, 2000))
    fresh = rng.standard_t(4, 200_000)
    for level, edge in zip(QUANTILE_LEVELS, multiples[0] + shifts, strict=True):
        # Four binomial standard errors of 2,000 calibration rows.
        assert float((fresh <= edge).mean()) == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 2000))


@given(st.integers(100, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_conformal_quantiles_are_on_the_safe_side_of_their_own_block(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    multiples, returns = rng.normal(size=(count, 5)), rng.normal(size=count)
    # Compared as residuals: adding the shift back to a multiple may round past the very return it came from.
    residuals, shifts = returns[:, None] - multiples, conformal_shifts(multiples, returns)
    assert ((residuals < shifts).mean(axis=0)[:2] <= QUANTILE_LEVELS[:2]).all()
    assert ((residuals <= shifts).mean(axis=0)[3:] >= QUANTILE_LEVELS[3:]).all()


def test_conformal_shifts_need_rows() -> None:
    with pytest.raises(TrainingError, match="99 windows, 100 are needed"):
        conformal_shifts(np.zeros((99, 5)), np.zeros(99))


@given(st.lists(st.floats(-4, 4, width=32), min_size=5, max_size=5), st.floats(0.0009765625, 0.125, width=32))
def test_answers_are_ordered_and_probabilities_lie_between_zero_and_one(
    multiples: list[float], volatility: float
) -> None:
    layer = Calibration(1.3, -0.2, np.asarray([0.1, -0.1, 0.0, 0.2, -0.3]))
    probability, quantiles = layer(torch.tensor([[0.7]]), torch.tensor([multiples]), torch.tensor([[volatility]]))
    assert float(probability) == pytest.approx(float(expit(1.3 * 0.7 - 0.2)), abs=1e-6)
    assert bool((quantiles.diff(dim=-1) >= 0).all())
    expected = np.sort(np.asarray(multiples, dtype=np.float32) + layer.shifts.numpy()) * np.float32(volatility)
    assert np.allclose(quantiles.numpy()[0], expected)
