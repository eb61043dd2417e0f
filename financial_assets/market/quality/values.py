"""Rules of single rows, and of a row against the one before: values that cannot be, keys that occur twice.

Every rule takes a *parsed* frame: all price columns present, dates as datetimes (NaT where none could be read), values
as floats (NaN likewise). Moves are judged on the adjusted close, because raw closes contain splits.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.errors import PriceDataError
from financial_assets.market.frames import PRICE_COLUMNS, has_repeats, in_order, ticker_codes
from financial_assets.market.quality.results import failure_table

TICK = 0.0101
"""A cent, and rounding: sources round open, high, low and close one by one."""

PRICE_FIELDS = ("open", "high", "low", "close", "adj_close")

ROUNDING = 1e-5
"""Relative tolerance between a bar's prices: sources print six decimals after dividing by later splits."""

HIGHEST_PRICE = 1e7
"""Above any price of a listed share (Berkshire Hathaway A: below 1e6)."""

LOWEST_ADJUSTED_CLOSE = 1e-9
"""Below any real one: splits and dividends of sixty years leave more than 1e-5 of a price."""

LARGEST_VOLUME = 1e12
"""Above any day's volume of one ticker (the largest real ones stay below 1e11)."""

LARGEST_ADJUSTED_VOLUME = 1e18
"""The same, of volume divided by ``adj_close / close``. With the limits before and ``WIDEST_BAR``, it keeps every panel
within what a served model accepts (``financial_assets.serving.bar_rules``)."""

WIDEST_BAR = 1000.0
"""Factor between low and high of one bar: as much as between two closes."""

EXTREME_MOVE = np.log(1.5)
"""Absolute log return of the adjusted close that is worth a look: +50 %, -33 %."""

IMPOSSIBLE_MOVE = np.log(1000.0)
"""Absolute log return of the adjusted close from one bar to the next that no listed share makes."""

SPIKE = np.log(10.0)
"""A tenfold move that the next bar takes back is a slipped decimal point, not a price."""


