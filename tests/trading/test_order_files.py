"""Files of orders: equal contents are equal bytes, other contents a revision, and the chain names what was done."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from financial_assets.chain import GENESIS
from financial_assets.errors import ChainError
from financial_assets.trading.order import Order, TradingCosts
from financial_assets.trading.order_checks import broken_limits
from financial_assets.trading.order_files import CSV_COLUMNS, OrderDocument, OrderFiles, Target, csv_of

COSTS = TradingCosts(0.5, 2e-4, 1e-7)
RULES = {"lot": 1, "smallest_order": 0.0, "per_name": 0.1, "gross": 1.0, "mode": "long_only", "turnover": None}


def target(ticker: str = "A", weight: float = 0.1, current: float = 0.0) -> Target:
    return Target(ticker, weight, current, 100.0, 0.5, 103.0, 97.0, COSTS)


def draft(session: str = "2020-01-02", quantity: float = 1000, **more: Any) -> OrderDocument:
    order = Order("", "A", "BUY", quantity, 103.0, 100.0, 0.5, COSTS, 'because "it" says, so')
    values: dict[str, Any] = {
        "target_session": "2020-01-03",
        "status": "orders",
        "remark": "",
        "model": "baseline-predictor-v1",
        "version": 1,
        "decision": "abc",
        "holdings": "paper book",
        "capital": 1_000_000.0,
        "construction": RULES,
        "limit_rule": "a rule",
        "targets": (target(),),
        "orders": (order,),
    }
    return OrderDocument(session=session, **{**values, **more})


@pytest.fixture
def files(tmp_path: Path) -> OrderFiles:
    return OrderFiles(tmp_path / "orders")


def contents(files: OrderFiles) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(files.folder.iterdir())}


def test_the_same_orders_are_the_same_bytes(files: OrderFiles) -> None:
    one, is_new = files.add(draft())
    before = contents(files)
    again, is_new_again = files.add(draft())
    assert (is_new, is_new_again) == (True, False)
    assert one == again
    assert contents(files) == before
    assert set(before) == {"2020-01-02.json", "2020-01-02.csv"}
    assert one.digest == hashlib.sha256(before["2020-01-02.json"]).hexdigest()
    assert one.document.orders[0].key == "2020-01-02-r1-A"
    assert files.read() == (one,)


def test_other_contents_are_a_revision_behind_the_last_file(files: OrderFiles) -> None:
    first, _ = files.add(draft())
    second, _ = files.add(draft("2020-01-03"))
    before = contents(files)
    third, is_new = files.add(draft(quantity=900))
    assert is_new
    assert third.path.name == "2020-01-02-r2.json"
    assert third.document.previous == second.digest
    assert third.document.revises == first.digest
    assert third.document.orders[0].key == "2020-01-02-r2-A"
    assert {name: data for name, data in contents(files).items() if name in before} == before
    assert [one.document.sequence for one in files.read()] == [1, 2, 3]
    assert first.document.previous == GENESIS
    # Back to what was: that is a change, too.
    assert files.add(draft())[0].path.name == "2020-01-02-r3.json"


def test_again_writes_a_revision_of_the_same_contents(files: OrderFiles) -> None:
    files.add(draft())
    again, is_new = files.add(draft(), again=True)
    assert is_new
    assert again.document.revision == 2


def test_the_table_says_what_the_document_says(files: OrderFiles) -> None:
    one, _ = files.add(draft())
    (row,) = csv.DictReader(io.StringIO(one.path.with_suffix(".csv").read_text()))
    assert tuple(row) == CSV_COLUMNS
    assert (row["ticker"], row["side"], row["quantity"], row["limit"]) == ("A", "BUY", "1000", "103.0")
    assert float(row["weight_after"]) == pytest.approx(0.1)
    assert row["reason"] == 'because "it" says, so'
    assert row["expected_cost"] == f"{sum(COSTS.of(100_000).values()):.2f}"


def test_a_table_that_is_missing_is_written_again_and_an_edited_one_named(files: OrderFiles) -> None:
    one, _ = files.add(draft())
    table = one.path.with_suffix(".csv")
    table.unlink()
    with pytest.raises(ChainError, match="is missing"):
        files.check_tables([one])
    files.add(draft())
    files.check_tables([one])
    table.write_text(table.read_text().replace("1000", "9000"))
    with pytest.raises(ChainError, match=r"2020-01-02.csv does not say"):
        files.check_tables([one])


def test_without_orders_the_table_is_its_header(files: OrderFiles) -> None:
    one, _ = files.add(draft(status="halted", remark="HALTED", orders=(), targets=()))
    assert one.path.with_suffix(".csv").read_text() == ",".join(CSV_COLUMNS) + "\n"
    assert csv_of(one.document).count("\n") == 1


@pytest.fixture
def three(files: OrderFiles) -> OrderFiles:
    for session in ("2020-01-02", "2020-01-03", "2020-01-06"):
        files.add(draft(session))
    return files


def edit(files: OrderFiles) -> None:
    path = files.folder / "2020-01-03.json"
    path.write_text(path.read_text().replace('"quantity": 1000', '"quantity": 1001'))


def remove(files: OrderFiles) -> None:
    (files.folder / "2020-01-03.json").unlink()


def copy(files: OrderFiles) -> None:
    shutil.copy(files.folder / "2020-01-03.json", files.folder / "2020-01-07.json")


def rename(files: OrderFiles) -> None:
    (files.folder / "2020-01-06.json").rename(files.folder / "2020-01-08.json")


def spoil(files: OrderFiles) -> None:
    (files.folder / "2020-01-03.json").write_bytes(b"\xff\xfe{")


def empty(files: OrderFiles) -> None:
    (files.folder / "2020-01-03.json").write_bytes(b"")


def other_json(files: OrderFiles) -> None:
    (files.folder / "2020-01-03.json").write_text('{"session": "2020-01-03"}')


def other_type(files: OrderFiles) -> None:
    path = files.folder / "2020-01-03.json"
    path.write_text(path.read_text().replace('"sequence": 2', '"sequence": "two"'))


def further_field(files: OrderFiles) -> None:
    path = files.folder / "2020-01-03.json"
    path.write_text(path.read_text().replace('"sequence": 2', '"sequence": 2, "bonus": 1'))


@pytest.mark.parametrize("damage", [edit, remove, copy, rename, spoil, empty, other_json, other_type, further_field])
def test_what_was_done_to_the_folder_is_found_and_nothing_is_added_to_it(three: OrderFiles, damage: object) -> None:
    damage(three)  # type: ignore[operator]
    with pytest.raises(ChainError, match=r"2020-01-0\d\.json"):
        three.read()
    before = contents(three)
    with pytest.raises(ChainError):
        three.add(draft("2020-01-09"))
    assert contents(three) == before


def test_a_removed_end_shows_by_the_digests_that_others_know(three: OrderFiles) -> None:
    known = [one.digest for one in three.read()]
    (three.folder / "2020-01-06.json").unlink()
    three.read()
    with pytest.raises(ChainError, match=f"1 files of orders are missing .* {known[-1][:12]}"):
        three.read(known)


def test_a_document_is_read_back_equal(files: OrderFiles) -> None:
    one, _ = files.add(draft(left={"B": "has no signal"}))
    assert OrderDocument.from_dict(json.loads(one.path.read_text())) == one.document


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"orders": (replace(draft().orders[0], quantity=1100),)}, "more than ORDERS_PER_NAME"),
        ({"orders": (replace(draft().orders[0], side="SELL"),)}, "short"),
        ({"status": "halted"}, "although the status is: halted"),
        ({"orders": (replace(draft().orders[0], ticker="B"),)}, "no target"),
        ({"orders": draft().orders * 2}, "same key"),
        ({"construction": {**RULES, "lot": 300}}, "no whole lots"),
        ({"construction": {**RULES, "smallest_order": 1e9}}, "worth too little"),
        ({"construction": {**RULES, "turnover": 0.05}}, "ORDERS_TURNOVER"),
        ({"construction": {**RULES, "gross": 0.05}}, "ORDERS_GROSS"),
    ],
)
def test_orders_that_break_a_limit_of_their_book_are_named(change: dict[str, Any], problem: str) -> None:
    assert broken_limits(draft()).empty
    found = broken_limits(draft(**change))
    assert found["problem"].str.contains(problem).any(), found
