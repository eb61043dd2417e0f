"""The live view: what it counts, what it must not know yet, and how it is shown."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.replay.live_view import LiveView, as_table
from financial_assets.experiment.replay.scoreboard import Scoreboard
from financial_assets.market.panel import PricePanel
from financial_assets.scoring.intervals import day_clustered_mean
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, FakeGateway, panel, play
from tests.experiment.decision.builders import EPOCH, QUIET, evidence, plan

PRICES = panel(sessions=60, tickers=4)
DAYS = PRICES.sessions[PRICES.sessions > CUTOFF]
FORECAST = Forecast(0.6, (-0.03, -0.02, 0.0, 0.02, 0.03))


def board() -> Scoreboard:
    return Scoreboard(EPOCH, PRICES, total=20)


def score(made: Scoreboard, right: dict[str, np.ndarray]) -> None:
    """Pairs of every session: ``right`` says who was right, ``[session, ticker]``."""
    ups = outcome_frame(PRICES).set_index(["session", "ticker"])["up"]
    for model, grid in right.items():
        for row, session in zip(grid, DAYS[: len(grid)], strict=True):
            for hit, ticker in zip(row, PRICES.tickers, strict=True):
                made.scored(model, session, {ticker: 0.7 if ups[(session, ticker)] == hit else 0.3})


def test_shares_failures_and_latencies_are_those_of_the_arms() -> None:
    made = board()
    for number in range(10):
        made.routed(Result(number, FORECAST, route=CHAMPION if number < 8 else CHALLENGER, latency_s=0.01 * number))
    made.routed(Result(10, None, "timeout", None, 1.0))
    made.routed(Result(11, None, "failed", CHALLENGER, 1.0))
    seen = made.snapshot()
    champion, challenger = seen.arms
    assert (seen.requests, seen.failed, seen.unattributed) == (12, 2, 1)
    assert (champion.requests, champion.failed, champion.weight) == (8, 0, pytest.approx(0.7))
    assert champion.share == pytest.approx(8 / 11)
    assert champion.latency["p50"] == pytest.approx(0.035)
    assert (challenger.requests, challenger.failed, challenger.latency["max"]) == (3, 1, 0.09)
    made.enter(WeightEpoch("ab-experiment", 2, EPOCH.opened_at, EPOCH.arms, "again"))
    assert [arm.requests for arm in made.snapshot().arms] == [0, 0]  # a share is one of an epoch's weights
    assert made.snapshot().requests == 12


def test_accuracy_is_paired_clustered_by_day_and_never_ahead_of_its_time() -> None:
    rng = np.random.default_rng(0)
    right = {CHAMPION: rng.random((12, 4)) < 0.5, CHALLENGER: rng.random((12, 4)) < 0.8}
    made = board()
    made.session = DAYS[0]
    score(made, right)
    assert made.snapshot().differences == {}  # of a session's predictions nothing is known at its close
    made.session = DAYS[8]
    seen = made.snapshot()
    values = (right[CHALLENGER][:8].astype(float) - right[CHAMPION][:8]).ravel()
    by_hand = day_clustered_mean(values, np.repeat(np.arange(8), 4))
    (difference,) = seen.differences.values()
    assert (difference.estimate, difference.low) == pytest.approx((by_hand.estimate, by_hand.low))
    for arm in seen.arms:
        assert arm.accuracy is not None
        assert arm.accuracy.estimate == pytest.approx(right[arm.model][:8].mean())


def test_only_rows_that_both_arms_have_count() -> None:
    right = {CHAMPION: np.ones((6, 4), bool), CHALLENGER: np.ones((4, 4), bool)}
    made = board()
    made.session = DAYS[10]
    score(made, right)
    accuracy = made.snapshot().arms[0].accuracy
    assert accuracy is not None
    assert accuracy.observations == 16


SECOND = "tiny-predictor-v4"


def several() -> Scoreboard:
    """Two challengers, of which the second was scored on four days only."""
    arms = (*EPOCH.arms, replace(EPOCH.arms[1], model=SECOND, version=4))
    made = Scoreboard(replace(EPOCH, arms=arms), PRICES, total=20)
    made.session = DAYS[12]
    rng = np.random.default_rng(0)
    days = {CHAMPION: 12, CHALLENGER: 12, SECOND: 4}
    score(made, {model: rng.random((count, 4)) < 0.5 for model, count in days.items()})
    return made


def test_a_young_challenger_does_not_shorten_what_is_known_of_another() -> None:
    seen = several().snapshot().differences
    assert {model: one.days for model, one in seen.items()} == {CHALLENGER: 12, SECOND: 4}


def test_each_challenger_has_a_line_of_its_own() -> None:
    console = Console(file=io.StringIO(), width=150, record=True)
    console.print(as_table(several().snapshot()))
    lines = [line for line in console.export_text().splitlines() if "minus champion" in line]
    assert sum(f"{CHALLENGER} minus champion" in line for line in lines) == 1
    assert sum(f"{SECOND} minus champion" in line for line in lines) == 1
    assert len(lines) == 2
    assert "on 4 days (95 %" in lines[-1]


def text_of(made: Scoreboard, *, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=150)
    with LiveView(made, console) as view:
        for _ in range(made.total):
            view.advance()
    return stream.getvalue()


def filled() -> Scoreboard:
    made = board()
    rng = np.random.default_rng(0)
    score(made, {CHAMPION: rng.random((12, 4)) < 0.5, CHALLENGER: rng.random((12, 4)) < 0.5})
    made.session = DAYS[12]
    for number in range(10):
        made.routed(Result(number, FORECAST, route=CHAMPION if number < 8 else CHALLENGER, latency_s=0.004))
    made.decided(
        [decide(plan(), EPOCH, evidence(0.0, 30), QUIET, as_of="2010-03-01", deflated_sharpe=lambda: None)], [plan()]
    )
    return made


def test_a_terminal_shows_a_table() -> None:
    shown = text_of(filled(), terminal=True)
    for part in (
        "20 of 20 done",
        f"{CHAMPION} (champion)",
        "80.0%",
        "70%",
        "4.0",
        "hold as of 2010-03-01",
        "Too early to decide",
    ):
        assert part in shown
    assert "challenger minus champion" in shown
    assert "\x1b[?25h" in shown  # the cursor is back


def test_a_log_gets_plain_lines_and_silence_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    lines = text_of(filled(), terminal=False).splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith(f"replay {DAYS[12]:%Y-%m-%d} 20/20: 10 requests, 0 failed; {CHAMPION} 80.0% of 70%")
    assert "\x1b" not in "".join(lines)
    with LiveView(filled(), None) as view:
        view.advance()
        view.waits("for somebody")
    assert capfd.readouterr() == ("", "")


def test_a_replay_shows_what_it_does_and_what_was_done_before(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    sessions = prices.sessions[prices.sessions > CUTOFF]
    for part in (sessions[:5], sessions[:8]):
        stream = io.StringIO()
        play(log, epoch, prices, part, FakeGateway().connect, console=Console(file=stream, width=200))
    last = stream.getvalue().splitlines()[-1]
    assert "3/3: 12 requests, 0 failed" in last
    assert "on 7 days" in last  # four of them known from the log, the last session's outcome is not known yet


def test_the_cursor_comes_back_after_ctrl_c() -> None:
    stream, made = io.StringIO(), filled()
    with (
        pytest.raises(KeyboardInterrupt),
        LiveView(made, Console(file=stream, force_terminal=True, width=150)),
    ):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in stream.getvalue()


def test_a_ticker_that_the_panel_lacks_is_left_out() -> None:
    made = board()
    rows = {"session": DAYS[:2], "ticker": ["T00", "GONE"], "model": CHAMPION, "status": "ok", "probability_up": 0.6}
    made.score_logged(pd.DataFrame(rows))
    made.session = DAYS[5]
    assert made.snapshot().differences == {}
