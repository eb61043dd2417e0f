from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts import fingerprint as module
from financial_assets.models.artifacts.fingerprint import code_version, fingerprint, training_data_hash
from financial_assets.models.variants import VARIANTS

BASE: dict[str, Any] = {
    "data_hash": "d",
    "variant": VARIANTS["baseline"],
    "seed": 1,
    "sequence_length": 10,
    "cutoff": pd.Timestamp("2010-05-03"),
    "code": "c",
}


def test_equal_arguments_give_an_equal_fingerprint() -> None:
    assert fingerprint(**BASE) == fingerprint(**BASE)
    assert len(fingerprint(**BASE)) == 20
    assert fingerprint(**{**BASE, "code": None}) == fingerprint(**{**BASE, "code": code_version()})


@pytest.mark.parametrize(
    "change",
    [
        {"data_hash": "e"},
        {"code": "other"},
        {"seed": 2},
        {"sequence_length": 11},
        {"cutoff": pd.Timestamp("2010-05-04")},
        {"variant": replace(VARIANTS["baseline"], dropout=0.06)},
        {"variant": VARIANTS["enhanced"]},
    ],
)
def test_every_ingredient_counts(change: dict[str, Any]) -> None:
    assert fingerprint(**{**BASE, **change}) != fingerprint(**BASE)


def test_later_sessions_do_not_change_the_data_hash_and_earlier_ones_do(
    panel: PricePanel, cutoff: pd.Timestamp
) -> None:
    at = panel.position(cutoff)
    known = training_data_hash(panel, cutoff)
    assert training_data_hash(panel.until(panel.sessions[at + 5]), cutoff) == known
    values = panel.values.copy()
    values[0, 3, at + 1] *= np.float32(2.0)
    assert training_data_hash(replace(panel, values=values), cutoff) == known
    values[0, 3, at] = np.nextafter(values[0, 3, at], np.float32(1e9))
    assert training_data_hash(replace(panel, values=values), cutoff) != known


def test_code_version_follows_every_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("features/a.py", "models/deep/b.py", "market/outcomes.py", "market/other.py", "models/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(module, "files", lambda _: tmp_path)

    def version() -> str:
        code_version.cache_clear()
        return code_version()

    try:
        first = version()
        for irrelevant in ("market/other.py", "models/notes.txt"):
            (tmp_path / irrelevant).write_text("x = 2\n")
        assert version() == first
        seen = {first}
        for relevant in ("features/a.py", "models/deep/b.py", "market/outcomes.py"):
            (tmp_path / relevant).write_text("x = 2\n")
            seen.add(version())
        (tmp_path / "models/new.py").write_text("")
        seen.add(version())
        assert len(seen) == 5
    finally:
        code_version.cache_clear()
