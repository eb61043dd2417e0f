"""Means of groups: to the last bit those that recorded decisions rest on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.experiment.metrics.compensated import group_means

VALUES = st.one_of(
    st.floats(-1e3, 1e3), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([1e16, -1e16, 1.0, 0.1])
)


@settings(deadline=None)  # a pause of a busy machine is no failure
@given(st.lists(st.tuples(VALUES, st.integers(0, 4)), max_size=40))
def test_the_bits_are_those_of_the_grouped_mean_of_pandas(rows: list[tuple[float, int]]) -> None:
    values, group = np.array([value for value, _ in rows], np.float64), np.array([of for _, of in rows], np.int64)
    with np.errstate(all="ignore"):
        expected = pd.Series(values).groupby(group).mean().reindex(range(5)).to_numpy(np.float64)
    np.testing.assert_array_equal(
        group_means(values, group, 5).view(np.int64)[~np.isnan(expected)], expected.view(np.int64)[~np.isnan(expected)]
    )
    np.testing.assert_array_equal(np.isnan(group_means(values, group, 5)), np.isnan(expected))


def test_small_values_beside_large_ones_are_not_lost() -> None:
    values, group = np.array([1e16, 1.0, 1.0, -1e16]), np.zeros(4, np.int64)
    assert group_means(values, group, 1)[0] == 0.5, "a plain sum would give 0 or 1"
