"""The pandera model of a price frame, and all quality checks in one call."""

from __future__ import annotations

from collections.abc import Callable

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


def _in_order(prices: pd.DataFrame) -> pd.Series:
    """Which rows do not come before their predecessor, by ticker and then date."""
    ticker, date = prices["ticker"].astype(str), prices["date"]
    before = ticker.shift(fill_value="")
    return (ticker > before) | ((ticker == before) & ~(date < date.shift()))


def _price(description: str) -> pa.Column:
    return pa.Column("float64", pa.Check.gt(0, error="not positive"), description=description)


PRICE_SCHEMA = pa.DataFrameSchema(
    {
        "date": pa.Column(
            "datetime64[ns]", pa.Check(_is_day, error="has a time of day"), description="XNYS session, tz-naive"
        ),
        "ticker": pa.Column(
            "object", pa.Check.str_matches(r"^\S+$", error="is no ticker"), description="Symbol as the source spells it"
        ),
        "open": _price("First price, USD, raw or split-adjusted like the whole row"),
        "high": _price("Highest price, USD"),
        "low": _price("Lowest price, USD"),
        "close": _price("Last price, USD"),
        "volume": pa.Column("float64", pa.Check.ge(0, error="negative"), description="Shares traded"),
        "adj_close": _price("Close adjusted for splits and dividends, USD"),
    },
    checks=pa.Check(_in_order, error="not sorted by ticker and date"),
    name="prices",
    description="Daily bars, one row a ticker and session",
    strict=False,
)
"""Form of a price frame; see ``check_prices`` for the rules that span columns and rows."""

_RULES: tuple[tuple[str, bool, str, Callable[[pd.DataFrame], pd.DataFrame]], ...] = (
    ("duplicates", True, "each ticker and session occurs once", quality.duplicates),
    ("ohlc_order", True, "low <= open, close <= high within rounding", quality.ohlc_order),
    (
        "impossible_values",
        True,
        "prices positive, volume not negative, all finite, none absurd",
        quality.impossible_values,
    ),
    ("completeness", True, "a bar on every XNYS session of a listing and on no other day", quality.completeness),
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
    frame, unreadable = _parse(prices)
    failures = _schema_failures(prices, frame, unreadable)
    results = [_result("schema", True, "columns, types, keys and order as PRICE_SCHEMA says", failures, len(frame))]
    for name, blocking, description, rule in _RULES:
        results.append(_result(name, blocking, description, rule(frame), len(frame)))
    return tuple(results)


def _result(name: str, blocking: bool, description: str, failures: pd.DataFrame, checked: int) -> QualityResult:
    return QualityResult(name, failures.empty, blocking, description, failures, checked)


def _parse(prices: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Every price column in its type, and which cells of each held something that could not be read."""
    given = prices.reset_index(drop=True)
    given.columns = [str(name) for name in given.columns]
    given = given.loc[:, ~given.columns.duplicated()].reindex(columns=list(PRICE_COLUMNS))
    parsed = pd.DataFrame(index=given.index)
    parsed["date"] = _parse_dates(given["date"])
    parsed["ticker"] = given["ticker"].astype("object")
    for name in VALUE_COLUMNS:
        parsed[name] = pd.to_numeric(given[name], errors="coerce").astype("float64")
    unreadable = {name: (given[name].notna() & parsed[name].isna()).to_numpy() for name in PRICE_COLUMNS}
    return parsed, unreadable


def _parse_dates(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[ns]")
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    return dates.dt.tz_localize(None).dt.normalize().astype("datetime64[ns]")


def _schema_failures(prices: pd.DataFrame, frame: pd.DataFrame, unreadable: dict[str, np.ndarray]) -> pd.DataFrame:
    found = [(mask, f"{name} cannot be read as a {_kind(name)}") for name, mask in unreadable.items() if mask.any()]
    if prices.columns.has_duplicates:
        found.append((np.zeros(len(frame), dtype=bool), ""))
    whole: list[str] = []
    rows: dict[str, set[int]] = {}
    try:
        PRICE_SCHEMA.validate(prices.reset_index(drop=True), lazy=True)
    except SchemaErrors as errors:
        for case in errors.failure_cases.itertuples():
            subject = case.column if case.column in PRICE_COLUMNS else "row"
            if case.index is None or pd.isna(case.index):
                whole.append(f"column {case.failure_case if case.column is None else case.column}: {case.check}")
            else:
                rows.setdefault(f"{subject}: {case.check}", set()).add(int(case.index))
    found += [(frame.index.isin(list(at)), problem) for problem, at in rows.items()]
    table = quality.failure_table(frame, found)
    if frame.empty:
        whole.append("the frame has no rows")
    if whole:
        table = pd.concat([pd.DataFrame({"problem": sorted(set(whole))}), table], ignore_index=True)
    return table.reindex(columns=[*PRICE_COLUMNS, "problem"])


def _kind(name: str) -> str:
    return {"date": "date", "ticker": "ticker"}.get(name, "number")
