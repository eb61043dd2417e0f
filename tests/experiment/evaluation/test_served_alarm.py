"""The leak alarm on served answers: it hears a planted leak, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from financial_assets.experiment.arms import Arm
from financial_assets.experiment.evaluation.comparison import answered_rows, due_rows
from financial_assets.experiment.evaluation.skill import leak_checks
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.market.panel import PricePanel
from financial_assets.models.scores import LeakCheck
from tests.experiment.builders import CHALLENGER, CHAMPION, SHADOW, arms, panel

CUTOFF = pd.Timestamp("2010-01-29")
ARMS = arms(cutoff=CUTOFF)


@pytest.fixture(scope="module")
def served() -> PricePanel:
    return panel(sessions=260, tickers=4, seed=5)


def noise(frame: pd.DataFrame, model: str, seed: int = 1) -> pd.DataFrame:
    """Paired predictions that know nothing."""
    drawn = np.random.default_rng(seed).uniform(0.3, 0.7, len(frame))
    return frame[["session", "ticker"]].assign(model=model, status="ok", probability_up=drawn)


def knowing(frame: pd.DataFrame, model: str, right: float, seed: int = 2) -> pd.DataFrame:
    """Paired predictions that are right with probability ``right``."""
    is_right = np.random.default_rng(seed).random(len(frame)) < right
    up = frame["up"].to_numpy() == is_right
    return noise(frame, model).assign(probability_up=np.where(up, 0.9, 0.1))


def judged(
    direct: pd.DataFrame, arms_: Sequence[Arm], prices: PricePanel, *, bayes_accuracy: float | None = None
) -> dict[str, LeakCheck]:
    rows = due_rows(answered_rows(direct, arms_), outcome_frame(prices))
    return leak_checks(rows, bayes_accuracy=bayes_accuracy)


@pytest.fixture(scope="module")
def outcomes(served: PricePanel) -> pd.DataFrame:
    return outcome_frame(served)


@pytest.mark.parametrize("right", [1.0, 0.8])
def test_a_planted_leak_is_heard_in_the_arm_that_has_it(
    served: PricePanel, outcomes: pd.DataFrame, right: float
) -> None:
    direct = pd.concat([noise(outcomes, CHAMPION), knowing(outcomes, CHALLENGER, right), noise(outcomes, SHADOW)])
    verdicts = judged(direct, ARMS, served)
    assert {model: verdict.alarm for model, verdict in verdicts.items()} == {
        CHAMPION: False,
        CHALLENGER: True,
        SHADOW: False,
    }
    assert "Look for the label among the inputs" in str(verdicts[CHALLENGER])


@pytest.mark.parametrize("seed", range(20))
def test_noise_raises_no_alarm(served: PricePanel, outcomes: pd.DataFrame, seed: int) -> None:
    assert not judged(noise(outcomes, CHAMPION, seed), ARMS, served)[CHAMPION].alarm


def test_an_honest_edge_raises_no_alarm(served: PricePanel, outcomes: pd.DataFrame) -> None:
    assert not judged(knowing(outcomes, CHAMPION, 0.55), ARMS, served)[CHAMPION].alarm


def test_the_estimate_is_the_share_of_right_answers_after_the_cutoff(
    served: PricePanel, outcomes: pd.DataFrame
) -> None:
    direct = knowing(outcomes, CHAMPION, 0.7)
    verdict = judged(direct, ARMS, served)[CHAMPION]
    after = outcomes["session"] > CUTOFF
    right = (direct["probability_up"] > 0.5) == outcomes["up"]
    assert verdict.accuracy.estimate == pytest.approx(right[after].mean())
    assert verdict.accuracy.observations == after.sum()
    share = outcomes["up"][after].mean()
    assert verdict.majority_rate == pytest.approx(max(share, 1 - share))


def test_what_a_model_has_learned_from_is_no_evidence(served: PricePanel, outcomes: pd.DataFrame) -> None:
    before = outcomes[outcomes["session"] <= CUTOFF]
    after = outcomes[outcomes["session"] > CUTOFF]
    direct = pd.concat([knowing(before, CHAMPION, 1.0), noise(after, CHAMPION)])
    assert not judged(direct, ARMS, served)[CHAMPION].alarm
    learned = tuple(replace(arm, data_cutoff=served.sessions[-1]) for arm in ARMS)
    assert judged(knowing(outcomes, CHAMPION, 1.0), learned, served) == {}


def test_failed_requests_are_no_answers(served: PricePanel, outcomes: pd.DataFrame) -> None:
    failed = knowing(outcomes, CHAMPION, 1.0).assign(status="failed")
    assert judged(failed, ARMS, served) == {}
    verdict = judged(pd.concat([noise(outcomes, CHAMPION), failed]), ARMS, served)[CHAMPION]
    assert not verdict.alarm


def test_nothing_later_than_the_clock_is_used(served: PricePanel, outcomes: pd.DataFrame) -> None:
    clock = served.sessions[200]
    verdict = judged(knowing(outcomes, CHAMPION, 1.0), ARMS, served.until(clock))[CHAMPION]
    due = outcomes[(outcomes["session"] > CUTOFF) & (outcomes["session"] < clock)]
    assert verdict.accuracy.observations == len(due)


@pytest.mark.parametrize("days", [0, 1])
def test_too_few_days_give_no_verdict(served: PricePanel, outcomes: pd.DataFrame, days: int) -> None:
    after = sorted(outcomes.loc[outcomes["session"] > CUTOFF, "session"].unique())[:days]
    direct = knowing(outcomes[outcomes["session"].isin(after)], CHAMPION, 1.0)
    assert judged(direct, ARMS, served) == {}


def test_luck_on_the_first_days_is_no_leak(served: PricePanel, outcomes: pd.DataFrame) -> None:
    """A coin is right on all rows of two or three common days often enough; a new experiment must not alarm then."""
    after = sorted(outcomes.loc[outcomes["session"] > CUTOFF, "session"].unique())
    for days in (2, 3, 5):
        direct = knowing(outcomes[outcomes["session"].isin(after[:days])], CHAMPION, 1.0)
        verdict = judged(direct, ARMS, served)[CHAMPION]
        assert (verdict.accuracy.days, verdict.accuracy.estimate) == (days, 1.0)
        assert not verdict.alarm
    direct = knowing(outcomes[outcomes["session"].isin(after[:20])], CHAMPION, 1.0)
    assert judged(direct, ARMS, served)[CHAMPION].alarm


def test_one_day_in_many_copies_is_one_day(outcomes: pd.DataFrame) -> None:
    """Stocks that move as one: right on a few common days is luck, however many tickers there are."""
    wide = panel(sessions=60, tickers=200, seed=3)
    first = wide.values[:1]
    same = PricePanel(wide.tickers, wide.sessions, np.repeat(first, 200, axis=0), wide.valid)
    known = outcome_frame(same)
    after = sorted(known.loc[known["session"] > CUTOFF, "session"].unique())[:10]
    known = known[known["session"].isin(after)]
    wrong_days = known["session"].isin(after[:3])
    direct = knowing(known, CHAMPION, 1.0)
    direct.loc[wrong_days, "probability_up"] = 1.0 - direct.loc[wrong_days, "probability_up"]
    verdict = judged(direct, ARMS, same)[CHAMPION]
    assert verdict.accuracy.estimate == pytest.approx(0.7)
    assert verdict.accuracy.observations == 2000
    assert not verdict.alarm


def test_a_simulated_market_is_held_against_its_own_bound(served: PricePanel, outcomes: pd.DataFrame) -> None:
    direct = knowing(outcomes, CHAMPION, 0.75)
    assert judged(direct, ARMS, served)[CHAMPION].alarm
    assert not judged(direct, ARMS, served, bayes_accuracy=0.75)[CHAMPION].alarm
    assert judged(knowing(outcomes, CHAMPION, 0.9), ARMS, served, bayes_accuracy=0.75)[CHAMPION].alarm
