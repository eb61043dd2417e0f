"""Means of groups: to the last bit those that recorded decisions rest on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.experiment.metrics.compensated import group_means

VALUES = st.one_of(
    st.floats(-1e3, 1e3), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([1e16, -1e16, 1.0, 0.1])
)


@pytest.mark.parametrize("groups", [5, 40], ids=["value by value", "all groups at once"])
@settings(deadline=None)  # a pause of a busy machine is no failure
@given(rows=st.lists(st.tuples(VALUES, st.integers(0, 4)), max_size=40))
def test_the_bits_are_those_of_the_grouped_mean_of_pandas(groups: int, rows: list[tuple[float, int]]) -> None:
    values, group = np.array([value for value, _ in rows], np.float64), np.array([of for _, of in rows], np.int64)
    with np.errstate(all="ignore"):
        expected = pd.Series(values).groupby(group).mean().reindex(range(groups)).to_numpy(np.float64)
    found, known = group_means(values, group, groups), ~np.isnan(expected)
    np.testing.assert_array_equal(found.view(np.int64)[known], expected.view(np.int64)[known])
    np.testing.assert_array_equal(np.isnan(found), ~known)


def test_small_values_beside_large_ones_are_not_lost() -> None:
    values, group = np.array([1e16, 1.0, 1.0, -1e16]), np.zeros(4, np.int64)
    assert group_means(values, group, 1)[0] == 0.5, "a plain sum would give 0 or 1"
