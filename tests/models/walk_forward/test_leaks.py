"""Every kind of leak is planted, stopped and named; honest data pass."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import LeakAlarmError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import PricePanel
from financial_assets.market.universe import Membership, Universe
from financial_assets.models.fitting import network as fitting_module
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training import Training
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant
from financial_assets.models.walk_forward import leaks
from financial_assets.models.walk_forward.run import BASELINES, WalkForward
from tests.models.conftest import SEQUENCE_LENGTH, persistent, walk
from tests.models.walk_forward.conftest import walk_of


def data_of(panel: PricePanel, features: FeaturePanel) -> TrainingData:
    return TrainingData.until(panel.sessions[650], features, panel, sequence_length=SEQUENCE_LENGTH)


@pytest.fixture
def make(tmp_path: Path, graph: FeatureGraph, tiny: Variant) -> Callable[..., WalkForward]:
    def build(panel: PricePanel, features: FeaturePanel, **changes: Any) -> WalkForward:
        return walk_of(tmp_path, panel, features, graph, tiny, **changes)

    return build


def planted(features: FeaturePanel, column: np.ndarray) -> FeaturePanel:
    """The third feature replaced."""
    values = features.values.copy()
    values[:, 2] = np.nan_to_num(column)
    return replace(features, values=values)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_target_among_the_features_is_named(
    sign: float, universe: PricePanel, universe_features: FeaturePanel, make: Callable[..., WalkForward]
) -> None:
    noise = np.random.default_rng(1).normal(0, 0.015, universe.valid.shape)
    leaking = planted(universe_features, sign * next_session_return(universe) + noise)
    name = universe_features.names[2]
    with pytest.raises(LeakAlarmError, match=rf"^target in the features: {name} alone"):
        leaks.require_honest_features(data_of(universe, leaking))
    folds = make(universe, leaking)
    with pytest.raises(LeakAlarmError, match=rf"^target in the features: {name}"):
        folds.run("tiny", folds.folds[0])


def test_the_size_of_the_next_move_among_the_features_is_named(
    universe: PricePanel, universe_features: FeaturePanel
) -> None:
    leaking = planted(universe_features, np.abs(next_session_return(universe)))
    with pytest.raises(LeakAlarmError, match=r"^target in the features"):
        leaks.require_honest_features(data_of(universe, leaking))


@pytest.mark.parametrize("seed", range(3))
def test_honest_features_pass(seed: int, graph: FeatureGraph) -> None:
    panel = walk(seed=seed, tickers=4, count=760)
    leaks.require_honest_features(data_of(panel, compute_panel(panel, graph)))


def test_a_predictable_market_is_held_against_what_can_be_known(graph: FeatureGraph) -> None:
    panel = persistent(seed=2, tickers=4, count=760, hit=0.75)
    features = compute_panel(panel, graph)
    moved = np.diff(np.log(panel.values[:, 3]), axis=1, prepend=np.nan)
    with pytest.raises(LeakAlarmError):
        leaks.require_honest_features(data_of(panel, planted(features, moved)))
    leaks.require_honest_features(data_of(panel, planted(features, moved)), bayes_accuracy=0.8)


def with_survey(panel: PricePanel, level: np.ndarray) -> PricePanel:
    channel = np.broadcast_to(level, panel.valid.shape)[:, None].astype(np.float32)
    return replace(panel, values=np.concatenate([panel.values, channel], axis=1), covariates=("SURVEY",))


def test_a_covariate_that_was_not_known_yet_is_named(universe: PricePanel) -> None:
    """The market's next move, dated a session too early: right for two tickers in three, and for all together."""
    spoilt = with_survey(universe, np.nan_to_num(next_session_return(universe).mean(axis=0)))
    features = compute_panel(spoilt, FeatureGraph(covariates=("SURVEY",)))
    with pytest.raises(LeakAlarmError, match=r"^future covariate: survey_\w+.* known_at of COVARIATE_FILES"):
        leaks.require_honest_features(data_of(spoilt, features), ("SURVEY",))


def test_a_covariate_that_was_known_passes(universe: PricePanel) -> None:
    """The same channel a session later is yesterday's news."""
    known = np.zeros(universe.valid.shape, dtype=np.float32)
    known[:, 1:] = np.sign(np.nan_to_num(next_session_return(universe)))[:, :-1]
    honest = replace(universe, values=np.concatenate([universe.values, known[:, None]], axis=1), covariates=("SURVEY",))
    features = compute_panel(honest, FeatureGraph(covariates=("SURVEY",)))
    leaks.require_honest_features(data_of(honest, features), ("SURVEY",))


