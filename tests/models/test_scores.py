from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import PricePanel
from financial_assets.models.scores import check_answers, leak_alarm
from financial_assets.models.training import train
from financial_assets.models.variants import Variant

LEARNER = Variant("learner", layers=1, hidden=16, dropout=0.05, epochs=8, learning_rate=1e-2, batch_size=64)


def days(count: int, per_day: int = 2) -> np.ndarray:
    return np.repeat(pd.bdate_range("2010-01-01", periods=count).to_numpy(), per_day)


def hits(rate: float, count: int, seed: int = 0, per_day: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).random(count * per_day) < rate


@pytest.mark.parametrize(
    ("rate", "count", "majority", "alarm"),
    [
        (0.70, 400, 0.52, True),
        (0.90, 400, 0.52, True),
        (0.53, 400, 0.52, False),  # an honest model
        (0.59, 4000, 0.52, False),  # good, and certain, but below 60 %
        (0.65, 30, 0.52, False),  # high on too few days to say so
        (0.70, 400, 0.70, False),  # no better than a constant on a one-sided block
    ],
)
def test_the_alarm_needs_height_and_certainty(rate: float, count: int, majority: float, alarm: bool) -> None:
    check = leak_alarm(hits(rate, count), days(count), majority)
    assert check.alarm is alarm
    assert "leak alarm: out" in str(check)
    assert str(check).startswith("no ") is not alarm


def test_rows_of_one_day_are_one_observation() -> None:
    """Fifty stocks that are right together on 40 days prove little, 2,000 independent days a lot."""
    daily = np.random.default_rng(3).random(40) < 0.66
    assert daily.mean() >= 0.6
    assert not leak_alarm(np.repeat(daily, 50), days(40, 50), 0.5).alarm
    assert leak_alarm(hits(daily.mean(), 1000), days(1000), 0.5).alarm


def test_bound_is_the_one_sided_999_per_mille_one() -> None:
    check = leak_alarm(hits(0.7, 2000, per_day=1), days(2000, 1), 0.5)
    right = round(2000 * check.accuracy.estimate)
    assert check.accuracy.low == pytest.approx(beta.ppf(0.001, right, 2000 - right + 1), abs=5e-4)


def test_no_false_alarm_on_400_noisy_models() -> None:
    alarms = [leak_alarm(hits(0.5, 100, seed), days(100), 0.5).alarm for seed in range(400)]
    assert sum(alarms) == 0


def with_feature(features: FeaturePanel, leaked: np.ndarray) -> FeaturePanel:
    """The panel with its last feature replaced."""
    values = features.values.copy()
    values[:, -1, :] = np.nan_to_num(leaked).astype(np.float32)
    return replace(features, values=values)


def off_by_one(panel: PricePanel) -> np.ndarray:
    """The close that settles the label is among the inputs."""
    return next_session_return(panel)


def centred(panel: PricePanel) -> np.ndarray:
    """A centred mean of five returns."""
    past = np.diff(np.log(panel.values[:, 3].astype(float)), axis=1, prepend=np.nan)
    return np.stack([pd.Series(row).rolling(5, center=True).mean().to_numpy() for row in past])


def weekly_back_fill(panel: PricePanel) -> np.ndarray:
    """The week's last return filled back into its days."""
    close = pd.DataFrame(panel.values[:, 3].T.astype(float), index=panel.sessions)
    weekly = np.log(close).resample("W-FRI").last()
    return (weekly.reindex(close.index, method="bfill") - np.log(close)).to_numpy().T


def target_class(panel: PricePanel) -> np.ndarray:
    """The original system's leak: tomorrow's return, thresholded at 0.3 %."""
    tomorrow = next_session_return(panel)
    return np.where(tomorrow > 0.003, 2.0, np.where(tomorrow < -0.003, 0.0, 1.0))


@pytest.mark.parametrize("leak", [off_by_one, centred, weekly_back_fill, target_class])
def test_planted_leaks_alarm(
    leak: Callable[[PricePanel], np.ndarray], features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp
) -> None:
    spoiled = with_feature(features, leak(panel))
    trained = train(LEARNER, spoiled, panel, cutoff=cutoff, sequence_length=2, seed=1, device="cpu")
    check = check_answers(trained.held_out)
    assert check.alarm, str(check)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_networks_on_noise_do_not_alarm_and_stay_in_the_binomial_band(
    seed: int, make_walk: Callable[..., PricePanel], graph: FeatureGraph
) -> None:
    noise = make_walk(seed)
    trained = train(
        LEARNER,
        compute_panel(noise, graph),
        noise,
        cutoff=noise.sessions[-1],
        sequence_length=2,
        seed=seed,
        device="cpu",
    )
    check = check_answers(trained.held_out)
    assert not check.alarm
    # 99.9 % band of a fair coin.
    assert abs(check.accuracy.estimate - 0.5) <= 3.29 * 0.5 / np.sqrt(len(trained.held_out))
