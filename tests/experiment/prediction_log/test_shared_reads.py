"""Shared reads: rows as the log itself gives them, each of them read once."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pandas as pd
import pytest

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.kept.shared import EVIDENCE_COLUMNS
from financial_assets.experiment.evaluation.evaluate import DIRECT_COLUMNS, ROUTED_COLUMNS
from financial_assets.experiment.metrics.registry import EARLIER_METRICS, GUARDS, METRICS
from financial_assets.experiment.prediction_log.kept_predictions import KeptPredictions
from financial_assets.experiment.prediction_log.kept_requests import KeptRequests
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.prediction_log.shared_reads import SharedReads
from financial_assets.experiment.rollout.controller import TRAFFIC_COLUMNS
from financial_assets.market import calendar
from tests.experiment.builders import arms, panel

PRICES = panel(sessions=62, tickers=4)
SESSIONS = PRICES.sessions[20:28]
MODELS = tuple(arm.model for arm in arms())
EXPERIMENT = "ab-experiment"
DIRECT = tuple(dict.fromkeys((*DIRECT_COLUMNS, *EVIDENCE_COLUMNS)))
ROUTED = tuple(dict.fromkeys((*ROUTED_COLUMNS, *TRAFFIC_COLUMNS)))


class World:
    """A log with some sessions, and what was asked of it."""

    def __init__(self, log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log, self.epoch, self.asked = log, log.open_epoch(EXPERIMENT, arms(), "start", after=0), list[str]()
        for session in SESSIONS:
            self.append(self.epoch, session)
        self.itself = {name: getattr(log, name) for name in ("direct", "routed")}
        for name, read in self.itself.items():
            monkeypatch.setattr(log, name, self._noting(name, read))
        self.reads = SharedReads(log, DIRECT, ROUTED)

    def _noting(self, name: str, read: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
        def noted(*arguments: object, **named: object) -> pd.DataFrame:
            self.asked.append(name)
            return read(*arguments, **named)

        return noted

    def append(self, epoch: WeightEpoch, session: pd.Timestamp) -> None:
        """One session, its last answers outstanding."""
        target, answer = calendar.next_session(session), Forecast(0.6, (-0.03, -0.02, 0.0, 0.02, 0.03))
        paired = self.log.begin_direct(epoch.arms, session, target, PRICES.tickers)
        self.log.complete_direct([Result(one.id, answer, latency_s=0.001) for one in paired[:-1]])
        requests = self.log.begin_routed(epoch, session, target, PRICES.tickers)
        self.log.complete_routed([Result(one.id, answer, route=MODELS[0], latency_s=0.001) for one in requests[:-1]])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[World]:
    with PredictionLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        yield World(log, monkeypatch)


@pytest.mark.parametrize("models", [None, MODELS[:2], ()])
@pytest.mark.parametrize("since", [None, SESSIONS[2]])
@pytest.mark.parametrize("until", [None, SESSIONS[5], SESSIONS[0]])
def test_rows_of_a_wider_read_are_those_of_the_log(
    world: World, models: tuple[str, ...] | None, since: pd.Timestamp | None, until: pd.Timestamp | None
) -> None:
    world.reads.direct()
    world.reads.routed(EXPERIMENT)
    found = world.reads.direct(models, since=since, until=until, columns=EVIDENCE_COLUMNS)
    requests = world.reads.routed(EXPERIMENT, since=since, until=until, columns=TRAFFIC_COLUMNS)
    assert world.asked == ["direct", "routed"]
    own = world.itself["direct"](models, since=since, until=until, columns=EVIDENCE_COLUMNS)
    pd.testing.assert_frame_equal(found, own)
    own = world.itself["routed"](EXPERIMENT, since=since, until=until, columns=TRAFFIC_COLUMNS)
    pd.testing.assert_frame_equal(requests, own)


def test_what_a_read_does_not_hold_is_read(world: World) -> None:
    asked = [
        (MODELS[:1], SESSIONS[2], SESSIONS[4]),
        (MODELS[:2], SESSIONS[2], SESSIONS[4]),
        (MODELS[:1], SESSIONS[1], SESSIONS[4]),
        (MODELS[:1], None, SESSIONS[4]),
        (MODELS[:1], SESSIONS[2], SESSIONS[5]),
        (MODELS[:1], SESSIONS[2], None),
        (None, SESSIONS[2], SESSIONS[4]),
    ]
    for place, (models, since, until) in enumerate(asked, 1):
        found = world.reads.direct(models, since=since, until=until)
        pd.testing.assert_frame_equal(found, world.itself["direct"](models, since=since, until=until, columns=DIRECT))
        assert len(world.asked) == place
    other = world.log.open_epoch("another", arms(), "start", after=0)
    world.append(other, SESSIONS[0])
    world.asked.clear()
    assert len(world.reads.routed(EXPERIMENT)) == len(SESSIONS) * 4
    assert len(world.reads.routed("another")) == 4, "rows of one experiment do not hold those of another"
    assert world.asked == ["routed", "routed"]


def test_rows_that_came_after_the_first_read_are_read_next_time(world: World, tmp_path: Path) -> None:
    kept, requests, session = KeptPredictions(tmp_path), KeptRequests(tmp_path / "requests.npz"), SESSIONS[-1]
    before, late = len(world.reads.direct()), calendar.next_session(session)
    world.reads.routed(EXPERIMENT)
    world.append(world.epoch, late)
    # How far the log was read is said of the rows, not of the log as it is by now.
    assert len(kept.direct(world.reads, DIRECT_COLUMNS)) == before
    assert len(requests.routed(world.reads, EXPERIMENT, late, TRAFFIC_COLUMNS)) == len(SESSIONS) * 4
    again = SharedReads(world.log, DIRECT, ROUTED)
    own = world.itself["direct"](columns=DIRECT_COLUMNS)
    pd.testing.assert_frame_equal(kept.direct(again, DIRECT_COLUMNS), own)
    own = world.itself["routed"](EXPERIMENT, columns=TRAFFIC_COLUMNS)
    pd.testing.assert_frame_equal(requests.routed(again, EXPERIMENT, late, TRAFFIC_COLUMNS), own)


def test_the_report_asks_for_what_any_metric_needs() -> None:
    metrics = (*METRICS.values(), *EARLIER_METRICS.values(), *GUARDS.values())
    assert {column for metric in metrics for column in metric.answers} <= set(DIRECT)
