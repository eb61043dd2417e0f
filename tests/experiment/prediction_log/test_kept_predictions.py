"""Kept predictions: bit for bit those of the log, whatever happened to the log and to the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS
from financial_assets.experiment.prediction_log import kept_predictions, schema
from financial_assets.experiment.prediction_log.kept_predictions import KeptPredictions
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.market import calendar
from tests.experiment.builders import arms, panel

PRICES = panel(sessions=62, tickers=4)
SESSIONS = PRICES.sessions[20:]
QUANTILES = (-0.03, -0.02, 0.0, 0.02, 0.03)
WEEK = (-0.06, -0.04, 0.0, 0.04, 0.06)


class World:
    """A log that grows, and what is kept of it; ``read`` are the sessions that were read from the log."""

    def __init__(self, log: PredictionLog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log, self.folder, self.rng = log, folder, np.random.default_rng(0)
        self.epoch: WeightEpoch = log.open_epoch("ab-experiment", arms(), "start", after=0)
        self.kept, self.open, self.read = KeptPredictions(folder), list[int](), list[list[pd.Timestamp]]()
        self.direct = log.direct

        def direct(*args: object, **kwargs: object) -> pd.DataFrame:
            rows = self.direct(*args, **kwargs)  # type: ignore[arg-type]
            self.read.append(sorted(set(rows["session"])))
            return rows

        monkeypatch.setattr(log, "direct", direct)

    def predict(self, session: pd.Timestamp, tickers: Sequence[str] = PRICES.tickers, answered: bool = True) -> None:
        intents = self.log.begin_direct(self.epoch.arms, session, calendar.next_session(session), tuple(tickers))
        self.open += [one.id for one in intents]
        if answered:
            self.answer()

    def answer(self) -> None:
        """The open intents; one in ten fails, every second one is of a model without all heads."""
        results = [
            Result(one, failure="timeout", error="slow")
            if self.rng.random() < 0.1
            else Result(
                one, Forecast(self.rng.random(), QUANTILES, *((WEEK, 0.1 * one) if one % 2 else ())), latency_s=0.001
            )
            for one in self.open
        ]
        self.log.complete_direct(results)
        self.open.clear()

    def look(self, columns: Sequence[str] = DIRECT_COLUMNS) -> list[list[pd.Timestamp]]:
        """Compare what is kept with all rows; which sessions had to be read."""
        self.read.clear()
        found = self.kept.direct(self.log, columns)
        pd.testing.assert_frame_equal(found, self.direct(columns=columns), check_exact=True)
        return list(self.read)


@pytest.fixture
def world(log: PredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(log, tmp_path / "predictions", monkeypatch)


def test_a_new_session_is_all_that_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_predictions, "MOST_PARTS", 4)
    assert world.look() == [[]], "an empty log"
    for place, session in enumerate(SESSIONS[:12]):
        world.predict(session)
        assert world.look() == [[session]], place
        assert world.look() == [], "the same again reads nothing"
        assert len(list(world.folder.glob("*.parquet"))) <= 4


def test_a_late_answer_touches_only_its_session(world: World) -> None:
    for place in (0, 1, 2, 4, 5, 3):
        world.predict(SESSIONS[place], answered=place != 3)
    world.look()
    assert world.look() == [[SESSIONS[3]]], "open intents are looked at again"
    world.answer()
    assert world.look() == [[SESSIONS[3]]]
    assert world.look() == []


def test_an_earlier_session_and_a_ticker_of_a_known_one_find_their_places(world: World) -> None:
    world.predict(SESSIONS[5], PRICES.tickers[1:])
    world.look()
    world.predict(SESSIONS[2])
    world.predict(SESSIONS[5], PRICES.tickers[:1])
    (read,) = world.look()
    assert set(read) <= {SESSIONS[2], SESSIONS[5]}
    assert world.look() == []


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def renamed_day(path: Path) -> None:
    """JSON that is whole, but says less than was written."""
    digest, _, body = path.read_bytes().partition(b"\n")
    state = json.loads(body)
    state["files"].popitem()
    path.write_bytes(digest + b"\n" + json.dumps(state).encode())


@pytest.mark.parametrize("damage", [flipped, Path.unlink, lambda path: path.write_bytes(b""), renamed_day])
@pytest.mark.parametrize("suffix", ["parquet", "json"])
def test_damaged_files_are_made_anew(world: World, damage: Callable[[Path], object], suffix: str) -> None:
    for session in SESSIONS[:4]:
        world.predict(session)
    world.look()
    if damage is renamed_day and suffix == "parquet":
        suffix = "json"
    for path in world.folder.glob(f"*.{suffix}"):
        damage(path)
    assert world.look() == [list(SESSIONS[:4])]
    assert world.look() == []


def test_other_columns_and_another_log_are_read_anew(world: World) -> None:
    for session in SESSIONS[:3]:
        world.predict(session)
    world.look()
    assert world.look(DIRECT_COLUMNS[:5]) == [list(SESSIONS[:3])]
    world.look()
    with world.log.engine.begin() as connection:  # as if another file had taken its place
        connection.execute(sa.delete(schema.direct).where(schema.direct.c.session == SESSIONS[1].date()))
    assert world.look() == [[SESSIONS[0], SESSIONS[2]]]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_it_is_the_log(world: World, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(kept_predictions, "MOST_PARTS", 3)
    rng = np.random.default_rng(seed)
    asked = set[tuple[pd.Timestamp, str]]()
    for _ in range(25):
        session = SESSIONS[rng.integers(10)]
        fresh = [name for name in PRICES.tickers if (session, name) not in asked and rng.random() < 0.7]
        if fresh:
            world.predict(session, fresh, answered=rng.random() < 0.6)
            asked |= {(session, name) for name in fresh}
        if rng.random() < 0.1:
            flipped(sorted(world.folder.glob("*"))[0]) if any(world.folder.glob("*")) else None
        world.look()
    world.answer()
    world.look()
