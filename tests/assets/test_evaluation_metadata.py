"""What ``ab_evaluation`` shows in Dagster of both horizons and of the ranking."""

from __future__ import annotations

import numpy as np
import pytest
from mlflow.utils.validation import validate_param_and_metric_name

from financial_assets.assets.evaluation_tables import coverage_table, plotted_numbers, ranking_table
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS
from tests.experiment.builders import CHALLENGER, CHAMPION
from tests.experiment.decision.builders import evaluated
from tests.experiment.evaluation.builders import EPOCH, evidence

FURTHER = [*QUANTILE_5D_COLUMNS, "excess_return"]


@pytest.fixture(scope="module")
def mixed() -> Evaluation:
    """A champion of an earlier version and a challenger with all heads, on 20 tickers."""
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.6}, days=80, tickers=20)
    direct.loc[direct["model"] == CHAMPION, FURTHER] = np.nan
    return evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)


def test_coverage_of_both_horizons_stands_in_one_table(mixed: Evaluation) -> None:
    shown = coverage_table(mixed)
    assert shown["model"].tolist() == [CHAMPION] * 4 + [CHALLENGER] * 8
    week = shown[shown["tail"].str.endswith("5 sessions")]
    assert set(week["model"]) == {CHALLENGER}
    assert week["beyond"].str.match(r"\d+\.\d % ?\[|\d+\.\d%").all()
    assert week["sessions"].lt(shown["sessions"].max()).all(), "the last weeks are not over"
    assert set(shown["promised beyond"]) == {"5%", "1%"}


def test_the_ranking_is_of_the_arm_that_has_scores(mixed: Evaluation) -> None:
    (row,) = ranking_table(mixed).to_dict("records")
    assert (row["model"], row["role"]) == (CHALLENGER, "challenger")
    assert row["mean rank IC"].startswith("+0."), "60 % of its signs are right"


def test_dagster_plots_the_shares_and_the_coefficient(mixed: Evaluation) -> None:
    flat = plotted_numbers(mixed)
    assert f"champion/{CHAMPION}/beyond VaR 95 lower 1d" in flat
    assert f"champion/{CHAMPION}/beyond VaR 95 lower 5d" not in flat
    assert 0 < flat[f"challenger/{CHALLENGER}/beyond VaR 95 lower 5d"] < 1
    assert flat[f"challenger/{CHALLENGER}/rank IC"] > 0
    assert f"champion/{CHAMPION}/rank IC" not in flat


def test_mlflow_takes_the_names_of_all_plotted_numbers(mixed: Evaluation) -> None:
    names = list(plotted_numbers(mixed))
    assert any("VaR" in name for name in names)
    assert [name for name in names if not validate_param_and_metric_name(name)] == []


def test_too_few_sessions_are_said_and_not_plotted() -> None:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.6}, days=20, tickers=3)
    young = evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)
    shown = coverage_table(young)
    assert (shown.loc[shown["tail"].str.endswith("5 sessions"), "beyond"] == "40 sessions are needed").all()
    assert ranking_table(young).empty
    assert not any(name.endswith(" 5d") or "rank" in name for name in plotted_numbers(young))
