"""What holds of every metric, whatever the answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.experiment.metrics.books import PROFIT
from financial_assets.experiment.metrics.metric import Metric
from financial_assets.experiment.metrics.paired import paired_days
from financial_assets.experiment.metrics.registry import EARLIER_METRICS, METRICS
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from tests.experiment.metrics.rows import answers, joined, outcomes

EVERY = [*METRICS.values(), EARLIER_METRICS["pinball"], PROFIT]
SEEDS = st.integers(0, 10_000)
of_every_metric = pytest.mark.parametrize("metric", EVERY, ids=lambda metric: f"{metric.name}-{metric.unit.words}")
few = settings(max_examples=5, deadline=None)


@of_every_metric
@few
@given(seed=SEEDS)
def test_changing_places_changes_the_sign(metric: Metric, seed: int) -> None:
    known = outcomes(seed)
    one, other = answers(known, seed), answers(known, seed + 1)
    forth = paired_days(joined(one, known), other, metric)
    back = paired_days(joined(other, known), one, metric)
    np.testing.assert_array_equal(forth.differences, -back.differences)
    assert len(forth) == 6
    assert forth.disagreements == back.disagreements > 0


@of_every_metric
@few
@given(seed=SEEDS)
def test_the_order_of_rows_means_nothing(metric: Metric, seed: int) -> None:
    known = outcomes(seed)
    one, other = joined(answers(known, seed), known), answers(known, seed + 1)
    mixed = paired_days(one.sample(frac=1, random_state=seed), other.sample(frac=1, random_state=seed + 1), metric)
    ordered = paired_days(one, other, metric)
    np.testing.assert_allclose(mixed.differences, ordered.differences, rtol=1e-9, atol=1e-15)
    assert list(mixed.sessions) == list(ordered.sessions)


@of_every_metric
@few
@given(seed=SEEDS)
def test_rows_without_an_answer_or_an_outcome_count_for_nothing(metric: Metric, seed: int) -> None:
    known = outcomes(seed, tickers=30)
    one, other = joined(answers(known, seed), known), answers(known, seed + 1)
    rng = np.random.default_rng(seed)
    # The first of the two tickers is missed by one, the second by the other: neither may be left over.
    silent = known["ticker"].isin(rng.choice(known["ticker"].unique(), 2, replace=False)).to_numpy()
    gone, hidden = np.flatnonzero(silent)[::2], np.flatnonzero(silent)[1::2]
    without = paired_days(one[~silent], other[~silent], metric)
    one.loc[gone, metric.answers[0]] = np.nan
    other.loc[hidden, metric.answers[-1]] = np.nan
    found = paired_days(one, other, metric)
    np.testing.assert_array_equal(found.differences, without.differences)
    assert found.rows == without.rows


@pytest.mark.parametrize("name", ["pinball", "qlike", "var_es", "pinball_5d", "qlike_5d", "var_es_5d", "rank_ic"])
@few
@given(seed=SEEDS, unit=st.floats(0.1, 10))
def test_the_unit_of_returns_means_nothing(name: str, seed: int, unit: float) -> None:
    """A volatile ticker or year counts as much as a calm one."""
    known = outcomes(seed)
    one, other = answers(known, seed), answers(known, seed + 1)
    before = paired_days(joined(one, known), other, METRICS[name])
    in_returns = ["log_return", "outcome_5d", "volatility"]
    known[in_returns] *= unit
    for rows in (one, other):
        rows[[*QUANTILE_COLUMNS, *QUANTILE_5D_COLUMNS]] *= unit
    after = paired_days(joined(one, known), other, METRICS[name])
    np.testing.assert_allclose(after.differences, before.differences, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["pinball", "qlike", "var_es", "pinball_5d", "qlike_5d", "var_es_5d", "qlike_range"])
def test_the_true_risk_wins(name: str) -> None:
    """Proper scores: who knows the distribution beats who takes it for half as wide, or twice."""
    known = outcomes(1, sessions=120)
    truth = answers(known, 1)
    deviation = known["volatility"].to_numpy()[:, None] * np.array([-2.3263, -1.6449, 0.0, 1.6449, 2.3263])
    truth[list(QUANTILE_COLUMNS)], truth[list(QUANTILE_5D_COLUMNS)] = deviation, 5**0.5 * deviation
    for factor in (0.5, 2.0):
        wrong = truth.copy()
        wrong[[*QUANTILE_COLUMNS, *QUANTILE_5D_COLUMNS]] *= factor
        found = paired_days(joined(truth, known), wrong, METRICS[name])
        assert found.differences.mean() > 3 * found.differences.std() / len(found) ** 0.5
