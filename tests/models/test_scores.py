from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from financial_assets.errors import LeakAlarmError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.outcomes import next_session_return, return_ahead
from financial_assets.market.panel import PricePanel
from financial_assets.models.answers import Answers
from financial_assets.models.artifacts.artifact import check_integrity
from financial_assets.models.heads import HEADS, QUANTILE_LEVELS
from financial_assets.models.scores import check_answers, check_not_constant, held_out_scores, leak_alarm
from financial_assets.models.scores.leaks import attainable_skill
from financial_assets.models.training import train
from financial_assets.models.variants import Variant
from financial_assets.scoring.quantiles import mean_pinball_losses

LEARNER = Variant("learner", layers=1, hidden=16, dropout=0.05, epochs=8, learning_rate=1e-2, batch_size=64)


def days(count: int, per_day: int = 2) -> np.ndarray:
    return np.repeat(pd.bdate_range("2010-01-01", periods=count).to_numpy(), per_day)


def hits(rate: float, count: int, seed: int = 0, per_day: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).random(count * per_day) < rate


@pytest.mark.parametrize(
    ("rate", "count", "majority", "alarm"),
    [
        (0.70, 400, 0.52, True),
        (0.90, 400, 0.52, True),
        (0.53, 400, 0.52, False),  # an honest model
        (0.59, 4000, 0.52, False),  # good, and certain, but below 60 %
        (0.65, 30, 0.52, False),  # high on too few days to say so
        (0.70, 400, 0.70, False),  # no better than a constant on a one-sided block
    ],
)
def test_the_alarm_needs_height_and_certainty(rate: float, count: int, majority: float, alarm: bool) -> None:
    check = leak_alarm(hits(rate, count), days(count), majority)
    assert check.alarm is alarm
    assert "leak alarm: out" in str(check)
    assert str(check).startswith("no ") is not alarm


def test_rows_of_one_day_are_one_observation() -> None:
    """Fifty stocks that are right together on 40 days prove little, 2,000 independent days a lot."""
    daily = np.random.default_rng(3).random(40) < 0.66
    assert daily.mean() >= 0.6
    assert not leak_alarm(np.repeat(daily, 50), days(40, 50), 0.5).alarm
    assert leak_alarm(hits(daily.mean(), 1000), days(1000), 0.5).alarm


def test_bound_is_the_one_sided_999_per_mille_one() -> None:
    check = leak_alarm(hits(0.7, 2000, per_day=1), days(2000, 1), 0.5)
    right = round(2000 * check.accuracy.estimate)
    assert check.accuracy.low == pytest.approx(beta.ppf(0.001, right, 2000 - right + 1), abs=5e-4)


def test_no_false_alarm_on_400_noisy_models() -> None:
    alarms = [leak_alarm(hits(0.5, 100, seed), days(100), 0.5).alarm for seed in range(400)]
    assert sum(alarms) == 0


def with_feature(features: FeaturePanel, leaked: np.ndarray) -> FeaturePanel:
    """The panel with its last feature replaced."""
    values = features.values.copy()
    values[:, -1, :] = np.nan_to_num(leaked).astype(np.float32)
    return replace(features, values=values)


def off_by_one(panel: PricePanel) -> np.ndarray:
    """The close that settles the label is among the inputs."""
    return next_session_return(panel)


def centred(panel: PricePanel) -> np.ndarray:
    """A centred mean of five returns."""
    past = np.diff(np.log(panel.values[:, 3].astype(float)), axis=1, prepend=np.nan)
    return np.stack([pd.Series(row).rolling(5, center=True).mean().to_numpy() for row in past])


def weekly_back_fill(panel: PricePanel) -> np.ndarray:
    """The week's last return filled back into its days."""
    close = pd.DataFrame(panel.values[:, 3].T.astype(float), index=panel.sessions)
    weekly = np.log(close).resample("W-FRI").last()
    return (weekly.reindex(close.index, method="bfill") - np.log(close)).to_numpy().T


