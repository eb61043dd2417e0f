"""Evidence: one number a day, on the same bars, after both cut-offs, and what is missing is counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision.evidence import gather
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF
from tests.experiment.decision.builders import OUTCOMES, PRICES, frames, plan


def test_a_day_is_the_mean_over_tickers_of_the_difference_in_being_right() -> None:
    direct, rivals = frames()
    found = gather(plan(), direct, rivals, OUTCOMES)
    outcomes = outcome_frame(PRICES, scaled=True).set_index(["session", "ticker"])["up"]
    wide = direct.set_index(["session", "ticker", "model"])["probability_up"].unstack()
    right = (wide > 0.5).eq(outcomes.reindex(wide.index), axis=0)
    known = outcomes.reindex(wide.index).notna() & (wide.index.get_level_values("session") > CUTOFF)
    by_hand = (right[CHALLENGER].astype(float) - right[CHAMPION])[known].groupby("session").mean()
    np.testing.assert_allclose(found.main.differences, by_hand.to_numpy())
    assert list(found.main.sessions) == list(by_hand.index)
    assert found.main.sessions[0] > CUTOFF
    assert found.missing == 0
    assert set(found.against) == {"majority", "logistic"}


def test_nothing_later_than_the_session_is_used() -> None:
    direct, rivals = frames()
    middle = PRICES.sessions[50]
    found = gather(plan(), direct, rivals, outcome_frame(PRICES.until(middle), scaled=True))
    assert found.main.sessions[-1] < middle  # the outcome of the day itself is not known yet
    until = direct[direct["session"] <= middle]
    assert gather(plan(), until, rivals, outcome_frame(PRICES.until(middle), scaled=True)).digest == found.digest
    assert gather(plan(), direct, rivals, OUTCOMES).digest != found.digest


@pytest.mark.parametrize("hole", ["row", "failed", "pending"])
def test_what_is_missing_is_counted_and_not_scored(hole: str) -> None:
    direct, rivals = frames()
    at = direct.index[(direct["model"] == CHALLENGER) & (direct["session"] == PRICES.sessions[40])]
    if hole == "row":
        direct = direct.drop(at)
    else:
        direct.loc[at, ["status", "probability_up"]] = [hole, np.nan]
    found = gather(plan(), direct, rivals, OUTCOMES)
    assert found.missing == 3
    assert PRICES.sessions[40] not in found.main.sessions


def test_a_month_without_any_prediction_is_missing_too() -> None:
    direct, rivals = frames()
    gap = (direct["session"] >= PRICES.sessions[30]) & (direct["session"] < PRICES.sessions[50])
    assert gather(plan(), direct[~gap], rivals, OUTCOMES).missing == 20 * 3


def test_a_repeated_prediction_is_refused() -> None:
    direct, rivals = frames()
    with pytest.raises(ExperimentError, match="paired predictions hold"):
        gather(plan(), pd.concat([direct, direct.tail(1)]), rivals, OUTCOMES)
    with pytest.raises(ExperimentError, match="baseline predictions hold"):
        gather(plan(), direct, pd.concat([rivals, rivals[rivals["model"] == "logistic"].tail(1)]), OUTCOMES)


def test_a_baseline_that_must_be_beaten_must_be_there() -> None:
    direct, rivals = frames()
    with pytest.raises(ExperimentError, match="beat 'logistic'"):
        gather(plan(), direct, rivals[rivals["model"] == "majority"], OUTCOMES)


def test_before_anything_is_predicted_there_is_no_evidence() -> None:
    direct, rivals = frames()
    found = gather(plan(), direct.iloc[:0], rivals, OUTCOMES)
    assert (len(found.main), found.due, found.missing, found.missing_share) == (0, 0, 0, 0.0)


def test_other_models_change_nothing() -> None:
    direct, rivals = frames()
    more = direct.assign(model="somebody-else")
    assert (
        gather(plan(), pd.concat([direct, more]), rivals, OUTCOMES).digest
        == gather(plan(), direct, rivals, OUTCOMES).digest
    )


@pytest.mark.parametrize("metric", ["brier", "log_loss", "pinball"])
def test_losses_are_paired_row_by_row(metric: PairedMetric) -> None:
    direct, rivals = frames()
    rng = np.random.default_rng(7)
    direct = direct.assign(**{name: rng.normal(0, 0.02, len(direct)) for name in QUANTILE_COLUMNS})
    found = gather(plan(metric=metric, plausible_effect=0.03), direct, rivals, OUTCOMES)
    outcomes = outcome_frame(PRICES, scaled=True)
    rows = direct.merge(outcomes, on=["session", "ticker"])
    chance = np.where(rows["up"], rows["probability_up"], 1 - rows["probability_up"])
    errors = {
        level: rows["log_return"] - rows[name] for name, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True)
    }
    loss = {
        "brier": (1 - chance) ** 2,
        "log_loss": -np.log(chance),
        "pinball": sum(np.maximum(level * one, (level - 1) * one) for level, one in errors.items())
        / 5
        / rows["volatility"],
    }[metric]
    wide = rows.assign(loss=loss).set_index(["session", "ticker", "model"])["loss"].unstack()
    by_hand = (wide[CHAMPION] - wide[CHALLENGER]).groupby("session").mean()
    np.testing.assert_allclose(found.main.differences, by_hand[by_hand.index > CUTOFF].to_numpy(), rtol=1e-9)
    assert len(found.by_ticker) == found.main.rows
    accuracy = gather(plan(), direct, rivals, OUTCOMES).main.differences
    np.testing.assert_allclose(found.accuracy.differences, accuracy)


def test_an_answer_without_quantiles_has_no_pinball_loss() -> None:
    direct, rivals = frames()
    direct = direct.assign(**dict.fromkeys(QUANTILE_COLUMNS, 0.0))
    at = direct.index[direct["session"] == PRICES.sessions[40]]
    direct.loc[at, "q05"] = np.nan
    found = gather(plan(metric="pinball", plausible_effect=0.03), direct, rivals, OUTCOMES)
    assert PRICES.sessions[40] not in found.main.sessions
    assert PRICES.sessions[40] in found.accuracy.sessions
