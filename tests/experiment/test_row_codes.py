"""Cells as numbers: what they say is what the cells say."""

from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.experiment.row_codes import RowCodes

CELLS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["a", "b", "c", None])))


@given(CELLS)
def test_rows_have_one_of_some_values_or_not(cells: list[tuple[int, str | None]]) -> None:
    rows = pd.DataFrame({"model": pd.Series([text for _, text in cells], dtype=object)})
    codes = RowCodes(rows)
    assert codes.are("model", "a", "b").tolist() == [text in ("a", "b") for _, text in cells]
    assert not codes.are("model", "never").any()


@given(CELLS)
def test_columns_are_counted_together(cells: list[tuple[int, str | None]]) -> None:
    rows = pd.DataFrame(
        {
            "epoch": pd.Series([number for number, _ in cells], dtype="int64"),
            "model": pd.Series([text for _, text in cells], dtype=object),
        }
    )
    numbers, names = RowCodes(rows).together("epoch", "model")
    assert [names[number] for number in numbers] == cells
    assert names == list(dict.fromkeys(cells)), "as they came first"
