"""The daily numbers that drift is looked for in, against sums done by hand."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import MonitoringError
from financial_assets.experiment.arms import Arm
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.training import Training
from financial_assets.monitoring.streams import (
    daily_excess_loss,
    feature_means,
    majority_share,
    served_excess_loss,
)

DAYS = pd.bdate_range("2020-01-06", periods=5)
ARM = Arm("m-v1", "m", 1, "champion", 100, DAYS[0])


def prices(closes: list[list[float]]) -> PricePanel:
    close = np.asarray(closes, dtype=np.float32)
    values = np.repeat(close[:, None, :], len(CHANNELS), axis=1)
    return PricePanel(("A", "B"), DAYS, np.ascontiguousarray(values), np.ones(close.shape, dtype=bool))


PANEL = prices([[10, 11, 12, 11, 12], [10, 9, 8, 9, 8]])
"""A goes up, up, down, up; B down, down, up, down."""


def trained(first: int, last: int, tickers: tuple[str, ...] = ("A", "B")) -> Training:
    class Trained:
        def __init__(self) -> None:
            self.spans = {"fit": (DAYS[first], DAYS[last])}
            self.tickers = tickers

    return cast("Training", Trained())


def predicted(**changes: Any) -> pd.DataFrame:
    rows = [(day, ticker) for day in DAYS for ticker in ("A", "B")]
    frame = pd.DataFrame(rows, columns=["session", "ticker"])
    return frame.assign(model="m-v1", status="ok", probability_up=0.8).assign(**changes)


def test_feature_means_are_over_valid_tickers() -> None:
    values = np.array([[[1.0, 2.0, 3.0, np.nan, 5.0]], [[3.0, 8.0, np.nan, np.nan, 7.0]]], dtype=np.float32)
    valid = np.array([[1, 1, 1, 0, 1], [1, 0, 0, 0, 1]], dtype=bool)
    means = feature_means(FeaturePanel(("f",), ("A", "B"), DAYS, values, valid))
    assert means["f"].to_dict() == {DAYS[0]: 2.0, DAYS[1]: 2.0, DAYS[2]: 3.0, DAYS[4]: 6.0}


def test_excess_loss_is_the_days_mean_over_the_baselines() -> None:
    sessions = DAYS[[1, 0, 0]].to_numpy()
    loss = daily_excess_loss(sessions, np.array([0.9, 0.8, 0.4]), np.array([True, True, False]), 0.6)
    first = (-np.log(0.8) - np.log(0.6)) / 2 - (-np.log(0.6) - np.log(0.4)) / 2
    assert list(loss.index) == [DAYS[0], DAYS[1]]
    np.testing.assert_allclose(loss.to_numpy(), [first, -np.log(0.9) + np.log(0.6)])


def test_an_answer_like_the_baselines_has_no_excess() -> None:
    loss = daily_excess_loss(DAYS.to_numpy(), np.full(5, 0.55), np.array([1, 0, 1, 1, 0], dtype=bool), 0.55)
    np.testing.assert_allclose(loss.to_numpy(), 0.0)


def test_no_answers_no_days() -> None:
    assert daily_excess_loss(np.array([]), np.array([]), np.array([]), 0.5).empty


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_one_sided_baseline_is_refused(share: float) -> None:
    with pytest.raises(MonitoringError, match="one direction only"):
        daily_excess_loss(DAYS.to_numpy(), np.full(5, 0.5), np.ones(5, dtype=bool), share)


def test_served_loss_takes_the_arms_own_answers_after_its_cutoff_with_a_known_outcome() -> None:
    loss = served_excess_loss(predicted(), ARM, PANEL, 0.5)
    assert list(loss.index) == list(DAYS[1:4])  # the cut-off session is known to the model, the last not yet due
    each = (-np.log(0.8) - np.log(0.2)) / 2 - np.log(2)
    np.testing.assert_allclose(loss.to_numpy(), each)


def test_failures_and_other_models_do_not_count() -> None:
    assert served_excess_loss(predicted(model="other-v2"), ARM, PANEL, 0.5).empty
    failed = predicted(probability_up=np.where(np.arange(10) % 2, np.nan, 0.8), status=["ok", "failed"] * 5)
    np.testing.assert_allclose(served_excess_loss(failed, ARM, PANEL, 0.5).iloc[0], -np.log(0.8) - np.log(2))


def test_the_majority_is_that_of_the_fit_block_and_its_tickers() -> None:
    assert majority_share(trained(0, 1), PANEL) == 0.5
    assert majority_share(trained(0, 3, ("A",)), PANEL) == 0.75
    with pytest.raises(MonitoringError, match="no price of the model's fit block"):
        majority_share(trained(4, 4), PANEL)
