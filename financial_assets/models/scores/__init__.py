"""What out-of-sample answers say of a network: its scores, whether each head answers at all, and the leak alarm."""

from financial_assets.models.scores.constant import ConstantCheck, check_not_constant
from financial_assets.models.scores.held_out import held_out_scores
from financial_assets.models.scores.leaks import HeadCheck, LeakCheck, LeakChecks, check_answers, leak_alarm

__all__ = [
    "ConstantCheck",
    "HeadCheck",
    "LeakCheck",
    "LeakChecks",
    "check_answers",
    "check_not_constant",
    "held_out_scores",
    "leak_alarm",
]
