from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models import training as module
from financial_assets.models import variants
from financial_assets.models.dataset import Batch, WindowDataset
from financial_assets.models.heads import HEADS, QUANTILE_LEVELS, HeadOutputs, head_losses
from financial_assets.models.training import MeanLosses, Training, train, training_loss
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant


@pytest.fixture
def arguments(features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp, sequence_length: int) -> dict[str, Any]:
    return {
        "features": features,
        "panel": panel,
        "cutoff": cutoff,
        "sequence_length": sequence_length,
        "seed": 7,
        "device": "cpu",
    }


def same(one: Training, other: Training) -> bool:
    states = [
        {**training.network.state_dict(), **training.scaler.state_dict(), **training.calibration.state_dict()}
        for training in (one, other)
    ]
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0]) and np.array_equal(
        one.held_out.logit, other.held_out.logit
    )


def test_two_runs_are_bit_identical_and_another_seed_is_not(
    training: Training, tiny: Variant, arguments: dict[str, Any]
) -> None:
    torch.rand(3)  # the caller's random state must not matter
    assert same(training, train(tiny, **arguments))
    assert not same(training, train(tiny, **{**arguments, "seed": 8}))


def test_nothing_after_the_cutoff_is_read(
    training: Training,
    tiny: Variant,
    panel: PricePanel,
    graph: FeatureGraph,
    cutoff: pd.Timestamp,
    arguments: dict[str, Any],
) -> None:
    future = panel.position(cutoff) + 1
    values = panel.values.copy()
    values[:, :6, future:] *= (
        np.random.default_rng(1).uniform(0.2, 5.0, values[:, :6, future:].shape).astype(np.float32)
    )
    changed = replace(panel, values=values)
    again = train(tiny, **{**arguments, "panel": changed, "features": compute_panel(changed, graph)})
    assert same(training, again)
    # The control: one session earlier does change the model.
    values[:, :6, future - 30 :] *= np.float32(1.7)
    values[:, :6, future - 1] *= np.float32(1.1)
    other = replace(panel, values=values)
    assert not same(training, train(tiny, **{**arguments, "panel": other, "features": compute_panel(other, graph)}))


def test_best_epoch_is_restored(monkeypatch: pytest.MonkeyPatch, tiny: Variant, arguments: dict[str, Any]) -> None:
    losses = iter([0.9, 0.5, 0.8, 0.7])
    states: list[dict[str, torch.Tensor]] = []

    def evaluate(network: nn.Module, *_: object) -> tuple[MeanLosses, float]:
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return MeanLosses(next(losses), {}), 0.5

    monkeypatch.setattr(module, "evaluate", evaluate)
    trained = train(replace(tiny, epochs=4), **arguments)
    assert trained.best_epoch == 2
    assert [epoch.stop_loss for epoch in trained.history] == [0.9, 0.5, 0.8, 0.7]
    assert all(torch.equal(states[1][name], value) for name, value in trained.network.state_dict().items())
    assert not torch.equal(states[3]["heads.linear.weight"], states[1]["heads.linear.weight"])


def test_training_stops_when_patience_ends(
    monkeypatch: pytest.MonkeyPatch, tiny: Variant, arguments: dict[str, Any]
) -> None:
    monkeypatch.setattr(module, "evaluate", lambda *_: (MeanLosses(next(losses), {}), 0.5))
    losses = iter([0.9, 0.5, 0.6, 0.6, 0.1])
    trained = train(replace(tiny, epochs=9, patience=2), **arguments)
    assert (trained.best_epoch, len(trained.history)) == (2, 4)


