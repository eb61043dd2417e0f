"""Dates as files write them: text in many orders, numbers since an epoch, instants with a zone.

A column is read in the only way in which all its values are dates. Where two ways are left, nothing is guessed: the
error shows both readings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa

from financial_assets.market.sources.files.cells import BadCellsError, ColumnError

DATE_ORDERS = {"ymd": ("y", "m", "d"), "dmy": ("d", "m", "y"), "mdy": ("m", "d", "y")}
EPOCHS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units of numbers since 1970-01-01 UTC, and how many make a second."""

_EARLIEST, _LATEST = np.datetime64("1800-01-01", "D"), np.datetime64("2200-01-01", "D")
_EPOCH_FLOOR = 100_000_000
"""Smaller numbers are row numbers, Excel serials or YYYYMMDD, not seconds since 1970 (1973-03-03)."""
_EPOCH_CEILING = 4_200_000_000
"""Seconds up to the year 2103; a larger number counts a smaller unit."""

_MONTH_NAMES = (
    *(("jan", "january"), ("feb", "february"), ("mar", "march"), ("apr", "april"), ("may",), ("jun", "june")),
    *(("jul", "july"), ("aug", "august"), ("sep", "sept", "september"), ("oct", "october"), ("nov", "november")),
    ("dec", "december"),
)
_MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names}
_TIME = re.compile(
    r"^[T ,]\s*\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[AaPp]\.?[Mm]\.?)?\s*"
    r"(?P<zone>Z|UTC|GMT|[A-Z]{3,4}|[+-]\d{2}(?::?\d{2}(?::\d{2})?)?)?$"
)
_PLAIN = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ISO = re.compile(r"^(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?=$|[T ,])")
_COMPACT = re.compile(r"^(\d{4})(\d{2})(\d{2})(?:\.0)?(?=$|[T ])")
_NUMERIC = re.compile(r"^(\d{1,4})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?=$|[T ,])")
_DAY_MONTH = re.compile(r"^(\d{1,2})[-/. ]\s*([A-Za-z]{3,9})\.?[-/., ]\s*(\d{4}|\d{2})(?=$|[T ,])")
_MONTH_DAY = re.compile(r"^([A-Za-z]{3,9})\.?[-/. ]\s*(\d{1,2})(?:st|nd|rd|th)?,?[-/. ]?\s*(\d{4})(?=$|[T ,])")
_WEEKDAY = re.compile(r"^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*[,.]?\s+", re.IGNORECASE)
_EPOCH_TEXT = re.compile(r"^-?\d{9,19}(?:\.0*)?$")


@dataclass(frozen=True)
class _Parts:
    """A date taken apart: which numbers it holds, and, where text does not say it, not which is which."""

    numbers: tuple[int, int, int]
    orders: tuple[str, ...]
    instant: pd.Timestamp | None = None


