"""One test with a winner, its passport on disk, and the verifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from financial_assets.experiment.decision.record import Decision
from tests.passports.builders import SealedTest, load_verifier, write_files


@dataclass(frozen=True)
class Played:
    """A test that has ended, its decisions, and the folder of the last promotion's passport."""

    test: SealedTest
    decisions: tuple[Decision, ...]
    promotion: Decision
    files: dict[str, bytes]


@pytest.fixture(scope="session")
def verifier() -> ModuleType:
    return load_verifier()


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    test = SealedTest.start(tmp_path_factory.mktemp("sealed"))
    decisions = test.play(15)
    (promotion,) = [decision for decision in decisions if decision.action == "promote"]
    yield Played(test, decisions, promotion, test.passport(promotion))
    test.log.close()


@pytest.fixture
def folder(played: Played, tmp_path: Path) -> Path:
    """The passport of the promotion."""
    return write_files(tmp_path / "passport", played.files)
