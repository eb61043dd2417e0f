"""Means of groups with a compensation for rounding: recorded decisions rest on these bits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_FEW = 16  # groups up to which a loop over the rows is quicker than a round for each row of the largest group


def group_means(values: NDArray[np.float64], group: NDArray[np.integer], groups: int) -> NDArray[np.float64]:
    """The mean of each group ``[group]``; NaN where it has no value.

    Each group is added up in the order of its rows by Kahan's summation (Kahan 1965, Further remarks on reducing
    truncation errors, CACM 8), step by step as in the grouped mean of pandas 2, of which it gives the bits: that takes
    longer to be called than a day's rows take to be added.

    Parameters
    ----------
    values
        ``[row]``; NaN is left out.
    group
        The group of each, from 0 on ``[row]``.
    groups
        How many there are.
    """
    order = np.argsort(group, kind="stable")
    values, group = values[order], group[order]
    known = ~np.isnan(values)
    if not known.all():
        values, group = values[known], group[known]
    counts = np.bincount(group, minlength=groups)
    if groups <= _FEW:
        total = np.array(_totals(values.tolist(), group.tolist(), groups))
        return np.divide(total, counts, out=np.full(groups, np.nan), where=counts > 0)
    within = np.arange(len(group)) - (np.cumsum(counts) - counts)[group]
    # One round per row of the largest group: all groups add their next value at once.
    table = np.zeros((int(counts.max(initial=0)), groups))
    table[within, group] = values
    total, lost = np.zeros(groups), np.zeros(groups)
    with np.errstate(invalid="ignore", over="ignore"):
        for place, added in enumerate(table):
            has = counts > place
            corrected = added - lost
            summed = total + corrected
            error = (summed - total) - corrected
            lost = np.where(has, np.where(np.isnan(error), 0.0, error), lost)
            total = np.where(has, summed, total)
    return np.divide(total, counts, out=np.full(groups, np.nan), where=counts > 0)


def _totals(values: list[float], group: list[int], groups: int) -> list[float]:
    """The same sums, value by value: of few groups, arrays of one place for each would take longer."""
    totals, lost = [0.0] * groups, [0.0] * groups
    for value, place in zip(values, group, strict=True):
        corrected = value - lost[place]
        summed = totals[place] + corrected
        error = (summed - totals[place]) - corrected
        lost[place] = 0.0 if math.isnan(error) else error
        totals[place] = summed
    return totals
