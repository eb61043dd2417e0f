"""Rules that a window of bars must obey before a model answers it: those of a market, and the limits of float32.

The module imports numpy only, so that it can be copied into a bare MLServer image beside ``runtime.py``. Everything
that the price checks admit to a panel passes here: each limit is wider than theirs
(``financial_assets.market.quality``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

INPUT = "bars"
OUTPUTS: tuple[str, ...] = ("probability_up", "return_quantiles", "return_quantiles_5d", "excess_return")
"""What a model answers, in this order."""

SESSIONS_5D = 5
"""Sessions ahead that ``return_quantiles_5d`` is about."""

EARLIER_OUTPUTS = OUTPUTS[:2]
"""What a model of an earlier version answers: it has no head for five sessions and none that ranks."""
CHANNELS = ("open", "high", "low", "close", "volume", "market", "day")
"""What every bar has; covariates come behind them, as many as the model was trained with."""

ROUNDING = 2e-5
"""Relative tolerance between the prices of a bar: twice that of the price checks, for the conversion to float32."""

LOWEST_PRICE, HIGHEST_PRICE = 1e-13, 1e15
"""Adjusted prices lie between: adjustment takes the oldest close of a serial reverse splitter to 1e13, and the oldest
of a share that was split again and again to 1e-5. Features square differences of prices, which float32 holds for prices
from 1e-14 to 1e18."""

LARGEST_VOLUME = 1e18
"""Adjusted volume: a day's 1e12 shares before splits of 1e6. Features square it; 1e19 squared overflows float32."""

LOWEST_LEVEL, HIGHEST_LEVEL = 1e-30, 1e30
"""The benchmark's level: an index that is rebalanced daily may grow without end, and features take its ratios only."""

LARGEST_MOVE = 1e4
"""Factor between one close and the next, and between high and low. The price checks stop at 1,000; the largest real
moves (a squeeze, a bankruptcy, a penny stock) stay below 100, and a split that is not adjusted is at most 1:5,000."""

LARGEST_COVARIATE = 1e16
"""Size of a covariate: ten times what the tables may hold. Features square differences of them."""

FIRST_DAY, LAST_DAY = -62_091, 84_006
"""1800-01-01 and 2200-01-01: earlier than any quotation list, later than any calendar. Seconds since 1970 and dates
written as 20240131 lie beyond."""


_ROWS_AT_ONCE = 64
"""Rows that stay in the processor's cache while all rules pass over them."""


class _Rule(NamedTuple):
    """A rule and the values that break it."""

    broken: np.ndarray  # bool [channel, row, bar]
    first_channel: int  # channel of ``broken[0]``
    first_bar: int  # bar of ``broken[..., 0]``
    problem: str
    other: np.ndarray | None = None  # what the value is compared with; shape of ``broken``


def bar_fault(bars: np.ndarray) -> str | None:
    """Describe the first value that no market can produce.

    Parameters
    ----------
    bars
        float32 ``[batch, bar, channel]``, oldest bar first. Without the seven channels of a bar, values are only
        checked for being finite.

    Returns
    -------
    str or None
        Batch row, bar, channel, rule, value and date; ``None`` if nothing is wrong.
    """
    for first_row in range(0, len(bars), _ROWS_AT_ONCE):
        # Contiguous by channel: the rules compare whole channels, several times each.
        series = np.ascontiguousarray(bars[first_row : first_row + _ROWS_AT_ONCE].transpose(2, 0, 1))
        if _is_unremarkable(series):
            continue
        for rule in _rules(series):
            if rule.broken.any():
                return _describe(series, rule, first_row)
    return None


def neutral_bars(rows: int, sessions: int, channels: int = len(CHANNELS)) -> np.ndarray:
    """Bars in which nothing moves, on consecutive days: float32 ``[rows, sessions, channels]``."""
    bars = np.ones((rows, sessions, channels), dtype=np.float32)
    bars[..., CHANNELS.index("day")] = np.arange(sessions)
    return bars


def _is_unremarkable(series: np.ndarray) -> bool:
    """Whether coarser tests, in a third of the time, already exclude that a rule is broken; ``False`` says nothing.

    Bars without covariates whose prices stay within one factor of ``LARGEST_MOVE``: almost every request.
    """
    if len(series) != len(CHANNELS):
        return False
    flat = series.reshape(len(series), -1)
    # A NaN becomes the lowest value, and no comparison with it holds.
    lowest, highest = flat.min(axis=1).tolist(), flat.max(axis=1).tolist()
    largest = 0.99 * LARGEST_MOVE  # with room for the rounding of ratios in float32
    within_limits = (
        all(level >= LOWEST_PRICE for level in lowest[:4])
        and all(level <= HIGHEST_PRICE for level in highest[:4])
        and lowest[4] >= 0
        and highest[4] <= LARGEST_VOLUME
        and lowest[5] >= LOWEST_LEVEL
        and highest[5] <= HIGHEST_LEVEL
        and lowest[6] >= FIRST_DAY
        and highest[6] <= LAST_DAY
        and highest[3] <= lowest[3] * largest
        and highest[5] <= lowest[5] * largest
        and highest[1] <= lowest[2] * largest
    )
    if not within_limits:
        return False
    open_, high, low, close, days = (*series[:4], series[6])
    ceiling, floor = high * np.float32(1 + ROUNDING), low * np.float32(1 - ROUNDING)
    return bool(
        (np.maximum(np.maximum(open_, close), low) <= ceiling).all()
        and (np.minimum(open_, close) >= floor).all()
        and (days[:, 1:] > days[:, :-1]).all()
        and (days == np.floor(days)).all()
    )


