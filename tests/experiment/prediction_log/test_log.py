from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, SHADOW, arms

DAY, NEXT = pd.Timestamp("2010-02-01"), pd.Timestamp("2010-02-02")
FORECAST = Forecast(0.6, (-0.03, -0.02, 0.0, 0.02, 0.03))


def routed(log: PredictionLog) -> pd.DataFrame:
    return log.routed().set_index("ticker")


def test_an_intent_is_in_the_log_before_anything_is_sent(log: PredictionLog, epoch: WeightEpoch, log_url: str) -> None:
    intents = log.begin_routed(epoch, DAY, NEXT, ["AAPL", "MSFT"])
    assert [intent.ticker for intent in intents] == ["AAPL", "MSFT"]
    with PredictionLog(log_url) as other:  # as another process would see it
        rows = routed(other)
    assert list(rows["status"]) == ["pending", "pending"]
    assert list(rows["attempts"]) == [1, 1]
    assert rows["completed_at"].isna().all()
    assert rows["target_session"].eq(NEXT).all()


def test_an_answer_completes_its_intent_with_arm_version_and_propensity(log: PredictionLog, epoch: WeightEpoch) -> None:
    (intent,) = log.begin_routed(epoch, DAY, NEXT, ["AAPL"])
    assert log.complete_routed([Result(intent.id, FORECAST, route=CHALLENGER, latency_s=0.004, extra_attempts=2)]) == 1
    row = routed(log).loc["AAPL"]
    assert (row["status"], row["model"], row["variant"], row["model_version"]) == ("ok", CHALLENGER, "enhanced", 2)
    assert row["propensity"] == pytest.approx(0.3)
    assert (row["probability_up"], row["q05"], row["latency_s"], row["attempts"]) == (0.6, -0.02, 0.004, 3)
    assert row["completed_at"] >= row["sent_at"] >= row["intended_at"]


def test_an_open_intent_is_returned_again_and_a_completed_one_never(log: PredictionLog, epoch: WeightEpoch) -> None:
    first, _ = log.begin_routed(epoch, DAY, NEXT, ["AAPL", "MSFT"])
    log.complete_routed([Result(first.id, FORECAST, route=CHAMPION)])
    (again,) = log.begin_routed(epoch, DAY, NEXT, ["AAPL", "MSFT"])
    assert (again.ticker, again.attempts) == ("MSFT", 2)
    assert log.completed_routed(epoch.experiment, epoch.number) == {(DAY, "AAPL")}


def test_the_first_result_stands(log: PredictionLog, epoch: WeightEpoch) -> None:
    (intent,) = log.begin_routed(epoch, DAY, NEXT, ["AAPL"])
    late = Result(intent.id, Forecast(0.1, FORECAST.quantiles), route=CHALLENGER)
    assert log.complete_routed([Result(intent.id, FORECAST, route=CHAMPION)]) == 1
    assert log.complete_routed([late]) == 0
    row = routed(log).loc["AAPL"]
    assert (row["model"], row["probability_up"]) == (CHAMPION, 0.6)


@pytest.mark.parametrize(
    ("result", "status", "failure", "model"),
    [
        (Result(1, None, "timeout"), "unattributed", "timeout", None),
        (Result(1, None, "failed", route=None, error="503"), "unattributed", "failed", None),
        (Result(1, None, "rejected", route=CHAMPION), "rejected", "rejected", CHAMPION),
        (Result(1, None, "failed", route=CHALLENGER), "failed", "failed", CHALLENGER),
        (Result(1, FORECAST, route=None), "unattributed", "unknown_route", None),
        (Result(1, FORECAST, route="stranger-predictor-v9"), "unattributed", "unknown_route", None),
        (Result(1, FORECAST, route=SHADOW), "unattributed", "unknown_route", None),  # a shadow gets no requests
    ],
)
def test_a_result_without_a_known_arm_is_unattributed(
    log: PredictionLog, epoch: WeightEpoch, result: Result, status: str, failure: str, model: str | None
) -> None:
    log.begin_routed(epoch, DAY, NEXT, ["AAPL"])
    log.complete_routed([result])
    row = routed(log).loc["AAPL"]
    assert (row["status"], row["failure"], row["model"]) == (status, failure, model)


