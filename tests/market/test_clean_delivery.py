"""Files that were clean and are the same are not read again; whatever else has changed, they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.market.index import clean_delivery
from financial_assets.market.index.clean_delivery import delivery_digest, remember, remembered
from financial_assets.market.ingestion import Ingestion, ingest
from financial_assets.market.sources.files import FilePrices, FileRules
from financial_assets.market.store import PriceStore

MakePrices = Callable[..., pd.DataFrame]
TICKERS = ("AAA", "BBB")


class Place:
    """Files, a store, and what is remembered of the one in the other."""

    def __init__(self, root: Path, prices: pd.DataFrame) -> None:
        self.files, self.path = root / "files", root / "clean.parquet"
        self.store, self.source = PriceStore(root / "prices"), FilePrices(str(root / "files"))
        self.files.mkdir()
        self.write(prices)

    def write(self, prices: pd.DataFrame) -> None:
        prices.to_csv(self.files / "prices.csv", index=False)

    def digest(self, source: FilePrices | None = None) -> str:
        return delivery_digest(source or self.source, TICKERS, ["None", "None"])

    def read(self) -> Ingestion:
        digest = self.digest()
        outcome = ingest(self.source, self.store, TICKERS)
        remember(self.path, digest, outcome, self.store)
        return outcome

    def known(self, source: FilePrices | None = None) -> Ingestion | None:
        return remembered(self.path, self.digest(source), self.store)


@pytest.fixture
def place(tmp_path: Path, make_prices: MakePrices) -> Place:
    prices = make_prices(TICKERS, count=60)
    # A move that is worth a look, and is kept.
    later = (prices["ticker"] == "AAA") & (prices.groupby("ticker").cumcount() >= 30)
    prices.loc[later, ["open", "high", "low", "close", "adj_close"]] *= 1.62
    return Place(tmp_path, prices)


def test_what_was_clean_is_known_again_with_all_that_was_told_of_it(place: Place) -> None:
    first = place.read()
    again, known = ingest(place.source, place.store, TICKERS), place.known()
    assert known is not None
    assert len(first.screening.suspicious) > 0
    assert_frame_equal(known.screening.suspicious, first.screening.suspicious)
    assert known.report is not None
    assert again.report is not None
    for name in ("added", "unchanged", "held_back"):
        assert getattr(known.report, name) == getattr(again.report, name), name
    for name in ("restated", "corporate_actions", "rescaled", "removed"):
        assert_frame_equal(getattr(known.report, name), getattr(again.report, name))
    assert known.screening.checked == again.screening.checked
    assert [(each.name, each.passed, each.blocking, each.checked) for each in known.quality] == [
        (each.name, each.passed, each.blocking, each.checked) for each in again.quality
    ]
    assert (known.failures, known.never_delivered, known.notes) == ({}, (), ())
    assert known.source_changes == again.source_changes


def test_changed_bytes_are_seen_whatever_the_time_of_the_file_says(place: Place) -> None:
    place.read()
    file = place.files / "prices.csv"
    times, text = file.stat(), file.read_text()
    file.write_text(text[:-2] + ("1" if text[-2] != "1" else "2") + text[-1])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size
    assert place.known() is None
    file.write_text(text)
    assert place.known() is not None


def test_other_settings_files_code_or_prices_are_another_delivery(
    place: Place, make_prices: MakePrices, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.read()
    assert place.known(FilePrices(str(place.files), FileRules(adjustment="splits"))) is None
    assert remembered(place.path, delivery_digest(place.source, TICKERS[:1], ["None", "None"]), place.store) is None
    assert remembered(place.path, delivery_digest(place.source, TICKERS, ["None", "2020-01-31"]), place.store) is None
    monkeypatch.setattr(clean_delivery, "_code", lambda: "another version")
    assert place.known() is None
    monkeypatch.undo()
    (place.files / "more.csv").write_text((place.files / "prices.csv").read_text())
    assert place.known() is None
    (place.files / "more.csv").unlink()
    assert place.known() is not None
    place.store.upsert(make_prices(("CCC",), count=5))
    assert place.known() is None


def test_bars_that_are_left_out_are_told_from_the_files_each_day(place: Place) -> None:
    prices = pd.read_csv(place.files / "prices.csv")
    place.read()
    assert place.path.exists()
    prices.loc[70, "close"] = -1.0
    place.write(prices)
    assert len(place.read().screening.quarantined) == 1
    assert not place.path.exists()
    assert place.known() is None


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1half"])
def test_what_is_damaged_is_not_known(place: Place, content: bytes) -> None:
    place.read()
    place.path.write_bytes(content)
    assert place.known() is None


def test_code_that_is_being_replaced_is_no_known_version_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout or an upgrade beside this process: a file is listed, and gone when it is to be read."""
    package = tmp_path / "market"
    (package / "__pycache__").mkdir(parents=True)
    (package / "store.py").write_text("STORE = 1")
    monkeypatch.setattr(clean_delivery, "files", lambda name: package)
    code = clean_delivery._code.__wrapped__
    whole = code()
    assert code() == whole
    (package / "__pycache__" / "store.cpython-311.pyc").touch()
    assert code() == whole, "bytecode is no source"
    (package / "going.py").symlink_to(package / "gone.py")
    assert len({whole, code(), code()}) == 3
    (package / "going.py").unlink()
    assert code() == whole