def duplicates(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows whose ticker and date occur more than once."""
    if not has_repeats(frame):
        return failure_table(frame, [])
    mask = frame.duplicated(["ticker", "date"], keep=False)
    return failure_table(frame, [(mask, "this ticker and date occur more than once")])


def ohlc_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows whose high is below, or low above, another price of the bar by more than rounding."""
    slack = 1.0 + ROUNDING
    high, low = frame["high"], frame["low"]
    return failure_table(
        frame,
        [
            (high * slack < low, "high is below low"),
            (high * slack < frame["open"], "high is below open"),
            (high * slack < frame["close"], "high is below close"),
            (low > frame["open"] * slack, "low is above open"),
            (low > frame["close"] * slack, "low is above close"),
        ],
    )


def impossible_values(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with a missing, infinite, non-positive or absurd value, or a move that cannot be."""
    return failure_table(frame, [*row_faults(frame), *_impossible_moves(frame)])


@np.errstate(over="ignore", invalid="ignore")  # values may be of any size, and of none
def row_faults(frame: pd.DataFrame) -> list[tuple[np.ndarray, str]]:
    """Masks of rows whose own values cannot be, whatever lies around them, each with its problem.

    Of a column of prices in which all can be there is none.
    """
    rules: list[tuple[np.ndarray, str]] = []
    for name in PRICE_FIELDS:
        value = frame[name].to_numpy(np.float64)
        if ((value > 0) & (value <= HIGHEST_PRICE)).all():
            continue
        rules += [
            (np.isnan(value), f"{name} is missing"),
            (np.isinf(value), f"{name} is infinite"),
            (np.isfinite(value) & (value <= 0), f"{name} is not positive"),
            (np.isfinite(value) & (value > HIGHEST_PRICE), f"{name} is above {HIGHEST_PRICE:.0e}"),
        ]
    close, adjusted, high, low = (frame[name].to_numpy(np.float64) for name in ("close", "adj_close", "high", "low"))
    rules += [
        ((adjusted > 0) & (adjusted < LOWEST_ADJUSTED_CLOSE), f"adj_close is below {LOWEST_ADJUSTED_CLOSE:.0e}"),
        (high > WIDEST_BAR * low, f"high is more than {WIDEST_BAR:.0f} times low"),
    ]
    volume = frame["volume"].to_numpy(np.float64)
    rules += [
        (np.isnan(volume), "volume is missing"),
        (np.isinf(volume), "volume is infinite"),
        (volume < 0, "volume is negative"),
        (np.isfinite(volume) & (volume > LARGEST_VOLUME), f"volume is above {LARGEST_VOLUME:.0e}"),
        (
            (adjusted > 0) & (volume * close > LARGEST_ADJUSTED_VOLUME * adjusted),
            f"volume adjusted for splits is above {LARGEST_ADJUSTED_VOLUME:.0e}",
        ),
    ]
    return rules


def _impossible_moves(frame: pd.DataFrame) -> list[tuple[np.ndarray | pd.Series, str]]:
    bars = _Succession(frame)
    moves = bars.log_moves(frame["adj_close"])
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = bars.log_moves(frame["close"] / frame["adj_close"])
    return [
        (np.abs(moves) > IMPOSSIBLE_MOVE, _THOUSANDFOLD),
        (bars.spikes(moves, SPIKE), "adj_close leaves tenfold and comes back on the next bar"),
        (bars.spikes(factor, EXTREME_MOVE), "close and adj_close disagree on this bar only"),
    ]


_THOUSANDFOLD = "adj_close moves by more than a factor of 1000 from the bar before"


def impossible_moves(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows whose adjusted close is more than a thousand times, or less than a thousandth of, the bar before."""
    moves = _Succession(frame).log_moves(frame["adj_close"])
    return failure_table(frame, [(np.abs(moves) > IMPOSSIBLE_MOVE, _THOUSANDFOLD)])


class _Succession:
    """Which bar of the same ticker comes before which, for a frame in any order."""

    def __init__(self, frame: pd.DataFrame) -> None:
        codes = ticker_codes(frame["ticker"], sort=True)[0]
        date = frame["date"].to_numpy()
        is_sorted = date.dtype.kind == "M" and in_order(codes, date)
        # By ticker, then date: the last key is the primary one.
        self._order = np.arange(len(date)) if is_sorted else np.lexsort((date, codes))
        # An unknown ticker (code -1) has no bar before.
        self._follows = (codes[self._order][1:] == codes[self._order][:-1]) & (codes[self._order][1:] >= 0)

    def log_moves(self, values: pd.Series) -> np.ndarray:
        """Log ratio of each value to the bar before, by row; NaN at a first bar or an impossible value."""
        value = values.to_numpy(dtype=np.float64)[self._order]
        with np.errstate(divide="ignore", invalid="ignore"):
            level = np.log(np.where(np.isfinite(value) & (value > 0), value, np.nan))
        step = np.full(len(level), np.nan)
        step[1:] = np.where(self._follows, np.diff(level), np.nan)
        return self._by_row(step)

    def spikes(self, moves: np.ndarray, size: float) -> np.ndarray:
        """Rows that a move beyond ``size`` leads to and an opposite one of about that size leads away from."""
        # A crash that the next bar half recovers is real; a slipped decimal point comes back all the way.
        here = moves[self._order]
        after = np.append(here[1:], np.nan)
        return self._by_row((np.abs(here) > size) & (np.abs(after) > size) & (np.abs(here + after) < 0.5 * size))

    def _by_row(self, ordered: np.ndarray) -> np.ndarray:
        rows = np.empty_like(ordered)
        rows[self._order] = ordered
        return rows


def extreme_moves(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows whose adjusted close moved by more than +50 % or -33 % since the ticker's bar before."""
    moves = _Succession(frame).log_moves(frame["adj_close"])
    extreme = np.flatnonzero(np.abs(moves) > EXTREME_MOVE)
    with np.errstate(over="ignore"):
        percent = 100.0 * np.expm1(moves[extreme])
    problems = [f"adj_close moved {value:+.1f} % since the bar before" for value in percent]
    table = frame[list(PRICE_COLUMNS)].iloc[extreme].assign(problem=pd.Series(problems, frame.index[extreme], object))
    return table.sort_values(by=["date", "ticker"], kind="stable", ignore_index=True)


def require_possible(prices: pd.DataFrame, complaint: str) -> None:
    """Refuse a frame that cannot be worked with: a last line of defence behind the screening.

    Moves that the screening doubts pass here: an override may have accepted them.

    Raises
    ------
    PriceDataError
        Columns or keys are missing, keys occur twice, or a value cannot be; it begins with ``complaint``.
    """
    absent = [name for name in PRICE_COLUMNS if name not in prices]
    if absent:
        raise PriceDataError(f"{complaint}: the price frame lacks {', '.join(absent)}", prices.head(0))
    if _is_plain(prices):
        return
    for rule in (missing_keys, duplicates, _impossible_rows, impossible_moves):
        failures = rule(prices)
        if len(failures):
            first = failures.iloc[0]
            day = "a missing date" if pd.isna(first["date"]) else f"{first['date']:%Y-%m-%d}"
            raise PriceDataError(
                f"{complaint}: {len(failures)} impossible rows, the first {first['ticker']} on {day}: "
                f"{first['problem']}",
                failures,
            )


def _is_plain(prices: pd.DataFrame) -> bool:
    """Whether rows are in order and none breaks a rule of ``require_possible``: seen without making tables of them."""
    codes, dates = ticker_codes(prices["ticker"])[0], prices["date"].to_numpy()
    has_keys = dates.dtype.kind == "M" and not (codes < 0).any() and not np.isnat(dates).any()
    # Each ticker's rows together, and its days rising: no key twice.
    if not has_keys or not in_order(codes, dates, once=True) or any(mask.any() for mask, _ in row_faults(prices)):
        return False
    moves = np.diff(np.log(prices["adj_close"].to_numpy(np.float64)))
    return not (np.abs(moves[codes[1:] == codes[:-1]]) > IMPOSSIBLE_MOVE).any()


def _impossible_rows(frame: pd.DataFrame) -> pd.DataFrame:
    return failure_table(frame, row_faults(frame))


def missing_keys(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows without a date or a ticker."""
    return failure_table(frame, [(frame[name].isna(), f"{name} is missing") for name in ("date", "ticker")])
