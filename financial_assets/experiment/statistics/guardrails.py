"""Guardrails: whether bad answers (errors, answers slower than the objective) are more frequent than allowed.

One-sided and valid at every look: equal parts of a capital bet on odds of a bad answer that are :data:`ODDS` times
those allowed. Each part is a likelihood ratio, which cannot be expected to grow while the rate is at most the allowed
one, whether constant or not; it reaches 1/alpha with probability at most alpha (Wald 1945; Ville 1939; Robbins 1970 for
the mixture). Alpha is usually .01 for each guardrail.

*Against an objective*, all answers of the arm count: ``update(bad, answers, allowed=objective)``. *Against the
champion*, only bad answers count: when requests are routed at random, a bad one is the challenger's with at most
:func:`fair_share` if its rate is at most ``tolerance`` times the champion's, however bad the hour is for both. An
incident of the shared plane is thus not laid at the challenger's door: ``update(challenger_bad, both_bad,
allowed=fair_share(...))``. Answers that fail together (one crash, many requests) are not independent: count such an
incident once.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import ExperimentError

__all__ = ["ODDS", "RateEProcess", "fair_share", "log_e_value"]

ODDS = (1.5, 2.0, 3.0, 5.0, 8.0, 16.0)
"""Odds ratios that are bet on; of rare events they are ratios of rates."""


def fair_share(challenger_weight: float, champion_weight: float, tolerance: float = 1.0) -> float:
    """Largest share of the two arms' bad answers that is the challenger's while its rate is tolerable.

    Parameters
    ----------
    challenger_weight, champion_weight
        Routing weights, relative.
    tolerance
        Allowed ratio of the challenger's rate to the champion's.
    """
    if not (challenger_weight > 0 and champion_weight > 0 and tolerance > 0):
        raise ExperimentError(
            f"weights and tolerance must be positive: {challenger_weight}, {champion_weight}, {tolerance}"
        )
    mine = challenger_weight * tolerance
    return mine / (mine + champion_weight)


def log_e_value(bad: ArrayLike, answers: ArrayLike, allowed: float) -> NDArray[np.float64]:
    """Log e-values of many tests at once, for counts so far under one allowed rate; any shape, that of both counts."""
    bad, answers = np.asarray(bad, np.float64), np.asarray(answers, np.float64)
    parts = [bad * math.log(odds) - answers * math.log1p(allowed * (odds - 1)) for odds in ODDS]
    return np.logaddexp.reduce(parts, axis=0) - math.log(len(ODDS))


@dataclass(frozen=True, slots=True)
class RateEProcess:
    """State of one guardrail, fed with batches of answers.

    Attributes
    ----------
    bad, answers
        Seen so far.
    log_parts
        Log capital of each of :data:`ODDS`.
    log_peak
        Largest log of the mixed capital at any look.
    """

    bad: int = 0
    answers: int = 0
    log_parts: tuple[float, ...] = (0.0,) * len(ODDS)
    log_peak: float = 0.0

    def update(self, bad: int, answers: int, *, allowed: float) -> RateEProcess:
        """The state after more answers.

        Parameters
        ----------
        bad, answers
            Those since the last look. A look within a large batch is not made up for: feed what came between looks.
        allowed
            Allowed probability that one is bad, fixed before these answers; it may differ between batches.
        """
        if not 0 <= bad <= answers:
            raise ExperimentError(f"{bad} bad of {answers} answers cannot be")
        if not 0 < allowed < 1:
            raise ExperimentError(f"the allowed rate must lie strictly between 0 and 1, not {allowed}")
        parts = tuple(
            log + bad * math.log(odds) - answers * math.log1p(allowed * (odds - 1))
            for log, odds in zip(self.log_parts, ODDS, strict=True)
        )
        new = dataclasses.replace(self, bad=self.bad + bad, answers=self.answers + answers, log_parts=parts)
        return dataclasses.replace(new, log_peak=max(self.log_peak, new.log_e))

    @property
    def log_e(self) -> float:
        """Logarithm of the present e-value."""
        largest = max(self.log_parts)
        return largest + math.log(math.fsum(math.exp(log - largest) for log in self.log_parts) / len(ODDS))

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value over all looks so far."""
        return min(1.0, math.exp(-self.log_peak))

    def breached(self, alpha: float) -> bool:
        """Whether the rate is above the allowed one, with error rate ``alpha`` over all looks."""
        return self.p_value <= alpha
