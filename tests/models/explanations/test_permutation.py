from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from financial_assets.errors import TrainingError
from financial_assets.models.explanations.gradients import integrated_gradients
from financial_assets.models.explanations.held_out import is_differentiable
from financial_assets.models.explanations.permutation import exchanged, permutation_importance, turned
from financial_assets.scoring.intervals import Interval
from tests.models.explanations.worlds import Linear, Steps, asked

WEIGHTS = torch.tensor([0.05, 0.0, 1.0, 0.2, 5.0, 0.1])


def test_attributions_of_a_linear_model_are_its_terms() -> None:
    held_out = asked(Linear(WEIGHTS), 1, days=40)
    direction = integrated_gradients(held_out, most=10_000)[0]
    inputs = held_out.batch(np.arange(len(held_out))).inputs[:, -1].double().numpy()
    expected = np.abs(inputs * WEIGHTS.double().numpy()).mean(axis=0)
    names = held_out.feature_names
    assert {item.feature: item.magnitude for item in direction.features} == pytest.approx(
        dict(zip(names, expected, strict=True)), rel=1e-4
    )
    assert direction.completeness_error < 1e-5
    assert (direction.families[0].family, direction.families[-1].family) == ("signal", "constant")
    assert direction.families[-1].magnitude.estimate == 0.0


def test_a_model_without_gradients_is_recognised() -> None:
    for network, has_gradients in ((Linear(WEIGHTS), True), (Steps(), False)):
        held_out = asked(network, 1, days=20)
        assert is_differentiable(held_out.network, held_out.batch(np.arange(1))) is has_gradients


def test_trees_are_explained_by_permutation() -> None:
    found = permutation_importance(asked(Steps(), 1, days=100), repeats=2, most=10_000, seed=0)
    assert found[0].family == "signal"
    assert found[0].losses["total"].low > 0
    others = [importance for importance in found if importance.family != "signal"]
    assert all(importance.losses["total"].estimate == 0.0 for importance in others)


@pytest.mark.parametrize(
    ("worlds", "fewest", "long"), [(30, 25, 10_000), pytest.param(150, 134, 40_000, marks=pytest.mark.statistics)]
)
def test_intervals_cover(worlds: int, fewest: int, long: int) -> None:
    """The truth is what a very long block shows; intervals of 120 days must contain it about as often as they say.

    Without the part of a day's features in other days' losses they contain it in 87 % of all cases only.
    """

    def rises(seed: int, days: int, repeats: int) -> dict[tuple[str, str], Interval]:
        held_out = replace(asked(Linear(WEIGHTS), seed, days=days), families={"signal": (2, 3)})
        found = permutation_importance(held_out, repeats=repeats, most=10**9, seed=seed)
        return {(item.kind, name): value for item in found for name, value in item.losses.items()}

    truth = {key: value.estimate for key, value in rises(10**6, long, 2).items()}
    covered = dict.fromkeys(truth, 0)
    for seed in range(worlds):
        for key, interval in rises(seed, 120, 3).items():
            covered[key] += interval.low <= truth[key] <= interval.high
    # 95 % within three binomial standard deviations.
    assert all(count >= fewest for count in covered.values()), covered
    assert truth["across days", "total"] > truth["within days", "total"] > 0.1


def test_days_are_turned_whole_and_tickers_stay_in_step() -> None:
    dates, tickers = np.repeat(np.arange(10), 3), np.tile(np.arange(3), 10)
    donors = turned(dates, tickers, 4)
    assert (tickers[donors] == tickers).all()
    assert (dates[donors] == (dates + 4) % 10).all()
    assert sorted(donors) == list(range(30))


def test_a_ticker_that_is_missing_on_a_day_gives_its_next_one() -> None:
    dates, tickers = np.repeat(np.arange(6), 2), np.tile(np.arange(2), 6)
    there = ~((tickers == 1) & (dates == 3))
    dates, tickers = dates[there], tickers[there]
    donors = turned(dates, tickers, 3)
    assert (tickers[donors] == tickers).all()
    first = np.flatnonzero((tickers == 1) & (dates == 0))[0]
    assert dates[donors[first]] == 4


def test_tickers_exchange_within_their_day() -> None:
    dates = np.repeat(np.arange(50), 4)
    donors = exchanged(dates, np.random.default_rng(0))
    assert (dates[donors] == dates).all()
    assert sorted(donors) == list(range(200))
    assert (donors != np.arange(200)).mean() > 0.5


def test_blocks_with_gaps_and_two_tickers_work() -> None:
    def gaps(usable: np.ndarray) -> np.ndarray:
        usable[0, ::7] = False
        usable[1, 20:40] = False
        return usable

    found = permutation_importance(
        asked(Linear(WEIGHTS), 2, days=90, tickers=2, missing=gaps), repeats=2, most=10**9, seed=0
    )
    assert {importance.kind for importance in found} == {"across days"}  # two tickers exchange nothing worth a name
    assert found[0].family == "signal"


def test_the_same_seed_gives_the_same_importances() -> None:
    held_out = asked(Linear(WEIGHTS), 3, days=60)
    first = permutation_importance(held_out, repeats=2, most=10**9, seed=5)
    assert permutation_importance(held_out, repeats=2, most=10**9, seed=5) == first
    assert permutation_importance(held_out, repeats=2, most=10**9, seed=6) != first


@pytest.mark.parametrize(("days", "repeats"), [(10, 3), (100, 0)])
def test_too_little_to_exchange_is_named(days: int, repeats: int) -> None:
    with pytest.raises(TrainingError, match=r"16 days and one repeat.*INGESTION_START_DATE"):
        permutation_importance(asked(Linear(WEIGHTS), 1, days=days), repeats=repeats, most=10**9, seed=0)