def _rules(series: np.ndarray) -> Iterator[_Rule]:
    """The rules in the order in which they are reported; each may rely on those before it."""
    yield _Rule(~np.isfinite(series), 0, 0, "is not finite")
    if len(series) < len(CHANNELS):
        return
    for first, levels, lowest, highest in (
        (0, series[:4], LOWEST_PRICE, HIGHEST_PRICE),
        (5, series[5:6], LOWEST_LEVEL, HIGHEST_LEVEL),
    ):
        yield _Rule(levels < lowest, first, 0, f"is not positive, or below {lowest:g}")
        yield _Rule(levels > highest, first, 0, f"is above {highest:g}")
    volume = series[4:5]
    yield _Rule(volume < 0, 4, 0, "is negative")
    yield _Rule(volume > LARGEST_VOLUME, 4, 0, f"is above {LARGEST_VOLUME:g}")
    yield from _order_within_bar(*series[:4, None])
    yield from _order_of_days(series[6:7])
    for channel in (3, 5):
        before, after = series[channel : channel + 1, :, :-1], series[channel : channel + 1, :, 1:]
        ratio = after / before
        jumps = (ratio > LARGEST_MOVE) | (ratio < 1 / LARGEST_MOVE)
        yield _Rule(jumps, channel, 1, f"moves by more than a factor of {LARGEST_MOVE:g} from the bar before", before)
    if len(series) > len(CHANNELS):
        beyond = np.abs(series[len(CHANNELS) :]) > LARGEST_COVARIATE
        yield _Rule(beyond, len(CHANNELS), 0, f"is beyond {LARGEST_COVARIATE:g}")


def _order_within_bar(open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray) -> Iterator[_Rule]:
    ceiling, floor = high * np.float32(1 + ROUNDING), low * np.float32(1 - ROUNDING)
    yield _Rule(ceiling < low, 1, 0, "high is below low", low)
    yield _Rule(open_ > ceiling, 0, 0, "open is above high", high)
    yield _Rule(open_ < floor, 0, 0, "open is below low", low)
    yield _Rule(close > ceiling, 3, 0, "close is above high", high)
    yield _Rule(close < floor, 3, 0, "close is below low", low)
    yield _Rule(high > low * np.float32(LARGEST_MOVE), 1, 0, f"high is more than {LARGEST_MOVE:g} times low", low)


def _order_of_days(days: np.ndarray) -> Iterator[_Rule]:
    yield _Rule(days != np.floor(days), 6, 0, "is not a whole number of days since 1970-01-01")
    absurd = (days < FIRST_DAY) | (days > LAST_DAY)
    yield _Rule(absurd, 6, 0, f"is not a day from {_date(FIRST_DAY)} to {_date(LAST_DAY)}, counted since 1970-01-01")
    before, after = days[..., :-1], days[..., 1:]
    yield _Rule(after <= before, 6, 1, "is not later than the day of the bar before; send the oldest bar first", before)


def _describe(series: np.ndarray, rule: _Rule, first_row: int) -> str:
    rows_first = rule.broken.transpose(1, 2, 0)
    row, bar, channel = (int(index) for index in np.argwhere(rows_first)[0])
    other = "" if rule.other is None else f" against {rule.other[channel, row, bar]:.8g}"
    bar, channel = bar + rule.first_bar, channel + rule.first_channel
    is_served = len(series) >= len(CHANNELS)
    place = channel - len(CHANNELS)
    name = str(channel) if not is_served else CHANNELS[channel] if place < 0 else f"covariate {place + 1}"
    date = _date(series[CHANNELS.index("day"), row, bar]) if is_served else None
    count = int(rule.broken.sum())
    return (
        f"{INPUT}[{first_row + row}, {bar}, {name}] {rule.problem} "
        f"({series[channel, row, bar]:.8g}{other})"
        + (f"; the bar is of {date}" if date else "")
        + (f"; {count} such values" if count > 1 else "")
    )


def _date(day: float) -> str | None:
    """The date of a day number, ``None`` where it has none."""
    if not FIRST_DAY <= day <= LAST_DAY:  # written so that NaN has none either
        return None
    return str(np.datetime64(int(day), "D"))
