"""The schema of the feature frame."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from financial_assets.features.catalogue import CATALOGUE, FEATURE_NAMES
from financial_assets.features.schema import check_features, feature_schema


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    dates = np.repeat(pd.bdate_range("2020-01-01", periods=10), 2)
    columns = {
        feature.name: rng.uniform(*feature.bounds, len(dates)).astype(np.float32).clip(*feature.bounds)
        for feature in CATALOGUE
    }
    return pd.DataFrame({"date": dates, "ticker": ["AAA", "BBB"] * 10, **columns})


def test_a_sound_frame_passes(frame):
    feature_schema().validate(frame)
    failures = check_features(frame)
    assert failures.empty
    assert list(failures.columns) == ["date", "ticker", "column", "check", "value", "problem"]


def test_every_column_says_what_it_is():
    schema = feature_schema()
    assert list(schema.columns) == ["date", "ticker", *FEATURE_NAMES]
    assert all(column.description for column in schema.columns.values())


@pytest.mark.parametrize(("value", "check"), [(99.0, "in_range"), (np.nan, "not_nullable"), (-np.inf, "in_range")])
def test_an_absurd_value_is_named_with_its_row(frame, value, check):
    frame.loc[5, "rsi_14"] = np.float32(value)
    (failure,) = check_features(frame).to_dict("records")
    assert (failure["date"], failure["ticker"]) == (frame["date"][5], "BBB")
    assert failure["column"] == "rsi_14"
    assert check in failure["check"]
    assert "rsi_14" in failure["problem"]


def test_row_labels_do_not_matter(frame):
    frame.loc[5, "rsi_14"] = np.float32(9.0)
    relabelled = frame.set_index(pd.Index(range(100, 120)))
    (failure,) = check_features(relabelled).to_dict("records")
    assert (failure["date"], failure["ticker"]) == (frame["date"][5], "BBB")


def test_duplicated_rows_are_found(frame):
    failures = check_features(pd.concat([frame, frame.iloc[[3]]], ignore_index=True))
    assert not failures.empty
    assert set(failures["ticker"]) == {"BBB"}


@pytest.mark.parametrize("column", ["date", "ticker", "rsi_14"])
def test_a_missing_column_is_named(frame, column):
    failures = check_features(frame.drop(columns=column))
    assert failures["column"].tolist() == [column]
    assert failures["problem"].tolist() == ["the column is missing"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: frame.assign(leak=1.0),
        lambda frame: frame[["ticker", "date", *FEATURE_NAMES]],
        lambda frame: frame.astype({"rsi_14": "float64"}),
        lambda frame: frame.assign(rsi_14="high"),
        lambda frame: frame.assign(date="yesterday"),
        lambda frame: frame.assign(ticker=""),
    ],
    ids=["stranger", "order", "float64", "text", "no date", "no ticker"],
)
def test_other_damage_is_found(frame, spoil):
    assert not check_features(spoil(frame)).empty
