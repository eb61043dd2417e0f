"""The date: functions of the ``day`` channel alone."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import Bars
from financial_assets.features.feature import Feature

_feature = partial(Feature, "calendar", neutral=None)

FRENCH = "weekday effect; French (1980)"
SEASON = "seasonality; Rozeff and Kinney (1976)"
EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""


def _divide(x: Tensor, divisor: int) -> Tensor:
    """Integer quotient; exact in float32 for the day counts that occur here (below 2**20)."""
    return torch.floor(x / divisor)


def _remainder(x: Tensor, divisor: int) -> Tensor:
    return x - divisor * _divide(x, divisor)


def _day_of_march_year(bars: Bars) -> Tensor:
    """Days since 1 March (Hinnant, days_from_civil: the leap day is then the last of a year)."""
    of_era = _remainder(bars.day + 719468.0, 146097)
    leap = _divide(of_era, 1460) - _divide(of_era, 36524) + _divide(of_era, 146096)
    year = _divide(of_era - leap, 365)
    return of_era - (365.0 * year + _divide(year, 4) - _divide(year, 100))


def _march_month(bars: Bars) -> Tensor:
    return _divide(5.0 * _day_of_march_year(bars) + 2.0, 153)


def _day_of_month(bars: Bars) -> Tensor:
    """0 on the first of the month."""
    return _day_of_march_year(bars) - _divide(153.0 * _march_month(bars) + 2.0, 5)


def _quarter_position(bars: Bars) -> Tensor:
    month = _remainder(_march_month(bars) + 2.0, 3)
    return (31.0 * month + _day_of_month(bars)) / 46.0 - 1.0


def _weekday_angle(bars: Bars) -> Tensor:
    return _remainder(bars.day + float(EPOCH_WEEKDAY), 7) * (2.0 * math.pi / 5.0)


def _season_angle(bars: Bars) -> Tensor:
    return _day_of_march_year(bars) * (2.0 * math.pi / 366.0)


FEATURES: tuple[Feature, ...] = (
    _feature(
        "weekday_sine",
        1,
        "sin(2 pi weekday / 5), Monday = 0",
        FRENCH,
        lambda bars: torch.sin(_weekday_angle(bars).contiguous()),
    ),
    _feature(
        "weekday_cosine",
        1,
        "cos(2 pi weekday / 5), Monday = 0",
        FRENCH,
        lambda bars: torch.cos(_weekday_angle(bars).contiguous()),
    ),
    _feature(
        "season_sine",
        1,
        "sin(2 pi d / 366), d = days since 1 March",
        SEASON,
        lambda bars: torch.sin(_season_angle(bars).contiguous()),
    ),
    _feature(
        "season_cosine",
        1,
        "cos(2 pi d / 366), d = days since 1 March",
        SEASON,
        lambda bars: torch.cos(_season_angle(bars).contiguous()),
    ),
    _feature(
        "month_position",
        1,
        "(day of month - 1) / 15 - 1",
        "turn of the month; Ariel (1987)",
        lambda bars: _day_of_month(bars) / 15.0 - 1.0,
    ),
    _feature(
        "quarter_position",
        1,
        "(31 * month of quarter + day of month - 1) / 46 - 1, months from 0",
        "window dressing; Lakonishok, Shleifer, Thaler and Vishny (1991)",
        _quarter_position,
        bounds=(-1.0, 1.1),
    ),
    _feature(
        "session_gap",
        2,
        "(days since the previous session - 1) / 3: 0 overnight, 2/3 after a weekend",
        "weekend and holiday effects; Fields (1934)",
        lambda bars: (rolling.diff(bars.day) - 1.0) / 3.0,
        bounds=(0.0, 3.0),
    ),
)
