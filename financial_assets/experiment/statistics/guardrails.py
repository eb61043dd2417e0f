"""Guardrails: whether bad answers (errors, answers slower than the objective) are more frequent than allowed.

One-sided and valid at every look: equal parts of a capital bet on odds of a bad answer that are :data:`ODDS` times
those allowed. Each part is a likelihood ratio, which cannot be expected to grow while the rate is at most the allowed
one, whether constant or not; it reaches 1/alpha with probability at most alpha (Wald 1945; Ville 1939; Robbins 1970 for
the mixture). Alpha is usually .01 for each guardrail.

*Against an objective*, all answers of the arm count. *Against the champion*, only bad answers count: when requests are
routed at random, a bad one is the challenger's with at most :func:`fair_share` if its rate is at most the champion's,
however bad the hour is for both. An incident of the shared plane is thus not laid at the challenger's door. Answers
that fail together (one crash, many requests) are not independent: :func:`incident_answers` counts an incident once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import ExperimentError

ODDS = (1.5, 2.0, 3.0, 5.0, 8.0, 16.0)
"""Odds ratios that are bet on; of rare events they are ratios of rates."""


def fair_share(challenger_weight: float, champion_weight: float) -> float:
    """Share of the two arms' bad answers that is the challenger's if its rate is the champion's.

    Parameters
    ----------
    challenger_weight, champion_weight
        Routing weights, relative.
    """
    if not (challenger_weight > 0 and champion_weight > 0):
        raise ExperimentError(f"weights must be positive: {challenger_weight}, {champion_weight}")
    return challenger_weight / (challenger_weight + champion_weight)


def incident_answers(
    bad: NDArray[np.bool_],
    longest: int,
    seconds: NDArray[np.float64] | None = None,
    period: float = math.inf,
    sessions: NDArray[Any] | None = None,
) -> NDArray[np.bool_]:
    """Which answers count where bad ones come in bursts: a bad answer stands for those that follow it closely.

    After a bad answer the next ones, good or bad, are left out until the incident is over. Whether an answer counts
    thus depends on those before it only, so that the bets stay fair, and with bursts of up to ``longest`` answers an
    arm whose share of bad answers is the allowed one starts incidents no more often than that. A longer burst counts
    again and again: an arm that fails for good has no excuse.

    Parameters
    ----------
    bad
        Whether each answer was bad ``[answers]``, in order.
    longest
        Answers that one incident may take, the first one included; 1 counts each.
    seconds, period
        When each was given ``[answers]``, not decreasing, and how long an incident may take: whatever is later
        belongs to another one, however few answers came in between.
    sessions
        Which session each is of ``[answers]``: what fails again on another day is no crash that will pass.
    """
    counts = np.ones(len(bad), bool)
    borders = np.flatnonzero(sessions[1:] != sessions[:-1]) + 1 if sessions is not None else np.empty(0, np.int64)
    over = 0
    for start in np.flatnonzero(bad) if longest > 1 else ():
        if start < over:
            continue
        over = min(start + longest, len(bad))
        if seconds is not None and math.isfinite(period):
            over = min(over, int(np.searchsorted(seconds, seconds[start] + period, side="left")))
        following = int(np.searchsorted(borders, start, side="right"))
        over = min(over, int(borders[following])) if following < len(borders) else over
        counts[start + 1 : over] = False
    return counts


def log_e_of_rate(bad: ArrayLike, answers: ArrayLike, allowed: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the e-value after each look.

    Parameters
    ----------
    bad
        Bad answers since the look before ``[..., looks]``; leading axes are separate tests.
    answers
        All answers since the look before, of a shape that broadcasts to that of ``bad``. A look within a large batch
        is not made up for.
    allowed
        Allowed probability that one is bad, fixed before these answers; likewise.
    """
    count, rate = np.cumsum(bad, axis=-1, dtype=np.float64), np.asarray(allowed, np.float64)
    if not np.all((rate > 0) & (rate < 1)):
        raise ExperimentError(f"the allowed rate must lie strictly between 0 and 1, not {allowed}")
    price = [np.asarray(answers, np.float64) * np.log1p(rate * (odds - 1)) for odds in ODDS]
    spent = [np.cumsum(np.broadcast_to(each, count.shape), axis=-1) for each in price]
    parts = np.stack([count * math.log(odds) - cost for odds, cost in zip(ODDS, spent, strict=True)])
    largest = parts.max(axis=0)  # taken out before exp, which overflows after some hundred bad answers
    return largest + np.log(np.exp(parts - largest).mean(axis=0))


def peak_log_e(bad: ArrayLike, allowed: ArrayLike) -> float:
    """Largest logarithm of the e-value over all answers so far: it counts, because somebody may look at any instant.

    Parameters
    ----------
    bad
        Whether each answer was bad, bool ``[answers]`` in order.
    allowed
        Allowed share, of all answers or of each.
    """
    return max(0.0, float(np.max(log_e_of_rate(bad, 1, allowed), initial=0.0)))
