"""Tables, plots and column schemas for the Dagster UI."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.features.schema import feature_schema
from financial_assets.market.frames import PRICE_COLUMNS
from financial_assets.market.schemas import PRICE_SCHEMA
from financial_assets.metadata import column_schema, findings, link, plot, quality_metadata, table


def lines(frame: pd.DataFrame, **options: Any) -> list[str]:
    return re.split(r"\r\n|\n|\r", str(table(frame, **options).value))


def cells(line: str) -> list[str]:
    """Cells of a Markdown row: GitHub's rule that ``\\|`` is no border."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_table_reads_as_it_should() -> None:
    frame = pd.DataFrame(
        {"date": [pd.Timestamp("2020-01-02")], "ticker": ["AAA"], "close": [1234.56789], "bars": [7], "ok": [True]}
    )
    assert lines(frame) == [
        "| date | ticker | close | bars | ok |",
        "| --- | --- | --- | --- | --- |",
        "| 2020-01-02 | AAA | 1234.57 | 7 | True |",
    ]


@pytest.mark.parametrize("value", ["a|b", "two\nlines", "old\rMac", "win\r\ndows", "|", "\n"])
def test_a_value_cannot_break_the_table(value: str) -> None:
    shown = lines(pd.DataFrame({"problem": [value], "ticker": ["AAA"]}))
    assert len(shown) == 3
    assert cells(shown[2])[1] == "AAA"


TEXTS = st.text(st.sampled_from("ab|\n\r .,"), max_size=8)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=6), st.lists(TEXTS, min_size=2, max_size=2, unique=True))
def test_rows_and_columns_survive_any_text(rows: list[tuple[str, str]], names: list[str]) -> None:
    shown = lines(pd.DataFrame(rows, columns=names))
    assert len(shown) == 2 + len(rows)
    assert {len(cells(line)) for line in shown} == {2}


@pytest.mark.parametrize(("count", "most"), [(0, 50), (49, 50), (50, 50), (51, 50), (5000, 50), (3, 1)])
def test_a_long_table_is_cut_and_says_how_many_are_left_out(count: int, most: int) -> None:
    shown = lines(pd.DataFrame({"row": range(count)}), most=most)
    assert len([line for line in shown if re.fullmatch(r"\| \d+ \|", line)]) == min(count, most)
    note = [line for line in shown if "more rows" in line]
    assert note == ([f"… and {count - most:,} more rows"] if count > most else [])


def test_missing_values_are_shown_as_such() -> None:
    frame = pd.DataFrame({"date": [pd.NaT], "close": [np.nan], "ticker": [None]})
    assert lines(frame)[2] == "| NaT | nan | None |"


def test_columns_of_prices_come_with_type_and_description() -> None:
    columns = {column.name: column for column in column_schema(PRICE_SCHEMA).value.columns}
    assert tuple(columns) == PRICE_COLUMNS
    assert columns["close"].type == "float64"
    assert columns["close"].description == "Last price, USD"
    assert columns["close"].constraints.nullable is False
    assert columns["close"].constraints.other == ["> 0"]
    assert columns["volume"].constraints.other == [">= 0"]


def test_columns_of_features_come_with_their_formulas() -> None:
    schema = feature_schema()
    columns = column_schema(schema).value.columns
    assert [column.name for column in columns] == list(schema.columns)
    assert all(column.description == schema.columns[column.name].description for column in columns)


def test_a_column_that_is_added_shows_itself() -> None:
    grown = PRICE_SCHEMA.add_columns({"currency": pa.Column("object", description="ISO 4217 code")})
    assert column_schema(grown).value.columns[-1].name == "currency"


def test_a_plot_is_the_picture_itself() -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    shown = str(plot(png, "learning curve").value)
    found = re.fullmatch(r"!\[learning curve\]\(data:image/png;base64,(.+)\)", shown)
    assert found is not None
    assert base64.b64decode(found.group(1)) == png
    assert str(plot(b'<svg width="4"/>', "drawn").value).startswith("![drawn](data:image/svg+xml;base64,")


def test_a_link_is_a_path(tmp_path: Path) -> None:
    assert isinstance(link(tmp_path), dg.PathMetadataValue)
    assert link(tmp_path).value == str(tmp_path)


def test_a_check_states_its_rule_and_the_number_of_rows() -> None:
    failures = pd.DataFrame({"ticker": ["AAA"], "problem": ["high is below low"]})
    passed = quality_metadata("low <= high", 800, failures.head(0))
    failed = quality_metadata("low <= high", 800, failures)
    assert passed == {"rule": "low <= high", "rows checked": 800, "rows failed": 0}
    assert failed["rows failed"] == 1
    assert "| AAA | high is below low |" in str(failed["failed rows"].value)


def test_a_check_says_how_many_rows_fail_and_which_is_the_first() -> None:
    rows = pd.DataFrame(
        {
            "date": [pd.Timestamp("2020-01-02"), pd.NaT],
            "ticker": ["AAA", None],
            "problem": ["is there twice", "no date"],
        }
    )
    assert findings(1200, rows.head(0)) == "None of 1,200 rows fails."
    assert findings(1200, rows.head(1)) == "1 of 1,200 rows fails: AAA 2020-01-02: is there twice."
    assert findings(2, rows.iloc[::-1]) == "2 of 2 rows fail: no date, and 1 more."
