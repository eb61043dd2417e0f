"""Folds in order of time: a training span, a gap, and the sessions on which its forecasts are judged.

    |---------------- training ----------------| gap |-- test --| labels |
    first session                         cut-off                       end

The training of a fold ends at its cut-off and reads nothing later, so that its last labels are settled there: decisions
whose label would lie beyond are purged (``dataset.chronological_blocks``, Lopez de Prado 2018, chapter 7). The gap
comes on top, for features that remember longer than labels. Inputs of a test session may look back over the gap and the
training span: that is what is known then. The last test session of the last fold is so early that its longest label is
settled by the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from financial_assets.errors import TrainingError
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.risk.bars import HORIZONS
from financial_assets.models.risk.forecast import FEWEST_OUTCOMES

LONGEST_HORIZON = max(HORIZONS)
"""Sessions between a decision and the close that settles the longest label."""

FEWEST_SESSIONS = SERVED_LOOKBACK + FEWEST_OUTCOMES
"""Training sessions below which nothing is fitted: the bars behind the first forecast, and a year of outcomes."""

Window = Literal["expanding", "rolling"]


@dataclass(frozen=True)
class FoldPlan:
    """How many folds, and how long.

    Attributes
    ----------
    splits
        Folds, at least 1.
    gap
        Sessions between the cut-off of a fold and its first test session, at least 0.
    test_sessions
        Decision sessions of each fold, at least 1.
    window
        ``expanding``: training begins at the first session. ``rolling``: it has ``window_sessions`` of them.
    window_sessions
        Length of a rolling training span.
    """

    splits: int = 5
    gap: int = 5
    test_sessions: int = 30
    window: Window = "expanding"
    window_sessions: int = 1000

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the folds, the earliest first; a later fold is never before an earlier one by name either."""
        width = len(str(self.splits))
        return tuple(f"fold-{number:0{width}d}" for number in range(1, self.splits + 1))


@dataclass(frozen=True)
class Fold:
    """One fold; ranges are of session indices.

    Attributes
    ----------
    name
        ``fold-1`` is the earliest.
    training
        Sessions that may be read for fitting, stopping and calibration. The last one is the cut-off.
    test
        Decision sessions on which the forecasts are judged.
    """

    name: str
    training: range
    test: range

    @property
    def cutoff(self) -> int:
        """The last session that may be learned from."""
        return self.training[-1]

    @property
    def settled(self) -> int:
        """The session at whose close all labels of the test sessions are known."""
        return self.test[-1] + LONGEST_HORIZON


def lay_folds(sessions: int, plan: FoldPlan, *, fewest: int = FEWEST_SESSIONS) -> tuple[Fold, ...]:
    """The folds of so many sessions, the last one as late as its labels allow.

    Test spans follow each other without a gap between them; together they are the last sessions but the
    ``LONGEST_HORIZON`` that settle the labels.

    Parameters
    ----------
    sessions
        Sessions that may be read, up to and including the data cut-off.
    plan
        How many folds, and how long.
    fewest
        Training sessions that the earliest fold needs.

    Raises
    ------
    TrainingError
        A setting is out of range, or there are too few sessions; names the setting and how many are needed.
    """
    _check(plan, fewest)
    training = plan.window_sessions if plan.window == "rolling" else fewest
    beside = plan.gap + LONGEST_HORIZON
    needed = training + beside + plan.splits * plan.test_sessions
    if sessions < needed:
        raise TrainingError(_too_few(sessions, needed, (sessions - training - beside) // plan.test_sessions, plan))
    end = sessions - LONGEST_HORIZON
    folds: list[Fold] = []
    for number, name in enumerate(plan.names):
        start = end - (plan.splits - number) * plan.test_sessions
        cutoff = start - plan.gap - 1
        first = cutoff + 1 - plan.window_sessions if plan.window == "rolling" else 0
        folds.append(Fold(name, range(first, cutoff + 1), range(start, start + plan.test_sessions)))
    return tuple(folds)


def _check(plan: FoldPlan, fewest: int) -> None:
    least = {"splits": 1, "gap": 0, "test_sessions": 1}
    for name, bound in least.items():
        if getattr(plan, name) < bound:
            raise TrainingError(f"WALK_FORWARD_{name.upper()} must be at least {bound}, not {getattr(plan, name)}")
    if plan.window not in ("expanding", "rolling"):
        raise TrainingError(f"WALK_FORWARD_WINDOW must be expanding or rolling, not {plan.window!r}")
    if plan.window == "rolling" and plan.window_sessions < fewest:
        raise TrainingError(
            f"WALK_FORWARD_WINDOW_SESSIONS={plan.window_sessions} is too short a training span: {fewest} sessions are "
            "needed for the longest feature and a year of outcomes"
        )


def _too_few(sessions: int, needed: int, possible: int, plan: FoldPlan) -> str:
    remedy = (
        f"set WALK_FORWARD_SPLITS to at most {possible}" if possible > 0 else "set WALK_FORWARD_TEST_SESSIONS lower"
    )
    if plan.window == "rolling":
        remedy += ", WALK_FORWARD_WINDOW_SESSIONS lower"
    return (
        f"WALK_FORWARD_SPLITS={plan.splits} folds of WALK_FORWARD_TEST_SESSIONS={plan.test_sessions} with "
        f"WALK_FORWARD_GAP={plan.gap} need {needed} sessions up to the data cut-off, there are {sessions}: {remedy}, "
        "or an earlier INGESTION_START_DATE"
    )
