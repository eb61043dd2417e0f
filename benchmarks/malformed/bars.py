"""Windows of bars that no market can produce: each function breaks a valid window, in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

__all__ = ["BROKEN"]

_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _MARKET, _DAY = range(7)
_LEVELS = (_OPEN, _HIGH, _LOW, _CLOSE, _MARKET)
_SMALLEST = 1.2e-38  # that float32 holds with all its digits


def _high_below_low(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng), _HIGH] *= rng.uniform(0.1, 0.5)


def _open_outside(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng), _OPEN] *= rng.choice([0.3, 3.0])


def _close_outside(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng), _CLOSE] *= rng.choice([0.3, 3.0])


def _newest_first(row: np.ndarray, rng: Generator) -> None:
    row[:] = row[::-1].copy()


def _two_days_swapped(row: np.ndarray, rng: Generator) -> None:
    at = _bar(rng)
    row[[at - 1, at], _DAY] = row[[at, at - 1], _DAY]


def _a_day_twice(row: np.ndarray, rng: Generator) -> None:
    at = _bar(rng)
    row[at, _DAY] = row[at - 1, _DAY]


def _half_a_day(row: np.ndarray, rng: Generator) -> None:
    row[:, _DAY] += rng.choice([0.25, 0.5])


def _absurd_day(row: np.ndarray, rng: Generator) -> None:
    row[:, _DAY] += rng.choice([1e5, -1e5, 2e7, 1.7e9, -1e30])


def _jump(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng) :, : _CLOSE + 1] *= rng.choice([1e8, 1e-8, 1e5])


def _market_jump(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng) :, _MARKET] *= rng.choice([1e8, 1e-8])


def _wide_bar(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng), _HIGH] *= rng.uniform(1e5, 1e10)


def _huge_prices(row: np.ndarray, rng: Generator) -> None:
    row[:, : _CLOSE + 1] *= rng.choice([1e35, 1e20])


def _tiny_prices(row: np.ndarray, rng: Generator) -> None:
    row[:, : _CLOSE + 1] *= rng.choice([1e-38, 1e-20])


def _huge_volume(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng), _VOLUME] = rng.choice([1e20, 1e37])


def _negative_volume(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng), _VOLUME] *= -1


def _absurd_market(row: np.ndarray, rng: Generator) -> None:
    row[:, _MARKET] *= rng.choice([1e34, 1e-38])


def _not_positive(row: np.ndarray, rng: Generator) -> None:
    row[_bar(rng), rng.choice(_LEVELS)] = rng.choice([0.0, -0.0, -5.0, -_SMALLEST])


BROKEN: dict[str, Callable[[np.ndarray, Generator], None]] = {
    function.__name__.strip("_").replace("_", " "): function
    for function in (
        _high_below_low,
        _open_outside,
        _close_outside,
        _newest_first,
        _two_days_swapped,
        _a_day_twice,
        _half_a_day,
        _absurd_day,
        _jump,
        _market_jump,
        _wide_bar,
        _huge_prices,
        _tiny_prices,
        _huge_volume,
        _negative_volume,
        _absurd_market,
        _not_positive,
    )
}
"""By the name of what is wrong: a function of one row ``[bar, channel]`` and of a generator."""


def _bar(rng: Generator) -> int:
    return int(rng.integers(1, 256))
