"""Worlds whose law is known, from prices to calibrated answers: each head finds what is there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.answers import Answers, answer_windows
from financial_assets.models.scores import check_answers, held_out_scores
from financial_assets.models.training import Training, train
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant
from tests.models.conftest import panel_from_returns
from tests.models.risk import worlds

LEARNER = Variant("learner", layers=1, hidden=16, dropout=0.05, epochs=8, learning_rate=1e-2, batch_size=128)
STEPS = 2


def trained(panel: PricePanel, graph: FeatureGraph, until: int) -> Training:
    features = compute_panel(panel, graph)
    return train(LEARNER, features, panel, cutoff=panel.sessions[until], sequence_length=STEPS, seed=3, device="cpu")


def answers_after(training: Training, panel: PricePanel, graph: FeatureGraph) -> Answers:
    """Uncalibrated answers on the sessions after the cut-off whose outcomes are settled."""
    features = compute_panel(panel, graph)
    data = TrainingData.until(panel.sessions[-1], features, panel, sequence_length=STEPS)
    volatility = training.volatility.of_panel(panel)
    data = replace(data, har=training.volatility, volatility=volatility).scaled(training.scaler)
    span = range(panel.position(training.cutoff) + 1, len(panel.sessions))
    return answer_windows(training.network, data, data.windows(span))


def calibrated(training: Training, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of both horizons ``[n, 5]``."""
    answer = training.calibrated(answers)
    return answer.return_quantiles.numpy(), answer.return_quantiles_5d.numpy()


@pytest.fixture(scope="module")
def garch(graph: FeatureGraph) -> tuple[Training, Answers]:
    panel = worlds.garch(8, 2200, seed=5).panel
    training = trained(panel, graph, 1200)
    return training, answers_after(training, panel, graph)


def test_quantiles_of_both_horizons_cover_in_a_garch_world(garch: tuple[Training, Answers]) -> None:
    """A thousand sessions after the cut-off: what is promised at one and at five sessions holds within a band."""
    training, answers = garch
    for quantiles, outcome, width in zip(
        calibrated(training, answers), (answers.outcome, answers.outcome_5d), (0.02, 0.03), strict=True
    ):
        below = (outcome[:, None] <= quantiles).mean(axis=0)
        assert below[[1, 3]] == pytest.approx([0.05, 0.95], abs=width)
        assert below[[0, 4]] == pytest.approx([0.01, 0.99], abs=0.01)


def test_wild_times_are_covered_as_calm_ones(garch: tuple[Training, Answers]) -> None:
    training, answers = garch
    for place, (quantiles, outcome) in enumerate(
        zip(calibrated(training, answers), (answers.outcome, answers.outcome_5d), strict=True)
    ):
        inside = (outcome >= quantiles[:, 1]) & (outcome <= quantiles[:, 3])
        order = np.array_split(np.argsort(answers.volatility[:, place]), 3)
        shares = [inside[part].mean() for part in order]
        assert shares == pytest.approx([0.9] * 3, abs=0.04)
        widths = [(quantiles[part, 3] - quantiles[part, 1]).mean() for part in order]
        assert widths[2] > 1.5 * widths[0], "wild times have wider answers"


def test_volatility_is_right_on_average_after_the_cutoff(garch: tuple[Training, Answers]) -> None:
    _, answers = garch
    assert np.mean(answers.scaled_return**2) == pytest.approx(1.0, abs=0.15)
    assert np.mean(answers.scaled_return_5d**2) == pytest.approx(1.0, abs=0.2)


TAKEN_BACK = 0.35
WORLDS = (0, 1, 2)
"""Seeds: how much a single training finds is partly chance."""


def reversals(strength: float, tickers: int = 8, sessions: int = 2000, seed: int = 0) -> tuple[PricePanel, np.ndarray]:
    """A common market that nobody can predict, and moves of each stock's own that are partly taken back next day.

    Returns the prices and the own moves ``[ticker, session]``.
    """
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0, 0.012, sessions)
    own = rng.normal(0.0, 0.012, (tickers, sessions))
    for session in range(1, sessions):
        own[:, session] -= strength * own[:, session - 1]
    return panel_from_returns(market + own, seed), own


