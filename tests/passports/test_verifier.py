"""The verifier by itself: small, without this package, and right where it computes what the package computes."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.experiment.statistics.long_run import robust_z
from tests.passports.builders import TOOL, load_verifier, write_files
from tests.passports.conftest import Played

VERIFIER = load_verifier()


def test_it_is_short_and_needs_numpy_alone() -> None:
    text = TOOL.read_text()
    assert len(text.splitlines()) <= 300
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else alias.name for node in nodes for alias in node.names}
    assert {str(name).split(".")[0] for name in names} <= {*sys.stdlib_module_names, "numpy"}
    assert "__import__" not in text


# RFC 8032, section 7.1: secret key left out; public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=["empty", "one byte", "two bytes"])
def test_signatures_of_the_standard_are_told_from_others(vector: tuple[str, str, str]) -> None:
    public, message, signature = map(bytes.fromhex, vector)
    assert VERIFIER.is_signed(public, message, signature)
    assert not VERIFIER.is_signed(public, message + b"x", signature)
    # The order of the group added to the scalar would give a second signature of the same message.
    scalar = int.from_bytes(signature[32:], "little") + VERIFIER.L
    assert not VERIFIER.is_signed(public, message, signature[:32] + scalar.to_bytes(32, "little"))


@given(
    st.integers(2, 300),
    st.integers(0, 2**32 - 1),
    st.floats(-0.02, 0.02),
    st.floats(0.0, 0.9),
    st.sampled_from([0.0, 0.02]),
    st.booleans(),
)
def test_z_is_that_of_the_package(
    count: int, seed: int, drift: float, dependence: float, margin: float, corrected: bool
) -> None:
    noise = np.random.default_rng(seed).gumbel(size=count)
    days = drift + 0.1 * (noise + dependence * np.roll(noise, 1))
    expected = robust_z(days, margin, corrected=corrected)
    assert VERIFIER.standardised(days, margin, corrected)[1] == pytest.approx(expected, abs=1e-6)


def test_what_is_neither_is_said_to_be_neither(verifier: ModuleType, tmp_path: Path) -> None:
    assert verifier.verify(tmp_path) == ([], 2)


def test_each_link_names_what_is_broken(verifier: ModuleType, tmp_path: Path, played: Played) -> None:
    changed = {
        "predictions": ("predictions.jsonl", b"0.6", b"0.7"),
        "requests": ("requests.jsonl", b"0.002", b"0.001"),
        "prices": ("price-history.jsonl", b'"added":4', b'"added":5'),
        f"model {played.promotion.champion}": (
            f"models/{played.promotion.champion}/model.onnx",
            b"graph",
            b"grape",
        ),
        "evidence": ("evidence.json", b"0.5", b"0.25"),
        "chain": ("chain.jsonl", b'"sealed":4', b'"sealed":5'),
    }
    for link, (name, before, after) in changed.items():
        assert before in played.files[name], name
        files = played.files | {name: played.files[name].replace(before, after, 1)}
        found, status = verifier.verify(write_files(tmp_path / "passport", files), played.test.key)
        assert status == 1
        assert link in {name for state, name, _ in found if state == "BROKEN"}, (link, found)


def test_another_owner_did_not_sign_it(verifier: ModuleType, folder: Path, played: Played) -> None:
    other = played.test.key[:-4] + ("AAAA" if played.test.key[-4:] != "AAAA" else "BBBB")
    found, status = verifier.verify(folder, other)
    assert status == 1
    assert {name for state, name, _ in found if state == "BROKEN"} == {"signature of decision", "signature of weights"}