@pytest.fixture
def universe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The panel of the tests counts as a large one."""
    monkeypatch.setattr(variants, "SMALL_PANEL", 200)
    monkeypatch.setattr(variants, "EPOCH_WINDOWS", 300)
    monkeypatch.setattr(module, "STOP_WINDOWS", 100)


@pytest.mark.usefixtures("universe")
def test_large_panels_are_trained_in_short_epochs_and_large_batches(
    monkeypatch: pytest.MonkeyPatch, training: Training, tiny: Variant, arguments: dict[str, Any]
) -> None:
    epochs: list[list[int]] = []
    looks: list[torch.Tensor] = []
    real = module.train_epoch

    def train_epoch(network: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Batch]) -> MeanLosses:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2 * tiny.learning_rate)
        kept = list(batches)
        epochs.append([len(batch.up) for batch in kept])
        return real(network, optimizer, kept)

    def evaluate(_: nn.Module, windows: WindowDataset, order: torch.Tensor) -> tuple[MeanLosses, float]:
        looks.append(order)
        assert len(windows) == training.windows["stop"]
        return MeanLosses(1.0 / len(looks), {}), 0.5

    monkeypatch.setattr(module, "train_epoch", train_epoch)
    monkeypatch.setattr(module, "evaluate", evaluate)
    trained = train(replace(tiny, batch_size=32), **arguments)
    assert trained.windows == training.windows
    assert epochs == [[128, 128, 44]] * tiny.epochs
    # The same windows each time, in order, from all over the block.
    assert all(torch.equal(looks[0], look) for look in looks)
    assert len(looks[0].unique()) == 100
    assert bool((looks[0].diff() > 0).all())
    assert int(looks[0].max()) > 0.9 * training.windows["stop"]


@pytest.mark.usefixtures("universe")
def test_two_runs_on_a_large_panel_are_bit_identical_and_another_seed_is_not(
    training: Training, tiny: Variant, arguments: dict[str, Any]
) -> None:
    trained = train(tiny, **arguments)
    assert not same(training, trained)
    assert same(trained, train(tiny, **arguments))
    assert not same(trained, train(tiny, **{**arguments, "seed": 8}))


def test_scaled_data_are_those_of_the_panel_through_the_scaler(
    training: Training, features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp, sequence_length: int
) -> None:
    data = TrainingData.until(cutoff, features, panel, sequence_length=sequence_length)
    assert data.features.numpy().base is not None  # a view of the panel
    scaled = data.scaled(training.scaler)
    assert scaled.features.is_contiguous()
    index = torch.arange(len(data.stop))
    inputs = scaled.stop.gather(index).inputs
    assert torch.equal(inputs[:, -1], training.scaler(data.stop.last_step))
    tickers, sessions = data.stop.tickers, data.stop.sessions
    values = torch.from_numpy(features.values[tickers, :, sessions - (sequence_length - 1)])
    assert torch.equal(inputs[:, 0], training.scaler(values))


def test_data_without_room_on_the_device_give_the_same_model(
    monkeypatch: pytest.MonkeyPatch, training: Training, tiny: Variant, arguments: dict[str, Any]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(module, "has_room", lambda _, size: bool(asked.append(size)))
    assert same(training, train(tiny, **arguments))
    assert asked == [arguments["features"].values[:, :, :800].nbytes]


def test_spans_counts_and_history_are_told(
    training: Training, panel: PricePanel, cutoff: pd.Timestamp, tiny: Variant
) -> None:
    assert training.cutoff == cutoff
    borders = [day for span in training.spans.values() for day in span]
    assert borders == sorted(borders)
    # The last decision whose outcome over five sessions is settled.
    assert training.spans["calibrate"][1] == panel.sessions[panel.position(cutoff) - 5]
    assert training.windows["calibrate"] == len(training.held_out)
    assert min(training.held_out.session) == training.spans["calibrate"][0]
    assert 1 <= training.best_epoch <= len(training.history) <= tiny.epochs
    assert not training.network.training


def test_the_scaler_sees_the_fit_block_only(
    training: Training, features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp, sequence_length: int
) -> None:
    data = TrainingData.until(cutoff, features, panel, sequence_length=sequence_length)
    rows = data.fit.last_step
    assert torch.equal(training.scaler.center, rows.sort(dim=0).values[int(0.5 * (len(rows) - 1))])


@pytest.mark.parametrize(("days", "length"), [(40, 5), (260, 5), (330, 5), (799, 700)])
def test_too_little_history_names_the_settings(
    tiny: Variant, panel: PricePanel, arguments: dict[str, Any], days: int, length: int
) -> None:
    with pytest.raises(TrainingError) as caught:
        train(tiny, **{**arguments, "cutoff": panel.sessions[days], "sequence_length": length})
    for setting in ("TICKERS", "INGESTION_START_DATE", "SEQUENCE_LENGTH"):
        assert setting in str(caught.value)


def test_sequence_length_must_be_positive(tiny: Variant, arguments: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="SEQUENCE_LENGTH must be at least 1"):
        train(tiny, **{**arguments, "sequence_length": 0})


def test_panels_that_disagree_are_refused(tiny: Variant, features: FeaturePanel, arguments: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="features are for"):
        train(tiny, **{**arguments, "features": replace(features, tickers=("A", "B"))})
    shorter = replace(
        features,
        sessions=features.sessions[:-1],
        values=features.values[:, :, :-1],
        valid=features.valid[:, :-1],
    )
    with pytest.raises(TrainingError, match="materialise `features` again"):
        train(tiny, **{**arguments, "features": shorter})


def test_a_loss_that_is_not_finite_ends_the_training(
    monkeypatch: pytest.MonkeyPatch, tiny: Variant, arguments: dict[str, Any]
) -> None:
    with pytest.raises(TrainingError, match=r"'tiny'.*not finite in epoch 1"):
        train(replace(tiny, learning_rate=1e30), **arguments)


def test_interrupt_passes_through_and_leaves_torch_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tiny: Variant, arguments: dict[str, Any]
) -> None:
    def interrupt(*_: object) -> MeanLosses:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_epoch", interrupt)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(tiny, **arguments, progress=True)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_progress_bar_is_shown_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], tiny: Variant, arguments: dict[str, Any]
) -> None:
    train(replace(tiny, epochs=1), **arguments)
    assert capsys.readouterr() == ("", "")
    train(replace(tiny, epochs=1), **arguments, progress=True)
    assert "training tiny" in capsys.readouterr().out


def test_the_loss_is_the_sum_of_those_of_four_heads() -> None:
    logit, up = torch.tensor([[0.3], [-1.2]]), torch.tensor([[1.0], [1.0]])
    multiples, scaled = torch.zeros(2, 5), torch.tensor([[0.8], [-0.5]])
    score, excess = torch.tensor([[0.5], [0.0]]), torch.tensor([[0.1], [3.0]])
    outputs = HeadOutputs(logit, multiples, multiples + 1.0, score)
    batch = Batch(torch.zeros(2, 1, 1), up, scaled, scaled + 3.0, excess, torch.ones(2, 2))
    probability = 1 / (1 + np.exp(-logit.numpy()))
    levels = np.asarray(QUANTILE_LEVELS)
    expected = [
        float(-np.log(probability).mean()),
        np.mean([levels * 0.8, (1 - levels) * 0.5]),
        np.mean([levels * 2.8, levels * 1.5]),
        np.mean([0.5 * 0.4**2, 3.0 - 0.5]),  # squared within one volatility, linear beyond
    ]
    assert [float(loss) for loss in head_losses(outputs, batch)] == pytest.approx(expected, rel=1e-5)
    assert float(training_loss(outputs, batch)) == pytest.approx(sum(expected), rel=1e-5)


def test_history_holds_the_losses_of_every_head(training: Training) -> None:
    for epoch in training.history:
        for total, by_head in ((epoch.fit_loss, epoch.fit_losses), (epoch.stop_loss, epoch.stop_losses)):
            assert tuple(by_head) == HEADS
            assert sum(by_head.values()) == pytest.approx(total)
    best = min(training.history, key=lambda epoch: epoch.stop_loss)
    assert training.best_epoch == best.number
