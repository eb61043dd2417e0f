"""One family carries all the signal: every way of asking must name it first, and nothing for a constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.explanations.ablation import ablate, without
from financial_assets.models.explanations.gradients import ANSWERS, integrated_gradients
from financial_assets.models.explanations.held_out import HeldOut
from financial_assets.models.explanations.losses import losses_of_answers, row_losses
from financial_assets.models.explanations.permutation import permutation_importance
from financial_assets.models.heads import HeadOutputs, head_losses
from financial_assets.models.training import Training
from tests.models.explanations.worlds import FAMILY_OF

World = tuple[FeaturePanel, PricePanel]


def test_integrated_gradients_name_it_and_add_up(held_out: HeldOut) -> None:
    found = integrated_gradients(held_out, most=200)
    assert [answer.answer for answer in found] == list(ANSWERS)
    for answer in found:
        assert answer.completeness_error < 1e-3
        assert sum(family.share for family in answer.families) == pytest.approx(1.0)
        assert next(family for family in answer.families if family.family == "constant").share == 0.0
        assert len(answer.steps) == 3
    by_answer = {answer.answer: answer for answer in found}
    for name in ("direction", "median", "score"):
        answer = by_answer[name]
        assert answer.families[0].family == "signal"
        assert answer.features[0].feature == "signal_a"
        assert max(answer.steps) == answer.steps[-1]  # what is known today counts, not what was known before
    assert by_answer["direction"].families[0].share > 0.5


def test_permutation_names_it(held_out: HeldOut) -> None:
    found = permutation_importance(held_out, repeats=4, most=10_000, seed=1)
    for kind in ("across days", "within days"):
        chosen = [importance for importance in found if importance.kind == kind]
        assert {importance.family for importance in chosen} == {"noise", "signal", "constant", "date"}
        assert chosen[0].family == "signal"
        for head in ("direction", "quantiles", "score", "total"):
            assert chosen[0].losses[head].low > 0
        constant = next(importance for importance in chosen if importance.family == "constant")
        assert all((one.estimate, one.low, one.high) == (0.0, 0.0, 0.0) for one in constant.losses.values())
    # The date is the same for all tickers: exchanging it among them changes nothing.
    within = {importance.family: importance for importance in found if importance.kind == "within days"}
    assert within["date"].losses["total"].estimate == 0.0


def test_ablation_names_it(trained: Training, world: World, held_out: HeldOut) -> None:
    begun: list[tuple[str, int]] = []
    found = ablate(
        trained, *world, held_out.families, device="cpu", on_training=lambda *training: begun.append(training)
    )
    assert begun == [(family, trained.seed) for family in held_out.families]
    assert found[0].family == "signal"
    assert found[0].losses["total"].low > 0
    assert found[0].losses["direction"].low > 0
    constant = next(ablation for ablation in found if ablation.family == "constant")
    assert constant.by_seed == (0.0,)
    assert constant.losses["total"].estimate == 0.0


def test_further_seeds_train_the_whole_model_too(trained: Training, world: World, held_out: HeldOut) -> None:
    begun: list[tuple[str, int]] = []
    quick = replace(trained, variant=replace(trained.variant, epochs=1))
    (found,) = ablate(
        quick,
        *world,
        held_out.families,
        chosen=("noise",),
        seeds=2,
        device="cpu",
        on_training=lambda *training: begun.append(training),
    )
    assert begun == [("", trained.seed + 1), ("noise", trained.seed), ("noise", trained.seed + 1)]
    assert len(found.by_seed) == 2
    assert found.losses["total"].estimate == pytest.approx(np.mean(found.by_seed), rel=1e-6)


def test_impossible_ablations_are_named(trained: Training, world: World, held_out: HeldOut) -> None:
    with pytest.raises(TrainingError, match="no family astrology; there are noise, signal, constant, date"):
        ablate(trained, *world, held_out.families, chosen=("astrology",))
    with pytest.raises(TrainingError, match="nothing left"):
        ablate(trained, *world, {"signal": (2,)})
    with pytest.raises(TrainingError, match="seeds"):
        ablate(trained, *world, held_out.families, seeds=0)


def test_leaving_out_changes_no_other_feature(world: World) -> None:
    features, _ = world
    masked = without(features, (2, 3))
    assert not masked.values[:, 2:4].any()
    assert np.array_equal(np.delete(masked.values, (2, 3), axis=1), np.delete(features.values, (2, 3), axis=1))
    assert features.values[:, 2:4].any()


def test_losses_of_rows_are_those_of_training(held_out: HeldOut, trained: Training) -> None:
    batch = held_out.batch(np.arange(len(held_out)))
    outputs = HeadOutputs(*(part.detach() for part in held_out.network(batch.inputs, batch.volatility)))
    rows = row_losses(outputs, batch)
    assert rows[:, :4].mean(axis=0) == pytest.approx([float(loss) for loss in head_losses(outputs, batch)], rel=1e-5)
    assert rows[:, 4] == pytest.approx(rows[:, :4].sum(axis=1))
    assert losses_of_answers(trained.held_out) == pytest.approx(rows, rel=1e-4, abs=1e-5)


def test_only_windows_that_no_weight_has_seen_are_asked(held_out: HeldOut, trained: Training) -> None:
    assert held_out.dates.min() == trained.spans["calibrate"][0]
    assert held_out.dates.max() == trained.spans["calibrate"][1]
    assert pd.Timestamp(held_out.dates.max()) <= trained.cutoff


def test_features_of_another_training_are_refused(trained: Training, world: World) -> None:
    features, panel = world
    other = replace(features, names=("other", *features.names[1:]))
    with pytest.raises(TrainingError, match="materialize models/small"):
        HeldOut.of(trained, other, panel, FAMILY_OF)


def test_whole_days_are_left_out(held_out: HeldOut) -> None:
    positions = held_out.days(100)
    days, counts = np.unique(held_out.dates[positions], return_counts=True)
    assert 60 <= len(positions) <= 100
    assert (counts == 4).all()
    assert days[0] == held_out.dates.min()
    assert days[-1] == held_out.dates.max()
    assert len(held_out.days(10**6)) == len(held_out)
