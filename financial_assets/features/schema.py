"""The pandera schema of the tidy feature frame, made from the catalogue."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.feature import Feature
from financial_assets.features.graph import FeaturePanel


def feature_schema(features: Sequence[Feature] = CATALOGUE) -> pa.DataFrameSchema:
    """Schema of ``FeaturePanel.to_frame()``: one row per date and ticker, every value within its feature's bounds."""
    columns: dict[str, pa.Column] = {
        "date": pa.Column("datetime64[ns]", description="session at whose close the features are known"),
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


def check_feature_panel(panel: FeaturePanel, features: Sequence[Feature] = CATALOGUE) -> pd.DataFrame:
    """The same of a panel's valid rows, ticker by ticker: the tidy frame of a large panel would not fit into memory.

    A panel has one value per key and one type by construction, so bounds are all that can be broken; rows that break
    one go through ``check_features``, which says what is wrong with them.
    """
    if tuple(feature.name for feature in features) != panel.names:
        return check_features(panel.to_frame(), features)
    low, high = (np.array([feature.bounds[end] for feature in features], np.float32)[:, None] for end in (0, 1))
    broken = np.zeros_like(panel.valid)
    for row, values in enumerate(panel.values):
        with np.errstate(invalid="ignore"):
            broken[row] = panel.valid[row] & ~((values >= low) & (values <= high)).all(axis=0)
    if not broken.any():
        return _failures([])
    return check_features(replace(panel, valid=broken).to_frame(), features)


def _failures(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["date", "ticker", "column", "check", "value", "problem"])


def _failure(frame: pd.DataFrame, case: dict[Hashable, Any]) -> tuple[object, ...]:
    column, check, value, label = (case[name] for name in ("column", "check", "failure_case", "index"))
    place = frame.index.get_indexer(pd.Index([label]))[0] if frame.index.is_unique and pd.notna(label) else -1
    session, ticker = (frame["date"].iloc[place], frame["ticker"].iloc[place]) if place >= 0 else (pd.NaT, None)
    return session, ticker, str(column), str(check), str(value), f"{column} is {value}, which breaks {check}"
