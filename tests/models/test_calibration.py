from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from financial_assets.errors import TrainingError
from financial_assets.models.calibration import (
    Calibration,
    QuantileShifts,
    conformal_shifts,
    fit_platt,
    fit_slope,
)
from financial_assets.models.heads import QUANTILE_LEVELS, HeadOutputs


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


def test_many_tickers_of_a_few_sessions_are_not_enough() -> None:
    """They move together: 500 of one session know little more than one of them."""
    logits, up = draw(1.0, 0.0, 1_000)
    assert fit_platt(logits, up, np.arange(1_000) % 20).scale > 0
    with pytest.raises(TrainingError, match="19 sessions, 20 are needed, however many tickers"):
        fit_platt(logits, up, np.arange(1_000) % 19)


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


def shifts_of(centres: list[float], shifts: np.ndarray, *, pooled: bool = False) -> QuantileShifts:
    return QuantileShifts(np.asarray(centres), shifts, 1000, 1000, pooled)


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=10, max_size=10),
    st.floats(0.0009765625, 0.125, width=32),
    st.floats(0.0009765625, 0.125, width=32),
)
def test_answers_are_ordered_and_probabilities_lie_between_zero_and_one(
    multiples: list[float], volatility: float, volatility_5d: float
) -> None:
    rng = np.random.default_rng(0)
    centres = [-5.0, -4.0, -3.5]
    fitted = [shifts_of(centres, rng.normal(0.0, 0.3, (3, 5))) for _ in range(2)]
    layer = Calibration(1.3, -0.2, fitted, 0.7)
    outputs = HeadOutputs(
        torch.tensor([[0.7]]), torch.tensor([multiples[:5]]), torch.tensor([multiples[5:]]), torch.tensor([[-2.0]])
    )
    answer = layer(outputs, torch.tensor([[volatility, volatility_5d]]))
    assert float(answer.probability_up) == pytest.approx(float(expit(1.3 * 0.7 - 0.2)), abs=1e-6)
    assert float(answer.excess_return) == pytest.approx(-1.4)
    for quantiles, own, unit, horizon in (
        (answer.return_quantiles, multiples[:5], volatility, fitted[0]),
        (answer.return_quantiles_5d, multiples[5:], volatility_5d, fitted[1]),
    ):
        assert bool((quantiles.diff(dim=-1) >= 0).all())
        shift = [np.interp(np.log(unit), centres, horizon.shifts[:, level]) for level in range(5)]
        assert np.allclose(quantiles.numpy()[0], np.sort(np.asarray(own) + shift) * unit, atol=1e-6)


def test_no_answer_jumps_with_the_volatility() -> None:
    fitted = [shifts_of([-5.0, -4.0, -3.5], np.random.default_rng(horizon).normal(size=(3, 5))) for horizon in (1, 2)]
    volatility = torch.exp(torch.linspace(-6.0, -2.0, 20_001)).unsqueeze(1).expand(-1, 2)
    shift = Calibration(shifts=fitted).shift(volatility)
    # Some 0.0002 in logs from one to the next, and no slope is above 6.
    assert float(shift.diff(dim=0).abs().max()) < 0.01
    assert torch.allclose(shift[0], torch.tensor(np.concatenate([each.shifts[0] for each in fitted])).float())
    assert torch.allclose(shift[-1], torch.tensor(np.concatenate([each.shifts[2] for each in fitted])).float())


NORMAL = np.array([-2.33, -1.64, 0.0, 1.64, 2.33])


def shifts_on(
    multiples: np.ndarray,
    returns: np.ndarray,
    volatility: np.ndarray | None = None,
    *,
    days: np.ndarray | None = None,
    constants: np.ndarray = NORMAL,
    horizon: int = 1,
) -> QuantileShifts:
    """Fitted on rows of steady volatility, one a session, unless something else is given."""
    volatility = np.exp(np.linspace(-5.0, -3.0, len(returns))) if volatility is None else volatility
    days = np.arange(len(returns)) if days is None else days
    return QuantileShifts.fit(multiples, returns, volatility, days, constants, horizon)


