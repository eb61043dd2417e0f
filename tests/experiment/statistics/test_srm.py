from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.srm import srm_test

WEIGHTS = {"baseline": 70, "enhanced": 30}


def test_the_originals_published_split_fails() -> None:
    """1,851 and 649 requests were published for 70/30."""
    result = srm_test({"baseline": 1851, "enhanced": 649}, WEIGHTS)
    assert result.method == "chi-square"
    assert result.p_value == pytest.approx(1.0e-5, rel=0.05)
    assert not result.passed


def test_the_expected_split_passes() -> None:
    result = srm_test({"baseline": 1750, "enhanced": 750}, WEIGHTS)
    assert result.passed
    assert result.p_value == pytest.approx(1.0)
    assert result.expected == {"baseline": 1750.0, "enhanced": 750.0}


def test_false_alarms_are_as_rare_as_promised_and_mismatches_are_seen() -> None:
    rng = np.random.default_rng(7)
    fair = [srm_test({"baseline": int(b), "enhanced": 2000 - int(b)}, WEIGHTS) for b in rng.binomial(2000, 0.7, 4000)]
    alarms = sum(not result.passed for result in fair)
    assert stats.binomtest(alarms, 4000, 0.001, alternative="greater").pvalue > 1e-3
    assert sum(result.p_value < 0.05 for result in fair) / 4000 == pytest.approx(0.05, abs=0.012)
    skewed = rng.binomial(2000, 0.65, 400)  # negative control: 65/35 must be found
    found = [not srm_test({"baseline": int(b), "enhanced": 2000 - int(b)}, WEIGHTS).passed for b in skewed]
    assert np.mean(found) > 0.9


def test_small_counts_are_tested_exactly() -> None:
    result = srm_test({"baseline": 0, "enhanced": 6}, WEIGHTS)
    assert result.method == "exact"
    assert result.p_value == pytest.approx(0.3**6)
    assert not result.passed


def test_exact_p_values_of_three_arms_are_those_of_all_splits() -> None:
    weights = {"a": 5, "b": 3, "c": 2}
    law = stats.multinomial(7, [0.5, 0.3, 0.2])
    splits = [(i, j, 7 - i - j) for i in range(8) for j in range(8 - i)]
    seen = (1, 1, 5)
    by_hand = sum(law.pmf(s) for s in splits if law.pmf(s) <= law.pmf(seen) * (1 + 1e-6))
    result = srm_test(dict(zip("abc", seen, strict=True)), weights)
    assert result.method == "exact"
    assert result.p_value == pytest.approx(by_hand)


def test_many_arms_with_few_counts_fall_back_on_seeded_draws() -> None:
    weights = {str(i): 1 for i in range(8)}
    counts = {str(i): (24 if i == 0 else 1) for i in range(8)}
    first, again = srm_test(counts, weights), srm_test(counts, weights)
    assert first == again
    assert first.method == "monte carlo"
    assert not first.passed
    even = srm_test({str(i): 4 for i in range(8)}, weights)
    assert even.passed


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 9), share=st.integers(1, 9))  # from 10 on, both arms can expect 5: chi-square, approximate
def test_the_exact_test_keeps_its_level(total: int, share: int) -> None:
    """P(p <= a) <= a under the weights, for every a: the definition of a p-value."""
    weights = {"a": share, "b": 10 - share}
    law = stats.binom(total, share / 10)
    p_values = np.array([srm_test({"a": k, "b": total - k}, weights).p_value for k in range(total + 1)])
    for alpha in (0.001, 0.01, 0.05, 0.2):
        assert law.pmf(np.arange(total + 1))[p_values <= alpha].sum() <= alpha + 1e-9


def test_nothing_sent_is_no_mismatch_and_an_arm_without_weight_is_one() -> None:
    assert srm_test({}, WEIGHTS).passed
    assert srm_test({}, WEIGHTS).method == "none"
    assert not srm_test({"baseline": 70, "enhanced": 30, "stranger": 1}, WEIGHTS).passed
    assert not srm_test({"a": 5, "b": 1}, {"a": 100, "b": 0}).passed
    assert srm_test({"a": 5}, {"a": 100, "b": 0}).passed


@pytest.mark.parametrize(("observed", "weights"), [({"a": -1}, {"a": 1}), ({"a": 1}, {"a": 0}), ({"a": 1}, {"a": -1})])
def test_impossible_counts_and_weights_are_refused(observed: dict[str, int], weights: dict[str, int]) -> None:
    with pytest.raises(ExperimentError):
        srm_test(observed, weights)
