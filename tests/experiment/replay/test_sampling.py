"""Routed requests of a large universe: a sample per session, drawn once; pairs of all tickers in few requests."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import LogError, ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.sampling import RoutedSample
from tests.experiment.builders import CUTOFF, FakeGateway, arms, panel, play

PRICES = panel(sessions=40, tickers=12)
SESSIONS = PRICES.sessions[PRICES.sessions > CUTOFF][:6]
FIVE = RoutedSample(5, seed=3)


@pytest.fixture
def epoch(log: PredictionLog) -> WeightEpoch:
    return log.open_epoch("ab-experiment", arms(), "start", after=0)


def routed_by_session(log: PredictionLog) -> dict[pd.Timestamp, list[str]]:
    return {session: sorted(rows["ticker"]) for session, rows in log.routed().groupby("session")}


def test_a_universe_up_to_the_size_is_asked_for_as_a_whole(log: PredictionLog, epoch: WeightEpoch) -> None:
    report = play(log, epoch, PRICES, SESSIONS, FakeGateway().connect, sample=RoutedSample(12, 3))
    assert report.sent == 12 * len(SESSIONS)
    assert log.routed()["inclusion"].eq(1.0).all()
    assert RoutedSample().draw(SESSIONS[0], PRICES.tickers) == (PRICES.tickers, 1.0)


def test_of_a_larger_one_a_sample_is_routed_and_every_ticker_is_paired_in_one_call_per_arm(
    log: PredictionLog, epoch: WeightEpoch
) -> None:
    gateway = FakeGateway()
    report = play(log, epoch, PRICES, SESSIONS, gateway.connect, sample=FIVE)
    assert (report.sent, report.direct) == (5 * len(SESSIONS), 3 * 12 * len(SESSIONS))
    assert gateway.batches == [(arm.model, 12) for _ in SESSIONS for arm in epoch.arms]
    routed = log.routed()
    assert routed.groupby("session").size().eq(5).all()
    assert routed["inclusion"].eq(5 / 12).all()
    assert len({tuple(names) for names in routed_by_session(log).values()}) > 1, "each session has its own sample"


def test_an_interrupted_replay_draws_the_same_sample_again(log: PredictionLog, epoch: WeightEpoch) -> None:
    def fail(_target: str, _bars: np.ndarray, request_id: str | None) -> None:
        if request_id is not None and len(gateway.requests) > 8:
            raise KeyboardInterrupt

    gateway = FakeGateway(before=fail)
    with pytest.raises(KeyboardInterrupt):
        play(log, epoch, PRICES, SESSIONS, gateway.connect, sample=FIVE, workers=1)
    began = log.routed()
    assert (began["status"] == "pending").any()
    play(log, epoch, PRICES, SESSIONS, FakeGateway().connect, sample=FIVE)
    expected = {session: sorted(FIVE.draw(session, PRICES.tickers)[0]) for session in SESSIONS}
    assert routed_by_session(log) == expected


def test_a_universe_that_grows_adds_pairs_to_past_sessions_and_no_requests(
    log: PredictionLog, epoch: WeightEpoch
) -> None:
    few = panel(sessions=40, tickers=4)
    play(log, epoch, few, SESSIONS, FakeGateway().connect, sample=FIVE)
    before = routed_by_session(log)
    report = play(log, epoch, PRICES, SESSIONS, FakeGateway().connect, sample=FIVE)
    assert report.sent == 0
    assert report.direct == 3 * 8 * len(SESSIONS)
    assert routed_by_session(log) == before


def test_what_is_complete_is_not_read_again_and_what_is_not_is_found(
    log: PredictionLog, epoch: WeightEpoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(log, epoch, PRICES, SESSIONS, FakeGateway().connect, sample=FIVE)
    play(log, epoch, PRICES, SESSIONS, FakeGateway().connect, sample=FIVE)  # notes all of them
    asked: list[list[pd.Timestamp]] = []
    completed = log.completed_direct

    def counted(models: list[str], sessions: list[pd.Timestamp]) -> set[tuple[pd.Timestamp, str, str]]:
        asked.append(list(sessions))
        return completed(models, sessions)

    monkeypatch.setattr(log, "completed_direct", counted)
    later = PRICES.sessions[PRICES.sessions > CUTOFF][:7]
    report = play(log, epoch, PRICES, later, FakeGateway().connect, sample=FIVE)
    assert asked == [[later[-1]]]
    assert report.direct == 3 * 12
    # Another universe of the same size: what was complete for the first is not for the second.
    renamed = panel(sessions=40, tickers=13)
    other = type(renamed)(renamed.tickers[1:], renamed.sessions, renamed.values[1:], renamed.valid[1:])
    assert play(log, epoch, other, later, FakeGateway().connect, sample=FIVE).direct == 3 * len(later)


def test_every_ticker_is_as_likely_as_the_log_says() -> None:
    days = pd.date_range("2010-01-01", periods=4000)
    drawn = Counter(ticker for day in days for ticker in FIVE.draw(day, PRICES.tickers)[0])
    share = np.array([drawn[ticker] / len(days) for ticker in PRICES.tickers])
    deviation = np.sqrt(5 / 12 * 7 / 12 / len(days))
    assert np.abs(share - 5 / 12).max() < 4 * deviation
    other = RoutedSample(5, seed=4)
    assert any(FIVE.draw(day, PRICES.tickers) != other.draw(day, PRICES.tickers) for day in days[:5])


def test_impossible_samples_are_refused(log: PredictionLog, epoch: WeightEpoch) -> None:
    with pytest.raises(ReplayError, match="ROUTED_PER_SESSION=-1"):
        RoutedSample(-1)
    for inclusion in (0.0, 1.5, float("nan")):
        with pytest.raises(LogError, match="allowed: above 0, at most 1"):
            log.begin_routed(epoch, SESSIONS[0], SESSIONS[1], ["A"], inclusion=inclusion)
