"""The kill switch: what it says survives restarts, and what cannot be read counts as a halt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from financial_assets.errors import ChainError, HaltedError
from financial_assets.halt import NO_REASON, KillSwitch


@pytest.fixture
def switch(tmp_path: Path) -> KillSwitch:
    return KillSwitch.of(tmp_path / "home")


def test_a_new_folder_is_not_halted_and_looking_makes_nothing(switch: KillSwitch) -> None:
    assert switch.halt_in_force() is None
    switch.check()
    assert not switch.path.parent.exists()


def test_a_halt_lasts_until_it_is_ended_and_each_use_is_kept(switch: KillSwitch) -> None:
    switch.halt("prices look wrong.", "anna")
    found = switch.halt_in_force()
    assert found is not None
    assert (found.by, found.reason) == ("anna", "prices look wrong.")
    assert found.sentence.startswith(f"HALTED since {found.since} by anna: prices look wrong. No orders;")
    with pytest.raises(HaltedError, match="prices look wrong"):
        switch.check()
    switch.halt("and volumes", "ben")
    ended = switch.resume("anna")
    assert ended is not None
    assert ended.reason == "and volumes"
    assert switch.halt_in_force() is None
    assert switch.resume("anna") is None
    assert len(switch.path.read_text().splitlines()) == 3


def test_another_process_sees_it_at_once(switch: KillSwitch) -> None:
    code = f"from financial_assets.halt import KillSwitch; KillSwitch.of({str(switch.path.parent)!r}).halt('', 'x')"
    subprocess.run([sys.executable, "-c", code], check=True)
    found = switch.halt_in_force()
    assert found is not None
    assert found.reason == NO_REASON


def test_half_a_halt_is_none(switch: KillSwitch) -> None:
    switch.halt("one", "x")
    switch.resume("x")
    whole = switch.path.read_bytes()
    switch.halt("two", "x")
    written = switch.path.read_bytes()
    switch.path.write_bytes(written[:-1])
    assert switch.halt_in_force() is None
    switch.path.write_bytes(whole)
    assert switch.halt_in_force() is None


@pytest.mark.parametrize("damage", [b"rubbish\n", b'{"halted": false}\n', b"\x00\n"])
def test_a_damaged_record_halts_and_nobody_can_resume_over_it(switch: KillSwitch, damage: bytes) -> None:
    switch.halt("one", "x")
    switch.resume("x")
    switch.path.write_bytes(switch.path.read_bytes() + damage)
    found = switch.halt_in_force()
    assert found is not None
    assert "cannot be read" in found.sentence
    with pytest.raises(HaltedError):
        switch.check()
    with pytest.raises(ChainError):
        switch.resume("x")


def test_a_record_that_is_a_folder_halts(switch: KillSwitch) -> None:
    switch.path.mkdir(parents=True)
    assert switch.halt_in_force() is not None


def test_a_chained_record_without_its_fields_halts(switch: KillSwitch) -> None:
    from financial_assets.chain import HashChain

    HashChain(switch.path).append({"halted": "no", "reason": "", "by": "", "at": ""})
    assert switch.halt_in_force() is not None


def test_reasons_are_one_line_of_printable_text(switch: KillSwitch) -> None:
    found = switch.halt("a\n\x1b[31mred\x07  \u202eb" + "c" * 5000, "x\ny")
    assert found.by == "x y"
    assert "\n" not in found.sentence
    assert "\x1b" not in found.sentence
    assert "\u202e" not in found.sentence
    assert len(found.reason) <= 500
