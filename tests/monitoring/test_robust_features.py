"""Features: quiet where volatility clusters and levels wander, loud where something is planted."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from financial_assets.errors import MonitoringError
from financial_assets.monitoring.drift import nulls, robust
from financial_assets.monitoring.drift.aspects import Aspect, feature_aspects
from financial_assets.monitoring.drift.cusum import fit_autoregression, run_cusum
from financial_assets.monitoring.drift.memory import fit_memory
from financial_assets.monitoring.drift.robust import robust_chance, robust_threshold, whiten_ranks
from financial_assets.monitoring.drift.samples import normal_scores, size_scores
from financial_assets.monitoring.drift.thresholds import false_alarm_probability, yearly_peaks
from financial_assets.monitoring.drift.whitening import whiten
from tests.monitoring.conftest import forget

REFERENCE, YEAR, FEATURES = 450, 252, 10
BUDGET = 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("thresholds")


def panels(draw: nulls.Draw, worlds: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    values = draw(np.random.default_rng(seed), worlds * FEATURES, REFERENCE + YEAR)
    return values[:, :REFERENCE], values[:, REFERENCE:]


def judged(before: np.ndarray, after: np.ndarray, folder: Path | None, worlds: int = 1) -> dict[str, Aspect]:
    found = feature_aspects(before, after, np.ones(len(before), dtype=bool), BUDGET, folder, worlds)
    return {aspect.name: aspect for aspect in found}


def alarms(aspects: dict[str, Aspect], worlds: int) -> np.ndarray:
    beyond = np.any([one.sums.larger.max(axis=1) > one.bounds for one in aspects.values()], axis=0)
    return beyond.reshape(worlds, -1).any(axis=1)


def earlier_alarms(before: np.ndarray, after: np.ndarray, worlds: int) -> np.ndarray:
    """The scaling that was: AR(1) whitening of normal scores, in units of the reference."""
    scores, later = normal_scores(before, before), normal_scores(before, after)
    fitted = fit_autoregression(scores)
    highest = run_cusum(fitted.innovations(scores[:, 1:], start=scores[:, 0])).peak()
    # Of fewer worlds than the product takes: the rates below are several times the budget.
    simulated = np.quantile(yearly_peaks(350, 0.3, worlds=1500, seed=1), math.exp(-BUDGET / FEATURES))
    bounds = np.maximum(float(simulated), highest)
    return (run_cusum(fitted.innovations(later)).peak() > bounds).reshape(worlds, -1).any(axis=1)


HARD = [nulls.clustered, nulls.log_squares, nulls.wandering]


@pytest.mark.parametrize("draw", HARD)
@pytest.mark.parametrize("worlds", [12, pytest.param(100, marks=pytest.mark.statistics)])
def test_the_budget_is_kept_where_volatility_clusters(draw: nulls.Draw, worlds: int, folder: Path) -> None:
    before, after = panels(draw, worlds)
    found = int(alarms(judged(before, after, folder, worlds), worlds).sum())
    assert found <= binom.ppf(0.99, worlds, false_alarm_probability(BUDGET, 1))


@pytest.mark.parametrize("draw", HARD)
def test_the_earlier_scaling_breaks_it(draw: nulls.Draw) -> None:
    """Negative control: on the same worlds the reference's own scale alarms several times as often as it may."""
    before, after = panels(draw, 40)
    assert earlier_alarms(before, after, 40).sum() > binom.ppf(0.999, 40, false_alarm_probability(BUDGET, 1))


def quiet_panel() -> np.ndarray:
    """Two factors behind ten features, little noise of their own."""
    rng = np.random.default_rng(3)
    factors = rng.standard_normal((2, REFERENCE + YEAR))
    return rng.standard_normal((FEATURES, 2)) @ factors + 0.15 * rng.standard_normal((FEATURES, REFERENCE + YEAR))


def change(name: str, values: np.ndarray, at: int) -> np.ndarray:
    found, spread = values.copy(), values[0, :REFERENCE].std()
    later = found[0, at:]
    if name == "level":
        found[0, at:] = later + 2.0 * spread
    elif name == "scale":
        found[0, at:] = 4.0 * later
    elif name == "stuck":
        found[0, at:] = later[0]
    else:
        found[0, at:] = 100.0 * (later + 10.0 * spread)
    return found


