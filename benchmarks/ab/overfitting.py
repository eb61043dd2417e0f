"""The probability of backtest overfitting: a second opinion on what the deflated Sharpe ratio says.

Source: Bailey, Borwein, López de Prado and Zhu (2017), The probability of backtest overfitting.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BacktestOverfitting", "backtest_overfitting"]

_MOST_BLOCKS = 20  # 184,756 ways to halve them


@dataclass(frozen=True)
class BacktestOverfitting:
    """Whether choosing the best strategy on one half of the sessions helps on the other half.

    Attributes
    ----------
    probability
        Share of all halvings in which the chosen strategy is in the worse half of the strategies out of sample (PBO);
        ties count half. About 0.5 when nothing distinguishes them, near 0 when one is truly better.
    logits
        ``log(rank / (1 - rank))`` of the chosen strategy's relative rank out of sample ``[halving]``, best positive.
    loss
        Share of halvings in which the chosen strategy's ratio is not above 0 out of sample.
    blocks, strategies
        Of the computation.
    """

    probability: float
    logits: NDArray[np.float64]
    loss: float
    blocks: int
    strategies: int


def backtest_overfitting(returns: ArrayLike, blocks: int = 16) -> BacktestOverfitting:
    """Probability of backtest overfitting, by combinatorially symmetric cross-validation (2017, section 2.3).

    The sessions are cut into ``blocks`` runs of equal length. For every way to take half of the runs, the strategy with
    the best Sharpe ratio there is ranked by its ratio in the rest. One set of returns gives one, rather noisy, number:
    the halvings overlap.

    Parameters
    ----------
    returns
        ``[session, strategy]``; sessions that do not fill the last block are left out at the beginning.
    blocks
        Even, at least 4; at most 20.

    Raises
    ------
    ValueError
        Bad arguments, or a strategy whose returns do not vary in some half.
    """
    table = np.asarray(returns, dtype=np.float64)
    if blocks % 2 or not 4 <= blocks <= _MOST_BLOCKS:
        raise ValueError(f"blocks must be an even number from 4 to {_MOST_BLOCKS}, not {blocks}")
    if table.ndim != 2 or table.shape[1] < 2 or table.shape[0] < 2 * blocks:
        raise ValueError(
            f"returns must be [session, strategy], 2 strategies and {2 * blocks} sessions or more: {table.shape}"
        )
    if not np.isfinite(table).all():
        raise ValueError("returns holds values that are NaN or infinite")
    length = table.shape[0] // blocks
    cut = table[table.shape[0] - length * blocks :].reshape(blocks, length, -1)
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    inside = np.zeros((len(chosen), blocks))
    np.put_along_axis(inside, chosen, 1.0, axis=1)
    sums, squares = cut.sum(axis=1), (cut**2).sum(axis=1)
    count = length * blocks // 2
    best = np.argmax(_ratios(inside @ sums, inside @ squares, count), axis=1)
    outside = _ratios((1 - inside) @ sums, (1 - inside) @ squares, count)
    own = np.take_along_axis(outside, best[:, None], axis=1)
    strategies = table.shape[1]
    below, equal = (outside < own).sum(axis=1), (outside == own).sum(axis=1)
    rank = (below + (equal + 1) / 2) / (strategies + 1)
    logits = np.log(rank / (1 - rank))
    # Exact: logits of the middle rank may be off zero by rounding.
    middle = 2 * below + equal + 1 - (strategies + 1)
    probability = float(np.mean((middle < 0) + 0.5 * (middle == 0)))
    return BacktestOverfitting(probability, logits, float(np.mean(own <= 0)), blocks, strategies)


def _ratios(sums: NDArray[np.float64], squares: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Sharpe ratios per session ``[halving, strategy]`` from sums over ``count`` sessions."""
    mean = sums / count
    variance = (squares - count * mean**2) / (count - 1)
    if not np.all(variance > 1e-14 * squares / count):
        raise ValueError("a strategy's returns do not vary in some half of the sessions: it has no Sharpe ratio there")
    return mean / np.sqrt(variance)
