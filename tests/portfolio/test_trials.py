"""The record of trials: each counted once, for ever, whoever dies, repeats or comes at the same time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from financial_assets.errors import StorageError, TrialsError
from financial_assets.portfolio.performance import sharpe_ratio
from financial_assets.portfolio.selection import FEWEST_KNOWN, Trials, expected_maximum_sharpe
from financial_assets.portfolio.trials import (
    Trial,
    TrialLedger,
    earlier_trials,
    hyperparameters_hash,
    record_trial,
)

AT = datetime(2026, 11, 2, 21, 5, tzinfo=UTC)
RETURNS = np.random.default_rng(0).normal(0.0005, 0.01, 250)


def ledger(folder: Path) -> TrialLedger:
    return TrialLedger(folder / "models" / "trials.jsonl")


def put(record: TrialLedger, name: str = "a", **changes: Any) -> Trial:
    return record_trial(record, **{"fingerprint": name, "kind": "search", "variant": "baseline", "at": AT, **changes})


def test_a_trial_is_read_back_as_it_was_recorded(tmp_path: Path) -> None:
    record = ledger(tmp_path)
    assert record.read() == ()
    assert record.trials() is None, "nothing was tried, and nothing can be deflated"
    trial = put(record, hyperparameters={"hidden": 24, "dropout": 0.1}, returns=RETURNS)
    assert record.read() == (trial,)
    assert trial.sharpe == pytest.approx(sharpe_ratio(RETURNS, periods=1))
    assert (trial.sessions, trial.recorded_at) == (250, "2026-11-02T21:05:00+00:00")
    assert trial.hyperparameters == hyperparameters_hash({"dropout": 0.1, "hidden": 24})


def test_a_trial_counts_once_whoever_records_it(tmp_path: Path) -> None:
    record = ledger(tmp_path)
    put(record, kind="training")
    before = record.path.read_bytes()
    put(record, kind="search", variant="enhanced")
    put(TrialLedger(record.path), kind="walk_forward")
    assert record.path.read_bytes() == before
    (only,) = record.read()
    assert (only.kind, only.variant) == ("training", "baseline")


def test_a_ratio_that_becomes_known_is_added_and_then_stays(tmp_path: Path) -> None:
    record = ledger(tmp_path)
    put(record)
    put(record, returns=RETURNS)
    put(record, returns=-RETURNS)
    (only,) = record.read()
    assert only.sharpe == pytest.approx(sharpe_ratio(RETURNS, periods=1))
    assert len(record.path.read_text().splitlines()) == 2
    found = record.trials()
    assert found is not None
    assert (found.count, found.unknown) == (1, 0)


@pytest.mark.parametrize("returns", [np.zeros(40), np.full(40, 0.01), [-1.0]])
def test_a_ratio_that_is_not_defined_is_not_known_and_the_trial_counts(tmp_path: Path, returns: Any) -> None:
    record = ledger(tmp_path)
    put(record, returns=returns)
    found = record.trials()
    assert found is not None
    assert (found.count, found.unknown) == (1, 1)


def test_half_a_line_never_counted_and_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    record = ledger(tmp_path)
    for name in "ab":
        put(record, name)
    whole = record.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(lines[0]) + 1, len(whole)):  # as if its writer had died after any byte of the second line
        record.path.write_bytes(whole[:cut])
        assert [trial.fingerprint for trial in record.read()] == ["a"]
    put(record, "c")
    assert record.path.read_bytes().startswith(lines[0])
    assert [trial.fingerprint for trial in record.read()] == ["a", "c"]
    put(record, "b")  # whoever was cut off comes again
    assert [trial.fingerprint for trial in record.read()] == ["a", "c", "b"]


def test_zeros_that_a_power_cut_has_left_behind_are_half_a_line(tmp_path: Path) -> None:
    record = ledger(tmp_path)
    put(record)
    with record.path.open("ab") as stream:
        stream.write(b"\0" * 200)
    assert len(record.read()) == 1
    put(record, "b")
    assert b"\0" not in record.path.read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        "not JSON",
        "[]",
        "7",
        '{"fingerprint": "x"}',
        '{"fingerprint": 3, "kind": "search", "variant": "v", "hyperparameters": "", "recorded_at": "2026-11-02"}',
        json.dumps({**dict.fromkeys(("fingerprint", "variant", "hyperparameters"), "x"), "kind": "guess"}),
    ],
)
def test_a_whole_line_that_is_no_trial_stops_everybody(tmp_path: Path, line: str) -> None:
    record = ledger(tmp_path)
    put(record)
    with record.path.open("a") as stream:
        stream.write(line + "\n")
    for use in (record.read, record.trials, lambda: put(record, "b")):
        with pytest.raises(TrialsError, match=r"line 2 of .*trials.jsonl is not a trial"):
            use()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": ""}, "fingerprint"),
        ({"variant": ""}, "variant"),
        ({"kind": "guess"}, "kind is one of training, walk_forward, search"),
        ({"hyperparameters": {"rate": math.nan}}, "JSON"),
        ({"hyperparameters": {"rate": object()}}, "JSON"),
        ({"at": AT.replace(tzinfo=None)}, "time zone"),
    ],
)
def test_what_is_no_trial_is_refused_and_nothing_is_written(tmp_path: Path, changes: Any, match: str) -> None:
    record = ledger(tmp_path)
    with pytest.raises(TrialsError, match=match):
        put(record, **changes)
    assert not record.path.exists()


def test_returns_that_are_none_are_refused(tmp_path: Path) -> None:
    for returns in ([], [0.1, math.nan]):
        with pytest.raises(ValueError, match="returns"):
            put(ledger(tmp_path), returns=returns)


def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    record = ledger(tmp_path)
    record.path.mkdir(parents=True)
    with pytest.raises(StorageError):
        put(record)


def test_models_of_before_the_record_are_its_beginning(tmp_path: Path) -> None:
    tags = [{"fingerprint": "f1", "variant": "baseline"}, {"fingerprint": "f2", "variant": "enhanced"}, {"other": "x"}]
    record = ledger(tmp_path)
    assert record.record(*earlier_trials(tags, AT)) == 2
    assert record.record(*earlier_trials(tags)) == 0, "another day, the same models"
    found = record.trials()
    assert found is not None
    assert (found.count, found.unknown, found.sharpes.size) == (2, 2, 0)


def test_a_model_made_elsewhere_is_a_trial_of_its_own_kind() -> None:
    tags = {"fingerprint": "ab", "variant": "house", "origin": "external"}
    assert [trial.kind for trial in earlier_trials([tags, {**tags, "origin": ""}], AT)] == ["external", "training"]


WRITER = """
import sys
from pathlib import Path
from financial_assets.portfolio.trials import TrialLedger, record_trial
record, first, count = TrialLedger(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    record_trial(record, fingerprint=f"f{number}", kind="search", variant="v", returns=[0.01, -0.02, 0.01 * number])
    print(number, flush=True)
"""


def writer(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(path), str(first), str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_writers_at_the_same_time_lose_and_double_nothing(tmp_path: Path) -> None:
    path = ledger(tmp_path).path
    together = [writer(path, first, 30) for first in (0, 20, 40)]
    assert [process.wait(60) for process in together] == [0, 0, 0]
    for process in together:
        process.communicate()
    found = TrialLedger(path).read()
    assert sorted(trial.fingerprint for trial in found) == sorted(f"f{number}" for number in range(70))
    assert len(path.read_text().splitlines()) == 70


def test_what_was_confirmed_survives_the_death_of_its_writer(tmp_path: Path) -> None:
    path = ledger(tmp_path).path
    process = writer(path, 0, 100_000)
    assert process.stdout is not None
    confirmed = [process.stdout.readline() for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    names = [trial.fingerprint for trial in TrialLedger(path).read()]
    assert names[:25] == [f"f{line.strip()}" for line in confirmed]
    put(TrialLedger(path), "after")
    assert [trial.fingerprint for trial in TrialLedger(path).read()] == [*names, "after"]


def test_trials_without_a_ratio_count_and_do_not_tell_how_ratios_vary() -> None:
    few = Trials(np.array([0.01, 0.02]), unknown=8)
    assert (few.count, few.effective) == (10, 10)
    assert few.variance == pytest.approx(0.00005)
    assert few.variance_on(252) == 1 / 252, "two ratios that are alike by luck deflate nothing"
    assert few.variance_on(10**6) == few.variance, "and a small floor changes nothing"
    many = Trials(np.linspace(0, 0.01, FEWEST_KNOWN))
    assert many.variance_on(252) == many.variance < 1 / 252
    assert Trials(np.empty(0), unknown=1).variance_on(252) == 0, "a single trial was not chosen"
    assert Trials(np.empty(0), unknown=5).variance_on(100) == 0.01
    assert expected_maximum_sharpe(few.effective, few.variance_on(252)) > 0
    with pytest.raises(ValueError, match="unknown"):
        Trials(np.empty(0), unknown=-1)
