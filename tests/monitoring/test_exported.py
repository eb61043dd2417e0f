"""Metrics of the state folder: what they count, and that what is absent or damaged is neither invented nor fatal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prometheus_client.core import GaugeMetricFamily, Metric

from financial_assets.errors import LogNotFoundError, MonitoringError, NotMadeYetError
from financial_assets.monitoring.drift.detection import DriftReport
from financial_assets.monitoring.exported.drift import drift_metrics, save_drift
from financial_assets.monitoring.exported.evaluation import EvaluationMetrics
from financial_assets.monitoring.exported.prices import freshness_metrics, price_metrics
from financial_assets.monitoring.exported.source import Source
from financial_assets.monitoring.metrics import ExperimentCollector
from tests.monitoring.exported_doubles import DAYS, NOW, stored_prices

MODEL = "baseline-predictor-v1"
Values = dict[tuple[str, tuple[str, ...]], float]


def values(families: Iterable[Metric]) -> Values:
    """(name, label values) -> value."""
    return {
        (sample.name.removeprefix("financial_assets_"), tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_bars_are_counted_from_a_tickers_listing_on(tmp_path: Path) -> None:
    found = values(price_metrics(stored_prices(tmp_path), NOW))
    assert (found["price_bars", ()], found["price_tickers", ()]) == (8, 3)
    assert found["price_completeness_ratio", ()] == pytest.approx(8 / 10)  # of 4, 4 and 2 sessions
    assert found["newest_bar_timestamp_seconds", ()] == DAYS[-1].timestamp()
    assert found["market_clock_timestamp_seconds", ()] == DAYS[2].timestamp()


def test_notes_are_counted_by_what_became_of_the_rows(tmp_path: Path) -> None:
    found = values(price_metrics(stored_prices(tmp_path), NOW))
    for outcome, rows, tickers in (("left out", 2, 1), ("suspicious", 2, 2), ("repaired", 0, 0), ("waits", 0, 0)):
        assert (found["price_noted_rows", (outcome,)], found["price_noted_tickers", (outcome,)]) == (rows, tickers)


@pytest.mark.parametrize(("is_live", "late"), [(True, 3), (False, 0)])
def test_only_a_live_source_can_be_overdue(tmp_path: Path, is_live: bool, late: int) -> None:
    # From Thursday's close to Wednesday morning: Friday, Monday and Tuesday are due, and more than half a day late.
    since, now = pd.Timestamp("2024-03-07 23:00", tz="UTC"), pd.Timestamp("2024-03-13 15:00", tz="UTC")
    found = values(price_metrics(stored_prices(tmp_path, is_live=is_live, ingested=since), now))
    assert found["overdue_sessions", ()] == late


def test_each_part_tells_when_it_was_written_and_an_absent_one_nothing(tmp_path: Path) -> None:
    (tmp_path / "signals").mkdir()
    for name in ("report", "signals/a", "signals/b"):
        (tmp_path / name).write_text(name)
    parts = {"evaluation": tmp_path / "report", "signals": tmp_path / "signals", "drift": tmp_path / "absent"}
    found = values(freshness_metrics(parts))
    newest = max((tmp_path / "signals" / name).stat().st_mtime for name in "ab")
    assert found["written_timestamp_seconds", ("signals",)] == newest
    assert set(found) == {("written_timestamp_seconds", (part,)) for part in ("evaluation", "signals")}
    with pytest.raises(NotMadeYetError, match="financial-assets run"):
        list(freshness_metrics({"drift": tmp_path / "absent"}))


def judged(**statistics: float) -> DriftReport:
    """Of streams whose threshold is 10; a sum beyond it is an alarm."""
    rows = [
        {"name": name, "now": value / 10, "threshold": 10.0 if value == value else np.nan, "alarmed": value > 10}
        for name, value in statistics.items()
    ]
    paths = pd.DataFrame(0.0, index=DAYS, columns=[*statistics])
    return DriftReport(False, pd.DataFrame(rows), (), paths)


def test_drift_is_read_as_the_asset_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "drift" / "latest.json"
    path.parent.mkdir()
    save_drift(judged(loss=2.5, rsi_14=12.0, return_1=np.nan), MODEL, path)
    found = values(drift_metrics(path))
    assert found["drift_statistic", (MODEL, "loss")] == pytest.approx(2.5)
    assert found["drift_threshold", (MODEL, "rsi_14")] == 10
    assert ("drift_statistic", (MODEL, "return_1")) not in found  # it waits: nothing is judged yet
    assert (found["drift_alarms", (MODEL, "loss")], found["drift_alarms", (MODEL, "feature")]) == (0, 1)
    assert found["drift_session_timestamp_seconds", (MODEL,)] == DAYS[-1].timestamp()


EVALUATION: dict[str, Any] = {
    "experiment": "ab",
    "as_of": "2024-03-07",
    "coverage": [
        {
            "model": MODEL,
            "horizon": 5,
            "side": "lower",
            "level": 0.95,
            "rows": 400,
            "beyond": 31,
            "share": {"estimate": 0.0775, "low": 0.04, "high": 0.12},
        },
        {"model": MODEL, "horizon": 1, "side": "upper", "level": 0.99, "rows": 40, "share": None},
    ],
    "backtests": [
        {"model": MODEL, "kupiec_holm": 0.004, "independence_holm": 0.5},
        {"model": MODEL, "kupiec_holm": 0.4, "independence_holm": 0.02},
        {"model": MODEL, "kupiec_holm": None, "independence_holm": None},
    ],
}


def test_value_at_risk_is_that_of_the_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "ab-evaluation.json"
    path.write_text(json.dumps(EVALUATION))
    found = values(EvaluationMetrics(path).read())
    five = (MODEL, "5", "lower", "0.95")
    assert (found["var_breaches", five], found["var_expected_breaches", five]) == (31, pytest.approx(20))
    assert found["var_breach_ratio", five] == 0.0775
    assert found["var_promised_breach_ratio", five] == 0.05
    # Too few sessions for an interval, and a file of before there were counts: nothing is said of either.
    assert not any(labels == (MODEL, "1", "upper", "0.99") for name, labels in found if "breach_ratio_" in name)
    assert ("var_breaches", (MODEL, "1", "upper", "0.99")) not in found
    assert found["var_rejected_tails", (MODEL,)] == 1
    assert not any(name.startswith(("book_", "arm_", "promotion_")) for name, _ in found)  # nothing is scored yet


def test_a_new_evaluation_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ab-evaluation.json"
    path.write_text(json.dumps(EVALUATION))
    metrics = EvaluationMetrics(path)
    before = values(metrics.read())
    assert values(metrics.read()) == before
    path.write_text(json.dumps({**EVALUATION, "as_of": "2024-03-11"}))
    later = values(metrics.read())
    assert later["evaluation_session_timestamp_seconds", ("ab",)] == pd.Timestamp("2024-03-11").timestamp()


@pytest.mark.parametrize("text", ["{", "[]", '{"experiment": "ab"}', json.dumps({**EVALUATION, "coverage": [{}]})])
def test_a_damaged_evaluation_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ab-evaluation.json"
    path.write_text(text)
    with pytest.raises(MonitoringError, match=r"ab-evaluation\.json is not an evaluation .* materialize ab_evaluation"):
        EvaluationMetrics(path).read()


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: list(drift_metrics(folder / "absent")),
        lambda folder: EvaluationMetrics(folder / "absent").read(),
    ],
    ids=["drift", "evaluation"],
)
def test_what_is_not_made_yet_says_what_makes_it(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(NotMadeYetError, match="absent does not exist"):
        read(tmp_path)


def test_a_damaged_drift_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    path.write_text('{"model": "x"}')
    with pytest.raises(MonitoringError, match=r"latest\.json is damaged .* materialize drift"):
        list(drift_metrics(path))


def raising(error: Exception) -> Callable[[], Iterable[Metric]]:
    def read() -> Iterable[Metric]:
        raise error

    return read


def test_one_part_neither_silences_the_others_nor_is_told_of_twice(caplog: pytest.LogCaptureFixture) -> None:
    def no_log() -> Any:
        raise LogNotFoundError("there is no prediction log")

    sources = (
        Source("broken", raising(MonitoringError("it is damaged"))),
        Source("absent", raising(NotMadeYetError("`financial-assets run` makes it"))),
        Source("sound", lambda: [GaugeMetricFamily("financial_assets_sound", "Something", value=7)]),
    )
    collector = ExperimentCollector(no_log, lambda: pytest.fail("not asked"), further=sources)
    with caplog.at_level(logging.WARNING):
        found = [values(collector.collect()) for _ in range(2)]
    assert (
        found[0]
        == found[1]
        == {
            ("ab_test_exporter_up", ("log",)): 0,
            ("source_up", ("broken",)): 0,
            ("source_up", ("sound",)): 1,
            ("sound", ()): 7,
        }
    )
    assert [record.message for record in caplog.records].count(
        "no metrics of the absent yet: `financial-assets run` makes it"
    ) == 1
    assert "the broken cannot be read: it is damaged" in caplog.text