@pytest.mark.parametrize(("name", "most"), [("level", 25), ("scale", 60), ("stuck", 6), ("range", 6)])
def test_what_is_planted_is_found_by_its_aspect(name: str, most: int, folder: Path) -> None:
    values, at = quiet_panel(), REFERENCE + 20
    quiet = judged(values[:, :REFERENCE], values[:, REFERENCE:], folder)
    assert not alarms(quiet, 1).any()
    values = change(name, values, at)
    aspect = judged(values[:, :REFERENCE], values[:, REFERENCE:], folder)[name]
    beyond = np.flatnonzero(aspect.sums.larger[0] > aspect.bounds[0])
    assert len(beyond)
    assert 20 <= beyond[0] <= 20 + most


def test_a_long_run_and_a_wild_day_are_no_faults(folder: Path) -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((3, REFERENCE + YEAR))
    values[1] = np.repeat(rng.standard_normal((REFERENCE + YEAR) // 6 + 1), 6)[: REFERENCE + YEAR]
    values[2, REFERENCE + 9] = 1e9  # one wild day
    found = judged(values[:, :REFERENCE], values[:, REFERENCE:], folder)
    for name in ("stuck", "range", "level"):
        assert (found[name].sums.larger.max(axis=1) <= found[name].bounds).all(), name


def test_calm_is_no_alarm(folder: Path) -> None:
    values = quiet_panel()
    values[:, REFERENCE:] *= 0.3
    found = judged(values[:, :REFERENCE], values[:, REFERENCE:], folder)
    assert not alarms({"scale": found["scale"]}, 1).any()


@pytest.mark.parametrize(
    ("coefficient", "share", "low", "high"), [(0.0, 0.0, 0.0, 30.0), (0.98, 0.5, 25.0, 160.0), (0.5, 1.0, 2.0, 8.0)]
)
def test_memory_is_found_behind_noise(coefficient: float, share: float, low: float, high: float) -> None:
    rng = np.random.default_rng(6)
    shocks = rng.standard_normal((200, 1400)) * np.sqrt(share * (1 - coefficient**2))
    level = np.zeros_like(shocks)
    for at in range(1, 1400):
        level[:, at] = coefficient * level[:, at - 1] + shocks[:, at]
    values = (level + np.sqrt(1 - share) * rng.standard_normal(shocks.shape))[:, 400:]
    values = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    memory = fit_memory(values)
    assert low <= np.median(memory.long_run) <= high
    assert ((memory.gain >= 0) & (memory.gain <= 1)).all()
    assert ((memory.deviation > 0) & (memory.deviation <= 1 + 1e-9)).all()


def test_innovations_are_white_and_of_one_size_in_wild_times() -> None:
    before, after = panels(nulls.clustered, 20)
    after = after.copy()
    after[:, 100:] = after[:, 100:] * 3.0
    whitened = whiten(before, after)
    assert abs(float((whitened.reference[:, 1:] * whitened.reference[:, :-1]).mean())) < 0.05
    assert float(whitened.reference.std()) == pytest.approx(1.0, abs=0.15)
    assert float(whitened.later[:, 130:].std()) < 1.3
    assert float(np.nanstd(whitened.raw_later[:, 130:])) > 2.0


def test_unknown_sessions_carry_nothing() -> None:
    values = np.random.default_rng(8).standard_normal((2, 400))
    values[0, 300:310] = np.nan
    whitened = whiten_ranks(values[:, :250], values[:, 250:])
    assert not whitened.later[0, 50:60].any()
    assert np.isnan(whitened.raw_later[0, 50:60]).all()
    assert np.isfinite(whitened.later).all()
    assert whitened.later[0, 60:].any()
    with pytest.raises(MonitoringError, match="40 sessions is too short"):
        whiten(values[:, :40], values[:, 40:])


@pytest.mark.parametrize("aspect", [robust.LEVEL, robust.SCALE])
def test_the_chance_is_the_inverse_of_the_threshold(aspect: int, folder: Path) -> None:
    for place in (0, 3, 6):
        bound = robust_threshold(BUDGET, 20, REFERENCE, place, aspect=aspect, folder=folder)
        chance = robust_chance(bound, 20, REFERENCE, place, aspect=aspect, folder=folder)
        assert chance == pytest.approx(BUDGET, rel=0.1)
        assert robust_chance(bound + 4, 20, REFERENCE, place, aspect=aspect, folder=folder) < chance
        assert robust_threshold(BUDGET, 60, REFERENCE, place, aspect=aspect, folder=folder) > bound
        assert robust_threshold(0.01, 20, REFERENCE, place, aspect=aspect, folder=folder) > bound


def test_thresholds_are_the_same_from_disk_and_of_this_code_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = robust_threshold(BUDGET, 20, REFERENCE, 0, folder=folder)
    (path,) = folder.glob(f"robust_{REFERENCE}-*.npy")
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(robust, "simulated_peaks", lambda *_, **__: pytest.fail("simulated again"))
        assert robust_threshold(BUDGET, 20, REFERENCE, 0, folder=folder) == fresh
    monkeypatch.setattr(sys.modules[robust.__name__], "_SEED", 1)
    forget()
    assert robust_threshold(BUDGET, 20, REFERENCE, 0, folder=folder) != fresh
    assert not path.exists(), "what nobody can read any more is removed"
    forget()


def test_both_aspects_share_one_simulation_without_a_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    made, simulate = list[int](), robust.simulated_peaks

    def counted(reference: int, **settings: int) -> np.ndarray:
        made.append(reference)
        return simulate(reference, **settings)

    monkeypatch.setattr(robust, "simulated_peaks", counted)
    level, scale = (robust_threshold(BUDGET, 20, 60, 0, aspect=one) for one in (robust.LEVEL, robust.SCALE))
    assert made == [60]
    assert level != scale


def test_the_simulation_repeats_itself() -> None:
    one, two, other = (robust.simulated_peaks(60, worlds=10, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@pytest.mark.parametrize(("budget", "streams"), [(0.0, 1), (-1.0, 5), (float("nan"), 5), (0.1, 0)])
def test_a_budget_must_be_positive(budget: float, streams: int, folder: Path) -> None:
    with pytest.raises(MonitoringError, match="must be positive"):
        robust_threshold(budget, streams, REFERENCE, 0, folder=folder)


def test_streams_are_classed_by_what_the_data_demand_not_by_what_they_allow() -> None:
    rng = np.random.default_rng(8)
    classes: dict[str, np.ndarray] = {}
    for draw in (nulls.white, nulls.clustered, nulls.log_squares, nulls.wandering):
        values = draw(rng, 200, 1000)
        level = whiten_ranks(values, values[:, :5])
        classes[draw.__name__] = robust.level_class(level.memory)
        halves = robust.scale_class(level.memory, robust.whiten_sizes(level).memory) // robust._LEVELS
        assert (halves == (classes[draw.__name__] >= 3)).all()
    assert (classes["white"] < 2).mean() > 0.9, "most of them allow a long memory as well"
    assert (classes["clustered"] == 2).mean() > 0.9
    for slow in ("log_squares", "wandering"):
        assert (classes[slow] < 3).mean() < 0.02


# Measured shares are 0.92 and 0.76 of 50 worlds; with the thresholds before, of classes by the memory that is allowed,
# they were 0.64 and 0.04.
@pytest.mark.parametrize(("name", "share"), [("shift", 0.9), ("variance", 0.65)])
def test_a_change_of_one_deviation_and_of_thrice_the_variance_are_found(name: str, share: float, folder: Path) -> None:
    rng = np.random.default_rng(9)
    values, worlds = rng.standard_normal((20 * FEATURES, 1000 + 80)), 20
    changed = values.reshape(worlds, FEATURES, -1)[:, 0, 1020:]  # a view: the first feature of each world
    changed *= 3**0.5 if name == "variance" else 1.0
    changed += 1.0 if name == "shift" else 0.0
    found = alarms(judged(values[:, :1000], values[:, 1000:], folder, worlds), worlds)
    assert found.sum() >= binom.ppf(0.01, worlds, share)


def test_scores_of_sizes_are_the_squares_of_a_gaussian_stream() -> None:
    values = np.abs(np.random.default_rng(10).standard_normal((1, 20_000)))
    scores = size_scores(values, values)
    assert scores.mean() == pytest.approx(0.0, abs=0.01)
    assert scores.var() == pytest.approx(1.0, abs=0.03)
    inside = values < 3.0
    np.testing.assert_allclose(scores[inside], (values[inside] ** 2 - 1.0) / 2**0.5, atol=0.4)
    np.testing.assert_array_equal(scores, size_scores(values**3, values**3))
    assert np.isnan(size_scores(values, np.array([[np.nan]]))).all()