def test_direct_rows_are_unique_by_session_ticker_and_model_across_epochs(log: PredictionLog) -> None:
    first = log.begin_direct(arms(), DAY, NEXT, ["AAPL"])
    assert {intent.model for intent in first} == {CHAMPION, CHALLENGER, SHADOW}
    log.complete_direct([Result(first[0].id, FORECAST), Result(first[1].id, None, "rejected", error="NaN")])
    (left,) = log.begin_direct(arms(50, 50), DAY, NEXT, ["AAPL"])
    assert left.model == SHADOW
    assert set(log.direct()["status"]) == {"ok", "rejected", "pending"}
    assert log.completed_direct([CHAMPION, SHADOW]) == {(DAY, "AAPL", CHAMPION)}


@pytest.mark.parametrize("probability", [float("nan"), -0.01, 1.01, float("inf")])
def test_impossible_probabilities_are_refused(probability: float) -> None:
    with pytest.raises(LogError, match="not a number from 0 to 1"):
        Forecast(probability, FORECAST.quantiles)


@pytest.mark.parametrize(
    ("quantiles", "said"),
    [
        ((0.0, -0.1, 0.0, 0.1, 0.2), "ascending"),
        ((-0.1, float("nan"), 0.0, 0.1, 0.2), "finite"),
        ((-0.1, 0.0, 0.1), "five"),
    ],
)
def test_impossible_quantiles_are_refused(quantiles: tuple[float, ...], said: str) -> None:
    with pytest.raises(LogError, match=said):
        Forecast(0.5, quantiles)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("further", "score", "said"),
    [
        ((0.0, -0.1, 0.0, 0.1, 0.2), 0.1, "five sessions .* ascending"),
        ((-0.1, float("nan"), 0.0, 0.1, 0.2), 0.1, "five sessions .* finite"),
        ((-0.1, 0.0, 0.1), 0.1, "five sessions .* five"),
        (FORECAST.quantiles, float("nan"), "excess_return nan is not a finite"),
        (FORECAST.quantiles, float("-inf"), "excess_return -inf is not a finite"),
        (FORECAST.quantiles, None, "five sessions without excess_return"),
        (None, 0.1, "excess_return without return quantiles of five sessions"),
    ],
)
def test_impossible_further_heads_are_refused(
    further: tuple[float, ...] | None, score: float | None, said: str
) -> None:
    with pytest.raises(LogError, match=said):
        Forecast(0.5, FORECAST.quantiles, further, score)


def test_all_heads_are_stored_and_those_of_an_earlier_model_are_empty(log: PredictionLog, epoch: WeightEpoch) -> None:
    new, old, failed = log.begin_routed(epoch, DAY, NEXT, ["NEW", "OLD", "FAIL"])
    whole = Forecast(0.6, FORECAST.quantiles, (-0.06, -0.04, 0.01, 0.04, 0.06), -1.25)
    results = [Result(new.id, whole, route=CHALLENGER), Result(old.id, FORECAST, route=CHAMPION)]
    assert log.complete_routed([*results, Result(failed.id, None, "failed", route=CHAMPION)]) == 3
    rows = routed(log)[[*QUANTILE_5D_COLUMNS, "excess_return"]]
    assert set(rows.dtypes) == {np.dtype(np.float64)}
    assert rows.loc["NEW"].tolist() == [-0.06, -0.04, 0.01, 0.04, 0.06, -1.25]
    assert rows.loc[["OLD", "FAIL"]].isna().all(axis=None)
    with log.engine.connect() as connection:  # nothing in the database, not a number that says so
        query = "SELECT count(*) FROM routed_predictions WHERE q50_5d IS NULL AND excess_return IS NULL"
        assert connection.execute(sa.text(query)).scalar() == 2


def test_results_are_either_forecast_or_failure() -> None:
    with pytest.raises(LogError, match="either"):
        Result(1)
    with pytest.raises(LogError, match="either"):
        Result(1, FORECAST, "timeout")
    with pytest.raises(LogError, match="latency"):
        Result(1, FORECAST, latency_s=float("nan"))


def test_unknown_epochs_intents_and_repeated_names_are_refused(log: PredictionLog, epoch: WeightEpoch) -> None:
    stranger = WeightEpoch("other", 7, epoch.opened_at, epoch.arms, "never opened")
    with pytest.raises(LogError, match="no weight epoch 7"):
        log.begin_routed(stranger, DAY, NEXT, ["AAPL"])
    with pytest.raises(LogError, match="no intent with id 99"):
        log.complete_routed([Result(99, FORECAST, route=CHAMPION)])
    (intent,) = log.begin_routed(epoch, DAY, NEXT, ["AAPL"])
    with pytest.raises(LogError, match="more than once"):
        log.complete_routed([Result(intent.id, FORECAST), Result(intent.id, None, "failed")])
    with pytest.raises(LogError, match="AAPL"):
        log.begin_routed(epoch, DAY, NEXT, ["AAPL", "MSFT", "AAPL"])
    with pytest.raises(LogError, match="not after session"):
        log.begin_routed(epoch, NEXT, DAY, ["AAPL"])
    with pytest.raises(LogError, match="tz-naive"):
        log.begin_routed(epoch, DAY.tz_localize("UTC"), NEXT, ["AAPL"])