def test_a_scaler_that_has_seen_all_data_is_named(
    universe: PricePanel,
    universe_features: FeaturePanel,
    make: Callable[..., WalkForward],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = universe_features.values.transpose(0, 2, 1)[universe_features.valid]

    class OfAll(RobustScaler):
        @classmethod
        def fit(cls, rows: Any) -> RobustScaler:
            import torch

            return RobustScaler.fit(torch.from_numpy(everything))

    folds = make(universe, universe_features)
    with monkeypatch.context() as spoilt:
        spoilt.setattr(fitting_module, "RobustScaler", OfAll)
        with pytest.raises(LeakAlarmError, match=r"^scaler of all data: tiny"):
            folds.run("tiny", folds.folds[0])
    assert folds.all_kept() == ()
    assert not folds.run("tiny", folds.folds[0]).reused


def test_a_scaler_of_the_fit_block_passes(training: Training, panel: PricePanel, features: FeaturePanel) -> None:
    data = TrainingData.until(training.cutoff, features, panel, sequence_length=SEQUENCE_LENGTH)
    leaks.require_fit_block_scaler(training, data)


def members(panel: PricePanel, left: str, last: int) -> Universe:
    stayed = tuple(Membership(ticker=name) for name in panel.tickers if name != left)
    gone = Membership(ticker=left, last=panel.sessions[last].date())
    return Universe((*stayed, gone))


def test_a_universe_without_those_who_left_is_named(
    universe: PricePanel, universe_features: FeaturePanel, make: Callable[..., WalkForward]
) -> None:
    dated = members(universe, "GONE", 300)
    with pytest.raises(LeakAlarmError, match=r"^universe of survivors: 1 of 1 who left .*\(GONE\)"):
        leaks.require_leavers(universe, dated)
    folds = make(universe, universe_features, universe=dated)
    for models in ("tiny", BASELINES):
        with pytest.raises(LeakAlarmError, match=r"^universe of survivors"):
            folds.run(models, folds.folds[0])


def test_a_universe_that_keeps_those_who_left_passes(universe: PricePanel) -> None:
    leaks.require_leavers(universe, None)
    leaks.require_leavers(universe, members(universe, universe.tickers[0], 300))
    before = Membership(ticker="EARLIER", last=dt.date(1990, 1, 1))
    leaks.require_leavers(universe, Universe((before, *members(universe, universe.tickers[0], 300).memberships)))


def test_what_was_searched_on_later_prices_is_named() -> None:
    cutoff = pd.Timestamp("2004-05-03")
    leaks.require_unseen(cutoff, cutoff, "the learning rate")
    with pytest.raises(LeakAlarmError, match=r"^search on the test sessions: the learning rate .*2004-05-04"):
        leaks.require_unseen(pd.Timestamp("2004-05-04"), cutoff, "the learning rate")


def test_answers_too_good_to_be_true_are_named_by_model() -> None:
    days = np.repeat(pd.bdate_range("2004-01-05", periods=100), 5)
    outcome = np.random.default_rng(3).normal(0, 0.01, 500)
    table = pd.DataFrame({"date": days, "ticker": "A", "outcome": outcome})
    honest = table.assign(model="honest", probability_up=0.55)
    knows = table.assign(model="knows", probability_up=np.where(outcome > 0, 0.6, 0.4))
    leaks.require_credible(honest)
    with pytest.raises(LeakAlarmError, match=r"^too good to be true: knows: leak alarm"):
        leaks.require_credible(pd.concat([honest, knows]))
    leaks.require_credible(pd.concat([honest, knows]), bayes_accuracy=1.0)
    leaks.require_credible(knows.assign(outcome=np.nan))


@pytest.mark.parametrize("reads", [0, 1])
def test_a_procedure_that_reads_beyond_the_cutoff_gives_itself_away(reads: int, universe: PricePanel) -> None:
    """A search that scores a learning rate on the sessions up to some end; one session too late is seen."""
    cutoff = 600

    def search(panel: PricePanel) -> float:
        score = panel.values[:, 3, : cutoff + 1 + reads]
        return float(np.log(score[:, -1] / score[:, 0]).sum())

    assert leaks.depends_on_later(search, universe, cutoff) is bool(reads)


def test_production_training_does_not_depend_on_what_comes_later(
    universe: PricePanel, graph: FeatureGraph, tiny: Variant
) -> None:
    from financial_assets.models.training import train

    def weights(panel: PricePanel) -> list[float]:
        found = train(
            replace(tiny, epochs=1),
            compute_panel(panel, graph),
            panel,
            cutoff=panel.sessions[700],
            sequence_length=SEQUENCE_LENGTH,
            seed=1,
            device="cpu",
        )
        return [
            float(one.detach().double().sum()) for one in (*found.network.parameters(), *found.calibration.buffers())
        ]

    assert not leaks.depends_on_later(weights, universe, 700)
