from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import TrainingError
from financial_assets.models.dataset import (
    Blocks,
    Labels,
    WindowDataset,
    chronological_blocks,
    gather_windows,
    shuffled,
    usable_windows,
)

SHARES = st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3)


def settled(blocks: Blocks, horizon: int) -> list[tuple[int, int]]:
    """First decision of each block, and the session that settles its last label."""
    return [(block.start, block.stop - 1 + horizon) for block in (blocks.fit, blocks.stop, blocks.calibrate)]


def breaks_the_purge(blocks: Blocks, sessions: int, horizon: int) -> bool:
    """Whether a label is settled in or after the block that follows."""
    spans = settled(blocks, horizon)
    return any(last >= following for (_, last), (following, _) in zip(spans, [*spans[1:], (sessions, 0)], strict=True))


@given(st.integers(60, 5000), st.integers(0, 300), SHARES, st.integers(1, 5))
def test_blocks_are_chronological_and_purged(sessions: int, first: int, shares: list[float], horizon: int) -> None:
    try:
        blocks = chronological_blocks(sessions, first, shares, horizon)
    except TrainingError as error:
        smallest = int((sessions - first) * min(shares) / sum(shares))
        assert smallest <= horizon + 1
        assert "INGESTION_START_DATE" in str(error)  # noqa: PT017
        return
    assert blocks.fit.start == first
    assert not breaks_the_purge(blocks, sessions, horizon)
    decisions = [*blocks.fit, *blocks.stop, *blocks.calibrate]
    assert decisions == sorted(set(decisions))
    # No more is thrown away than the purge asks for.
    assert sessions - first - len(decisions) == 3 * horizon


def test_a_split_without_purge_is_seen_as_broken() -> None:
    unpurged = Blocks(range(70), range(70, 85), range(85, 100))
    assert breaks_the_purge(unpurged, 100, 1)
    assert breaks_the_purge(chronological_blocks(100, 0, horizon=4), 100, 5)
    assert not breaks_the_purge(chronological_blocks(100, 0), 100, 5)


@pytest.mark.parametrize(("shares", "horizon"), [((1, 1), 1), ((1, 0, 1), 1), ((1, 1, 1), 0)])
def test_impossible_splits_are_refused(shares: tuple[float, ...], horizon: int) -> None:
    with pytest.raises(TrainingError, match="positive shares"):
        chronological_blocks(100, 0, shares, horizon)


def test_usable_windows_need_the_first_step_today_and_tomorrow() -> None:
    valid = np.ones((3, 12), dtype=bool)
    valid[1, :4] = False  # listed, or ready, from session 4 on
    valid[2, 6] = False  # did not trade: no decision, but later windows may contain the carried bar
    settled = np.ones((3, 12), dtype=bool)
    settled[:, -1] = False
    usable = usable_windows(valid, settled, 3)
    assert np.flatnonzero(usable[0]).tolist() == list(range(2, 11))
    assert np.flatnonzero(usable[1]).tolist() == list(range(6, 11))
    assert np.flatnonzero(usable[2]).tolist() == [2, 3, 4, 5, 7, 8, 9, 10]


@pytest.mark.parametrize("length", [4, 5, 7, 100])
def test_a_history_shorter_than_a_window_has_no_usable_window(length: int) -> None:
    every = np.ones((1, 3), dtype=bool)
    assert usable_windows(every, every, 3).any()
    assert not usable_windows(every, every, length).any()


def constant_labels(tickers: int, sessions: int) -> Labels:
    flat = torch.zeros(tickers, sessions)
    return Labels(flat, flat.clone(), flat.clone(), torch.ones(tickers, sessions, 2))


def dataset(sequence_length: int = 4, span: range = range(5, 30)) -> tuple[WindowDataset, torch.Tensor, Labels]:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(3, 40, 12)).astype(np.float32))
    outcomes = torch.from_numpy(rng.normal(size=(3, 3, 40)).astype(np.float32))
    labels = Labels(*outcomes, volatility=torch.tensor([0.5, 0.25]).expand(3, 40, 2))
    usable = rng.random((3, 40)) < 0.8
    usable[:, : sequence_length - 1] = False
    return WindowDataset(features, labels, usable, span, sequence_length), features, labels