def read_dates(column: pa.Array, *, order: str | None, zone: str) -> np.ndarray:
    """Session dates, datetime64[ns], of a column of text, numbers or timestamps.

    Parameters
    ----------
    column
        One value per bar.
    order
        ``dmy`` or ``mdy``: how to read 01/02/2018, where the column leaves it open. ``None``: an error.
    zone
        Of the exchange. An instant (an epoch, or text in UTC) belongs to the day that it falls on there; midnight UTC
        is the usual way to write a day itself.

    Raises
    ------
    BadCellsError
        Some values are not dates.
    ColumnError
        The column can be read in two ways, or none fits all of it.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_date(kind):
        return _checked(column.cast(pa.date32()).to_numpy(zero_copy_only=False).astype("datetime64[D]"), column)
    if pa.types.is_timestamp(kind):
        return _timestamps(column, zone)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers(column, zone)
    if not any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise ColumnError(f"is of type {kind}, which holds no dates")
    # A universe has few days and many rows: each distinct text is read once.
    encoded = column.cast(pa.string()).dictionary_encode()
    texts = [text.strip().strip("\"'").strip() for text in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False).astype("int64")
    days = np.append(_texts(texts, order, zone), np.datetime64("NaT", "D"))
    return _checked(days[codes], column)


def _timestamps(column: pa.Array, zone: str) -> np.ndarray:
    stamps = pd.DatetimeIndex(pd.Series(column.to_pandas()))
    if stamps.tz is not None and str(stamps.tz) in ("UTC", "Etc/UTC", "GMT", "+00:00"):
        return _checked(_instant_days(stamps, zone), column)
    return _checked(stamps.tz_localize(None).to_numpy().astype("datetime64[D]"), column)


def _instant_days(stamps: pd.DatetimeIndex, zone: str) -> np.ndarray:
    known = stamps.dropna()
    if (known != known.normalize()).any():
        stamps = stamps.tz_convert(zone)
    return stamps.tz_localize(None).to_numpy().astype("datetime64[D]")


def _numbers(column: pa.Array, zone: str) -> np.ndarray:
    values = column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy(zero_copy_only=False)
    if np.isfinite(values).all() and pa.types.is_integer(column.type):
        whole = column.cast(pa.int64(), safe=False).to_numpy(zero_copy_only=False)  # float64 cannot hold nanoseconds
    else:
        whole = np.where(np.isfinite(values), np.round(values), 0).astype("int64")
    bad = ~np.isfinite(values) | (np.abs(values) > np.iinfo(np.int64).max)
    return _checked(_whole_days(whole, bad, zone), column)


def _whole_days(whole: np.ndarray, bad: np.ndarray, zone: str) -> np.ndarray:
    """Days of YYYYMMDD or of numbers since the epoch; NaT where it is neither."""
    days = np.full(len(whole), np.datetime64("NaT", "D"))
    good = whole[~bad]
    if not len(good):
        return days
    if ((good >= 18_000_101) & (good <= 21_991_231)).all():
        years, months, dates = whole // 10_000, whole // 100 % 100, whole % 100
        days[~bad] = _civil(years[~bad], months[~bad], dates[~bad])
        return days
    largest = np.abs(good).max()
    unit = next((unit for unit, count in EPOCHS.items() if largest <= _EPOCH_CEILING * count), None)
    # Of one unit, or not at all: seconds among milliseconds would fall into January 1970.
    if unit is None or largest < _EPOCH_FLOOR * EPOCHS[unit] or not _is_one_scale(good, EPOCHS[unit]):
        return days
    counts = np.where(bad, 0, whole).astype("int64")
    stamps = pd.DatetimeIndex(counts.astype(f"datetime64[{unit}]")).tz_localize("UTC")
    days[~bad] = _instant_days(stamps, zone)[~bad]
    return days


def _is_one_scale(numbers: np.ndarray, per_second: int) -> bool:
    """Whether all numbers count one unit: a larger unit among smaller ones falls into the weeks around 1970."""
    if per_second == 1:
        return True
    day = 86_400 * per_second
    ordered = np.sort(numbers)
    near = np.abs(ordered) < 28 * day
    # Bars that truly are of these weeks have bars before and after them.
    steps = np.diff(ordered) > 40 * day
    return not (steps & (near[:-1] | near[1:])).any() and not near.all()


def _civil(years: np.ndarray, months: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Dates from their parts; NaT for 2018-02-30."""
    possible = (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)
    month = (years.astype("int64") - 1970) * 12 + np.where(possible, months, 1) - 1
    dates = month.astype("datetime64[M]").astype("datetime64[D]") + (np.where(possible, days, 1) - 1).astype(
        "timedelta64[D]"
    )
    possible &= dates.astype("datetime64[M]").astype("int64") == month
    return np.where(possible, dates, np.datetime64("NaT", "D"))


def _checked(days: np.ndarray, column: pa.Array) -> np.ndarray:
    bad = np.isnat(days) | ~((days >= _EARLIEST) & (days < _LATEST))
    if bad.any():
        raise BadCellsError(bad, column, "is not a date; write YYYY-MM-DD")
    return days.astype("datetime64[ns]")


def _texts(texts: Sequence[str], order: str | None, zone: str) -> np.ndarray:
    """Days of distinct texts, datetime64[D]; NaT where one is no date."""
    if all(map(_PLAIN.fullmatch, texts)):  # nearly all files: no need to take anything apart
        with suppress(ValueError):
            return np.array(texts, dtype="datetime64[D]")
    filled = [text for text in texts if text]
    if filled and all(_EPOCH_TEXT.fullmatch(text) for text in filled):
        whole = np.array([int(text.partition(".")[0]) if text else 0 for text in texts], dtype="object")
        bad = np.array(
            [not text or abs(int(value)) > np.iinfo(np.int64).max for text, value in zip(texts, whole, strict=True)]
        )
        return _whole_days(np.where(bad, 0, whole).astype("int64"), bad, zone)
    parts = [_take_apart(text) for text in texts]
    chosen = _order_of(texts, parts, order)
    numbers = [_as_ymd(part, chosen) if part else (1, 0, 0) for part in parts]
    days = (
        _civil(*(np.array(column, dtype="int64") for column in zip(*numbers, strict=True)))
        if numbers
        else np.array([], "M8[D]")
    )
    stamps = pd.Series([part.instant if part else None for part in parts], dtype="datetime64[ns, UTC]")
    is_instant = stamps.notna().to_numpy() & ~np.isnat(days)
    if is_instant.any():
        days[is_instant] = _instant_days(pd.DatetimeIndex(stamps[is_instant]), zone)
    return days


