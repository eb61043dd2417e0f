"""Simulated drift thresholds, kept once for all tests of a run: they depend on code and arguments, not on a market."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def share_thresholds(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose drift thresholds are those of all tests, in whichever process; the first one simulates them.

    Files are named after all that their content depends on, and appear whole.
    """
    mine = tmp_path_factory.getbasetemp()
    all_workers = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    shared = all_workers / "drift-thresholds"
    shared.mkdir(exist_ok=True)
    (home / "drift").mkdir(parents=True)
    (home / "drift" / "thresholds").symlink_to(shared)
    return home
