"""Rows found by session and ticker: the same that a merge finds, in the same order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError
from financial_assets.experiment.keyed_rows import places
from financial_assets.experiment.outcomes import join_outcomes

DAYS = pd.bdate_range("2010-01-04", periods=5)
KEYS = st.lists(st.tuples(st.sampled_from(list(DAYS)), st.sampled_from("ABCD")), max_size=12)


def frame(keys: list[tuple[pd.Timestamp, str]]) -> pd.DataFrame:
    sessions, tickers = ([key[place] for key in keys] for place in range(2))
    return pd.DataFrame({"session": pd.DatetimeIndex(sessions), "ticker": pd.Series(tickers, dtype=object)})


@settings(deadline=None)  # a pause of a busy machine is no failure
@given(KEYS, KEYS.map(lambda keys: list(dict.fromkeys(keys))))
def test_they_are_those_of_a_merge(
    wanted: list[tuple[pd.Timestamp, str]], known: list[tuple[pd.Timestamp, str]]
) -> None:
    rows = frame(wanted).assign(answer=np.arange(len(wanted), dtype=np.float64))
    outcomes = frame(known).assign(up=np.arange(len(known)) % 2 == 0, log_return=np.linspace(-1, 1, len(known)))
    expected = [known.index(key) if key in known else -1 for key in wanted]
    assert places(rows, outcomes).tolist() == expected
    merged = rows.merge(outcomes, on=["session", "ticker"], how="inner", validate="m:1")
    pd.testing.assert_frame_equal(join_outcomes(rows, outcomes), merged, check_exact=True)


def test_an_outcome_that_is_there_twice_is_named() -> None:
    twice = frame([(DAYS[0], "A"), (DAYS[1], "B"), (DAYS[1], "B")])
    with pytest.raises(ExperimentError, match="B, 2010-01-05 occurs more than once"):
        places(twice, twice)
