"""Grouped permutation importance: how much worse answers become when a family of features says something else.

Breiman (2001), Random forests; for groups: Gregorutti, Michel & Saint-Pierre (2015). Rows of a day are not exchangeable
and days follow on one another, so that rows are not shuffled. Two questions are asked instead:

*across days*: every ticker gets the family's features of the same later day (the days of the block are turned by some
sessions, as on a ring). Windows stay whole, tickers stay in step, and the family keeps its own dynamics; only its
connection with the day is lost.

*within days*: tickers exchange the family's features among themselves, each day for itself. What the family says of the
day stays; what it says of a ticker beside the others is lost: that is what ranks a universe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from financial_assets.errors import TrainingError
from financial_assets.models.explanations.held_out import HeldOut, daily_means
from financial_assets.models.explanations.losses import COLUMNS, row_losses
from financial_assets.models.heads import HeadOutputs
from financial_assets.scoring.autocorrelation import FEWEST_DAYS, long_run_mean
from financial_assets.scoring.intervals import Interval

Kind = Literal["across days", "within days"]
FEWEST_TICKERS = 3
"""Tickers on a day, on average, below which an exchange among them says nothing."""

_TOGETHER = 2048


@dataclass(frozen=True)
class FamilyImportance:
    """What a family is worth.

    Attributes
    ----------
    family
        Name.
    kind
        What was exchanged.
    losses
        Head, and ``total`` -> mean rise of the loss, with an interval that allows for days that move together. Zero or
        less: the model does as well without what the family says.
    """

    family: str
    kind: Kind
    losses: dict[str, Interval]


def permutation_importance(
    held_out: HeldOut, *, repeats: int, most: int, seed: int, level: float = 0.95
) -> tuple[FamilyImportance, ...]:
    """Importance of every family, the largest rise of the total loss first; those across days before those within.

    Parameters
    ----------
    held_out
        Model and windows.
    repeats
        Exchanges that are averaged.
    most
        Windows, about: whole days are left out beyond.
    seed
        Of the exchanges.
    level
        Confidence.

    Raises
    ------
    TrainingError
        There are too few days.
    """
    positions = held_out.days(most)
    dates, tickers = held_out.dates[positions], held_out.windows.tickers[positions]
    days = len(np.unique(dates))
    if days < 2 * FEWEST_DAYS or repeats < 1:
        raise TrainingError(
            f"{days} held-out days and {repeats} repeats: {2 * FEWEST_DAYS} days and one repeat are needed to see what "
            "an exchange of features changes; set an earlier INGESTION_START_DATE"
        )
    generator = np.random.default_rng(seed)
    base = _losses(held_out, positions, positions, ())
    kinds: list[tuple[Kind, list[np.ndarray]]] = [
        ("across days", [turned(dates, tickers, by) for by in _offsets(days, repeats, generator)])
    ]
    if len(positions) >= FEWEST_TICKERS * days:
        kinds.append(("within days", [exchanged(dates, generator) for _ in range(repeats)]))
    found: list[FamilyImportance] = []
    for kind, donors in kinds:
        importances: list[FamilyImportance] = []
        for family, places in held_out.families.items():
            rises = [_losses(held_out, positions, positions[donor], places) - base for donor in donors]
            daily = daily_means(np.mean(rises, axis=0), dates)
            if kind == "across days":
                daily += _as_donor(rises, donors, dates)
            means = {name: long_run_mean(daily[:, column], level).interval for column, name in enumerate(COLUMNS)}
            importances.append(FamilyImportance(family, kind, means))
        found += sorted(importances, key=lambda importance: -importance.losses["total"].estimate)
    return tuple(found)


def turned(dates: np.ndarray, tickers: np.ndarray, by: int) -> np.ndarray:
    """Position of the row whose features each row gets: of the same ticker, ``by`` days later on the ring.

    Where a ticker has no row on that day, it gets its next one.
    """
    days, day = np.unique(dates, return_inverse=True)
    wanted = (day + by) % len(days)
    donors = np.empty(len(dates), dtype=np.intp)
    for ticker in np.unique(tickers):
        own = np.flatnonzero(tickers == ticker)
        donors[own] = own[np.searchsorted(day[own], wanted[own]) % len(own)]
    return donors


def exchanged(dates: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Position of the row whose features each row gets: another one of its day, drawn at random."""
    # Ties of days are broken at random: within each day the order is a permutation.
    order = np.lexsort((generator.random(len(dates)), dates))
    donors = np.empty(len(dates), dtype=np.intp)
    donors[np.argsort(dates, kind="stable")] = order
    return donors


def _as_donor(rises: list[np.ndarray], donors: list[np.ndarray], dates: np.ndarray) -> np.ndarray:
    """How far the rises that each day's features have caused elsewhere lie from their mean ``[day, 5]``.

    The mean rise depends twice on every day: on its outcomes and on its features, which other days were given. What a
    day adds to the uncertainty is the sum of both (Hajek's projection of a mean over pairs: van der Vaart 1998, chapter
    12); with its outcomes alone, intervals would be too narrow. The estimate stays the same: the sum of this is zero.
    """
    day = np.unique(dates, return_inverse=True)[1]
    given = np.concatenate([day[donor] for donor in donors])
    times = np.bincount(given, minlength=day.max() + 1)[:, None]
    caused = np.stack(
        [np.bincount(given, column, minlength=day.max() + 1) for column in np.concatenate(rises).T], axis=1
    )
    mean = np.where(times > 0, caused / np.maximum(times, 1), caused.sum(axis=0) / times.sum())
    return mean - mean.mean(axis=0)


def _offsets(days: int, repeats: int, generator: np.random.Generator) -> np.ndarray:
    """By how many days to turn: a part of the ring each, and not by a few days, after which features are similar."""
    least = max(days // 10, 1)
    width = (days - 2 * least) / repeats
    return (least + width * (np.arange(repeats) + generator.random(repeats))).astype(int)


@torch.no_grad()
def _losses(held_out: HeldOut, rows: np.ndarray, donors: np.ndarray, places: tuple[int, ...]) -> np.ndarray:
    """Losses of ``rows`` ``[n, 5]`` when the features at ``places`` are those of ``donors``."""
    parts: list[np.ndarray] = []
    for start in range(0, len(rows), _TOGETHER):
        chunk = slice(start, start + _TOGETHER)
        batch = held_out.batch(rows[chunk])
        if places:
            inputs = batch.inputs.clone()
            inputs[:, :, list(places)] = held_out.batch(donors[chunk]).inputs[:, :, list(places)]
            batch = batch._replace(inputs=inputs)
        parts.append(row_losses(HeadOutputs(*held_out.network(batch.inputs, batch.volatility)), batch))
    return np.concatenate(parts)
