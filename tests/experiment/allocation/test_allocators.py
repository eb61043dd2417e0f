from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mabwiser.mab import MAB, LearningPolicy
from pydantic import TypeAdapter
from scipy import stats

from benchmarks.ab.rivals import FixedShares, ThompsonBeta, best_of_betas
from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.allocators import Allocator, Hedge, ThompsonGaussian, best_of_means
from financial_assets.experiment.allocation.limits import Limits
from financial_assets.experiment.allocation.record import Memory

ADAPTIVE: list[Allocator] = [ThompsonBeta(), ThompsonGaussian(), ThompsonGaussian(memory_days=60), Hedge()]


def after(allocator: Allocator, scores: np.ndarray) -> Memory:
    memory = allocator.start(scores.shape[1])
    for day in scores.tolist():
        memory = allocator.update(memory, day)
    return memory


@pytest.mark.parametrize(
    "shapes", [((3, 5), (5, 3)), ((1, 1), (1, 1)), ((40, 60), (60, 40)), ((2, 9), (8, 3), (300, 400))]
)
def test_the_probability_of_the_best_beta_is_that_of_draws(shapes: tuple[tuple[float, float], ...]) -> None:
    random = np.random.default_rng(0)
    draws = np.stack([random.beta(a, b, 400_000) for a, b in shapes])
    seen = np.bincount(draws.argmax(axis=0), minlength=len(shapes)) / 400_000
    wins, losses = zip(*shapes, strict=True)
    assert best_of_betas(wins, losses) == pytest.approx(seen, abs=0.004)


def test_two_betas_agree_with_the_closed_form() -> None:
    """P(B > A) for whole numbers: the sum of Evan Miller (2015), Formulas for Bayesian A/B testing."""
    a, b, c, d = 7, 11, 13, 9
    log_beta = lambda x, y: math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)  # noqa: E731
    exact = sum(
        math.exp(log_beta(a + i, b + d) - math.log(d + i) - log_beta(1 + i, d) - log_beta(a, b)) for i in range(c)
    )
    assert best_of_betas([a, c], [b, d])[1] == pytest.approx(exact, abs=1e-9)


def test_thompsons_shares_are_how_often_a_bandit_library_draws_each_arm() -> None:
    """mabwiser draws from Beta(1 + successes, 1 + failures) and takes the largest."""
    reference = MAB([0, 1, 2], LearningPolicy.ThompsonSampling(), seed=1)
    days = [(1, 0, 0)] * 30 + [(0, 1, 0)] * 24 + [(0, 0, 1)] * 20
    for arm in range(3):
        reference.partial_fit([arm] * len(days), [day[arm] for day in days])
    drawn = np.bincount([reference.predict() for _ in range(20_000)], minlength=3) / 20_000
    ours = ThompsonBeta().shares(after(ThompsonBeta(), np.array(days, dtype=float)))
    assert ours == pytest.approx(drawn, abs=0.015)


def test_the_gaussian_posterior_of_two_arms_is_the_students_t_of_their_difference() -> None:
    """With a vanishing prior the posterior is the t-test's distribution, but for the degrees of freedom."""
    scores = np.random.default_rng(1).normal([0.5, 0.52], 0.1, (400, 2))
    vague = ThompsonGaussian(prior_days=1e-6, prior_sd=1e-6)
    p_value = stats.ttest_rel(scores[:, 1], scores[:, 0], alternative="greater").pvalue
    assert vague.shares(after(vague, scores))[0] == pytest.approx(p_value, abs=1e-3)


def test_more_gaussian_arms_are_drawn_from_the_same_posterior() -> None:
    """A third arm far below changes nothing for the two that lead: draws against the closed form."""
    random = np.random.default_rng(2)
    pair = random.normal([0.5, 0.505], 0.05, (100, 2))
    two, three = after(ThompsonGaussian(), pair), after(ThompsonGaussian(), np.column_stack([pair, pair[:, :1] - 0.4]))
    closed, drawn = ThompsonGaussian().shares(two), ThompsonGaussian().shares(three)
    assert drawn[:2] == pytest.approx(closed, abs=0.03)
    assert drawn[2] < 0.001
    assert ThompsonGaussian().shares(three) == drawn, "seeded"
    assert ThompsonGaussian(seed=1).shares(three) != drawn


@pytest.mark.parametrize("allocator", ADAPTIVE, ids=lambda a: a.name)
@pytest.mark.parametrize("arms", [2, 3])
def test_the_better_arm_gets_the_traffic_and_equal_ones_share_it(allocator: Allocator, arms: int) -> None:
    random = np.random.default_rng(3)
    level = np.array([0.5] * (arms - 1) + [0.6])
    shares = allocator.shares(after(allocator, random.normal(level, 0.1, (250, arms))))
    assert shares[-1] > 0.9
    even = allocator.shares(allocator.start(arms))
    assert even == pytest.approx([1 / arms] * arms, abs=0.03)


