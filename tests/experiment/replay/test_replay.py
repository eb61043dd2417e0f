from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import (
    GatewayUnavailableError,
    InferenceTimeoutError,
    LogError,
    ReplayError,
    RequestRejectedError,
)
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS
from financial_assets.experiment.replay.counts import ReplayReport
from financial_assets.market.panel import PricePanel
from financial_assets.serving.client.answers import Answer
from tests.experiment.builders import (
    CHALLENGER,
    CHAMPION,
    CUTOFF,
    LOOKBACK,
    SHADOW,
    FakeGateway,
    answer,
    arms,
    panel,
    play,
    said,
)
from tests.experiment.replay.replay_child import start_child
from tests.waiting import finish, wait_on


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("financial_assets.experiment.replay.asking._FIRST_WAIT_S", 0.0001)


def run(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, gateway: FakeGateway, count: int = 10, **options: object
) -> ReplayReport:
    sessions = options.pop("sessions", prices.sessions[prices.sessions > CUTOFF][:count])
    return play(log, epoch, prices, sessions, gateway.connect, **options)  # type: ignore[arg-type]


def test_every_session_is_sent_routed_and_scored_in_pairs(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    gateway = FakeGateway()
    report = run(log, epoch, prices, gateway, workers=3)
    assert (report.sessions, report.worked, report.sent, report.ok, report.direct) == (10, 10, 40, 40, 120)
    assert report.wall_s > 0
    routed, direct = log.routed(), log.direct()
    assert sorted(gateway.requests) == sorted(routed["request_id"])
    assert list(routed["model"]) == [gateway.draw(request) for request in routed["request_id"]]
    assert set(gateway.batches) == {(CHAMPION, 4), (CHALLENGER, 4), (SHADOW, 4)}
    both = routed.merge(direct, on=["session", "ticker", "model"], suffixes=("", "_direct"))
    assert len(both) == 40
    assert both["probability_up"].equals(both["probability_up_direct"])  # one artefact, one answer
    assert gateway.opened == gateway.closed == 3


def test_a_second_replay_sends_nothing(log: PredictionLog, epoch: WeightEpoch, prices: PricePanel) -> None:
    run(log, epoch, prices, FakeGateway())
    before, idle, moved = log.routed(), FakeGateway(), []
    report = run(log, epoch, prices, idle, on_session=moved.append)
    assert (report.worked, report.sent, report.direct) == (0, 0, 0)
    assert idle.requests == idle.batches == moved == []
    assert idle.opened == 0
    pd.testing.assert_frame_equal(log.routed(), before)


def test_a_new_epoch_routes_what_none_has_routed_and_never_scores_a_pair_twice(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    run(log, epoch, prices, FakeGateway(), count=3)
    second = log.open_epoch(epoch.experiment, arms(50, 50), "ladder", after=1)
    report = run(log, second, prices, FakeGateway(), count=5)
    assert (report.sent, report.direct) == (2 * 4, 2 * 4 * 3)
    assert not log.routed().duplicated(["session", "ticker"]).any()


def test_sessions_that_an_earlier_epoch_routed_are_only_scored_in_pairs(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    run(log, epoch, prices, FakeGateway(), count=4, mode="split")
    second = log.open_epoch(epoch.experiment, arms(50, 50), "ladder", after=1)
    report = run(log, second, prices, FakeGateway())
    assert (report.sent, report.direct) == (6 * 4, 10 * 4 * 3)
    by_epoch = log.routed().groupby("epoch")["session"]
    assert by_epoch.max()[1] < by_epoch.min()[2]


def test_the_clock_moves_before_the_session_is_sent(log: PredictionLog, epoch: WeightEpoch, prices: PricePanel) -> None:
    order: list[object] = []
    gateway = FakeGateway(before=lambda _target, _bars, request: order.append(request and request.split(".")[2]))
    run(log, epoch, prices, gateway, count=3, on_session=order.append)
    days = [item if item is None or isinstance(item, str) else item.date().isoformat() for item in order]  # type: ignore[union-attr]
    days_sent = [day for day in days if day is not None]
    assert days_sent == sorted(days_sent)
    assert all(not isinstance(order[i], str) for i in (0, 8, 16))  # the clock's turn: before 4 requests and 3 batches


def test_nothing_later_than_the_session_is_seen(log: PredictionLog, epoch: WeightEpoch, prices: PricePanel) -> None:
    """Bars are those of the panel cut at the session: changing the future changes no request."""
    gateway = FakeGateway()
    run(log, epoch, prices, gateway, count=5)
    last = prices.sessions[prices.sessions > CUTOFF][4]
    noise = prices.values.copy()
    noise[:, :, prices.sessions > last] *= 7
    other = PricePanel(prices.tickers, prices.sessions, noise, prices.valid)
    for request, bars in gateway.bars.items():
        _, _, day, ticker = request.split(".")
        assert bars.shape == (1, LOOKBACK, 7)
        np.testing.assert_array_equal(bars[0], other.window(ticker, pd.Timestamp(day), LOOKBACK))


def test_only_tickers_that_traded_and_have_enough_bars_are_asked(log: PredictionLog, epoch: WeightEpoch) -> None:
    prices = panel(sessions=60, tickers=3)
    start = int(prices.sessions.searchsorted(CUTOFF, side="right"))
    prices.valid[0, :start] = False  # listed after the cut-off
    prices.values[0, :5, :start] = np.nan
    prices.valid[1, start + 1] = False  # did not trade on the second session
    run(log, epoch, prices, FakeGateway(), count=LOOKBACK)
    rows = log.routed().groupby("ticker")["session"].apply(list)
    assert rows["T00"] == [prices.sessions[start + LOOKBACK - 1]]
    assert prices.sessions[start + 1] not in rows["T01"]
    assert len(rows["T02"]) == LOOKBACK


def test_sessions_that_a_model_has_learned_from_are_refused(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    with pytest.raises(ReplayError, match=r"2010-01-29 is not after 2010-01-29, the data cut-off"):
        run(log, epoch, prices, FakeGateway(), sessions=[CUTOFF, CUTOFF + pd.Timedelta(days=3)])
    with pytest.raises(ReplayError, match="not in the price panel"):
        run(log, epoch, prices, FakeGateway(), sessions=[pd.Timestamp("2010-02-06")])
    with pytest.raises(ReplayError, match="in order"):
        run(log, epoch, prices, FakeGateway(), sessions=[pd.Timestamp("2010-02-03"), pd.Timestamp("2010-02-02")])
    with pytest.raises(ReplayError, match="workers is 0"):
        run(log, epoch, prices, FakeGateway(), workers=0)
    assert log.routed().empty


def test_two_replays_of_one_experiment_do_not_run_at_once(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, log_url: str
) -> None:
    with PredictionLog(log_url) as other, other.exclusive(epoch.experiment), pytest.raises(LogError, match="another"):
        run(log, epoch, prices, FakeGateway())


def test_what_an_arm_fails_to_answer_is_a_failure_at_once(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    def unlucky(_target: str, _bars: np.ndarray, request: str | None) -> None:
        match request and request.split(".")[3]:
            case "T00":
                raise GatewayUnavailableError("onnxruntime failed", status=500, route=CHALLENGER)
            case "T01":
                raise InferenceTimeoutError("no answer in 1 s")
            case "T02":
                raise RequestRejectedError("NaN in bars", status=400, route=CHAMPION)

    gateway = FakeGateway(before=unlucky)
    report = run(log, epoch, prices, gateway, count=2)
    assert (report.sent, report.ok, report.failed, report.unattributed) == (8, 2, 4, 2)
    rows = log.routed()
    assert len(rows) == 8
    first = rows.set_index("ticker").groupby(level=0).first()
    assert list(first["status"]) == ["failed", "unattributed", "rejected", "ok"]
    assert list(first["failure"].iloc[:3]) == ["failed", "timeout", "rejected"]
    assert list(first["attempts"]) == [1, 1, 1, 1]  # an arm's failure must not become the answer of another arm
    assert "NaN in bars" in first.loc["T02", "error"]
    assert run(log, epoch, prices, gateway, count=2).sent == 0


def test_a_plane_that_hangs_stops_the_replay_and_costs_one_session_at_most(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    def down(_target: str, _bars: np.ndarray, _request: str | None) -> None:
        raise InferenceTimeoutError("no answer within 10 s")

    with pytest.raises(ReplayError, match="financial-assets serve"):
        run(log, epoch, prices, FakeGateway(before=down))
    assert list(log.routed()["status"]) == ["unattributed"] * 4
    report = run(log, epoch, prices, FakeGateway())
    assert (report.sent, report.ok) == (36, 36)
    assert log.direct()["status"].eq("ok").all()


def test_paired_scoring_without_an_answer_keeps_its_intents(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    def challenger_down(target: str, _bars: np.ndarray, request: str | None) -> None:
        if request is None and target == CHALLENGER:
            raise GatewayUnavailableError("503")

    with pytest.raises(ReplayError, match="paired scoring"):
        run(log, epoch, prices, FakeGateway(before=challenger_down))
    assert log.direct().groupby("model")["status"].first().to_dict() == {
        CHAMPION: "ok",
        CHALLENGER: "pending",
        SHADOW: "pending",
    }
    again = FakeGateway()
    run(log, epoch, prices, again, count=1)
    assert (again.requests, sorted(again.batches)) == ([], [(CHALLENGER, 4), (SHADOW, 4)])
    assert log.direct()["status"].eq("ok").all()


def test_one_ticker_that_a_model_rejects_does_not_spoil_the_batch(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    bad = prices.until(prices.sessions[prices.sessions > CUTOFF][0])
    poison = bad.window("T02", bad.sessions[-1], LOOKBACK)[-1, 3]

    def reject(target: str, bars: np.ndarray, request: str | None) -> None:
        if request is None and target == CHALLENGER and (bars[:, -1, 3] == poison).any():
            raise RequestRejectedError("non-positive price", status="INVALID_ARGUMENT")

    report = run(log, epoch, prices, FakeGateway(before=reject), count=1)
    assert (report.direct, report.direct_failed) == (12, 1)
    rows = log.direct()
    (failed,) = rows[rows["status"] != "ok"].itertuples()
    assert (failed.model, failed.ticker, failed.status) == (CHALLENGER, "T02", "rejected")


class Crooked(FakeGateway):
    """Answers what is no forecast."""

    broken: Answer | None = None

    def infer(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        super().infer(target, bars, route=route, request_id=request_id)
        assert self.broken is not None
        return self.broken


@pytest.mark.parametrize(
    ("probability", "quantiles"),
    [
        ([np.nan], [[-0.1, 0, 0, 0, 0.1]]),
        ([0.5, 0.5], [[-0.1, 0, 0, 0, 0.1]]),
        ([0.5], [[0.1, 0, 0, 0, -0.1]]),
        ([0.5], [[0.0, 0.1]]),
    ],
)
def test_an_unusable_answer_is_a_failure(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, probability: list[float], quantiles: list[list[float]]
) -> None:
    gateway = Crooked()
    gateway.broken = said(np.array(probability), np.array(quantiles), CHAMPION)
    report = run(log, epoch, prices, gateway, count=1)
    rows = log.routed()
    assert (report.failed, report.ok) == (4, 0)
    assert rows["status"].eq("failed").all()
    assert rows["model"].eq(CHAMPION).all()
    assert rows["error"].str.contains("unusable answer").all()
    assert rows["probability_up"].isna().all()


LEVELS = [-0.1, 0, 0, 0, 0.1]


@pytest.mark.parametrize(
    "further",
    [
        {"return_quantiles_5d": [LEVELS]},
        {"excess_return": [0.1]},
        {"return_quantiles_5d": [LEVELS], "excess_return": [np.nan]},
        {"return_quantiles_5d": [LEVELS], "excess_return": [np.inf]},
        {"return_quantiles_5d": [LEVELS], "excess_return": [0.1, 0.1]},
        {"return_quantiles_5d": [[*LEVELS[:4], np.nan]], "excess_return": [0.1]},
        {"return_quantiles_5d": [LEVELS[::-1]], "excess_return": [0.1]},
        {"return_quantiles_5d": [LEVELS[:4]], "excess_return": [0.1]},
        {"return_quantiles_5d": LEVELS, "excess_return": [0.1]},
    ],
)
def test_an_unusable_head_is_a_failure_of_the_whole_answer(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, further: dict[str, list[Any]]
) -> None:
    """Its sound heads are not logged either: nobody could tell later that the model was at fault."""
    gateway = Crooked()
    heads = {name: np.array(values) for name, values in further.items()}
    gateway.broken = said(np.array([0.5]), np.array([LEVELS]), CHAMPION, **heads)
    assert run(log, epoch, prices, gateway, count=1).failed == 4
    rows = log.routed()
    assert rows["status"].eq("failed").all()
    assert rows["error"].str.contains("unusable answer").all()
    assert rows[["probability_up", "q50", "q50_5d", "excess_return"]].isna().all(axis=None)


def test_an_arm_of_an_earlier_version_is_logged_beside_a_new_one(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    """Whatever it has no head for stays empty; the other arm's values are its own."""
    further = [*QUANTILE_5D_COLUMNS, "excess_return"]
    report = run(log, epoch, prices, FakeGateway(earlier=frozenset({CHAMPION})), count=8)
    assert report.failed == 0
    for rows in (log.routed(), log.direct()):
        assert rows["status"].eq("ok").all()
        assert set(rows["model"]) >= {CHAMPION, CHALLENGER}
        old = rows["model"] == CHAMPION
        assert rows.loc[old, further].isna().all(axis=None)
        assert rows.loc[~old, further].notna().all(axis=None)
        assert rows[["probability_up", "q01", "q99"]].notna().all(axis=None)
        np.testing.assert_array_equal(rows.loc[~old, "q01_5d"], np.full((~old).sum(), np.float64(np.float32(-0.06))))
        np.testing.assert_allclose(rows.loc[~old, "excess_return"], rows.loc[~old, "probability_up"] - 0.5, atol=1e-7)


def test_a_batch_answered_by_another_model_is_never_logged_as_this_models(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    class Crossed(FakeGateway):
        def infer_batch(self, target: str, bars: np.ndarray, **_: object) -> Answer:
            return answer(CHALLENGER, bars)

    with pytest.raises(ReplayError, match=f"{CHAMPION} was asked, but {CHALLENGER} answered"):
        run(log, epoch, prices, Crossed(), count=1)
    assert not log.direct()["status"].eq("ok").any()


def test_a_defect_of_the_client_ends_the_replay_with_the_intent_open(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    def defect(_target: str, _bars: np.ndarray, request: str | None) -> None:
        if request and request.endswith("T01"):
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        run(log, epoch, prices, FakeGateway(before=defect), workers=1)
    statuses = log.routed().set_index("ticker")["status"]
    assert statuses["T01"] == "pending"
    assert run(log, epoch, prices, FakeGateway(), count=1).ok == (statuses == "pending").sum()


def sent(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_replay_goes_on_where_it_was(
    log: PredictionLog, epoch: WeightEpoch, log_url: str, tmp_path: Path, ending: signal.Signals
) -> None:
    """A real child process, killed at two points; what had a result is never sent again, nothing is missing."""
    requests = tmp_path / "sent"
    completed: set[str] = set()
    for kill_after in (11, 52):
        start = len(sent(requests))
        with start_child(log_url, str(requests), "0.004", stderr=subprocess.PIPE) as child:
            wait_on(child, "it was killed", lambda wanted=kill_after: len(sent(requests)) >= wanted, poll_s=0.002)
            os.kill(child.pid, ending)
            finish(child)
            assert child.returncode == -ending if ending == signal.SIGKILL else child.returncode != 0
        assert not completed & set(sent(requests)[start:])
        rows = log.routed()
        completed = set(rows.loc[rows["status"] != "pending", "request_id"])
        assert completed <= set(sent(requests))  # no result without a request
        assert set(sent(requests)) <= set(rows["request_id"])  # no request without an intent
        if ending == signal.SIGINT:  # answers that were under way are kept, but for an unlucky instant
            assert len(set(sent(requests)) - completed) <= 1
    prices, gateway = panel(sessions=60, tickers=4), FakeGateway()
    run(log, epoch, prices, gateway, count=1000)
    assert not completed & set(gateway.requests)
    rows, direct = log.routed(), log.direct()
    expected = 4 * int((prices.sessions > CUTOFF).sum())
    assert len(rows) == expected
    assert rows["status"].eq("ok").all()
    assert (len(direct), set(direct["status"])) == (3 * expected, {"ok"})
    counted = pd.Series(sent(requests) + gateway.requests).value_counts()
    assert rows.set_index("request_id")["attempts"].ge(counted).all()
