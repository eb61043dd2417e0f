"""The exporter's metrics: totals of the log, whatever happened to the exporter; errors instead of stale numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prometheus_client import CollectorRegistry

from financial_assets.errors import LogError, MarketDataError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Result
from financial_assets.market.calendar import last_completed_session, next_session, session_close
from financial_assets.market.panel import PricePanel
from financial_assets.monitoring.metrics import ExperimentCollector, open_log
from financial_assets.scoring.intervals import day_clustered_mean, day_clustered_proportion
from tests.monitoring.monitoring_doubles import BASELINE, ENHANCED, EXPERIMENT, SHADOW, arms, fill, panel

PRICES = panel(sessions=60, tickers=4)
Scrape = Callable[..., CollectorRegistry]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'predictions.db'}"


@pytest.fixture
def epoch(url: str) -> WeightEpoch:
    with PredictionLog(url) as log:
        return log.open_epoch(EXPERIMENT, arms(), "start", after=0)


def registry(url: str, prices: Callable[[], PricePanel] = lambda: PRICES, **options: object) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(ExperimentCollector(lambda: open_log(url), prices, **options))  # type: ignore[arg-type]
    return made


def of(model: str, **labels: str) -> dict[str, str]:
    return {"model_name": model, "experiment": EXPERIMENT, **labels}


def names(scraped: CollectorRegistry) -> set[str]:
    return {sample.name for family in scraped.collect() for sample in family.samples}


def test_requests_and_histograms_are_totals_of_the_log(url: str, epoch: WeightEpoch) -> None:
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[40:42], failed_every=4)
        frame = log.routed()
    found = registry(url)
    for model in (BASELINE, ENHANCED):
        for status in ("ok", "failed", "timeout"):
            expected = int(((frame["model"] == model) & (frame["status"] == status)).sum())
            assert found.get_sample_value("ab_test_requests_total", of(model, status=status)) == expected
    assert (frame["status"] == "failed").sum() > 0
    mine = frame[frame["model"] == BASELINE]
    for bound, le in ((0.01, "0.01"), (0.05, "0.05"), (10.0, "10.0"), (np.inf, "+Inf")):
        value = found.get_sample_value("ab_test_response_time_seconds_bucket", of(BASELINE, le=le))
        assert value == (mine["latency_s"] <= bound).sum()
    total = found.get_sample_value("ab_test_response_time_seconds_sum", of(BASELINE))
    assert total == pytest.approx(mine["latency_s"].sum())
    answered = mine[mine["status"] == "ok"]
    assert found.get_sample_value("ab_test_prediction_value_count", of(BASELINE)) == len(answered)
    half = found.get_sample_value("ab_test_prediction_value_bucket", of(BASELINE, le="0.5"))
    assert half == (answered["probability_up"] <= 0.5).sum()


def test_series_of_every_ending_exist_before_the_first_request(url: str, epoch: WeightEpoch) -> None:
    found = registry(url)
    for model in (BASELINE, ENHANCED):
        assert found.get_sample_value("ab_test_requests_total", of(model, status="failed")) == 0
    assert found.get_sample_value("ab_test_unattributed_total", {"experiment": EXPERIMENT}) == 0
    assert found.get_sample_value("ab_test_traffic_percentage", of(BASELINE)) is None
    assert found.get_sample_value("ab_test_traffic_weight_percentage", of(ENHANCED)) == pytest.approx(30)


def test_counters_keep_their_totals_over_a_restart_and_only_grow(url: str, epoch: WeightEpoch) -> None:
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[40:42])
    first, restarted = samples(registry(url)), samples(registry(url))
    assert first == restarted
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[42:44])
    later = samples(registry(url))
    assert set(later) >= set(first)
    assert all(later[key] >= value for key, value in first.items())
    assert sum(later.values()) > sum(first.values())


def samples(scraped: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Counters and histograms."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in scraped.collect()
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def test_answers_without_an_arm_are_counted_apart(url: str, epoch: WeightEpoch) -> None:
    with PredictionLog(url) as log:
        intents = log.begin_routed(epoch, PRICES.sessions[40], PRICES.sessions[41], ["T00", "T01", "T02"])
        log.complete_routed([Result(intent.id, failure="failed") for intent in intents[:2]])
    found = registry(url)
    assert found.get_sample_value("ab_test_unattributed_total", {"experiment": EXPERIMENT}) == 2
    assert found.get_sample_value("ab_test_requests_total", of("unattributed", status="unattributed")) == 2
    assert found.get_sample_value("ab_test_pending_requests", {"experiment": EXPERIMENT}) == 1
    assert found.get_sample_value("ab_test_srm_p_value", {"experiment": EXPERIMENT}) == 1


def test_traffic_is_that_of_the_epoch_in_force(url: str, epoch: WeightEpoch) -> None:
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[30:50], route=lambda *_: BASELINE)
    found = registry(url)
    assert found.get_sample_value("ab_test_traffic_percentage", of(BASELINE)) == 100
    alpha = found.get_sample_value("ab_test_srm_alpha", {"experiment": EXPERIMENT})
    assert alpha == 0.001, "no test is registered here: the default of the policy"
    assert found.get_sample_value("ab_test_srm_p_value", {"experiment": EXPERIMENT}) < alpha
    with PredictionLog(url) as log:
        second = log.open_epoch(EXPERIMENT, arms(1, 0), "all to the champion", after=1)
        fill(log, second, PRICES, PRICES.sessions[50:52], route=lambda *_: BASELINE)
    found = registry(url)
    assert found.get_sample_value("ab_test_weight_epoch", {"experiment": EXPERIMENT}) == 2
    assert found.get_sample_value("ab_test_traffic_percentage", of(BASELINE)) == 100
    assert found.get_sample_value("ab_test_srm_p_value", {"experiment": EXPERIMENT}) < alpha, "as in the decision"


def test_accuracy_is_that_of_the_logged_answers_joined_to_prices(url: str, epoch: WeightEpoch) -> None:
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[20:59])
        direct, routed = log.direct(), log.routed()
    found = registry(url, window=20, level=0.95)
    outcomes = outcome_frame(PRICES)
    recent = outcomes[outcomes["session"] >= PRICES.sessions[39]]
    mostly_up = outcomes.loc[outcomes["session"] < PRICES.sessions[39], "up"].mean() >= 0.5
    for model in (BASELINE, ENHANCED, SHADOW):
        rows = direct[direct["model"] == model].merge(recent, on=["session", "ticker"])
        assert len(rows) == 80
        right = (rows["probability_up"] > 0.5) == rows["up"]
        interval = day_clustered_proportion(right, rows["session"], 0.95)
        for suffix, value in (("", interval.estimate), ("_lower", interval.low), ("_upper", interval.high)):
            assert found.get_sample_value(f"ab_test_model_accuracy{suffix}", of(model)) == pytest.approx(100 * value)
        constant = rows["up"] == mostly_up
        assert found.get_sample_value("ab_test_majority_accuracy", of(model)) == pytest.approx(100 * constant.mean())
        gain = day_clustered_mean(right.astype(float) - constant.astype(float), rows["session"], 0.95)
        upper = found.get_sample_value("ab_test_accuracy_advantage_upper", of(model))
        assert upper == pytest.approx(100 * gain.high)
        assert found.get_sample_value("ab_test_accuracy_days", of(model)) == 20
        # routed answers of the same (session, ticker, model) are not counted again
        assert found.get_sample_value("ab_test_accuracy_predictions", of(model)) == 80
    assert len(routed) > 0


def test_a_model_that_is_always_wrong_is_below_the_majority_by_its_interval(url: str, epoch: WeightEpoch) -> None:
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[20:59], right=lambda model: model != BASELINE)
    found = registry(url)
    assert found.get_sample_value("ab_test_model_accuracy", of(BASELINE)) == 0
    assert found.get_sample_value("ab_test_accuracy_advantage_upper", of(BASELINE)) < 0
    assert found.get_sample_value("ab_test_model_accuracy", of(ENHANCED)) == 100
    assert found.get_sample_value("ab_test_accuracy_advantage_lower", of(ENHANCED)) > 0


def test_outcomes_that_are_not_due_are_not_scored(url: str, epoch: WeightEpoch) -> None:
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[40:59])
    hidden = registry(url, lambda: PRICES.until(PRICES.sessions[40]))
    assert hidden.get_sample_value("ab_test_accuracy_days", of(BASELINE)) == 0
    assert hidden.get_sample_value("ab_test_model_accuracy", of(BASELINE)) is None
    one_day = registry(url, lambda: PRICES.until(PRICES.sessions[41]))
    assert one_day.get_sample_value("ab_test_accuracy_days", of(BASELINE)) == 1
    assert one_day.get_sample_value("ab_test_model_accuracy", of(BASELINE)) is None  # one day has no interval


def test_sessions_that_the_model_learned_from_do_not_count(url: str) -> None:
    cutoff = PRICES.sessions[50]
    with PredictionLog(url) as log:
        late = log.open_epoch(EXPERIMENT, arms(cutoff=cutoff), "start", after=0)
        fill(log, late, PRICES, PRICES.sessions[45:59])
    assert registry(url).get_sample_value("ab_test_accuracy_days", of(BASELINE)) == 8


def test_the_age_of_the_last_answer(url: str, epoch: WeightEpoch) -> None:
    def age() -> float | None:
        later = epoch.opened_at + pd.Timedelta(hours=1)
        return registry(url, now=lambda: later).get_sample_value(
            "ab_test_seconds_since_last_prediction", {"experiment": EXPERIMENT}
        )

    assert age() == 3600  # none yet: since the experiment began
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[40:41])
    assert 3500 < (age() or 0) < 3600


def test_the_age_in_sessions_counts_those_that_have_closed(url: str, epoch: WeightEpoch) -> None:
    last = last_completed_session(epoch.opened_at)
    closes = [session_close(last)]
    for _ in range(3):
        last = next_session(last)
        closes.append(session_close(last))
    for closed, close in enumerate(closes):
        for moment in (close, close + pd.Timedelta(hours=1)):
            if moment < epoch.opened_at:
                continue
            found = registry(url, now=lambda moment=moment: moment)
            age = found.get_sample_value("ab_test_sessions_since_last_prediction", {"experiment": EXPERIMENT})
            assert age == closed


def damaged(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def foreign(path: Path) -> None:
    import sqlite3

    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE weight_epochs (something TEXT)")
    connection.close()


@pytest.mark.parametrize("break_it", [Path.unlink, damaged, foreign])
def test_a_log_that_cannot_be_read_gives_no_numbers(
    url: str, epoch: WeightEpoch, break_it: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with PredictionLog(url) as log:
        fill(log, epoch, PRICES, PRICES.sessions[40:42])
    found = registry(url)
    assert found.get_sample_value("ab_test_exporter_up", {"source": "log"}) == 1
    path = Path(url.removeprefix("sqlite:///"))
    for companion in path.parent.glob("predictions.db-*"):
        companion.unlink()
    break_it(path)
    existed = path.exists()
    assert names(found) == {"ab_test_exporter_up"}
    assert found.get_sample_value("ab_test_exporter_up", {"source": "log"}) == 0
    assert "the prediction log cannot be read" in caplog.text
    assert path.exists() == existed  # a missing log is not made anew


def test_prices_that_cannot_be_read_leave_out_the_accuracy_only(url: str, epoch: WeightEpoch) -> None:
    def absent() -> PricePanel:
        raise MarketDataError("no prices")

    found = registry(url, absent)
    assert found.get_sample_value("ab_test_exporter_up", {"source": "prices"}) == 0
    assert found.get_sample_value("ab_test_exporter_up", {"source": "log"}) == 1
    assert "ab_test_requests_total" in names(found)
    assert not {name for name in names(found) if "accuracy" in name}


def test_a_log_before_the_experiment_says_nothing_but_that_it_is_there(url: str) -> None:
    PredictionLog(url).close()
    assert names(registry(url)) == {"ab_test_exporter_up"}


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+pysqlite"])
def test_open_log_names_the_missing_file_and_makes_none(tmp_path: Path, driver: str) -> None:
    with pytest.raises(LogError, match=r"absent\.db"):
        open_log(f"{driver}:///{tmp_path / 'absent.db'}")
    assert list(tmp_path.iterdir()) == []


def test_open_log_explains_a_malformed_url() -> None:
    with pytest.raises(LogError, match="PREDICTION_LOG_URL"):
        open_log("no url")


def test_a_window_of_one_session_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="window"):
        registry(url, window=1)


@pytest.mark.parametrize("halted", [False, True])
def test_a_halt_is_a_metric_also_where_the_log_cannot_be_read(tmp_path: Path, halted: bool) -> None:
    found = registry(f"sqlite:///{tmp_path / 'none.db'}", halted=lambda: halted)
    assert found.get_sample_value("financial_assets_trading_halted") == float(halted)
    assert found.get_sample_value("ab_test_exporter_up", {"source": "log"}) == 0


def test_without_a_kill_switch_there_is_no_metric_of_it(url: str, epoch: WeightEpoch) -> None:
    assert "financial_assets_trading_halted" not in names(registry(url))