def regimes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal multiples, and returns that are half as wide in calm times and twice as wide in wild ones."""
    rng = np.random.default_rng(seed)
    logs = rng.uniform(-5.0, -3.0, count)
    returns = rng.normal(size=count) * np.interp(logs, [-5.0, -3.0], [0.5, 2.0])
    return np.tile([-2.33, -1.64, 0.0, 1.64, 2.33], (count, 1)), returns, np.exp(logs)


def test_terciles_correct_where_the_error_is() -> None:
    multiples, returns, volatility = regimes(9_000)
    fitted = shifts_on(multiples, returns, volatility)
    assert not fitted.pooled
    assert (fitted.rows, fitted.effective_rows) == (9_000, 9_000)
    pooled = conformal_shifts(multiples, returns)
    # Constant multiples know nothing beside the constants, which are the same here.
    edges = fitted.weights * NORMAL + fitted.shifts
    assert edges[0, 1] > NORMAL[1] + pooled[1] > edges[2, 1]
    fresh, outcome, unit = regimes(60_000, seed=1)
    layer = Calibration(shifts=(fitted, fitted))
    shift = layer.shift(torch.tensor(unit).float().unsqueeze(1).expand(-1, 2)).numpy()[:, :5]
    calm, wild = unit < np.exp(-4.4), unit > np.exp(-3.6)
    for part in (calm, wild):
        by_regime = (outcome[part] <= (fitted.weights * fresh + shift)[part, 1]).mean()
        as_one = (outcome[part] <= fresh[part, 1] + pooled[1]).mean()
        assert abs(by_regime - 0.05) < 0.015
        assert abs(as_one - 0.05) > 2 * abs(by_regime - 0.05)


@pytest.mark.parametrize(
    ("count", "horizon", "pooled"), [(900, 1, False), (899, 1, True), (4499, 5, True), (4500, 5, False)]
)
def test_few_independent_rows_are_pooled(count: int, horizon: int, pooled: bool) -> None:
    multiples, returns, volatility = regimes(count)
    fitted = shifts_on(multiples, returns, volatility, horizon=horizon)
    assert fitted.pooled is pooled
    assert fitted.effective_rows == count // horizon
    if pooled:
        assert (fitted.shifts == fitted.shifts[0]).all()
    # Two tickers to a session are no more evidence than one.
    doubled = (np.repeat(each, 2, axis=0) for each in (multiples, returns, volatility))
    assert shifts_on(*doubled, days=np.repeat(np.arange(count), 2), horizon=horizon).effective_rows == count // horizon


def test_volatility_that_does_not_vary_is_pooled_and_finite() -> None:
    multiples, returns, _ = regimes(3_000)
    fitted = shifts_on(multiples, returns, np.full(3_000, 0.01))
    assert fitted.pooled
    shift = Calibration(shifts=(fitted, fitted)).shift(torch.tensor([[1e-4, 10.0]])).numpy()[0]
    assert np.allclose(shift, np.tile(fitted.shifts[0], 2))
    assert np.isfinite(shift).all()


def test_multiples_that_know_nothing_make_way_for_the_constants() -> None:
    rng = np.random.default_rng(4)
    multiples = NORMAL + rng.normal(0.0, 0.3, (800, 1))
    fitted = shifts_on(multiples, rng.normal(size=800))
    assert fitted.weights.mean() < 0.2
    assert fitted.weights[2] < 0.1, "the median hardly moves"


@pytest.mark.parametrize(("count", "horizon"), [(400, 1), (2_000, 5)])
def test_multiples_that_know_something_keep_their_weight(count: int, horizon: int) -> None:
    rng = np.random.default_rng(5)
    known = rng.normal(0.0, 0.7, (count, 1))
    fitted = shifts_on(NORMAL + known, known[:, 0] + rng.normal(size=count), horizon=horizon)
    assert fitted.weights[2] > 0.7
    assert (fitted.weights > 0.2).all()
    turned = shifts_on(NORMAL - known, known[:, 0] + rng.normal(size=count), horizon=horizon)
    assert (turned.weights == 0.0).all()


def test_copies_of_a_ticker_and_overlapping_outcomes_are_no_evidence() -> None:
    rng = np.random.default_rng(6)
    known = rng.normal(0.0, 0.5, (150, 1))
    multiples, returns = NORMAL + known, known[:, 0] + rng.normal(size=150)
    alone = shifts_on(multiples, returns)
    many = shifts_on(np.repeat(multiples, 20, axis=0), np.repeat(returns, 20), days=np.repeat(np.arange(150), 20))
    assert many.weights == pytest.approx(alone.weights, abs=0.05)
    assert many.credibility == pytest.approx(alone.credibility, abs=0.15)
    overlapping = shifts_on(multiples, returns, horizon=5)
    assert (overlapping.weights[1:4] < alone.weights[1:4]).all()
    assert (overlapping.credibility <= alone.credibility + 1e-9).all()


def test_a_calm_block_does_not_narrow_the_outer_quantiles() -> None:
    """A quarter of a year in which nothing happened, many tickers: no return below the 1 % quantile is no news."""
    rng = np.random.default_rng(7)
    days = np.repeat(np.arange(60), 50)
    returns = 0.5 * rng.normal(size=3_000)
    fitted = shifts_on(np.tile(NORMAL, (3_000, 1)), returns, days=days, horizon=5)
    assert (fitted.credibility[:, [0, 4]] == 0.0).all()
    assert (fitted.shifts[:, [0, 4]] == NORMAL[[0, 4]]).all()
    assert conformal_shifts(np.tile(NORMAL, (3_000, 1)), returns)[0] > 0.8


@pytest.mark.parametrize("misfit", [0.4, 3.0])
def test_a_gross_error_is_corrected_almost_wholly(misfit: float) -> None:
    rng = np.random.default_rng(8)
    wrong = np.tile(NORMAL * misfit, (2_000, 1))
    returns = rng.standard_t(4, 2_000)
    fitted = shifts_on(wrong, returns, constants=NORMAL * misfit)
    fresh = rng.standard_t(4, 200_000)
    for column in (1, 3):
        edge = fitted.weights[column] * wrong[0, column] + fitted.shifts[0, column]
        assert float((fresh <= edge).mean()) == pytest.approx(QUANTILE_LEVELS[column], abs=0.02)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 5.0))
@settings(max_examples=25, deadline=None)
def test_weights_and_credibility_are_shares(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    multiples = NORMAL + spread * rng.normal(size=(120, 5))
    fitted = shifts_on(multiples, rng.standard_t(3, 120), days=np.arange(120) // 3)
    for shares in (fitted.weights, fitted.credibility):
        assert ((shares >= 0.0) & (shares <= 1.0)).all()
    assert np.isfinite(fitted.shifts).all()


def test_returns_that_are_all_alike_need_no_network() -> None:
    fitted = shifts_on(NORMAL + np.random.default_rng(0).normal(size=(200, 5)), np.zeros(200))
    assert (fitted.weights == 0.0).all()
    assert np.isfinite(fitted.shifts).all()


def test_shifts_are_stored_and_those_of_earlier_versions_read() -> None:
    rng = np.random.default_rng(9)
    fitted = shifts_on(NORMAL + rng.normal(size=(200, 5)), rng.normal(size=200))
    again = QuantileShifts.from_dict(json.loads(json.dumps(fitted.to_dict())))
    for name, value in vars(fitted).items():
        assert np.array_equal(getattr(again, name), value), name
    earlier = {name: fitted.to_dict()[name] for name in ("centres", "shifts", "rows", "effective_rows", "pooled")}
    read = QuantileShifts.from_dict(earlier)
    outputs = HeadOutputs(torch.zeros(1, 1), *torch.randn(2, 1, 5), torch.zeros(1, 1))
    volatility = torch.tensor([[0.01, 0.02]])
    plain = outputs.multiples + torch.from_numpy(fitted.shifts[0]).float()
    answer = Calibration(shifts=(read, read))(outputs, volatility)
    assert torch.equal(answer.return_quantiles, torch.sort(plain).values * volatility[:, :1])


@pytest.mark.parametrize("slope", [0.1, 1.0, 3.0])
def test_the_slope_that_made_the_excess_returns_is_found(slope: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=20_000)
    excess = slope * scores + rng.standard_t(4, 20_000)
    fitted = fit_slope(scores, excess, np.arange(20_000))
    assert fitted.slope == pytest.approx(slope, abs=0.05)
    assert fitted.unconstrained_slope == pytest.approx(fitted.slope, abs=0.02)


def test_a_ranking_is_never_turned_round_and_no_evidence_leaves_it() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0.0, 0.1, 500)
    turned = fit_slope(scores, -scores + rng.normal(size=500), np.arange(500))
    assert turned.unconstrained_slope < 0 < turned.slope
    silent = fit_slope(np.zeros(500), rng.normal(size=500), np.arange(500))
    assert silent.slope == pytest.approx(1.0)


def test_one_wild_day_does_not_decide_the_slope() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=2_000)
    excess = 0.5 * scores + rng.normal(size=2_000)
    before = fit_slope(scores, excess, np.arange(2_000))
    excess[7] = -1e4 * np.sign(scores[7])
    assert fit_slope(scores, excess, np.arange(2_000)).slope == pytest.approx(before.slope, abs=0.02)


def test_tickers_of_one_day_share_its_weight_in_the_slope() -> None:
    rng = np.random.default_rng(0)
    scores, excess = rng.normal(size=300), rng.normal(size=300)
    alone = fit_slope(scores, excess, np.arange(300))
    copied = fit_slope(np.repeat(scores, 10), np.repeat(excess, 10), np.repeat(np.arange(300), 10))
    assert copied.slope == pytest.approx(alone.slope, abs=1e-4)


@pytest.mark.parametrize("case", ["few", "not finite"])
def test_the_slope_refuses_what_cannot_be_calibrated(case: str) -> None:
    scores = np.zeros(99 if case == "few" else 200)
    scores[3] = np.nan if case == "not finite" else 0.0
    with pytest.raises(TrainingError, match=r"windows|finite"):
        fit_slope(scores, np.zeros(len(scores)), np.arange(len(scores)))
