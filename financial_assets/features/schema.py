"""The pandera schema of the tidy feature frame, made from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pandera.pandas as pa

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.feature import Feature

__all__ = ["check_features", "feature_schema"]


def feature_schema(features: Sequence[Feature] = CATALOGUE) -> pa.DataFrameSchema:
    """Schema of ``FeaturePanel.to_frame()``: one row a date and ticker, every value finite and within its feature's bounds."""
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
        One row a failure: ``date``, ``ticker`` (empty when the failure is of a whole column), ``column``, ``check``, ``value``,
        ``problem``; empty when the frame is sound.
    """
    try:
        feature_schema(features).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.reset_index(drop=True)
    else:
        return pd.DataFrame(columns=["date", "ticker", "column", "check", "value", "problem"])
    keys = pd.DataFrame({"date": pd.NaT, "ticker": ""}, index=cases.index)
    if {"date", "ticker"} <= set(frame.columns):
        rows = pd.to_numeric(cases["index"], errors="coerce")
        placed = rows.between(0, len(frame) - 1)
        for key in keys:
            keys.loc[placed, key] = frame[key].to_numpy(dtype=object)[rows[placed].astype(int)]
    check = cases["check"].astype(str)
    return keys.assign(
        column=cases["column"].astype(str),
        check=check,
        value=cases["failure_case"].astype(str),
        problem="column " + cases["column"].astype(str) + " breaks " + check,
    )
