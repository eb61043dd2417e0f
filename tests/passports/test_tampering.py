"""The verifier finds what was done to a passport, also where the list of digests was made to fit."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.passports.builders import findings
from tests.passports.conftest import Played
from tests.passports.tampering import tamper


def test_an_untouched_passport_is_whole(verifier: ModuleType, folder: Path, played: Played) -> None:
    found, status = verifier.verify(folder, played.test.key)
    assert {state for state, *_ in found} == {"ok"}
    assert status == 0
    assert verifier.verify(folder)[1] == 0  # without the owner's key, too


@pytest.mark.parametrize("forge", [False, True], ids=["as it is", "with a list of digests that fits"])
def test_every_tampering_is_found(verifier: ModuleType, folder: Path, played: Played, forge: bool) -> None:
    """A hundred of them, other ones in each run; ``python -m benchmarks.passports`` does a thousand."""
    seed = int(np.random.SeedSequence().entropy % 2**32)  # pyright: ignore[reportOperatorIssue]
    rng = np.random.default_rng(seed)
    missed = [
        one for _ in range(100) if not (one := tamper(verifier, folder, rng, key=played.test.key, forge=forge))[2]
    ]
    assert missed == [], f"seed {seed}"
    assert verifier.verify(folder, played.test.key)[1] == 0


STATEMENTS = {
    "a probability": "UPDATE direct_predictions SET probability_up = probability_up + 1e-9 WHERE id = 7",
    "a row that is gone": "DELETE FROM direct_predictions WHERE id = 9",
    "the arm of a request": "UPDATE routed_predictions SET model = 'another' WHERE id = 3",
    "a decision": "UPDATE decisions SET document = replace(document, '\"hold\"', '\"promote\"') WHERE id = 2",
    "a plan": "UPDATE experiment_plans SET document = replace(document, '0.3', '0.1')",
    "a sealed record": """UPDATE sealed_records SET document = replace(document, '"sealed":', '"sealed":9')
    WHERE number = (SELECT min(number) FROM sealed_records WHERE kind = 'direct')""",
    "a sealed record that is gone": "DELETE FROM sealed_records WHERE number = 9",
    "two sealed records": "UPDATE sealed_records SET number = CASE number WHEN 8 THEN -9 ELSE -8 END "
    "WHERE number IN (8, 9); UPDATE sealed_records SET number = -number WHERE number < 0",
    "a signature": "UPDATE sealed_records SET signature = replace(signature, 'record', 'recorb') "
    "WHERE kind = 'decision'",
}


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_changed_log_is_found(verifier: ModuleType, played: Played, tmp_path: Path, what: str) -> None:
    with closing(sqlite3.connect(played.test.home / "predictions.db")) as log:
        log.execute("VACUUM INTO ?", (str(tmp_path / "predictions.db"),))
    assert verifier.verify(tmp_path, played.test.key)[1] == 0
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as log:
        before = log.total_changes
        log.executescript(STATEMENTS[what])
        assert log.total_changes > before
    assert "BROKEN" in findings(verifier, tmp_path, played.test.key).values()


def test_two_exports_of_a_decision_are_equal_byte_for_byte(played: Played) -> None:
    """``python -m benchmarks.passports`` exports a hundred."""
    for decision in (played.decisions[0], played.promotion):
        assert played.test.passport(decision) == played.test.passport(decision)
