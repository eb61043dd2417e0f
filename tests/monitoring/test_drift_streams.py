"""The daily numbers that drift is looked for in, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.special import expit
from scipy.stats import binom

from financial_assets.errors import MonitoringError
from financial_assets.experiment.arms import Arm
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.calibration import fit_platt
from financial_assets.models.external.answers import ExternalGraph
from financial_assets.models.training import Training
from financial_assets.monitoring.drift.cusum import fit_autoregression, run_cusum
from financial_assets.monitoring.drift.streams import (
    DriftReference,
    daily_excess_loss,
    feature_means,
    held_out_excess_loss,
    majority_share,
    served_excess_loss,
)
from financial_assets.monitoring.drift.thresholds import false_alarm_probability, threshold
from tests.models.conftest import walk

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
    one, two, three = (abs(np.log(p / (1 - p)) - np.log(1.5)) for p in (0.9, 0.8, 0.4))
    deviations = np.sqrt(0.24) * np.array([np.sqrt((two**2 + three**2) / 2), one])
    np.testing.assert_allclose(loss.to_numpy(), np.array([first, -np.log(0.9) + np.log(0.6)]) / deviations)


@pytest.mark.parametrize("boldness", [0.02, 0.2])
def test_a_bold_model_and_a_timid_one_are_judged_alike(boldness: float) -> None:
    """Outcomes as the baseline has them: mean about 0 and deviation 1, whatever is put at stake."""
    rng = np.random.default_rng(0)
    days = pd.bdate_range("1990-01-01", periods=4000)
    answers = 0.55 + boldness * rng.choice((-1.0, 1.0), len(days))
    loss = daily_excess_loss(days.to_numpy(), answers, rng.random(len(days)) < 0.55, 0.55)
    assert loss.std() == pytest.approx(1.0, abs=0.05)
    assert loss.mean() == pytest.approx(0.0, abs=0.05 + boldness * 1.2)  # half the stake: overconfidence does cost


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
    each = ((-np.log(0.8) - np.log(0.2)) / 2 - np.log(2)) / (np.log(4) / 2)
    np.testing.assert_allclose(loss.to_numpy(), each)


def test_failures_and_other_models_do_not_count() -> None:
    assert served_excess_loss(predicted(model="other-v2"), ARM, PANEL, 0.5).empty
    failed = predicted(probability_up=np.where(np.arange(10) % 2, np.nan, 0.8), status=["ok", "failed"] * 5)
    np.testing.assert_allclose(
        served_excess_loss(failed, ARM, PANEL, 0.5).iloc[0], (-np.log(0.8) - np.log(2)) / np.log(2)
    )


def test_the_majority_is_that_of_the_fit_block_and_its_tickers() -> None:
    assert majority_share(trained(0, 1), PANEL) == 0.5
    assert majority_share(trained(0, 3, ("A",)), PANEL) == 0.75
    with pytest.raises(MonitoringError, match="no price of the model's fit block"):
        majority_share(trained(4, 4), PANEL)


def test_a_model_made_elsewhere_has_no_losses_to_be_compared_with() -> None:
    """It may have learned from all that lies before its cut-off."""
    panel = walk(count=300)
    outcome = next_session_return(panel)
    for cutoff, counted in ((panel.sessions[199], 200), (pd.Timestamp("1999-12-31"), 60)):
        reference = DriftReference.of(ExternalGraph(Path("house.onnx"), cutoff), panel)
        assert reference.begins == panel.sessions[0]
        assert reference.majority_up == (outcome[:, :counted] > 0).mean()
        assert reference.loss.empty


def test_without_a_price_there_is_no_majority() -> None:
    panel = walk(count=300)
    nobody = replace(panel, valid=np.zeros_like(panel.valid))
    with pytest.raises(MonitoringError, match="set INGESTION_START_DATE back"):
        DriftReference.of(ExternalGraph(Path("house.onnx"), panel.sessions[199]), nobody)


def answered(logit: np.ndarray, up: np.ndarray, session: np.ndarray) -> Training:
    """A training that has nothing but its held-out answers."""

    class Answered:
        held_out = SimpleNamespace(logit=logit, up=up, session=session)

    return cast("Training", Answered())


def skill_free(rng: np.random.Generator) -> tuple[pd.Series, pd.Series, pd.Series, pd.Series]:
    """Reference and served loss of a model without skill that is bolder in some months, two ways.

    First as this package measures them; then in nats, the reference answered with its own calibration.
    """
    before, later = 225, 252
    days = pd.bdate_range("2000-01-03", periods=before + later)
    boldness = np.exp(lfilter([1.0], [1.0, -0.97], 0.25 * rng.standard_normal(len(days) + 200))[200:])
    logit = 0.12 * boldness * np.sign(lfilter([1.0], [1.0, -0.6], rng.standard_normal(len(days)))) + 0.05
    up = rng.random(len(days)) < 0.5
    known, served = slice(0, before), slice(before, None)
    platt = fit_platt(logit[known], up[known], days[known].to_numpy())
    chance = expit(platt.scale * logit + platt.bias)
    fair = daily_excess_loss(days[served].to_numpy(), chance[served], up[served], 0.5)
    nats = -np.log(np.where(up, chance, 1 - chance)) - np.log(2)
    reference = held_out_excess_loss(answered(logit[known], up[known], days[known].to_numpy()), 0.5)
    return reference, fair, pd.Series(nats[known], days[known]), pd.Series(nats[served], days[served])


def rises(reference: pd.Series, served: pd.Series) -> bool:
    fitted = fit_autoregression(reference.to_numpy()[None])
    sums = run_cusum(fitted.innovations(served.to_numpy()[None]))
    bound = threshold(0.1, 1, len(reference), float(fitted.coefficient[0]), sides=1)
    return bool(sums.upper.max() > bound)


@pytest.mark.parametrize("worlds", [30, pytest.param(300, marks=pytest.mark.statistics)])
def test_a_model_without_skill_seldom_alarms_and_the_naive_loss_too_often(worlds: int) -> None:
    """Negative control: nats, against a reference that was calibrated on itself."""
    rng = np.random.default_rng(3)
    found = [skill_free(rng) for _ in range(worlds)]
    ours = sum(rises(reference, served) for reference, served, _, _ in found)
    naive = sum(rises(reference, served) for _, _, reference, served in found)
    allowed = float(binom.ppf(0.999, worlds, false_alarm_probability(0.1, 1)))
    assert ours <= allowed
    assert naive > allowed


@pytest.mark.parametrize("worlds", [40, pytest.param(150, marks=pytest.mark.statistics)])
def test_the_reference_is_calibrated_by_other_sessions_only(worlds: int) -> None:
    """On noise a model calibrated on the very sessions that judge it beats the majority; here it may not."""
    rng = np.random.default_rng(4)
    gaps: list[float] = []
    for _ in range(worlds):
        days = pd.bdate_range("2000-01-03", periods=120).to_numpy()
        logit, up = 0.3 * rng.standard_normal(120), rng.random(120) < 0.5
        platt = fit_platt(logit, up, days)
        itself = daily_excess_loss(days, expit(platt.scale * logit + platt.bias), up, 0.5)
        gaps.append(float(held_out_excess_loss(answered(logit, up, days), 0.5).mean() - itself.mean()))
    assert np.mean(gaps) > 4 * np.std(gaps) / np.sqrt(len(gaps))


def test_a_block_too_small_to_be_judged_is_refused() -> None:
    days = pd.bdate_range("2000-01-03", periods=105).to_numpy()
    up = np.arange(105) % 2 == 0
    assert len(held_out_excess_loss(answered(np.zeros(105), up, days), 0.5)) == 105  # smaller parts leave enough
    with pytest.raises(MonitoringError, match="100 answers, too few"):
        held_out_excess_loss(answered(np.zeros(100), up[:100], days[:100]), 0.5)