def target_class(panel: PricePanel) -> np.ndarray:
    """The original system's leak: tomorrow's return, thresholded at 0.3 %."""
    tomorrow = next_session_return(panel)
    return np.where(tomorrow > 0.003, 2.0, np.where(tomorrow < -0.003, 0.0, 1.0))


@pytest.mark.parametrize("leak", [off_by_one, centred, weekly_back_fill, target_class])
def test_planted_leaks_alarm(
    leak: Callable[[PricePanel], np.ndarray], features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp
) -> None:
    spoiled = with_feature(features, leak(panel))
    trained = train(LEARNER, spoiled, panel, cutoff=cutoff, sequence_length=2, seed=1, device="cpu")
    check = check_answers(trained.held_out)
    assert check.direction.alarm, str(check)
    assert "direction" in check.heads


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_networks_on_noise_do_not_alarm_and_stay_in_the_binomial_band(
    seed: int, make_walk: Callable[..., PricePanel], graph: FeatureGraph
) -> None:
    noise = make_walk(seed)
    trained = train(
        LEARNER,
        compute_panel(noise, graph),
        noise,
        cutoff=noise.sessions[-1],
        sequence_length=2,
        seed=seed,
        device="cpu",
    )
    check = check_answers(trained.held_out)
    assert not check.alarm, str(check)
    # 99.9 % band of a fair coin.
    assert abs(check.accuracy.estimate - 0.5) <= 3.29 * 0.5 / np.sqrt(len(trained.held_out))


def answers(seed: int = 0, count: int = 500, tickers: int = 4) -> Answers:
    """What a network answers that knows nothing: right on average, and varied."""
    rng = np.random.default_rng(seed)
    rows = count * tickers
    quantiles = np.asarray([-2.33, -1.64, 0.0, 1.64, 2.33])
    outcome, rest = rng.normal(0.0, 0.01, (2, rows))
    # Outcomes over five sessions overlap, as they do.
    daily = np.concatenate([outcome.reshape(count, tickers), rng.normal(0.0, 0.01, (5, tickers))])
    five = np.stack([daily[start : start + count] for start in range(5)]).sum(axis=0).ravel()
    return Answers(
        session=days(count, tickers),
        ticker=np.tile([f"T{number}" for number in range(tickers)], count),
        logit=rng.normal(0.0, 0.1, rows),
        multiples=quantiles + rng.normal(0.0, 0.05, (rows, 5)),
        multiples_5d=quantiles + rng.normal(0.0, 0.05, (rows, 5)),
        score=rng.normal(0.0, 0.1, rows),
        outcome=outcome,
        outcome_5d=five,
        excess=(outcome - rest) / 0.014,
        volatility=np.tile([0.01, 0.01 * 5**0.5], (rows, 1)),
    )


def knows_the_direction(honest: Answers) -> Answers:
    return replace(honest, logit=honest.logit + 0.3 * np.sign(honest.outcome))


def median_of(scaled: np.ndarray, multiples: np.ndarray) -> np.ndarray:
    return multiples + 0.3 * scaled[:, None]


def knows_the_return(honest: Answers) -> Answers:
    return replace(honest, multiples=median_of(honest.scaled_return, honest.multiples))


def knows_how_far(honest: Answers) -> Answers:
    """Of the next move only its size, which no direction shows."""
    size = np.abs(honest.scaled_return)[:, None]
    return replace(honest, multiples=honest.multiples * (0.3 + 0.6 * size))


def knows_the_week(honest: Answers) -> Answers:
    return replace(honest, multiples_5d=median_of(honest.scaled_return_5d, honest.multiples_5d))


def knows_how_far_in_a_week(honest: Answers) -> Answers:
    size = np.abs(honest.scaled_return_5d)[:, None]
    return replace(honest, multiples_5d=honest.multiples_5d * (0.3 + 0.6 * size))