@lru_cache(maxsize=100_000)  # a folder's files have the same days
def _take_apart(text: str) -> _Parts | None:
    text = _WEEKDAY.sub("", text)
    parts: _Parts | None = None
    end = 0
    if match := _ISO.match(text):
        parts, end = _Parts((int(match[1]), int(match[3]), int(match[4])), ("ymd",)), match.end()
    elif match := _COMPACT.match(text):
        parts, end = _Parts((int(match[1]), int(match[2]), int(match[3])), ("ymd",)), match.end()
    elif match := _NUMERIC.match(text):
        if len(match[1]) > 2:
            return None
        # A year of two digits may stand in front, too: 18/01/02.
        orders = ("dmy", "mdy") if len(match[4]) == 4 else ("dmy", "mdy", "ymd")
        parts, end = _Parts((int(match[1]), int(match[3]), _long_year(match[4])), orders), match.end()
    elif (match := _DAY_MONTH.match(text)) and match[2].lower() in _MONTHS:
        parts, end = _Parts((_long_year(match[3]), _MONTHS[match[2].lower()], int(match[1])), ("ymd",)), match.end()
    elif (match := _MONTH_DAY.match(text)) and match[1].lower() in _MONTHS:
        parts, end = _Parts((int(match[3]), _MONTHS[match[1].lower()], int(match[2])), ("ymd",)), match.end()
    if parts is None or end == len(text):
        return parts
    time = _TIME.match(text[end:])
    if time is None:
        return None
    return _with_instant(parts, text, time["zone"])


def _with_instant(parts: _Parts, text: str, zone: str | None) -> _Parts | None:
    """In its own zone the day stands as written; a time in UTC is an instant."""
    if zone not in ("Z", "UTC", "GMT", "+00:00", "+0000", "+00") or parts.orders != ("ymd",):
        return parts
    year, month, day = parts.numbers
    clock = re.search(r"(\d{1,2}):(\d{2})", text)
    if clock is None or not (1800 <= year < 2200 and int(clock[1]) < 24 and int(clock[2]) < 60):
        return None
    try:
        instant = pd.Timestamp(year, month, day, int(clock[1]), int(clock[2]), tz="UTC")
    except ValueError:
        return None
    return _Parts(parts.numbers, parts.orders, instant)


def _long_year(text: str) -> int:
    year = int(text)
    # POSIX: 69 to 99 are of the twentieth century.
    return year if len(text) == 4 else year + (1900 if year >= 69 else 2000)


def _as_ymd(parts: _Parts, order: str) -> tuple[int, int, int]:
    first, second, third = parts.numbers
    if parts.orders == ("ymd",):
        return first, second, third
    if order == "ymd":
        return _long_year(f"{first:02d}"), second, third % 100
    return (third, second, first) if order == "dmy" else (third, first, second)


def _order_of(texts: Sequence[str], parts: Sequence[_Parts | None], order: str | None) -> str:
    """The order of day and month that the whole column allows.

    Raises
    ------
    ColumnError
        It allows two that give different dates, or no order fits all values.
    """
    # A cell that is no date in any order says nothing about the others; it is named later.
    candidates = [(text, part) for text, part in zip(texts, parts, strict=True) if part and part.orders != ("ymd",)]
    candidates = [(text, part) for text, part in candidates if any(_day(part, name) for name in part.orders)]
    if not candidates:
        return "ymd"
    allowed = [name for name in ("dmy", "mdy", "ymd") if all(name in part.orders for _, part in candidates)]
    fitting = [name for name in allowed if all(_day(part, name) for _, part in candidates)]
    if order in fitting:
        return str(order)
    # No bar lies in the future: read with the year in front, 31.01.18 would be of 2031.
    today = str(np.datetime64("today", "D"))
    past = [name for name in fitting if all(str(_day(part, name)) <= today for _, part in candidates)]
    fitting = past or fitting
    if not fitting:
        shown = {name: _witness(candidates, name) for name in allowed}
        raise ColumnError(
            "mixes orders of day and month: "
            + ", ".join(f"{text!r} is not {name}" for name, text in shown.items() if text)
            + "; write YYYY-MM-DD"
        )
    for text, part in candidates:
        readings = {_day(part, name): name for name in fitting}
        if len(readings) > 1:
            shown = " or ".join(f"{day} ({name})" for day, name in readings.items())
            raise ColumnError(
                f"is ambiguous: {text!r} is {shown}, and no cell of the column decides; set DATE_ORDER="
                f"{' or '.join(readings.values())}, or write YYYY-MM-DD"
            )
    return fitting[0]


def _witness(candidates: Sequence[tuple[str, _Parts]], order: str) -> str | None:
    return next((text for text, part in candidates if _day(part, order) is None), None)


def _day(parts: _Parts, order: str) -> str | None:
    year, month, day = _as_ymd(parts, order)
    date = _civil(np.array([year]), np.array([month]), np.array([day]))[0]
    return None if np.isnat(date) else str(date)
