"""The pandera model of a price frame, and all quality checks in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from financial_assets.market import quality
from financial_assets.market.frames import PRICE_COLUMNS, VALUE_COLUMNS, empty_prices
from financial_assets.market.quality import QualityResult

__all__ = ["PRICE_COLUMNS", "PRICE_SCHEMA", "QualityResult", "check_prices", "empty_prices"]


def _is_day(dates: pd.Series) -> pd.Series:
    return dates == dates.dt.normalize()


def _is_ticker(tickers: pd.Series) -> pd.Series:
    # A universe has few tickers and many rows.
    return tickers.isin([name for name in tickers.unique() if isinstance(name, str) and len(name.split()) == 1])


def _in_order(prices: pd.DataFrame) -> pd.Series:
    """Which rows do not come before the row above them, by ticker and then date."""
    ticker, date = prices["ticker"], prices["date"]
    above = ticker.shift(fill_value="")
    return (ticker > above) | ((ticker == above) & ~(date < date.shift()))


def _price(description: str) -> pa.Column:
    return pa.Column("float64", pa.Check.gt(0, error="is not positive", description="> 0"), description=description)


PRICE_SCHEMA = pa.DataFrameSchema(
    {
        "date": pa.Column(
            "datetime64[ns]",
            pa.Check(_is_day, error="has a time of day", description="no time of day"),
            description="session of MARKET_CALENDAR, tz-naive",
        ),
        "ticker": pa.Column(
            "object",
            pa.Check(_is_ticker, error="is not a ticker", description="one word"),
            description="Symbol as the source spells it",
        ),
        "open": _price("First price, USD, raw or split-adjusted like the whole row"),
        "high": _price("Highest price, USD"),
        "low": _price("Lowest price, USD"),
        "close": _price("Last price, USD"),
        "volume": pa.Column(
            "float64", pa.Check.ge(0, error="is negative", description=">= 0"), description="Shares traded"
        ),
        "adj_close": _price("Close adjusted for splits and dividends, USD"),
    },
    checks=pa.Check(_in_order, error="is not sorted by ticker and date", description="sorted by ticker and date"),
    name="prices",
    description="Daily bars, one row per ticker and session",
    strict=False,
)
"""Form of a price frame; see ``check_prices`` for the rules that span columns and rows."""

_RULES: tuple[tuple[str, bool, str, Callable[[pd.DataFrame], pd.DataFrame]], ...] = (
    ("duplicates", True, "each ticker and session occurs once", quality.duplicates),
    ("ohlc_order", True, "low <= open, close <= high within rounding", quality.ohlc_order),
    ("impossible_values", True, "prices positive, volume >= 0, all finite, none absurd", quality.impossible_values),
    ("completeness", True, "a bar on every session of a listing and on no other day", quality.completeness),
    ("extreme_moves", False, "no move of the adjusted close beyond +50 % or -33 %", quality.extreme_moves),
)


def check_prices(prices: pd.DataFrame) -> tuple[QualityResult, ...]:
    """Run every quality rule over a price frame, however broken it is.

    Returns
    -------
    tuple of QualityResult
        ``schema``, ``duplicates``, ``ohlc_order``, ``impossible_values``, ``completeness`` (all blocking) and
        ``extreme_moves`` (a warning), in this order.
    """
    given = _distinct_columns(prices)
    frame = _parse(given)
    form = _schema_failures(prices, given, frame)
    results = [QualityResult("schema", form.empty, True, "the form that PRICE_SCHEMA describes", form, len(frame))]
    for name, blocking, description, rule in _RULES:
        failures = rule(frame)
        results.append(QualityResult(name, failures.empty, blocking, description, failures, len(frame)))
    return tuple(results)


def _distinct_columns(prices: pd.DataFrame) -> pd.DataFrame:
    """The frame on a fresh index, columns named by strings, of repeated ones the first."""
    given = prices.reset_index(drop=True)
    given.columns = pd.Index([str(name) for name in given.columns])
    return given.loc[:, ~given.columns.duplicated()]


def _parse(given: pd.DataFrame) -> pd.DataFrame:
    """Every price column in its type; what cannot be read becomes NaT, ``None`` or NaN."""
    given = given.reindex(columns=list(PRICE_COLUMNS))
    parsed = pd.DataFrame(index=given.index)
    parsed["date"] = _parse_dates(given["date"])
    tickers = [value if isinstance(value, str) else None for value in given["ticker"]]
    parsed["ticker"] = pd.Series(tickers, index=given.index, dtype="object")
    for name in VALUE_COLUMNS:
        parsed[name] = _parse_numbers(given[name])
    return parsed


def _parse_dates(column: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(column):
        # With a time zone, the day stands as written in it.
        days = column.dt.tz_localize(None).dt.normalize()
    else:
        text = column.map(lambda value: None if isinstance(value, int | float | list | dict) else str(value)[:10])
        days = pd.to_datetime(text.astype("object"), errors="coerce", format="%Y-%m-%d")
    return days.astype("datetime64[ns]")


def _parse_numbers(column: pd.Series) -> pd.Series:
    if pd.api.types.is_complex_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return pd.Series(np.nan, index=column.index, dtype="float64")
    if column.dtype == object:
        column = column.map(lambda value: value if isinstance(value, int | float | str) else None)
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _schema_failures(prices: pd.DataFrame, given: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that break the schema; what is wrong with a whole column comes first, as a row without values."""
    columns = given.reindex(columns=list(PRICE_COLUMNS))
    whole = {f"column {name} occurs more than once" for name in prices.columns[prices.columns.duplicated()]}
    if frame.empty:
        whole.add("the frame has no rows")
    could_not_run: set[str] = set()
    rows: dict[str, set[int]] = {}
    for case in _schema_cases(given):
        column, rule, index = case["column"], str(case["check"]), case["index"]
        if rule == "column_in_dataframe":
            whole.add(f"column {case['failure_case']} is missing")
        elif rule.startswith("dtype("):
            expected = rule.removeprefix("dtype('").removesuffix("')")
            whole.add(f"column {column} is {given[column].dtype}, not {expected}")
        elif index is not None and not pd.isna(index):
            subject = "row " if case["schema_context"] == "DataFrameSchema" else f"{column} "
            reason = "is missing" if rule == "not_nullable" else rule
            rows.setdefault(subject + reason, set()).add(int(index))
        else:
            could_not_run.add(f"{column}: {rule}: {case['failure_case']}")
    if not whole and not rows:  # otherwise a wrong type is the reason, and has been told
        whole |= could_not_run
    rules = [
        ((columns[name].notna() & frame[name].isna()).to_numpy(), f"{name} cannot be read") for name in PRICE_COLUMNS
    ]
    rules += [(frame.index.isin(list(at)), problem) for problem, at in rows.items()]
    # Shown as given, because what cannot be read is the point.
    table = quality.failure_table(frame, rules, shown=columns).astype("object")
    head = pd.DataFrame({"problem": sorted(whole)}).reindex(columns=table.columns).astype("object")
    return pd.concat([head, table], ignore_index=True) if len(head) else table


def _schema_cases(given: pd.DataFrame) -> list[dict[str, Any]]:
    try:
        with warnings.catch_warnings():
            # pandera joins its tables of failure cases in a way that pandas frowns on.
            warnings.simplefilter("ignore", FutureWarning)
            PRICE_SCHEMA.validate(given, lazy=True)
    except SchemaErrors as errors:
        return errors.failure_cases.to_dict("records")
    return []
