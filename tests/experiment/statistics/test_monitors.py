"""Sequential split test, guardrails, several challengers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import ville
from scipy import stats
from statsmodels.stats.multitest import multipletests

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.guardrails import ODDS, RateEProcess, fair_share, log_e_value
from financial_assets.experiment.statistics.multiplicity import e_bh, holm
from financial_assets.experiment.statistics.srm_sequential import (
    CONCENTRATION,
    SequentialSrm,
    StratifiedSrm,
    log_bayes_factor,
)

WEIGHTS = {"champion": 70, "challenger": 30}


def test_two_arms_are_villes_beta_binomial_test() -> None:
    requests = (np.random.default_rng(1).random(500) < 0.64).astype(float)
    theirs = ville.BernoulliTest(0.7, prior=(0.7 * CONCENTRATION, 0.3 * CONCENTRATION)).fit(requests).log_e_values_
    state, mine = SequentialSrm.start(WEIGHTS), []
    for one in requests:
        state = state.update({"champion": int(one), "challenger": 1 - int(one)})
        mine.append(state.log_e)
    assert mine == pytest.approx(theirs, abs=1e-8)
    assert state.p_value == pytest.approx(math.exp(-max(0.0, theirs.max())))


def test_the_expected_e_value_of_three_arms_is_one() -> None:
    shares, requests = (0.5, 0.3, 0.2), 6
    total = 0.0
    for path in itertools.product(range(3), repeat=requests):
        counts = np.bincount(path, minlength=3)
        total += math.prod(shares[arm] for arm in path) * math.exp(float(log_bayes_factor(counts, shares)))
    assert total == pytest.approx(1.0, abs=1e-10)


def test_a_wrong_split_is_found_a_right_one_seldom_blamed() -> None:
    rng, looks = np.random.default_rng(2), 20 * np.arange(1, 101)
    right = np.cumsum(rng.binomial(20, 0.7, size=(2000, 100)), axis=1)
    wrong = np.cumsum(rng.binomial(20, 0.6, size=(500, 100)), axis=1)
    log_e = [log_bayes_factor(np.stack([c, looks - c], axis=-1), (0.7, 0.3)) for c in (right, wrong)]
    assert (log_e[0] >= math.log(20)).any(axis=1).mean() <= 0.05
    assert (np.abs(right - 0.7 * looks) > 1.96 * np.sqrt(0.21 * looks)).any(axis=1).mean() > 0.25  # a test a look
    assert (log_e[1] >= math.log(1000)).any(axis=1).mean() > 0.95


def test_the_split_that_a_published_comparison_rested_on_is_refused() -> None:
    assert not SequentialSrm.start(WEIGHTS).update({"champion": 1851, "challenger": 649}).passed(0.001)
    assert SequentialSrm.start(WEIGHTS).update({"champion": 1751, "challenger": 749}).passed(0.001)


def test_epochs_share_one_error_rate_and_forget_no_mismatch() -> None:
    first = SequentialSrm.start(WEIGHTS).update({"champion": 130, "challenger": 70})
    even = {"champion": 50, "challenger": 50}
    second = SequentialSrm.start(even).update({"champion": 65, "challenger": 35})
    both = StratifiedSrm()
    both.update({1: (WEIGHTS, {"champion": 130, "challenger": 70})})
    both.update({2: (even, {"champion": 65, "challenger": 35})})
    assert both.log_e == pytest.approx(first.log_e + second.log_e, rel=1e-12)
    before = both.log_e, both.p_value
    both.update({2: (even, {"challenger": 30})})
    assert both.log_e < before[0]
    assert both.p_value == before[1]  # a mismatch that was seen is not forgotten


def test_requests_that_no_chance_explains() -> None:
    state = SequentialSrm.start({"champion": 100, "challenger": 0}).update({"champion": 50})
    assert state.log_e == 0.0
    assert state.passed(0.001)
    broken = state.update({"challenger": 1})
    assert broken.p_value == 0.0
    assert broken.log_e == math.inf
    assert state.update({"stranger": 1}).p_value == 0.0
    for wrong in (lambda: state.update({"champion": -1}), lambda: SequentialSrm.start({"a": 0})):
        with pytest.raises(ExperimentError):
            wrong()


def test_a_guardrail_is_a_mixture_of_likelihood_ratios() -> None:
    allowed, bad, answers = 0.02, 7, 150
    rates = np.array([odds * allowed / (1 - allowed + odds * allowed) for odds in ODDS])
    ratios = stats.binom.pmf(bad, answers, rates) / stats.binom.pmf(bad, answers, allowed)
    assert math.exp(RateEProcess().update(bad, answers, allowed=allowed).log_e) == pytest.approx(
        ratios.mean(), rel=1e-9
    )
    assert float(log_e_value(bad, answers, allowed)) == pytest.approx(math.log(ratios.mean()), abs=1e-9)


@pytest.mark.parametrize(("rate", "gains"), [(0.1, False), (0.05, False), (0.2, True)])
def test_no_gain_is_expected_up_to_the_allowed_rate(rate: float, gains: bool) -> None:
    bad = np.arange(31)
    mean = float(np.dot(stats.binom.pmf(bad, 30, rate), np.exp(log_e_value(bad, 30, 0.1))))
    assert mean > 1.5 if gains else mean <= 1 + 1e-9


def test_a_slow_arm_is_found_soon_a_good_one_hardly_ever() -> None:
    rng, n = np.random.default_rng(3), np.arange(1, 1001)
    slow = np.cumsum(rng.random((600, 1000)) < 0.05, axis=1)
    good = np.cumsum(rng.random((2000, 1000)) < 0.01, axis=1)
    found = log_e_value(slow, n, 0.01) >= math.log(100)
    assert np.median(found.argmax(axis=1) + 1) <= 150
    assert (log_e_value(good, n, 0.01) >= math.log(100)).any(axis=1).mean() <= 0.012
    assert (stats.binom.sf(good[:300] - 1, n, 0.01) < 0.01).any(axis=1).mean() > 0.03  # a binomial test an answer


def test_an_incident_of_both_arms_is_not_laid_at_the_challengers_door() -> None:
    allowed = fair_share(30, 70)
    assert allowed == pytest.approx(0.3)
    assert fair_share(30, 70, tolerance=2) == pytest.approx(60 / 130)
    both = RateEProcess().update(
        120, 400, allowed=allowed
    )  # 120 of the 400 bad answers are the challenger's: its share
    assert not both.breached(0.01)
    assert RateEProcess().update(120, 3000, allowed=0.01).breached(0.01)  # against the objective it would be
    assert RateEProcess().update(40, 60, allowed=allowed).breached(0.01)


def test_guardrail_states_add_up_and_remember() -> None:
    batches = [(1, 20), (0, 30), (9, 25), (0, 400)]
    state = RateEProcess()
    for bad, answers in batches:
        state = state.update(bad, answers, allowed=0.02)
    assert state.log_e == pytest.approx(float(log_e_value(10, 475, 0.02)), abs=1e-9)
    assert state.breached(0.01)  # it was, after the third batch
    assert not RateEProcess().update(10, 475, allowed=0.02).breached(0.01)
    for wrong in (lambda: state.update(2, 1, allowed=0.1), lambda: state.update(0, 1, allowed=1.0)):
        with pytest.raises(ExperimentError):
            wrong()
    with pytest.raises(ExperimentError):
        fair_share(0, 70)


def test_holm_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(4)
    for count in (1, 2, 5, 8):
        p_values = np.round(rng.random(count) ** 3, 2)  # with ties and zeros
        mine = holm({str(i): float(p) for i, p in enumerate(p_values)})
        assert list(mine.values()) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


def test_e_bh_is_that_of_ville() -> None:
    rng, rejected = np.random.default_rng(5), 0
    for count in range(1, 60):
        log_e = rng.normal(2, 3, size=1 + count % 8)
        mine = e_bh({str(i): float(value) for i, value in enumerate(log_e)}, 0.1)
        assert sorted(mine) == [str(i) for i in np.flatnonzero(ville.evalues.ebh(np.exp(log_e), 0.1))]
        rejected += len(mine)
    assert rejected > 30


def test_multiplicity_refuses_what_is_no_evidence() -> None:
    for wrong in (
        lambda: holm({"a": 1.1}),
        lambda: holm({"a": math.nan}),
        lambda: e_bh({"a": math.nan}, 0.05),
        lambda: e_bh({"a": 1.0}, 0.0),
    ):
        with pytest.raises(ExperimentError):
            wrong()
    assert e_bh({"a": math.inf, "b": -math.inf}, 0.05) == ("a",)
