"""Predictions by month: a folder that holds a table, of which only months with news are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from financial_assets.models.baselines.monthly import write_by_month

SESSIONS = pd.bdate_range("2010-11-22", "2011-01-12")


def rows(sessions: pd.DatetimeIndex = SESSIONS, seed: int = 0) -> pd.DataFrame:
    keys = pd.MultiIndex.from_product(
        [sessions, ["A", "B"], ["logistic", "majority"]], names=["date", "ticker", "model"]
    )
    values = np.random.default_rng(seed).random((len(keys), 2))
    return keys.to_frame(index=False).assign(
        probability_up=values[:, 0], q01=np.where(values[:, 1] > 0.5, np.nan, -0.1)
    )


def tokens(sessions: pd.DatetimeIndex = SESSIONS) -> dict[pd.Timestamp, str]:
    return dict.fromkeys(sessions, "1")


def held(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder).astype({"date": "datetime64[ns]"})


def test_the_folder_reads_as_one_table_and_grows_by_its_last_month(tmp_path: Path) -> None:
    table = rows()
    for end, expected in ((-3, ["2010-11", "2010-12", "2011-01"]), (-2, ["2011-01"]), (len(SESSIONS), ["2011-01"])):
        part = table[table["date"].isin(SESSIONS[:end])].reset_index(drop=True)
        assert write_by_month(tmp_path, part, tokens(SESSIONS[:end])) == expected
        pd.testing.assert_frame_equal(held(tmp_path), part, check_exact=True)
    assert write_by_month(tmp_path, table, tokens()) == []


def test_a_restated_session_touches_its_month_alone(tmp_path: Path) -> None:
    write_by_month(tmp_path, rows(), tokens())
    changed, again = rows(), tokens() | {SESSIONS[10]: "2"}
    changed.loc[changed["date"] == SESSIONS[10], "probability_up"] = 0.5
    assert write_by_month(tmp_path, changed, again) == [f"{SESSIONS[10]:%Y-%m}"]
    pd.testing.assert_frame_equal(held(tmp_path), changed, check_exact=True)


def test_without_tokens_everything_is_written_and_months_of_the_past_go(tmp_path: Path) -> None:
    write_by_month(tmp_path, rows(), {})
    later = rows(SESSIONS[10:], seed=1)
    assert write_by_month(tmp_path, later, {}) == ["2010-12", "2011-01"]
    pd.testing.assert_frame_equal(held(tmp_path), later, check_exact=True)


@pytest.mark.parametrize("name", ["2010-12.parquet", "_written.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b'{"2010-12": 3}', None])
def test_what_is_damaged_is_written_again(tmp_path: Path, name: str, content: bytes | None) -> None:
    write_by_month(tmp_path, rows(), tokens())
    path = tmp_path / name
    path.unlink() if content is None else path.write_bytes(content)
    written = write_by_month(tmp_path, rows(), tokens())
    assert "2010-12" in written
    pd.testing.assert_frame_equal(held(tmp_path), rows(), check_exact=True)
    assert write_by_month(tmp_path, rows(), tokens()) == []
