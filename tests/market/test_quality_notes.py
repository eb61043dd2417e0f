"""What people are told about screened prices, and what the file of overrides may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from financial_assets.errors import SettingsError
from financial_assets.market.frames import empty_prices
from financial_assets.market.quality.notes import (
    explained,
    notes_from_json,
    notes_of,
    notes_to_json,
    notes_within,
    warnings_of,
)
from financial_assets.market.quality.overrides import load_overrides
from financial_assets.market.quality.screening import Screening, screen

MakePrices = Callable[..., pd.DataFrame]
NOW = pd.Timestamp("2025-01-02 12:00", tz="UTC")


@pytest.fixture
def mixed(make_prices: MakePrices) -> Screening:
    """AAA has a slip and a repaired high, BBB waits, CCC lacks a session."""
    prices = make_prices(("AAA", "BBB", "CCC"), count=120)
    prices.loc[60, ["open", "high", "low", "close", "adj_close"]] *= 10.0
    prices.loc[3, "high"] = prices.loc[3, ["open", "close"]].max() - 0.01
    prices.loc[120:140, "open"] = 0.0
    return screen(prices.drop(index=300), stored=empty_prices(), now=NOW)


def test_each_outcome_is_one_message_with_rows_counted_and_the_fix(mixed: Screening) -> None:
    waits, left_out, suspicious, repaired = warnings_of(notes_of(mixed))
    assert "1 ticker waiting, nothing of it is stored (21 rows that cannot be used)" in waits
    assert "BBB waits: 21 rows cannot be used (2020-01-02 to 2020-01-31): open is not positive" in waits
    assert "the first clean day is 2020-02-03" in waits
    assert "INGESTION_START_DATE" in waits
    assert "AAA: 1 row left out" in left_out
    assert "about 10 times" in left_out
    assert "QUALITY_OVERRIDES" in left_out
    assert "CCC: 1 row suspicious" in suspicious
    assert "no bar on this XNYS session" in suspicious
    assert "1 row of 1 ticker repaired" in repaired
    assert "\n".join((waits, left_out, suspicious, repaired)).count("open is not positive") == 1


def test_a_universe_of_bad_tickers_is_one_short_message(make_prices: MakePrices) -> None:
    names = tuple(f"T{at:02d}" for at in range(30))
    prices = make_prices(names, count=40)
    prices.loc[prices.index % 40 == 20, "open"] = 0.0
    (message,) = warnings_of(notes_of(screen(prices, stored=empty_prices(), now=NOW)))
    assert "30 rows of 30 tickers left out" in message
    assert "and 20 rows of 20 tickers more" in message
    assert len(message.splitlines()) == 13


def test_notes_survive_their_file_and_show_nothing_later(mixed: Screening) -> None:
    notes = notes_of(mixed)
    assert notes_from_json(notes_to_json(notes)) == notes
    until = notes_within(notes, pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-31"))
    assert [(note.ticker, note.outcome) for note in until] == [("AAA", "repaired"), ("BBB", "waits")]
    with pytest.raises(ValueError, match="not a list of quality notes"):
        notes_from_json('[{"ticker": "AAA"}]')


def test_a_waiting_ticker_has_its_fault_as_the_reason(mixed: Screening) -> None:
    reasons = explained({"BBB": "has no prices", "CCC": "did not trade on 2020-06-01"}, notes_of(mixed))
    assert reasons["BBB"].startswith("waits: 21 rows cannot be used")
    assert reasons["CCC"].startswith("did not trade on 2020-06-01; 1 row suspicious")


def write(folder: Path, text: str) -> Path:
    path = folder / "overrides.yaml"
    path.write_text(text)
    return path


def test_overrides_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "- {ticker: aapl, from: 2019-02-01, to: 2019-02-03, action: accept, reason: seen}\n"
        "- {ticker: MSFT, from: 2019-02-01, to: 2019-02-01, action: repair, set: {high: 3.5}, reason: typo}\n",
    )
    first, second = load_overrides(path)
    assert str(first) == "accept AAPL 2019-02-01 to 2019-02-03: seen"
    assert second.values == {"high": 3.5}
    assert load_overrides(None) == load_overrides(write(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("- {ticker: A, from: 2019-02-01, to: 2019-02-01, action: hide, reason: x}", "action"),
        ("- {ticker: A, from: 2019-02-01, to: 2019-02-01, action: drop}", "reason"),
        ("- {ticker: A, from: 2019-02-05, to: 2019-02-01, action: drop, reason: x}", "later than"),
        ("- {ticker: A, from: 2019-02-01, to: 2019-02-01, action: repair, reason: x}", "price_factor"),
        ("- {ticker: A, from: 2019-02-01, to: 2019-02-02, action: repair, set: {high: 1}, reason: x}", "one day"),
        ("- {ticker: A, from: 2019-02-01, to: 2019-02-01, action: drop, reason: x, tikcer: B}", "tikcer"),
        ("ticker: A", "ticker: AAPL"),
        ("- [", "is not YAML"),
    ],
)
def test_a_wrong_override_is_named_with_its_entry(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError, match="QUALITY_OVERRIDES") as caught:
        load_overrides(write(tmp_path, text))
    assert named in str(caught.value)


def test_a_missing_file_of_overrides_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"QUALITY_OVERRIDES: .*nowhere.yaml cannot be read"):
        load_overrides(tmp_path / "nowhere.yaml")
