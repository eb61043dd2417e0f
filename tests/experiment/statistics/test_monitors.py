"""Sequential split test, guardrails, several challengers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import ville
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.guardrails import (
    ODDS,
    fair_share,
    incident_answers,
    log_e_of_rate,
    peak_log_e,
)
from financial_assets.experiment.statistics.multiplicity import e_bh, holm
from financial_assets.experiment.statistics.srm_sequential import (
    CONCENTRATION,
    SequentialSrm,
    log_bayes_factor,
)

WEIGHTS = {"champion": 70, "challenger": 30}


def split_test(weights: dict[str, int], *looks: dict[str, int]) -> SequentialSrm:
    test = SequentialSrm()
    for requests in looks:
        test.update({"one stratum": (weights, requests)})
    return test


def test_two_arms_are_villes_beta_binomial_test() -> None:
    requests = (np.random.default_rng(1).random(500) < 0.64).astype(float)
    theirs = ville.BernoulliTest(0.7, prior=(0.7 * CONCENTRATION, 0.3 * CONCENTRATION)).fit(requests).log_e_values_
    state, mine = SequentialSrm(), []
    for one in requests:
        state.update({1: (WEIGHTS, {"champion": int(one), "challenger": 1 - int(one)})})
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
    assert split_test(WEIGHTS, {"champion": 1851, "challenger": 649}).p_value <= 0.001
    assert split_test(WEIGHTS, {"champion": 1751, "challenger": 749}).p_value > 0.001


def test_epochs_share_one_error_rate_and_forget_no_mismatch() -> None:
    even = {"champion": 50, "challenger": 50}
    both = SequentialSrm()
    both.update({1: (WEIGHTS, {"champion": 130, "challenger": 70})})
    first = both.log_e
    assert first == pytest.approx(split_test(WEIGHTS, {"champion": 130, "challenger": 70}).log_e, rel=1e-12)
    both.update({2: (even, {"champion": 65, "challenger": 35})})
    # The second bets on what the first saw: 130 and 70 instead of 140 and 60, each with 50 as the weights say.
    tilted = np.array([50 * 180 / 190, 50 * 120 / 110])
    second = log_bayes_factor([65, 35], (0.5, 0.5), [*(tilted / tilted.sum())])
    assert both.log_e == pytest.approx(first + float(second), rel=1e-12)
    before = both.log_e, both.p_value
    both.update({2: (even, {"challenger": 10})})
    assert both.log_e < before[0]
    assert both.p_value == before[1]  # a mismatch that was seen is not forgotten


def split_by_epochs(rng: np.random.Generator, champion: float, *, epoch: int, forgets: bool = False) -> float:
    """p-value of 2,000 requests whose weights are registered anew, unchanged, every ``epoch`` requests."""
    test, alone = SequentialSrm(), list[SequentialSrm]()
    for number in range(2000 // epoch):
        count = int(rng.binomial(epoch, champion))
        look = {number: (WEIGHTS, {"champion": count, "challenger": epoch - count})}
        test.update(look)
        alone.append(SequentialSrm())
        alone[-1].update(look)
    return math.exp(-sum(one.log_e for one in alone)) if forgets else test.p_value


@pytest.mark.parametrize("worlds", [50, pytest.param(200, marks=pytest.mark.statistics)])
def test_a_mismatch_is_found_however_often_the_weights_are_registered_anew(worlds: int) -> None:
    rng = np.random.default_rng(7)
    found = np.mean([split_by_epochs(rng, 0.65, epoch=100) <= 0.001 for _ in range(worlds)])
    as_if_new = np.mean([split_by_epochs(rng, 0.65, epoch=100, forgets=True) <= 0.001 for _ in range(worlds)])
    assert found > 0.6 > 0.3 > as_if_new
    assert not any(split_by_epochs(rng, 0.7, epoch=100) <= 0.005 for _ in range(worlds))


def test_what_an_epoch_bets_on_does_not_depend_on_its_own_requests() -> None:
    """The expected e-value of the second epoch is 1, whatever the first one showed."""
    total = 0.0
    for count in range(9):
        test = SequentialSrm()
        test.update({1: (WEIGHTS, {"champion": 20, "challenger": 60})})
        before = test.log_e
        test.update({2: (WEIGHTS, {"champion": count, "challenger": 8 - count})})
        total += float(stats.binom.pmf(count, 8, 0.7)) * math.exp(test.log_e - before)
    assert total == pytest.approx(1.0, abs=1e-10)


def test_requests_that_no_chance_explains() -> None:
    weights = {"champion": 100, "challenger": 0}
    fine = split_test(weights, {"champion": 50})
    assert (fine.log_e, fine.p_value) == (0.0, 1.0)
    broken = split_test(weights, {"champion": 50}, {"challenger": 1}, {"champion": 50})
    assert (broken.log_e, broken.p_value) == (math.inf, 0.0)
    assert split_test(weights, {"champion": 50}, {"stranger": 1}).p_value == 0.0
    for wrong in (lambda: split_test(weights, {"champion": -1}), lambda: split_test({"a": 0}, {"a": 1})):
        with pytest.raises(ExperimentError):
            wrong()


def test_a_guardrail_is_a_mixture_of_likelihood_ratios() -> None:
    allowed, bad, answers = 0.02, 7, 150
    rates = np.array([odds * allowed / (1 - allowed + odds * allowed) for odds in ODDS])
    ratios = stats.binom.pmf(bad, answers, rates) / stats.binom.pmf(bad, answers, allowed)
    assert log_e_of_rate([bad], answers, allowed).tolist() == pytest.approx([math.log(ratios.mean())], abs=1e-9)


@pytest.mark.parametrize(("rate", "gains"), [(0.1, False), (0.05, False), (0.2, True)])
def test_no_gain_is_expected_up_to_the_allowed_rate(rate: float, gains: bool) -> None:
    bad = np.arange(31)
    mean = float(np.dot(stats.binom.pmf(bad, 30, rate), np.exp(log_e_of_rate(bad[:, None], 30, 0.1)[:, 0])))
    assert mean > 1.5 if gains else mean <= 1 + 1e-9


@pytest.mark.parametrize("worlds", [400, pytest.param(2000, marks=pytest.mark.statistics)])
def test_a_slow_arm_is_found_soon_a_good_one_hardly_ever(worlds: int) -> None:
    rng, n = np.random.default_rng(3), np.arange(1, 1001)
    slow, good = rng.random((3 * worlds // 10, 1000)) < 0.05, rng.random((worlds, 1000)) < 0.01
    found = log_e_of_rate(slow, 1, 0.01) >= math.log(100)
    assert np.median(found.argmax(axis=1) + 1) <= 150
    assert (log_e_of_rate(good, 1, 0.01) >= math.log(100)).any(axis=1).mean() <= 0.012
    assert (stats.binom.sf(np.cumsum(good[:300], axis=1) - 1, n, 0.01) < 0.01).any(
        axis=1
    ).mean() > 0.03  # a binomial test an answer


def test_an_incident_of_both_arms_is_not_laid_at_the_challengers_door() -> None:
    allowed = fair_share(30, 70)
    assert allowed == pytest.approx(0.3)
    limit = math.log(100)
    assert log_e_of_rate([120], 400, allowed) < limit  # 120 of the 400 bad answers are the challenger's: its share
    assert log_e_of_rate([120], 3000, 0.01) >= limit  # against the objective it would be blamed
    assert log_e_of_rate([40], 60, allowed) >= limit


def test_guardrails_add_up_and_remember() -> None:
    bad, answers, limit = [1, 0, 9, 0], [20, 30, 25, 400], math.log(100)
    path = log_e_of_rate(bad, answers, 0.02)
    at_once = log_e_of_rate([10], 475, 0.02)
    assert path[-1] == pytest.approx(at_once[0], abs=1e-9)
    assert path.max() >= limit > path[-1]  # it was breached, after the third batch
    mixed = np.concatenate([np.full(30, 0.02), np.full(20, 0.3)])
    failures = np.random.default_rng(6).random(50) < mixed
    by_hand = sum(
        np.exp(failures @ np.full(50, math.log(odds)) - np.log1p(mixed * (odds - 1)).sum()) for odds in ODDS
    ) / len(ODDS)
    assert log_e_of_rate(failures, 1, mixed)[-1] == pytest.approx(math.log(by_hand))  # each answer has its own limit
    assert peak_log_e(failures, mixed) == pytest.approx(max(0.0, log_e_of_rate(failures, 1, mixed).max()))
    assert peak_log_e([], 0.02) == 0.0
    for wrong in (lambda: peak_log_e([True], 1.0), lambda: peak_log_e([True], [0.0]), lambda: fair_share(0, 70)):
        with pytest.raises(ExperimentError):
            wrong()


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3, 1.0])
def test_all_answers_at_once_give_what_one_at_a_time_gives(rate: float) -> None:
    bad = np.random.default_rng(4).random(400) < rate
    at_each_answer = [float(log_e_of_rate([bad[:n].sum()], n, 0.02)[0]) for n in range(1, 401)]
    assert peak_log_e(bad, 0.02) == pytest.approx(max(0.0, *at_each_answer), abs=1e-9)


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


def bursts(rng: np.random.Generator, answers: int, rate: float, size: int) -> np.ndarray:
    """Answers of which a share ``rate`` goes wrong, ``size`` at a time."""
    bad = np.zeros(answers, bool)
    for start in np.flatnonzero(rng.random(answers) < rate / size):
        bad[start : start + size] = True
    return bad


@pytest.mark.parametrize("size", [3, 5, 10])
def test_a_crash_that_takes_several_requests_with_it_counts_once(size: int) -> None:
    rng, level = np.random.default_rng(size), math.log(100)
    worlds = [bursts(rng, 3000, 0.01, size) for _ in range(150)]
    assert np.mean([peak_log_e(bad[incident_answers(bad, 10)], 0.01) >= level for bad in worlds]) <= 0.01
    assert np.mean([peak_log_e(bad, 0.01) >= level for bad in worlds]) > 0.1  # each failure by itself


def test_an_arm_that_fails_for_good_has_no_excuse() -> None:
    bad = np.ones(40, bool)
    assert np.flatnonzero(incident_answers(bad, 10)).tolist() == [0, 10, 20, 30]
    assert peak_log_e(bad[incident_answers(bad, 10)], 0.01) >= math.log(100)


def test_an_incident_ends_after_its_time_however_few_answers_came() -> None:
    bad = np.array([True, True, False, True, True])
    seconds = np.array([0.0, 599.0, 599.5, 600.0, 601.0])
    assert incident_answers(bad, 10, seconds, 600.0).tolist() == [True, False, False, True, False]
    assert incident_answers(bad, 1, seconds, 600.0).all()
    assert incident_answers(bad, 2).tolist() == [True, False, True, True, False]
    assert incident_answers(np.zeros(0, bool), 10).tolist() == []


def test_what_fails_again_in_another_session_counts_again() -> None:
    sessions = np.array([0, 0, 1, 1, 2])
    assert incident_answers(np.ones(5, bool), 10, sessions=sessions).tolist() == [True, False, True, False, True]
    late = np.array([False, True, True, False, True])
    assert incident_answers(late, 10, sessions=sessions).tolist() == [True, True, True, False, True]


@given(bad=st.lists(st.booleans(), max_size=60), longest=st.integers(1, 12))
def test_whether_an_answer_counts_depends_on_those_before_it_only(bad: list[bool], longest: int) -> None:
    whole = incident_answers(np.array(bad, bool), longest)
    for count in range(len(bad) + 1):
        assert incident_answers(np.array(bad[:count], bool), longest).tolist() == whole[:count].tolist()
    assert not (~whole).any() or longest > 1