def knows_the_excess(honest: Answers) -> Answers:
    return replace(honest, score=honest.score + 0.1 * honest.excess)


@pytest.mark.parametrize(
    ("leak", "head"),
    [
        (knows_the_direction, "direction"),
        (knows_the_return, "quantiles"),
        (knows_how_far, "quantiles"),
        (knows_the_week, "quantiles_5d"),
        (knows_how_far_in_a_week, "quantiles_5d"),
        (knows_the_excess, "score"),
    ],
)
def test_the_head_that_knows_too_much_is_named_and_no_other(leak: Callable[[Answers], Answers], head: str) -> None:
    check = check_answers(leak(answers()))
    assert check.heads == (head,), str(check)
    assert check.alarm
    assert str(check).startswith("leak alarm")
    assert (f"{head} head" in str(check)) is (head != "direction")
    assert "Look for the label" in str(check)


def test_no_head_of_honest_answers_alarms() -> None:
    for seed in range(20):
        check = check_answers(answers(seed, count=200, tickers=3))
        assert not check.alarm, str(check)
        assert str(check).startswith("no leak alarm")


def test_a_ranking_that_is_too_good_is_measured_by_the_session() -> None:
    """Which ticker does better, and nothing of the sign: the excess returns of all tickers rise and fall together."""
    honest = answers(tickers=6)
    common = np.repeat(np.random.default_rng(1).normal(0.0, 30.0, 500), 6)
    ranked = replace(honest, excess=honest.excess + common, score=honest.score + 0.1 * honest.excess)
    measures = {check.measure: check for check in check_answers(ranked).others if check.head == "score"}
    assert measures["mean rank correlation"].alarm
    assert not measures["accuracy of the sign"].alarm
    assert "rank_ic" in held_out_scores(ranked)
    assert held_out_scores(ranked)["rank_ic"].low > 0.1


def test_two_tickers_are_not_ranked() -> None:
    few = answers(tickers=2)
    assert "rank_ic" not in held_out_scores(few)
    assert "mean rank correlation" not in {check.measure for check in check_answers(few).others}
    # The sign of the excess return is judged all the same.
    assert check_answers(knows_the_excess(few)).heads == ("score",)


def test_what_a_simulated_market_allows_is_no_leak() -> None:
    """A network that knows the direction four times in five, and what that is worth to every head."""
    rng = np.random.default_rng(0)
    honest = answers(count=800)
    sign = np.where(rng.random(len(honest)) < 0.8, 1.0, -1.0) * np.sign(honest.outcome)
    knowing = replace(
        honest,
        logit=honest.logit + sign,
        multiples=honest.multiples + np.array([0.6, 0.6, 0.6, 0.3, 0.3]) * sign[:, None],
    )
    assert check_answers(knowing).alarm
    assert not check_answers(knowing, bayes_accuracy=0.81).alarm
    assert set(check_answers(knowing, bayes_accuracy=0.6).heads) == {"direction", "quantiles"}


def test_who_knows_the_volatility_of_a_simulated_market_knows_no_direction() -> None:
    """Volatility comes in clusters there: to say so is honest, to know the size of each move is not."""
    rng = np.random.default_rng(0)
    honest = answers(count=4000)
    level = np.exp(0.2 * rng.standard_normal(len(honest)))
    scaled = honest.scaled_return * level
    volatile = replace(honest, outcome=scaled * honest.volatility[:, 0], multiples=honest.multiples * level[:, None])
    skill = next(c.value for c in check_answers(volatile).others if c.measure == "skill of the outer quantiles")
    assert 0 < skill.low < 0.1
    assert not check_answers(volatile, bayes_accuracy=0.5).alarm

    sizes = np.maximum(np.abs(scaled), 0.05)[:, None] * np.array([-1.0, -1.0, 0.0, 1.0, 1.0])
    assert check_answers(replace(volatile, multiples=sizes), bayes_accuracy=0.5).heads == ("quantiles",)