def test_what_was_answered_is_kept_when_a_write_is_interrupted_within_the_driver(
    log: PredictionLog, epoch: WeightEpoch
) -> None:
    """Ctrl-C can come while a statement is open, and its error, with all frames, is alive while results are saved."""
    (intent,) = log.begin_routed(epoch, DAY, NEXT, ["AAPL"])
    interrupts = iter([KeyboardInterrupt()])

    @sa.event.listens_for(log.engine, "after_cursor_execute")
    def interrupt(connection: sa.Connection, *_: object) -> None:
        if connection.in_transaction() and (error := next(interrupts, None)) is not None:
            raise error

    try:
        log.complete_routed([Result(intent.id, FORECAST, route=CHAMPION)])
    except KeyboardInterrupt:
        assert log.complete_routed([Result(intent.id, FORECAST, route=CHAMPION)]) == 1
    else:
        pytest.fail("nothing was interrupted")


def test_an_epoch_opens_only_after_the_latest(log: PredictionLog, epoch: WeightEpoch) -> None:
    second = log.open_epoch(epoch.experiment, arms(50, 50), "ladder", after=1)
    with pytest.raises(LogError, match="at weight epoch 2, not 1"):
        log.open_epoch(epoch.experiment, arms(10, 90), "late", after=1)
    assert log.epochs(epoch.experiment) == (epoch, second)
    assert log.current_epoch(epoch.experiment) == second
    assert log.current_epoch("unheard-of") is None
    assert second.opened_at.tz is not None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((), "one champion"),
        (arms()[1:], "one champion"),
        (arms()[:1] * 2, "more than once"),
        (arms(0, 0), "zero"),
    ],
)
def test_arms_that_are_no_epoch_are_refused(log: PredictionLog, wrong: tuple[Arm, ...], said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        log.open_epoch("x", wrong, "why", after=0)


@pytest.mark.parametrize("weight", [-1, 1.5, True, 2_000_000])
def test_arms_with_impossible_weights_are_refused(weight: int) -> None:
    with pytest.raises(ExperimentError, match="whole number"):
        Arm("m-v1", "m", 1, "champion", weight, CUTOFF)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("not a url", "PREDICTION_LOG_URL"),
        ("mysql://u:secret@h/d", "mysql"),
        ("sqlite://", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("postgresql+psycopg2://u:secret@127.0.0.1:1/d", "cannot be used"),
        ("postgresql+nodriver://u:secret@h/d", "PREDICTION_LOG_URL"),
    ],
)
def test_a_bad_url_is_named_without_its_password(url: str, said: str) -> None:
    with pytest.raises(LogError, match=said) as raised:
        PredictionLog(url)
    assert "secret" not in str(raised.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look at " * 50)
    with pytest.raises(LogError, match="cannot be used"):
        PredictionLog(f"sqlite:///{path}")


def test_another_schema_version_is_refused(log_url: str, tmp_path: Path) -> None:
    PredictionLog(log_url).close()
    with sqlite3.connect(tmp_path / "predictions.db") as raw:
        raw.execute("UPDATE prediction_log_version SET version = 99")
    raw.close()
    with pytest.raises(LogError, match="schema version 99"):
        PredictionLog(log_url)


def test_tables_of_someone_else_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "foreign.db") as raw:
        raw.execute("CREATE TABLE routed_predictions (x INTEGER)")
    raw.close()
    with pytest.raises(LogError, match="no schema version"):
        PredictionLog(f"sqlite:///{tmp_path / 'foreign.db'}")


def test_an_empty_log_reads_as_typed_frames(log: PredictionLog) -> None:
    for frame in (log.routed(), log.direct()):
        assert frame.empty
        assert frame["session"].dtype == "datetime64[ns]"
        assert str(frame["completed_at"].dtype) == "datetime64[ns, UTC]"
        assert frame["probability_up"].dtype == np.float64