def test_gathered_windows_equal_slices() -> None:
    windows, features, labels = dataset()
    batch = windows.gather(torch.arange(len(windows)))
    for row, (ticker, session) in enumerate(zip(windows.tickers, windows.sessions, strict=True)):
        assert torch.equal(batch.inputs[row], features[ticker, session - 3 : session + 1])
        outcome, outcome_5d, excess, _ = (float(label[ticker, session].flatten()[0]) for label in labels)
        assert float(batch.scaled_return[row]) == pytest.approx(2 * outcome)
        assert float(batch.scaled_return_5d[row]) == pytest.approx(4 * outcome_5d)
        assert float(batch.excess[row]) == excess
        assert batch.volatility[row].tolist() == [0.5, 0.25]
        assert bool(batch.up[row]) == (outcome > 0)
    assert torch.equal(windows.last_step, batch.inputs[:, -1])


@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 5), st.data())
def test_windows_are_the_same_in_one_piece_and_step_by_step(
    tickers: int, sessions: int, width: int, data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, sessions))
    ends = st.tuples(st.integers(0, tickers - 1), st.integers(length - 1, sessions - 1))
    drawn = data.draw(st.lists(ends, max_size=8))
    features = torch.arange(tickers * sessions * width, dtype=torch.float32).view(tickers, sessions, width)
    last = torch.tensor([ticker * sessions + session for ticker, session in drawn], dtype=torch.int64)
    by_step = gather_windows(features, last, length, whole=False)
    assert torch.equal(gather_windows(features, last, length, whole=True), by_step)
    slices = [features[ticker, session - length + 1 : session + 1] for ticker, session in drawn]
    assert torch.equal(by_step, torch.stack(slices) if slices else torch.empty(0, length, width))


def test_windows_are_never_materialised() -> None:
    windows, features, _ = dataset()
    held = [value for value in vars(windows).values() if isinstance(value, torch.Tensor)] + list(windows.labels)
    assert any(value.data_ptr() == features.data_ptr() for value in held)
    own = sum(value.numel() for value in held if value.data_ptr() != features.data_ptr())
    assert own < len(windows) * 12  # less than one feature vector a window


def test_batches_visit_every_window_once() -> None:
    windows, _, _ = dataset()
    plain = torch.cat([batch.inputs for batch in windows.batches(7)])
    assert torch.equal(plain, windows.gather(torch.arange(len(windows))).inputs)
    assert (np.diff(windows.sessions) >= 0).all()
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(1))
    mixed = [batch.inputs for batch in windows.batches(7, order)]
    assert {len(batch) for batch in mixed[:-1]} == {7}
    assert torch.equal(torch.cat(mixed), plain[order])


@given(st.integers(1, 60), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_no_position_is_drawn_again_before_all_were_drawn(count: int, size: int, seed: int) -> None:
    draws = itertools.islice(shuffled(count, size, torch.Generator().manual_seed(seed)), 7)
    drawn = torch.cat(list(draws))
    assert len(drawn) == 7 * size
    for deck in drawn.split(count):
        assert len(deck.unique()) == len(deck)
    again = list(itertools.islice(shuffled(count, size, torch.Generator().manual_seed(seed)), 7))
    assert torch.equal(drawn, torch.cat(again))


def test_draws_of_the_whole_are_permutations_of_the_generator() -> None:
    generator, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for order in itertools.islice(shuffled(50, 50, generator), 3):
        assert torch.equal(order, torch.randperm(50, generator=same))


def test_batches_come_on_the_device_that_is_asked_for() -> None:
    windows, features, _ = dataset()
    elsewhere = WindowDataset(
        features,
        constant_labels(3, 40),
        np.ones((3, 40), dtype=bool),
        range(5, 9),
        4,
        torch.device("meta"),
    )
    assert {part.device.type for batch in elsewhere.batches(4) for part in batch} == {"meta"}
    assert {part.device.type for batch in windows.batches(4) for part in batch} == {"cpu"}


@pytest.mark.parametrize("spoil", Labels._fields)
def test_a_mask_that_lies_is_found(spoil: str) -> None:
    labels = constant_labels(1, 20)
    getattr(labels, spoil)[0, 10] = float("nan")
    with pytest.raises(TrainingError, match="disagree"):
        WindowDataset(torch.zeros(1, 20, 2), labels, np.ones((1, 20), dtype=bool), range(5, 15), 3)


def test_a_volatility_of_nothing_is_found() -> None:
    labels = constant_labels(1, 20)
    labels.volatility[0, 10, 1] = 0.0
    with pytest.raises(TrainingError, match="no positive volatility"):
        WindowDataset(torch.zeros(1, 20, 2), labels, np.ones((1, 20), dtype=bool), range(5, 15), 3)


def test_a_window_before_the_first_session_is_refused() -> None:
    with pytest.raises(TrainingError, match="SEQUENCE_LENGTH=3"):
        WindowDataset(torch.zeros(1, 20, 2), constant_labels(1, 20), np.ones((1, 20), dtype=bool), range(15), 3)
