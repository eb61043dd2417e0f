"""What may be asked of several models, which of their heads answer it, and by which score and loss they are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from financial_assets.models.walk_forward.quantile_heads import QUANTILE_HEADS

Question = Literal["direction", "ranking", "risk"]
"""Up or down; which tickers of a session do better than others; how far a return may go."""


@dataclass(frozen=True)
class JudgedHead:
    """A head of a question.

    Attributes
    ----------
    name, columns
        Of the head, and of what it says.
    known
        What must be known of a row to judge it.
    score, loss
        The score that the table begins with, and the loss that models are compared by.
    words
        The score in a sentence.
    sign
        -1 where a higher score is better: the loss is minus the score.
    """

    name: str
    columns: tuple[str, ...]
    known: tuple[str, ...]
    score: str
    loss: str
    words: str
    sign: float = 1.0


_RISK = tuple(
    JudgedHead(
        head.name,
        head.columns,
        (head.outcome, "volatility"),
        "pinball_normalised",
        "pinball_normalised",
        f"pinball loss of {'the next session' if head.horizon == 1 else f'{head.horizon} sessions'}",
    )
    for head in QUANTILE_HEADS
)
HEADS_OF: Mapping[Question, tuple[JudgedHead, ...]] = {
    "direction": (
        JudgedHead("direction", ("probability_up",), ("outcome",), "log_loss", "log_loss", "log loss of the direction"),
    ),
    "ranking": (
        JudgedHead(
            *("excess_return", ("score",), ("excess", "volatility"), "rank_ic", "minus_rank_ic"),
            words="rank correlation of score and excess return",
            sign=-1.0,
        ),
    ),
    "risk": _RISK,
}
"""Heads that answer each question."""
