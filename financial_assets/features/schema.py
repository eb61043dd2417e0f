"""The pandera schema of the tidy feature frame, made from the catalogue."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
import pandera.pandas as pa

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.feature import Feature

__all__ = ["check_features", "feature_schema"]


def feature_schema(features: Sequence[Feature] = CATALOGUE) -> pa.DataFrameSchema:
    """Schema of ``FeaturePanel.to_frame()``: one row per date and ticker, every value within its feature's bounds."""
    columns: dict[str, pa.Column] = {
        "date": pa.Column("datetime64[ns]", description="XNYS session at whose close the features are known"),
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), description="Ticker symbol"),
    }
    for feature in features:
        low, high = feature.bounds
        columns[feature.name] = pa.Column(
            "float32",
            pa.Check.in_range(low, high),
            nullable=False,
            title=feature.family,
            description=f"{feature.formula} ({feature.family}; {feature.lookback} bars; {feature.source})",
        )
    return pa.DataFrameSchema(columns, unique=["date", "ticker"], strict=True, ordered=True, name="features")


def check_features(frame: pd.DataFrame, features: Sequence[Feature] = CATALOGUE) -> pd.DataFrame:
    """What in a feature frame breaks its schema.

    Returns
    -------
    pandas.DataFrame
        One row per failure: ``date`` and ``ticker`` (missing when a whole column is at fault), ``column``, ``check``,
        ``value``, ``problem``; empty when the frame is sound.
    """
    schema = feature_schema(features)
    absent = [name for name in schema.columns if name not in frame.columns]
    if absent:
        return _failures([(pd.NaT, None, name, "present", "", "the column is missing") for name in absent])
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        return _failures([_failure(frame, case) for case in error.failure_cases.to_dict("records")])
    return _failures([])


def _failures(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["date", "ticker", "column", "check", "value", "problem"])


def _failure(frame: pd.DataFrame, case: dict[Hashable, Any]) -> tuple[object, ...]:
    column, check, value, label = (case[name] for name in ("column", "check", "failure_case", "index"))
    place = frame.index.get_indexer(pd.Index([label]))[0] if frame.index.is_unique and pd.notna(label) else -1
    session, ticker = (frame["date"].iloc[place], frame["ticker"].iloc[place]) if place >= 0 else (pd.NaT, None)
    return session, ticker, str(column), str(check), str(value), f"{column} is {value}, which breaks {check}"
