"""Leaks by kind: each check stops the fold with a ``LeakAlarmError`` that begins with what leaks.

What is known beforehand is asked first (which features, which scaler, which universe, which sessions a search has
read); the leak alarm on the answers themselves comes last and catches what has no name. ``depends_on_later`` proves it
for any procedure, at the price of a second fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import torch

from financial_assets.errors import LeakAlarmError
from financial_assets.features.indicators.covariates import feature_prefix
from financial_assets.market.panel import PricePanel
from financial_assets.market.universe import Universe
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.scores import check_answers, leak_alarm
from financial_assets.models.training import Training
from financial_assets.models.training_data import TrainingData

Kind = Literal[
    "target in the features",
    "future covariate",
    "scaler of all data",
    "universe of survivors",
    "search on the test sessions",
    "too good to be true",
]

_SUSPICIOUS_ACCURACY = 0.60
"""A single feature that says the next direction this often is looked at with the leak alarm."""

_SUSPICIOUS_CORRELATION = 0.80
"""Rank correlation of a single feature with the size of the next move; volatility itself reaches one half."""

_MOST_ROWS = 20_000
_LISTED = 5

T = TypeVar("T")


def require_honest_features(
    data: TrainingData, covariates: Sequence[str] = (), *, bayes_accuracy: float | None = None
) -> None:
    """No single feature may know the label: neither the direction of the next move nor its size.

    Each feature by itself says "up" above its median (or below, whichever is right more often); what is right 60 % of
    the time is held against the leak alarm.

    Parameters
    ----------
    data
        Unscaled features and outcomes up to the cut-off; the fit block is looked at, of a large one evenly spaced rows.
    covariates
        Names of the panel's covariates: a feature of one of them was published later than its date says.
    bayes_accuracy
        What the best possible predictor of a simulated market gets right.

    Raises
    ------
    LeakAlarmError
        ``target in the features`` or ``future covariate``, with the features' names.
    """
    fit = data.fit
    rows = np.unique(np.linspace(0, len(fit) - 1, min(len(fit), _MOST_ROWS)).astype(np.intp))
    values, outcome, days = fit.last_step.numpy()[rows], fit.outcome[:, 0].numpy()[rows], fit.sessions[rows]
    up = outcome > 0
    majority = max(float(up.mean()), 1 - float(up.mean()))
    right = (values > np.median(values, axis=0)) == up[:, None]
    right = np.where(right.mean(axis=0) < 0.5, ~right, right)
    guilty = [
        place
        for place in np.flatnonzero(right.mean(axis=0) >= _SUSPICIOUS_ACCURACY).tolist()
        if leak_alarm(right[:, place], days, majority, bayes_accuracy=bayes_accuracy).alarm
    ]
    size = _rank_correlations(values, np.abs(outcome))
    guilty += np.flatnonzero(np.abs(size) >= _SUSPICIOUS_CORRELATION).tolist()
    if not guilty:
        return
    names = [data.feature_names[place] for place in dict.fromkeys(guilty)]
    prefixes = tuple(f"{feature_prefix(name)}_" for name in covariates)
    late = [name for name in names if prefixes and name.startswith(prefixes)]
    shown = ", ".join((late or names)[:_LISTED])
    if late:
        raise leak("future covariate", f"{shown} alone knows the next move: check known_at of COVARIATE_FILES")
    raise leak("target in the features", f"{shown} alone knows the next move: look for a later bar in its formula")


def require_fit_block_scaler(training: Training, data: TrainingData) -> None:
    """The scaler's numbers must be those of the fit block alone, bit for bit.

    Raises
    ------
    LeakAlarmError
        ``scaler of all data``.
    """
    expected = RobustScaler.fit(data.fit.last_step)
    same = torch.equal(expected.center, training.scaler.center) and torch.equal(expected.scale, training.scaler.scale)
    if not same:
        raise leak(
            "scaler of all data",
            f"{training.variant.name}: center and scale are not those of the {len(data.fit)} windows of the fit block",
        )


def require_leavers(panel: PricePanel, universe: Universe | None) -> None:
    """Whoever belonged to a dated universe must be in the panel, also those who have left it since.

    Nothing can be said of a universe without dates; that its members are today's is for whoever chose them to know.

    Raises
    ------
    LeakAlarmError
        ``universe of survivors``: members who left within these sessions have no prices in the panel.
    """
    if universe is None:
        return
    belonged = universe.members(universe.tickers, panel.sessions)
    held = set(panel.tickers)
    absent = [
        name for name, inside in zip(universe.tickers, belonged, strict=True) if inside.any() and name not in held
    ]
    left = [name for name, inside in zip(universe.tickers, belonged, strict=True) if inside.any() and not inside[-1]]
    # Members who stay and have no prices are a matter of delivery; that those who left have none is selection.
    missing = [name for name in absent if name in left]
    if missing:
        raise leak(
            "universe of survivors",
            f"{len(missing)} of {len(left)} who left UNIVERSE_FILE have no prices ({', '.join(missing[:_LISTED])}): "
            "add them to TICKERS, or the past holds only those who stayed",
        )


def require_unseen(read_until: pd.Timestamp, cutoff: pd.Timestamp, purpose: str) -> None:
    """What was chosen by looking at prices must have been chosen before the cut-off of the fold that judges it.

    Parameters
    ----------
    read_until
        Last session whose prices the choice depends on, through any score: a search of hyperparameters, of features,
        of a threshold.
    cutoff
        Of the fold.
    purpose
        What was chosen, for the message.

    Raises
    ------
    LeakAlarmError
        ``search on the test sessions``.
    """
    if read_until > cutoff:
        raise leak(
            "search on the test sessions",
            f"{purpose} was chosen on prices up to {read_until:%Y-%m-%d}, after the cut-off {cutoff:%Y-%m-%d} of the "
            "fold that judges it: search up to the cut-off, or judge it on later sessions only",
        )


def require_credible_answers(training: Training, *, bayes_accuracy: float | None = None) -> None:
    """The leak alarm of all heads (``scores.check_answers``) on the calibrate block, as in production.

    Raises
    ------
    LeakAlarmError
        ``too good to be true``, with the heads and their figures.
    """
    checks = check_answers(training.held_out, bayes_accuracy=bayes_accuracy)
    if checks.alarm:
        raise leak("too good to be true", f"{training.variant.name}, {', '.join(checks.heads)}: {checks}")


def require_credible(forecasts: pd.DataFrame, *, bayes_accuracy: float | None = None) -> None:
    """The leak alarm (``scores.leak_alarm``) on the probabilities of a forecast table, model by model.

    Raises
    ------
    LeakAlarmError
        ``too good to be true``, with the model and the figures.
    """
    known = forecasts.dropna(subset=["probability_up", "outcome"])
    for name, rows in known.groupby("model"):
        if rows["date"].nunique() < 2:
            continue
        up = rows["outcome"].to_numpy() > 0
        right = (rows["probability_up"].to_numpy() > 0.5) == up
        majority = max(float(up.mean()), 1 - float(up.mean()))
        check = leak_alarm(right, rows["date"].to_numpy(), majority, bayes_accuracy=bayes_accuracy)
        if check.alarm:
            raise leak("too good to be true", f"{name}: {check}")


def depends_on_later(procedure: Callable[[PricePanel], T], panel: PricePanel, cutoff: int, *, seed: int = 0) -> bool:
    """Whether what ``procedure`` makes of the past changes with bars after the cut-off: then it has read them.

    Everything that is fitted, chosen or scaled by the procedure counts, named or not. Prices after the cut-off are
    replaced by those of a random walk, the same for all tickers.

    Parameters
    ----------
    procedure
        From a panel to anything that ``==`` compares, such as a fingerprint of parameters.
    panel
        Prices.
    cutoff
        Index of the last session that the procedure may read.
    seed
        Of the walk.
    """
    later = panel.values.shape[2] - cutoff - 1
    steps = np.random.default_rng(seed).normal(0.0, 0.02, later)
    values = panel.values.copy()
    values[:, :4, cutoff + 1 :] *= np.exp(np.cumsum(steps)).astype(np.float32)
    if panel.covariates:
        values[:, -len(panel.covariates) :, cutoff + 1 :] += steps.astype(np.float32)
    return bool(procedure(panel) != procedure(replace(panel, values=values)))


def leak(kind: Kind, what: str) -> LeakAlarmError:
    """The error that stops a fold."""
    return LeakAlarmError(f"{kind}: {what}")


def _rank_correlations(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each column ``[n, k]`` with ``target`` ``[n]``; 0 where a column is constant."""
    ranks = pd.DataFrame(values).rank().to_numpy()
    ranks -= ranks.mean(axis=0)
    wanted = pd.Series(target).rank().to_numpy()
    wanted -= wanted.mean()
    spread = np.sqrt((ranks**2).sum(axis=0) * (wanted**2).sum())
    return np.divide(wanted @ ranks, spread, out=np.zeros(ranks.shape[1]), where=spread > 0)