@dataclass(frozen=True, eq=False)
class Reversal:
    """A training on ``reversals``, and the median of the next session if moves are taken back ``[n]``.

    That of the rows of the calibrate block, in units of the forecast volatility.
    """

    training: Training
    median: np.ndarray

    @classmethod
    def of(cls, strength: float, graph: FeatureGraph, seed: int) -> Reversal:
        panel, own = reversals(strength, seed=seed)
        training = trained(panel, graph, len(panel.sessions) - 1)
        answers = training.held_out
        ticker = [panel.tickers.index(name) for name in answers.ticker]
        move = own[ticker, panel.sessions.get_indexer(pd.DatetimeIndex(answers.session))]
        return cls(training, -TAKEN_BACK * move / answers.volatility[:, 0])


@pytest.fixture(scope="module")
def reversing(graph: FeatureGraph) -> list[Reversal]:
    return [Reversal.of(TAKEN_BACK, graph, seed) for seed in WORLDS]


@pytest.fixture(scope="module")
def unpredictable(graph: FeatureGraph) -> list[Reversal]:
    return [Reversal.of(0.0, graph, seed) for seed in WORLDS]


def medians(training: Training) -> tuple[np.ndarray, np.ndarray]:
    """Served medians of both horizons on the calibrate block ``[n, horizon]``, in volatilities, and the outcomes."""
    answers = training.held_out
    served = training.calibrated(answers)
    middle = torch.stack([served.return_quantiles[:, 2], served.return_quantiles_5d[:, 2]], dim=1).double().numpy()
    return middle / answers.volatility, np.stack([answers.scaled_return, answers.scaled_return_5d], axis=1)


def slope(y: np.ndarray, x: np.ndarray) -> float:
    """Of the regression of ``y`` on ``x``."""
    return float(np.cov(y, x)[0, 1] / np.var(x, ddof=1))


def test_a_median_that_can_be_predicted_is_predicted(reversing: list[Reversal]) -> None:
    """Beside the median that is true: the right direction, a good part of the size, and never more than comes."""
    for world in reversing:
        one, _ = world.training.fitted_calibration.shifts
        assert one.weights[2] > 0.4
        served, outcome = (each[:, 0] for each in medians(world.training))
        assert np.corrcoef(served, world.median)[0, 1] > 0.5
        assert slope(served, world.median) > 0.15
        assert slope(outcome, served) > 0.8


def test_a_median_that_nobody_can_predict_is_nearly_constant(unpredictable: list[Reversal]) -> None:
    for world in unpredictable:
        held_out = world.training.held_out
        served, _ = medians(world.training)
        raw = np.stack([held_out.multiples[:, 2], held_out.multiples_5d[:, 2]], axis=1)
        assert (served.std(axis=0) < 0.04).all()
        assert (served.std(axis=0) < 0.5 * raw.std(axis=0)).all()
        assert (np.abs(served.mean(axis=0)) < 0.2).all()
        # What would be right if moves were taken back is not served where they are not.
        assert abs(slope(served[:, 0], world.median)) < 0.02


def test_a_signal_that_ranks_is_learnt_by_the_score(reversing: list[Reversal]) -> None:
    training = reversing[0].training
    scores = held_out_scores(training.held_out)
    assert scores["rank_ic"].low > 0.05
    assert training.fitted_calibration.score.unconstrained_slope > 0.3
    held_out = training.held_out
    # What is expected is what comes: the excess return of a score, in units of volatility.
    expected = training.fitted_calibration.score.slope * held_out.score
    top = expected > np.quantile(expected, 0.8)
    assert held_out.excess[top].mean() == pytest.approx(expected[top].mean(), abs=0.15)
    assert held_out.excess[top].mean() > 0.1


def test_where_nothing_ranks_the_score_finds_nothing(unpredictable: list[Reversal]) -> None:
    training = unpredictable[1].training
    assert held_out_scores(training.held_out, level=0.998)["rank_ic"].spans_zero
    assert not check_answers(training.held_out).alarm
    assert training.fitted_calibration.score.slope > 0
