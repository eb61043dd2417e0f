"""Files of signals: whole or not at all, and readable when an earlier version wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.errors import MarketDataError
from financial_assets.serving.signal_files import has_signals, read_signals, save_signals
from financial_assets.serving.signal_schema import FURTHER_COLUMNS, SIGNAL_SCHEMA, check_signals
from tests.serving.signal_builders import FRIDAY, signals_of, signals_with_heads


def test_both_files_hold_the_same_signals(tmp_path: Path) -> None:
    signals = signals_with_heads(["A", "B"], [0.4, 0.6])
    parquet, csv = save_signals(signals, tmp_path / "signals")
    assert [path.name for path in (parquet, csv)] == ["2010-01-29.parquet", "2010-01-29.csv"]
    assert_frame_equal(pd.read_parquet(parquet), signals)
    assert_frame_equal(read_signals(tmp_path / "signals", FRIDAY), signals)
    dates = ["as_of", "target_session", "target_session_5d"]
    assert_frame_equal(pd.read_csv(csv, parse_dates=dates), signals, check_dtype=False)
    assert sorted(path.name for path in parquet.parent.iterdir()) == ["2010-01-29.csv", "2010-01-29.parquet"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet, _ = save_signals(signals_with_heads(["A"], [0.4]), tmp_path)
    before = parquet.read_bytes()

    def dies(_: pd.DataFrame, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", dies)
    with pytest.raises(OSError, match="no space left"):
        save_signals(signals_with_heads(["A"], [0.9]), tmp_path)
    assert parquet.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_signals_of_two_sessions_are_not_one_file(tmp_path: Path) -> None:
    signals = signals_with_heads(["A", "B"], [0.4, 0.6])
    signals.loc[0, "as_of"] = pd.Timestamp("2010-01-28")
    with pytest.raises(ValueError, match="of one session"):
        save_signals(signals, tmp_path)


def test_without_the_further_heads_the_columns_are_there_and_empty(tmp_path: Path) -> None:
    signals = signals_of(["A", "B"], [0.4, 0.6])
    _, csv = save_signals(signals, tmp_path)
    assert_frame_equal(read_signals(tmp_path, FRIDAY), signals)
    read = pd.read_csv(csv)
    assert list(read.columns) == list(SIGNAL_SCHEMA.columns)
    assert read[[*FURTHER_COLUMNS]].isna().all(axis=None)


def test_a_file_of_an_earlier_version_opens_and_is_sound(tmp_path: Path) -> None:
    """Its columns are those before the further heads; nothing is made up for it but what its quantiles say."""
    signals = signals_of(["A", "B"], [0.4, 0.6])
    earlier = [name for name in SIGNAL_SCHEMA.columns if name not in ("es_95", *FURTHER_COLUMNS)]
    signals[earlier].to_parquet(tmp_path / "2010-01-29.parquet", index=False)
    read = read_signals(tmp_path, FRIDAY)
    assert read is not None
    assert_frame_equal(read, signals)
    assert check_signals(read, ["A", "B"]).empty
    assert read[[*FURTHER_COLUMNS]].isna().all(axis=None)


def test_what_is_no_file_of_signals_is_named(tmp_path: Path) -> None:
    assert read_signals(tmp_path, FRIDAY) is None
    assert not has_signals(tmp_path, FRIDAY)
    path = tmp_path / "2010-01-29.parquet"
    signals_with_heads(["A"], [0.4]).drop(columns=["q05", "model"]).to_parquet(path, index=False)
    with pytest.raises(MarketDataError, match=r"2010-01-29\.parquet have no columns q05, model; .*doctor"):
        read_signals(tmp_path, FRIDAY)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MarketDataError, match=r"2010-01-29\.parquet cannot be read"):
        read_signals(tmp_path, FRIDAY)


def test_the_shortfall_that_is_filled_in_is_the_one_of_today(tmp_path: Path) -> None:
    quantiles = np.array([[-0.08, -0.03, 0.0, 0.02, 0.05], [-0.02, -0.02, 0.0, 0.02, 0.02]])
    signals = signals_of(["A", "B"], [0.4, 0.6], quantiles)
    signals.drop(columns="es_95").to_parquet(tmp_path / "2010-01-29.parquet", index=False)
    read = read_signals(tmp_path, FRIDAY)
    assert read is not None
    assert_frame_equal(read, signals)