def test_frames_are_filtered_and_ordered(log: PredictionLog, epoch: WeightEpoch) -> None:
    for day in (NEXT, DAY):
        log.begin_routed(epoch, day, day + pd.Timedelta(days=1), ["MSFT", "AAPL"])
        log.begin_direct(arms()[:2], day, day + pd.Timedelta(days=1), ["AAPL"])
    frame = log.routed(epoch.experiment)
    assert list(frame["session"]) == [DAY, DAY, NEXT, NEXT]
    assert list(frame["ticker"]) == ["AAPL", "MSFT"] * 2
    assert len(log.routed(epoch.experiment, epoch=2)) == 0
    assert list(log.routed(since=NEXT)["session"].unique()) == [NEXT]
    assert set(log.direct([CHAMPION], since=NEXT)["model"]) == {CHAMPION}


def test_only_one_replay_at_a_time(log: PredictionLog, log_url: str) -> None:
    with (
        log.exclusive("ab"),
        PredictionLog(log_url) as other,
        other.exclusive("another"),
        pytest.raises(LogError, match="another replay of ab"),
        other.exclusive("ab"),
    ):
        pass
    with PredictionLog(log_url) as other, other.exclusive("ab"):
        pass


def test_concurrent_writers_lose_and_double_nothing(log: PredictionLog, epoch: WeightEpoch, log_url: str) -> None:
    days = pd.bdate_range("2010-02-01", periods=12)
    counted: list[int] = []

    def work() -> None:
        with PredictionLog(log_url) as own:
            done = 0
            for day in days:
                intents = own.begin_routed(epoch, day, day + pd.Timedelta(days=1), ["A", "B", "C"])
                done += own.complete_routed([Result(intent.id, FORECAST, route=CHAMPION) for intent in intents])
            counted.append(done)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frame = log.routed()
    assert len(frame) == 36
    assert frame["status"].eq("ok").all()
    assert sum(counted) == 36


def test_processes_may_create_the_log_at_the_same_time(log_url: str) -> None:
    code = (
        f"from financial_assets.experiment.prediction_log.log import PredictionLog; PredictionLog({log_url!r}).close()"
    )
    command = [sys.executable, "-c", code]
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    with PredictionLog(log_url) as opened:
        assert opened.epochs() == ()


STEP = st.one_of(
    st.tuples(st.just("begin"), st.integers(0, 2), st.lists(st.sampled_from("ABC"), min_size=1, unique=True)),
    st.tuples(st.just("complete"), st.integers(0, 30), st.sampled_from([CHAMPION, CHALLENGER, None])),
    st.tuples(st.just("crash"), st.none(), st.none()),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=1, max_size=25))
def test_any_interleaving_leaves_one_row_a_key_and_the_first_result(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, object]]
) -> None:
    """Against a model in memory: begin, complete (also twice, also late) and crash in any order."""
    url = f"sqlite:///{tmp_path_factory.mktemp('log') / 'p.db'}"
    log = PredictionLog(url)
    try:
        epoch = log.open_epoch("ab", arms(), "start", after=0)
        attempts: dict[tuple[int, str], int] = {}
        results: dict[tuple[int, str], object] = {}
        seen: list[tuple[int, tuple[int, str]]] = []
        for kind, number, what in steps:
            if kind == "begin":
                day = DAY + pd.Timedelta(days=number)
                tickers = [str(t) for t in what]  # type: ignore[union-attr]
                got = log.begin_routed(epoch, day, day + pd.Timedelta(days=1), tickers)
                wanted = {(number, t) for t in tickers if (number, t) not in results}
                assert {(number, intent.ticker) for intent in got} == wanted
                for intent in got:
                    key = (number, intent.ticker)
                    attempts[key] = attempts.get(key, 0) + 1
                    assert intent.attempts == attempts[key]
                    seen.append((intent.id, key))
            elif kind == "complete" and seen:
                row, key = seen[number % len(seen)]
                done = log.complete_routed([Result(row, FORECAST, route=what)])  # type: ignore[arg-type]
                assert done == (key not in results)
                results.setdefault(key, what)
            elif kind == "crash":
                log.close()
                log = PredictionLog(url)
        frame = log.routed()
        assert len(frame) == len(attempts)
        for row in frame.itertuples():
            key = ((row.session - DAY).days, row.ticker)
            assert row.attempts == attempts[key]
            assert (row.status == "pending") == (key not in results)
            if key in results:
                assert row.model == results[key]
    finally:
        log.close()