def test_attainable_skill_grows_from_nothing_to_that_of_known_directions() -> None:
    scaled = np.random.default_rng(0).normal(size=4000)
    skills = [attainable_skill(scaled, accuracy) for accuracy in (0.5, 0.6, 0.8, 1.0)]
    assert skills[0] == 0.0
    assert skills == sorted(skills)
    # Of a half-normal distribution the best quantiles lose this much less than of a normal one.
    sizes = np.abs(scaled)
    known = mean_pinball_losses(sizes, np.tile(np.quantile(sizes, QUANTILE_LEVELS), (4000, 1))).mean()
    unknown = mean_pinball_losses(scaled, np.tile(np.quantile(scaled, QUANTILE_LEVELS), (4000, 1))).mean()
    assert 1 - known / unknown > 0.3
    assert skills[-1] == pytest.approx(1 - known / unknown, abs=0.15)


def test_scores_of_every_head() -> None:
    honest = answers(count=400)
    scores = held_out_scores(honest)
    for level in QUANTILE_LEVELS:
        assert scores[f"coverage_5d_{level:.0%}"].estimate == pytest.approx(level, abs=0.05)
    # The squared return is 1 in units of its variance, on average.
    assert scores["qlike"].estimate == pytest.approx(np.log(0.01**2) + 1.0, abs=0.1)
    assert scores["qlike_5d"].estimate == pytest.approx(np.log(5 * 0.01**2) + 1.0, abs=0.3)
    assert scores["pinball_5d"].estimate == pytest.approx(scores["pinball"].estimate, rel=0.2)
    # Overlapping outcomes are fewer than they look: blocks of 25 sessions.
    assert scores["pinball_5d"].days == 16
    assert scores["pinball"].days == 400
    expected = np.minimum(np.abs(honest.excess - honest.score), 1.0)
    expected = expected * (np.abs(honest.excess - honest.score) - expected / 2)
    assert scores["score_loss"].estimate == pytest.approx(expected.mean())


@pytest.mark.parametrize("head", HEADS)
def test_a_constant_head_is_named(head: str) -> None:
    honest = answers()
    columns = dict(zip(HEADS, ("logit", "multiples", "multiples_5d", "score"), strict=True))
    still = np.zeros_like(getattr(honest, columns[head]))
    assert not check_not_constant(honest).constant
    assert check_not_constant(replace(honest, **{columns[head]: still})).constant_heads == (head,)


def test_a_single_ticker_has_nothing_to_rank() -> None:
    alone = answers(tickers=1)
    silent = replace(alone, excess=np.full(len(alone), 1e-6), score=np.zeros(len(alone)))
    assert not check_not_constant(silent).constant


def five_sessions(panel: PricePanel) -> np.ndarray:
    """What the week will bring, without its first session."""
    return return_ahead(panel, 5) - next_session_return(panel)


def size_of_the_move(panel: PricePanel) -> np.ndarray:
    return np.abs(next_session_return(panel))


def against_the_market(panel: PricePanel) -> np.ndarray:
    """The other stock's move, with its sign turned: it says nothing of one's own, but all of who does better."""
    return -next_session_return(panel)[::-1]


@pytest.mark.parametrize(
    ("leak", "head"),
    [(five_sessions, "quantiles_5d"), (size_of_the_move, "quantiles"), (against_the_market, "score")],
)
def test_a_leak_that_the_direction_does_not_show_is_stopped_through_another_head(
    leak: Callable[[PricePanel], np.ndarray],
    head: str,
    features: FeaturePanel,
    panel: PricePanel,
    cutoff: pd.Timestamp,
) -> None:
    spoiled = with_feature(features, leak(panel))
    trained = train(LEARNER, spoiled, panel, cutoff=cutoff, sequence_length=1, seed=1, device="cpu")
    check = check_answers(trained.held_out)
    assert check.heads == (head,), str(check)
    with pytest.raises(LeakAlarmError, match=f"{head} head"):
        check_integrity(trained)
