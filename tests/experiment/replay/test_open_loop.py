"""Open and closed loop: instants fixed beforehand, latency from them, bounded in flight, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import GatewayUnavailableError, InferenceTimeoutError, ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.counts import Counts
from financial_assets.experiment.replay.dispatcher import RequestDispatcher
from financial_assets.experiment.replay.open_loop import OpenLoop, Timeline, Timing, summarize, timing_frame
from financial_assets.experiment.replay.pending import PendingSession, pending_sessions
from financial_assets.experiment.replay.request import ReplayRequest
from financial_assets.market.panel import PricePanel
from financial_assets.serving.client.answers import Answer
from tests.experiment.builders import CUTOFF, LOOKBACK, FakeGateway, panel, play, said
from tests.experiment.replay.virtual_sender import VirtualSender

SERVICE_S, STALL, PATIENCE_S = 0.004, (1.0, 3.0), 2.5


def free() -> None:
    """Every request may be sent."""


class Timed(FakeGateway):
    """Says that it took the service time."""

    def infer(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        answer = super().infer(target, bars, route=route, request_id=request_id)
        return said(answer.probability_up, answer.return_quantiles, answer.route, SERVICE_S)


def stalling(instant: float) -> float:
    """4 ms; who is asked in the stall answers after it."""
    return SERVICE_S + (STALL[1] - instant if STALL[0] <= instant < STALL[1] else 0.0)


def quick(_instant: float) -> float:
    return SERVICE_S


def run(
    log: PredictionLog,
    epoch: WeightEpoch,
    prices: PricePanel,
    served: Callable[[float], float],
    *,
    load: OpenLoop | None,
    limit: int,
    gateway: FakeGateway | None = None,
    limited: bool = False,
) -> tuple[RequestDispatcher, VirtualSender, list[PendingSession]]:
    """All routed requests of all sessions; ``limited``: the sender has the limit, as threads have."""
    work = traffic_of(log, epoch, prices)
    sender = VirtualSender(gateway or Timed(), served, limit if limited else 10_000)
    timeline = None if load is None else Timeline(load, sender.now)
    dispatcher = RequestDispatcher(log, epoch, sender, Counts(), limit, PATIENCE_S, free, timeline)
    send_all(dispatcher, work, prices)
    return dispatcher, sender, work


def traffic_of(log: PredictionLog, epoch: WeightEpoch, prices: PricePanel) -> list[PendingSession]:
    sessions = prices.sessions[prices.sessions > CUTOFF][:25]
    return pending_sessions(ReplayRequest(epoch, sessions, LOOKBACK, mode="split"), log, prices, epoch)


def send_all(dispatcher: RequestDispatcher, work: list[PendingSession], prices: PricePanel) -> None:
    with dispatcher.batch(sum(len(item.routed) for item in work)):
        for item in work:
            tickers, windows = prices.windows(item.session, LOOKBACK, list(item.routed))
            dispatcher.send(dispatcher.begin(item), dict(zip(tickers, windows, strict=True)))


@pytest.fixture(scope="module")
def wide() -> PricePanel:
    return panel(sessions=60, tickers=20)


def test_the_instants_are_seeded_and_of_the_asked_rate() -> None:
    def gaps(load: OpenLoop, count: int = 20_000) -> np.ndarray:
        source = load.gaps()
        return np.array([next(source) for _ in range(count)])

    poisson = gaps(OpenLoop(50.0, seed=3))
    np.testing.assert_array_equal(poisson, gaps(OpenLoop(50.0, seed=3)))
    assert not np.array_equal(poisson, gaps(OpenLoop(50.0, seed=4)))
    assert poisson.mean() == pytest.approx(1 / 50, rel=0.03)
    assert poisson.std() / poisson.mean() == pytest.approx(1, rel=0.05)  # exponential: as wide as long
    assert set(gaps(OpenLoop(50.0, "uniform"), 10)) == {1 / 50}


def test_the_timeline_waits_for_nothing_and_stands_still_in_a_pause() -> None:
    clock = [10.0]
    line = Timeline(OpenLoop(4.0, "uniform"), lambda: clock[0])
    assert line.next() == 10.25
    clock[0] = 17.0  # an answer that took long
    assert line.next() == 10.5
    with line.paused():
        clock[0] = 20.0  # pairs, a decision
    assert line.next() == 13.75


def test_requests_are_sent_at_their_instants_answered_or_not(
    log: PredictionLog, epoch: WeightEpoch, wide: PricePanel
) -> None:
    """Every answer takes a second, ten requests a second: nobody waits for anybody."""
    dispatcher, sender, work = run(log, epoch, wide, lambda _: 1.0, load=OpenLoop(10.0, "uniform"), limit=100)
    np.testing.assert_allclose(sender.sent_at, np.arange(1, 501) / 10)
    assert len({item.session for item in work}) == 25  # a session does not wait for the answers of the one before
    found = summarize(dispatcher.timings)
    assert (found.requests, found.late, found.longest_delay_s) == (500, 0, 0.0)
    assert 10 <= dispatcher.counts.most_in_flight <= 11
    assert found.from_schedule["p50"] == pytest.approx(1.0)
    assert dispatcher.counts.ok == 500


def test_a_stall_shows_in_the_latency_from_the_schedule_and_nowhere_else(
    log: PredictionLog, epoch: WeightEpoch, wide: PricePanel
) -> None:
    """Coordinated omission: a closed loop sends nothing while it waits, and reports a healthy gateway."""
    dispatcher, _, _ = run(log, epoch, wide, stalling, load=OpenLoop(100.0, "uniform"), limit=4)
    found = summarize(dispatcher.timings)
    waits = np.array([timing.latency_s for timing in dispatcher.timings])
    assert found.requests == 500
    assert found.service["p99"] == pytest.approx(SERVICE_S)  # the log's latency_s: the plane looks well
    assert found.from_schedule["p95"] > 1.5
    assert found.from_schedule["max"] == pytest.approx(STALL[1] - STALL[0], abs=0.05)
    assert 0.35 <= np.mean(waits > 10 * SERVICE_S) <= 0.55  # two of five seconds, and the way back
    assert 150 < found.late < 300  # could not be sent in time: counted
    assert dispatcher.counts.most_in_flight == 4


def test_a_closed_loop_does_not_see_the_stall(log: PredictionLog, epoch: WeightEpoch, wide: PricePanel) -> None:
    """The negative control of the test above: the same gateway, the same 500 requests."""
    dispatcher, sender, _ = run(log, epoch, wide, stalling, load=None, limit=4, limited=True)
    assert dispatcher.timings == []
    assert sum(STALL[0] <= sent < STALL[1] for sent in sender.sent_at) <= 4
    assert np.percentile(log.routed()["latency_s"], 95) == pytest.approx(SERVICE_S)


def test_no_more_than_the_limit_are_ever_in_flight(log: PredictionLog, epoch: WeightEpoch, wide: PricePanel) -> None:
    in_flight: list[int] = []
    served = 0.05

    dispatcher, sender, _ = run(log, epoch, wide, lambda _: served, load=OpenLoop(1000.0, seed=1), limit=7)
    for sent in sender.sent_at:
        in_flight.append(sum(sent - served + 1e-9 < other <= sent for other in sender.sent_at))
    assert max(in_flight) == dispatcher.counts.most_in_flight == 7
    found = summarize(dispatcher.timings)
    assert found.late > 450  # 7 limit at 50 ms are 140 requests a second, not 1000
    assert found.longest_delay_s == pytest.approx(500 / 140 - 0.5, rel=0.1)


class Away(Timed):
    """Nobody is there in the stall; ``sender`` says what time it is."""

    sender: VirtualSender

    def infer(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        if STALL[0] <= self.sender.now() < STALL[1]:
            raise GatewayUnavailableError("connection refused", answered=False)
        return super().infer(target, bars, route=route, request_id=request_id)


def test_an_outage_moves_no_instant_and_what_it_swallowed_is_sent_after_the_schedule(
    log: PredictionLog, epoch: WeightEpoch, wide: PricePanel
) -> None:
    gateway = Away()
    load = OpenLoop(100.0, "uniform")
    work = traffic_of(log, epoch, wide)
    gateway.sender = sender = VirtualSender(gateway, quick)
    dispatcher = RequestDispatcher(log, epoch, sender, Counts(), 4, PATIENCE_S, free, Timeline(load, sender.now))
    send_all(dispatcher, work, wide)
    np.testing.assert_allclose(sender.sent_at, np.arange(1, 501) / 100)  # nobody waited for the end of the outage
    swallowed = dispatcher.counts.unanswered
    assert swallowed == pytest.approx(200, abs=2)
    assert log.routed()["status"].value_counts().to_dict() == {"ok": 500 - swallowed, "pending": swallowed}
    for item in [item for item in work if item.session in dispatcher.unanswered]:
        tickers, windows = wide.windows(item.session, LOOKBACK, list(item.routed))
        dispatcher.send_again(dispatcher.begin(item), dict(zip(tickers, windows, strict=True)))
    assert log.routed()["status"].eq("ok").all()
    assert sorted(gateway.requests) == sorted(log.routed()["request_id"])  # each was answered once
    assert (dispatcher.counts.ok, dispatcher.counts.repeated) == (500, swallowed)
    found = summarize(dispatcher.timings)
    assert (found.requests, found.sent_again) == (500, swallowed)
    assert found.from_schedule["max"] < 0.1  # an answer that came when the replay asked again is no latency
    frame = timing_frame(dispatcher.timings).sort_values("due_s")
    np.testing.assert_allclose(frame["due_s"], np.arange(500) / 100, atol=1e-9)
    assert frame["sent_again"].sum() == swallowed


def test_an_open_loop_gives_up_on_a_plane_that_stays_away(
    log: PredictionLog, epoch: WeightEpoch, wide: PricePanel
) -> None:
    def away(_target: str, _bars: np.ndarray, _request: str | None) -> None:
        raise GatewayUnavailableError("connection refused", answered=False)

    with pytest.raises(ReplayError, match=r"READY_TIMEOUT is 2.5 s\): .*connection refused.*continues there"):
        run(log, epoch, wide, quick, load=OpenLoop(100.0, seed=2), limit=4, gateway=FakeGateway(before=away))
    assert log.routed()["status"].eq("pending").all()
    dispatcher, _, _ = run(log, epoch, wide, quick, load=OpenLoop(100.0, seed=2), limit=4)
    assert dispatcher.counts.ok == 500


def test_a_plane_that_hangs_ends_an_open_loop_and_a_second_run_goes_on(
    log: PredictionLog, epoch: WeightEpoch, wide: PricePanel
) -> None:
    def down(_target: str, _bars: np.ndarray, _request: str | None) -> None:
        raise InferenceTimeoutError("no answer within 10 s")

    load = OpenLoop(100.0, seed=2)
    with pytest.raises(ReplayError, match=r"2\d requests in a row"):
        run(log, epoch, wide, quick, load=load, limit=4, gateway=FakeGateway(before=down))
    lost = log.routed()
    assert lost["status"].isin(["unattributed", "pending"]).all()
    done = int((lost["status"] != "pending").sum())
    assert 20 <= done < 50
    dispatcher, _, _ = run(log, epoch, wide, quick, load=load, limit=4)
    assert dispatcher.counts.sent == 500 - done
    assert not log.routed()["status"].eq("pending").any()


def test_an_interruption_keeps_the_answers_under_way_and_sends_none_twice(
    log: PredictionLog, epoch: WeightEpoch, wide: PricePanel
) -> None:
    class Interrupted(VirtualSender):
        def wait(self, *values: object, **options: object) -> set:  # type: ignore[override,type-arg]
            if len(self.sent_at) == 30:
                raise KeyboardInterrupt
            return super().wait(*values, **options)  # type: ignore[arg-type]

    gateway = FakeGateway()
    sender = Interrupted(gateway, lambda _: 0.2)
    timings: list[Timing] = []
    timeline = Timeline(OpenLoop(50.0, seed=1), sender.now)
    dispatcher = RequestDispatcher(log, epoch, sender, Counts(), 64, PATIENCE_S, free, timeline, timings)
    work = traffic_of(log, epoch, wide)
    with pytest.raises(KeyboardInterrupt):
        send_all(dispatcher, work, wide)
    completed = set(log.routed().query("status != 'pending'")["request_id"])
    assert {timing.request_id for timing in timings} == completed == set(gateway.requests)
    assert 0 < len(completed) <= 30
    again = FakeGateway()
    run(log, epoch, wide, quick, load=OpenLoop(50.0, seed=1), limit=64, gateway=again)
    assert len(again.requests) == 500 - len(completed)
    assert not completed & set(again.requests)


def test_a_whole_replay_in_an_open_loop_sends_what_a_closed_one_does(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    """With threads and the machine's clock: nothing about times is asserted but their order."""
    gateway, timings = FakeGateway(), list[Timing]()
    sessions = prices.sessions[prices.sessions > CUTOFF][:10]
    load = OpenLoop(5000.0)
    report = play(log, epoch, prices, sessions, gateway.connect, load=load, timings=timings, workers=8)
    assert (report.sent, report.ok, report.direct, report.worked) == (40, 40, 120, 10)
    assert report.load is not None
    assert set(report.load.from_schedule) == set(report.load.service) == {"p50", "p95", "p99", "max"}
    assert 1 <= report.most_in_flight <= 8
    assert 1 <= gateway.opened == gateway.closed <= 8
    frame = timing_frame(timings)
    assert sorted(frame["request_id"]) == sorted(log.routed()["request_id"])
    assert (frame["sent_s"] >= frame["due_s"]).all()
    assert (frame["ended_s"] >= frame["sent_s"]).all()
    assert frame["due_s"].min() == 0
    again = play(log, epoch, prices, sessions, FakeGateway().connect, load=load)
    assert again.load is not None
    assert (again.sent, again.direct, again.load.from_schedule) == (0, 0, {})


@pytest.mark.parametrize(("rate", "arrivals"), [(0, "poisson"), (float("nan"), "poisson"), (1, "bursts")])
def test_what_is_no_load_is_refused(rate: float, arrivals: str) -> None:
    with pytest.raises(ReplayError, match="allowed:"):
        OpenLoop(rate, arrivals)  # type: ignore[arg-type]


def test_the_figures_of_nothing_are_empty() -> None:
    found = summarize([])
    assert (found.requests, found.late, found.from_schedule, found.service) == (0, 0, {}, {})
    assert isinstance(timing_frame([]), pd.DataFrame)
