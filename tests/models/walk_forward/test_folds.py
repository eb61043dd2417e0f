"""Folds are ordered, disjoint and purged, whatever the plan; what cannot be laid is refused with a number."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import TrainingError
from financial_assets.models.dataset import chronological_blocks
from financial_assets.models.walk_forward.folds import (
    FEWEST_SESSIONS,
    LONGEST_HORIZON,
    Fold,
    FoldPlan,
    lay_folds,
)

plans = st.builds(
    FoldPlan,
    splits=st.integers(1, 12),
    gap=st.integers(0, 30),
    test_sessions=st.integers(1, 80),
    window=st.sampled_from(["expanding", "rolling"]),
    window_sessions=st.integers(FEWEST_SESSIONS, 1500),
)


def needed_sessions(plan: FoldPlan) -> int:
    training = plan.window_sessions if plan.window == "rolling" else FEWEST_SESSIONS
    return training + plan.gap + plan.splits * plan.test_sessions + LONGEST_HORIZON


def blocks_of(fold: Fold) -> set[int]:
    """Decisions of all blocks in the fold's training span, as training cuts them."""
    blocks = chronological_blocks(fold.cutoff + 1, fold.training.start, horizon=LONGEST_HORIZON)
    return {*blocks.fit, *blocks.stop, *blocks.calibrate}


@given(plans, st.integers(0, 500))
def test_no_test_session_or_its_label_is_ever_learned_from(plan: FoldPlan, more: int) -> None:
    sessions = needed_sessions(plan) + more
    folds = lay_folds(sessions, plan)
    assert [fold.name for fold in folds] == sorted(plan.names)
    assert len(folds) == plan.splits
    for fold in folds:
        learned = blocks_of(fold)
        assert learned <= set(fold.training)
        assert not learned & set(fold.test)
        # Purge: every label that is learned from is settled at the cut-off, before the gap begins.
        assert max(learned) + LONGEST_HORIZON <= fold.cutoff
        assert fold.test.start - fold.cutoff == plan.gap + 1
        assert fold.training.start >= 0
        assert len(fold.test) == plan.test_sessions
        assert fold.settled < sessions
        assert len(fold.training) >= FEWEST_SESSIONS
    for earlier, later in pairwise(folds):
        assert earlier.test.stop == later.test.start
        assert earlier.cutoff < later.cutoff
    assert folds[-1].settled == sessions - 1


@given(plans)
def test_a_session_too_few_is_refused_with_the_number_that_is_needed(plan: FoldPlan) -> None:
    needed = needed_sessions(plan)
    lay_folds(needed, plan)
    with pytest.raises(TrainingError, match=rf"WALK_FORWARD_SPLITS=.* need {needed} sessions .* are {needed - 1}:"):
        lay_folds(needed - 1, plan)


def test_the_advice_of_a_refusal_works() -> None:
    plan = FoldPlan(splits=9)
    with pytest.raises(TrainingError) as refused:
        lay_folds(700, plan)
    advised = re.search(r"WALK_FORWARD_SPLITS to at most (\d+)", str(refused.value))
    assert advised is not None
    splits = int(advised[1])
    lay_folds(700, FoldPlan(splits=splits))
    with pytest.raises(TrainingError):
        lay_folds(700, FoldPlan(splits=splits + 1))


@given(plans.filter(lambda plan: plan.window == "rolling"))
def test_rolling_spans_have_one_length(plan: FoldPlan) -> None:
    lengths = {len(fold.training) for fold in lay_folds(needed_sessions(plan) + 40, plan)}
    assert lengths == {plan.window_sessions}


@given(plans.filter(lambda plan: plan.window == "expanding"))
def test_expanding_spans_begin_at_the_first_session(plan: FoldPlan) -> None:
    assert {fold.training.start for fold in lay_folds(needed_sessions(plan) + 40, plan)} == {0}


def test_the_default_is_five_folds_of_thirty_after_a_gap_of_five() -> None:
    folds = lay_folds(1000, FoldPlan())
    assert [fold.name for fold in folds] == ["fold-1", "fold-2", "fold-3", "fold-4", "fold-5"]
    assert folds[-1].test == range(965, 995)
    assert folds[-1].cutoff == 959


def test_names_sort_in_order_of_time_beyond_nine() -> None:
    assert FoldPlan(splits=10).names[0] == "fold-01"
    assert FoldPlan(splits=10).names[-1] == "fold-10"


@pytest.mark.parametrize(
    ("plan", "setting"),
    [
        (FoldPlan(splits=0), "WALK_FORWARD_SPLITS"),
        (FoldPlan(gap=-1), "WALK_FORWARD_GAP"),
        (FoldPlan(test_sessions=0), "WALK_FORWARD_TEST_SESSIONS"),
        (FoldPlan(window="rolling", window_sessions=FEWEST_SESSIONS - 1), "WALK_FORWARD_WINDOW_SESSIONS"),
        (FoldPlan(window="sliding"), "WALK_FORWARD_WINDOW"),  # type: ignore[arg-type]
    ],
)
def test_a_setting_out_of_range_is_named(plan: FoldPlan, setting: str) -> None:
    with pytest.raises(TrainingError, match=setting):
        lay_folds(5000, plan)
