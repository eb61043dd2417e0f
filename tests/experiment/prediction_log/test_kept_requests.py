"""Kept requests: bit for bit those of the log, whatever happened to the log and to the file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.kept_requests import KeptRequests
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.rollout.controller import TRAFFIC_COLUMNS
from financial_assets.market import calendar
from tests.experiment.builders import arms, panel

PRICES = panel(sessions=62, tickers=4)
SESSIONS = PRICES.sessions[20:]
QUANTILES = (-0.03, -0.02, 0.0, 0.02, 0.03)
EXPERIMENT = "ab-experiment"


class World:
    """A log that grows, and what is kept of it; ``read`` are the sessions that were read from the log."""

    def __init__(self, log: PredictionLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log, self.path, self.rng = log, path, np.random.default_rng(0)
        self.epoch = self.open_epoch(EXPERIMENT, 0)
        self.kept, self.open, self.read = KeptRequests(path), list[int](), list[list[pd.Timestamp]]()
        self.routed = log.routed

        def routed(*args: object, **kwargs: object) -> pd.DataFrame:
            rows = self.routed(*args, **kwargs)  # type: ignore[arg-type]
            self.read.append(sorted(set(rows["session"])))
            return rows

        monkeypatch.setattr(log, "routed", routed)

    def open_epoch(self, experiment: str, after: int) -> WeightEpoch:
        return self.log.open_epoch(experiment, arms(), "because", after=after)

    def request(
        self,
        session: pd.Timestamp,
        tickers: Sequence[str] = PRICES.tickers,
        answered: bool = True,
        epoch: WeightEpoch | None = None,
        regimes: dict[str, str] | None = None,
    ) -> None:
        of = epoch or self.epoch
        intents = self.log.begin_routed(of, session, calendar.next_session(session), tuple(tickers), regimes)
        self.open += [one.id for one in intents]
        if answered:
            self.answer()

    def answer(self) -> None:
        """The open intents; one in ten fails."""
        model = self.epoch.champion.model
        self.log.complete_routed(
            [
                Result(one, failure="timeout", error="slow")
                if self.rng.random() < 0.1
                else Result(one, Forecast(self.rng.random(), QUANTILES), route=model, latency_s=0.001)
                for one in self.open
            ]
        )
        self.open.clear()

    def look(
        self,
        until: pd.Timestamp = SESSIONS[-1],
        experiment: str = EXPERIMENT,
        columns: Sequence[str] = TRAFFIC_COLUMNS,
    ) -> list[list[pd.Timestamp]]:
        """Compare what is kept with all rows; which sessions had to be read."""
        self.read.clear()
        found = self.kept.routed(self.log, experiment, until, columns)
        whole = self.routed(experiment, until=until, columns=columns)
        pd.testing.assert_frame_equal(found, whole, check_exact=True)
        return list(self.read)


@pytest.fixture
def world(log: PredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(log, tmp_path / "kept" / "requests.npz", monkeypatch)


def test_a_new_session_is_all_that_is_read(world: World) -> None:
    assert world.look() == [[]], "an empty log"
    for place, session in enumerate(SESSIONS[:5]):
        world.request(session, regimes={PRICES.tickers[0]: "calm"} if place % 2 else None)
        assert world.look() == [[session]], place
        assert world.look() == [], "the same again reads nothing"


def test_a_late_answer_touches_only_its_session(world: World) -> None:
    for place in (0, 1, 2, 4, 3):
        world.request(SESSIONS[place], answered=place != 3)
    world.look()
    assert world.look() == [[SESSIONS[3]]], "open intents are looked at again"
    world.answer()
    assert world.look() == [[SESSIONS[3]]]
    assert world.look() == []


def test_epochs_of_one_session_keep_the_order_of_the_log(world: World) -> None:
    world.request(SESSIONS[0])
    world.request(SESSIONS[1], PRICES.tickers[:2])
    world.look()
    second = world.open_epoch(EXPERIMENT, 1)
    world.request(SESSIONS[1], PRICES.tickers[2:], epoch=second)
    world.request(SESSIONS[2], epoch=second)
    world.look()
    assert world.look() == []


def test_later_sessions_are_kept_but_not_given(world: World) -> None:
    for session in SESSIONS[:4]:
        world.request(session)
    world.look(until=SESSIONS[1])
    assert world.look() == [], "those up to another session"


def test_requests_of_another_experiment_are_no_news(world: World) -> None:
    world.request(SESSIONS[0])
    world.look()
    other = world.open_epoch("another", 0)
    world.request(SESSIONS[1], epoch=other)
    assert world.look() == []
    assert world.look(experiment="another") == [[SESSIONS[1]]], "which is kept in its place"
    assert world.look() == [[SESSIONS[0]]]


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_an_earlier_version(path: Path) -> None:
    """An array per column, behind its digest."""
    with np.load(io.BytesIO(path.read_bytes()[16:])) as held:
        arrays = {"state": held["state"], **{name: held["rows"][name] for name in held["rows"].dtype.names}}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    path.write_bytes(hashlib.blake2b(stream.getvalue(), digest_size=16).digest() + stream.getvalue())


@pytest.mark.parametrize("damage", [flipped, Path.unlink, lambda path: path.write_bytes(b""), of_an_earlier_version])
def test_a_damaged_file_is_made_anew(world: World, damage: Callable[[Path], object]) -> None:
    for session in SESSIONS[:3]:
        world.request(session)
    world.look()
    damage(world.path)
    assert world.look() == [list(SESSIONS[:3])]
    assert world.look() == []


def test_other_columns_and_another_log_are_read_anew(world: World) -> None:
    for session in SESSIONS[:3]:
        world.request(session)
    world.look()
    assert world.look(columns=("epoch", "status", "session")) == [list(SESSIONS[:3])]
    world.look()
    with world.log.engine.begin() as connection:  # as if another file had taken its place
        connection.execute(sa.delete(schema.routed).where(schema.routed.c.session == SESSIONS[1].date()))
    assert world.look() == [[SESSIONS[0], SESSIONS[2]]]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_it_is_the_log(world: World, seed: int) -> None:
    rng, asked = np.random.default_rng(seed), set[tuple[pd.Timestamp, str]]()
    epochs = [world.epoch]
    for _ in range(25):
        session = SESSIONS[int(rng.integers(10))]
        fresh = [name for name in PRICES.tickers if (session, name) not in asked and rng.random() < 0.7]
        if fresh:
            world.request(session, fresh, answered=rng.random() < 0.6, epoch=epochs[-1])
            asked |= {(session, name) for name in fresh}
        if rng.random() < 0.1:
            epochs.append(world.open_epoch(EXPERIMENT, len(epochs)))
        if rng.random() < 0.1 and world.path.exists():
            flipped(world.path)
        world.look()
    world.answer()
    world.look()
