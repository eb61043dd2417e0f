"""A fold is fitted once, kept with everything it depends on, and gone on with after any interruption."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import LeakAlarmError, TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.forecasts import forecasts_of
from financial_assets.models.training import train
from financial_assets.models.variants import Variant
from financial_assets.models.walk_forward import run as running
from financial_assets.models.walk_forward.folds import Fold
from financial_assets.models.walk_forward.run import BASELINES, WalkForward, models_and_folds
from financial_assets.models.walk_forward.spans import known_until
from tests.models.conftest import SEQUENCE_LENGTH
from tests.models.walk_forward.conftest import PLAN, walk_of

Make = Callable[..., WalkForward]


@pytest.fixture
def make(
    tmp_path: Path, universe: PricePanel, universe_features: FeaturePanel, graph: FeatureGraph, tiny: Variant
) -> Make:
    def build(**changes: Any) -> WalkForward:
        given = {"panel": universe, "features": universe_features} | changes
        return walk_of(tmp_path, graph=graph, tiny=tiny, **given)

    return build


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[pd.Timestamp]:
    """Cut-offs of all fits of a network."""
    seen: list[pd.Timestamp] = []

    def counted(*args: Any, **named: Any) -> Any:
        seen.append(named["cutoff"])
        return train(*args, **named)

    monkeypatch.setattr(running, "train", counted)
    return seen


def test_a_fold_is_the_production_fit_at_its_cutoff_asked_on_its_test_sessions(
    make: Make, universe: PricePanel, universe_features: FeaturePanel, graph: FeatureGraph, tiny: Variant
) -> None:
    walk = make()
    fold = walk.folds[0]
    found = walk.run("tiny", fold)
    cutoff = universe.sessions[fold.cutoff]
    training = train(
        tiny, universe_features, universe, cutoff=cutoff, sequence_length=SEQUENCE_LENGTH, seed=7, device="cpu"
    )
    sessions = universe.sessions[fold.test.start : fold.test.stop]
    expected = forecasts_of(training, universe, sessions, model="tiny", fold="fold-1", graph=graph)
    pd.testing.assert_frame_equal(found.forecasts, expected, check_exact=True)
    assert found.provenance.cutoff == f"{cutoff:%Y-%m-%d}"
    assert pd.Timestamp(found.provenance.first) > cutoff
    assert training.cutoff == cutoff
    assert found.forecasts[["outcome", "outcome_5d"]].notna().all(axis=None)


def test_an_interrupted_walk_forward_goes_on_without_repeating(
    make: Make, fits: list[pd.Timestamp], monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = make()
    first, second = walk.folds
    before = walk.run("tiny", first)
    with monkeypatch.context() as broken:
        broken.setattr(running, "forecasts_of", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            walk.run("tiny", second)
    assert [one.fold.name for one in walk.all_kept()] == ["fold-1"]
    again = [make().run("tiny", fold) for fold in (first, second)]
    assert [one.reused for one in again] == [True, False]
    assert len(fits) == 3
    pd.testing.assert_frame_equal(before.forecasts, again[0].forecasts, check_exact=True)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"sequence_length": SEQUENCE_LENGTH + 1},
        {"max_epochs": 1},
        {"plan": replace(PLAN, gap=6)},
        {"plan": replace(PLAN, window="rolling", window_sessions=600)},
        {"bayes_accuracy": 0.5},
    ],
)
def test_a_changed_setting_is_computed_anew(make: Make, change: dict[str, Any]) -> None:
    old, new = make(), make(**change)
    assert old.fingerprint("tiny", old.folds[0]) != new.fingerprint("tiny", new.folds[0])


def test_data_that_a_fold_has_read_change_its_fingerprint_and_later_ones_do_not(
    make: Make, universe: PricePanel
) -> None:
    walk = make()
    fold = walk.folds[0]
    known = walk.fingerprint("tiny", fold)
    for session, is_same in ((fold.test[0], False), (fold.settled, False), (fold.settled + 1, True)):
        values = universe.values.copy()
        values[0, 3, session] *= np.float32(1.001)
        assert (make(panel=replace(universe, values=values)).fingerprint("tiny", fold) == known) is is_same


def test_other_code_is_another_fingerprint(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = make()
    known = {name: walk.fingerprint(name, walk.folds[0]) for name in walk.models}
    monkeypatch.setattr(running, "code_version", lambda: "other")
    assert all(walk.fingerprint(name, walk.folds[0]) != before for name, before in known.items())


def test_a_damaged_file_is_computed_again(make: Make, tmp_path: Path) -> None:
    walk = make()
    before = walk.run("tiny", walk.folds[0])
    path = tmp_path / "tiny" / "fold-1.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert walk.all_kept() == ()
    again = walk.run("tiny", walk.folds[0])
    assert not again.reused
    pd.testing.assert_frame_equal(before.forecasts, again.forecasts, check_exact=True)


def test_two_at_once_fit_once(make: Make, fits: list[pd.Timestamp]) -> None:
    found: list[bool] = []
    workers = [threading.Thread(target=lambda: found.append(make().run("tiny", make().folds[0]).reused)) for _ in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(found) == [False, True]
    assert len(fits) == 1


def test_baselines_are_one_more_set(make: Make) -> None:
    walk = make()
    found = walk.run(BASELINES, walk.folds[1])
    assert found.forecasts["model"].nunique() > 10
    again = walk.run(BASELINES, walk.folds[1])
    assert again.reused
    pd.testing.assert_frame_equal(found.forecasts, again.forecasts, check_exact=True)


def test_folds_are_done_one_after_the_other_with_their_baselines(make: Make) -> None:
    names = [(name, fold.name) for name, fold in models_and_folds(make(), ["tiny"])]
    assert names == [("tiny", "fold-1"), (BASELINES, "fold-1"), ("tiny", "fold-2"), (BASELINES, "fold-2")]


def test_what_there_is_to_run_is_refused_before_it_begins(make: Make) -> None:
    with pytest.raises(TrainingError, match="nobody"):
        models_and_folds(make(), ["tiny", "nobody"])


def test_unknown_names_are_refused(make: Make) -> None:
    walk = make()
    with pytest.raises(TrainingError, match="among VARIANTS: tiny, or baselines"):
        walk.run("nobody", walk.folds[0])
    with pytest.raises(TrainingError, match=r"WALK_FORWARD_SPLITS=2 .*fold-1, fold-2"):
        walk.fold("fold-3")


def test_nothing_after_the_cutoff_is_given_to_a_walk_forward(
    make: Make, universe: PricePanel, universe_features: FeaturePanel
) -> None:
    cutoff = universe.sessions[-11]
    panel, features = known_until(cutoff, universe, universe_features)
    assert panel.sessions[-1] == features.sessions[-1] == cutoff
    walk = make(panel=panel, features=features)
    assert walk.folds[-1].settled == len(panel.sessions) - 1
    with pytest.raises(TrainingError, match="WALK_FORWARD_SPLITS"):
        _ = make(panel=panel, features=features, plan=replace(PLAN, splits=50)).folds


def test_a_variant_chosen_on_later_prices_is_not_judged(make: Make, universe: PricePanel, fits: list[Any]) -> None:
    fold: Fold = make().folds[0]
    ok, late = universe.sessions[fold.cutoff], universe.sessions[fold.cutoff + 1]
    with pytest.raises(LeakAlarmError, match=r"^search on the test sessions: variant tiny"):
        make(chosen_until={"tiny": late}).run("tiny", fold)
    assert fits == []
    walk = make(chosen_until={"tiny": ok})
    assert not walk.run("tiny", fold).reused


def test_a_leak_in_the_answers_stops_the_fold_and_nothing_is_kept(
    make: Make, monkeypatch: pytest.MonkeyPatch, universe: PricePanel
) -> None:
    """The served graph itself is replaced by one that has seen tomorrow."""

    def clairvoyant(*args: Any, **named: Any) -> pd.DataFrame:
        table = forecasts_of(*args, **named)
        return table.assign(probability_up=np.where(table["outcome"] > 0, 0.9, 0.1))

    monkeypatch.setattr(running, "forecasts_of", clairvoyant)
    walk = make()
    with pytest.raises(LeakAlarmError, match=r"^too good to be true: tiny: leak alarm"):
        walk.run("tiny", walk.folds[0])
    assert walk.all_kept() == ()