@pytest.mark.parametrize("allocator", ADAPTIVE, ids=lambda a: a.name)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), arms=st.integers(2, 4), scale=st.sampled_from([1e-6, 1.0, 1e4]))
def test_shares_are_shares_and_the_memory_is_text_without_loss(
    allocator: Allocator, seed: int, arms: int, scale: float
) -> None:
    memory = after(allocator, np.random.default_rng(seed).normal(0, scale, (20, arms)))
    shares = allocator.shares(memory)
    assert min(shares) >= 0
    assert math.fsum(shares) == pytest.approx(1)
    again = TypeAdapter(Memory).validate_json(json.dumps(asdict(memory)))
    assert again == memory
    assert allocator.shares(again) == shares


def test_days_without_a_difference_teach_only_that_arms_are_alike() -> None:
    same = np.full((300, 2), 0.5)
    for allocator in ADAPTIVE:
        assert allocator.shares(after(allocator, same)) == pytest.approx((0.5, 0.5))
    tied = after(ThompsonBeta(), np.array([[0.6, 0.6, 0.5], [0.5, 0.5, 0.5], [0.4, 0.3, 0.2]]))
    assert (tied.days, tied.totals) == (3.0, pytest.approx((1 / 2 + 1 / 3 + 1, 1 / 2 + 1 / 3, 1 / 3)))


def test_old_days_are_forgotten_when_asked() -> None:
    scores = np.concatenate([np.tile([0.6, 0.4], (200, 1)), np.tile([0.4, 0.6], (60, 1))])
    scores += np.random.default_rng(4).normal(0, 0.05, scores.shape)
    assert ThompsonGaussian().shares(after(ThompsonGaussian(), scores))[1] < 0.5
    forgetful = ThompsonGaussian(memory_days=20)
    assert forgetful.shares(after(forgetful, scores))[1] > 0.9


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from(["noise", "switching", "adversary"]))
def test_hedge_keeps_its_worst_case_promise(seed: int, arms: int, world: str) -> None:
    random, hedge = np.random.default_rng(seed), Hedge()
    memory, earned, totals, days = hedge.start(arms), 0.0, np.zeros(arms), 300
    for day in range(days):
        shares = np.array(hedge.shares(memory))
        score = random.random(arms)
        if world == "switching":
            score = (np.arange(arms) == (day // 37) % arms).astype(float)
        if world == "adversary":
            score = (np.arange(arms) != shares.argmax()).astype(float)
        earned += float(shares @ score)
        totals += score
        memory = hedge.update(memory, score.tolist())
    bound = math.sqrt(days * math.log(arms)) + 4 / 3 * math.log(arms) + 2
    assert totals.max() - earned <= bound
    scaled = after(hedge, np.array([[5.0, 3.0], [1.0, 2.0], [4.0, 4.5]]))
    shifted = after(hedge, 1e-3 * np.array([[5.0, 3.0], [1.0, 2.0], [4.0, 4.5]]) + 7)
    assert hedge.shares(scaled) == pytest.approx(hedge.shares(shifted))


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=15))
def test_hedge_takes_scores_of_any_size(days: list[tuple[float, float, float]]) -> None:
    shares = Hedge().shares(after(Hedge(), np.array(days)))
    assert math.fsum(shares) == pytest.approx(1)
    assert min(shares) >= 0


def test_following_the_leader_breaks_that_promise() -> None:
    """The bound is not idle: all traffic to the arm in front loses to alternating days."""
    totals, earned = np.array([0.5, 0.0]), 0.0
    for day in range(300):
        score = np.array([0.0, 1.0]) if day % 2 == 0 else np.array([1.0, 0.0])
        earned += score[totals.argmax()]
        totals += score
    assert totals.max() - earned > math.sqrt(300 * math.log(2)) + 4 / 3 * math.log(2) + 2


def test_ten_thousand_random_posteriors_stay_within_the_limits() -> None:
    random, limits = np.random.default_rng(5), Limits()
    now = (70, 30)
    for _ in range(10_000):
        x = random.normal(random.normal(0, 0.1), random.exponential(0.2))
        days = float(random.integers(0, 2000))
        square = days * (x * x + random.exponential(0.05))
        shares = best_of_means(days, (days * x, -days * x), (square, -square, -square, square), 1.0, 0.2, (0, 2))
        after = limits.move(now, shares)
        assert limits.check(after) == after
        assert max(abs(a - b) for a, b in zip(after, now, strict=True)) <= 10
        now = after


def test_settings_without_sense_are_refused() -> None:
    for make in (
        lambda: ThompsonBeta(prior=0),
        lambda: ThompsonGaussian(prior_sd=-1),
        lambda: ThompsonGaussian(memory_days=math.nan),
        lambda: ThompsonGaussian(seed=-1),
        lambda: FixedShares((0.7, 0.4)),
        lambda: FixedShares((0.7, 0.3)).start(3),
    ):
        with pytest.raises(ExperimentError):
            make()
