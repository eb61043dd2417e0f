from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from financial_assets.errors import SettingsError
from financial_assets.models.artifacts.fingerprint import fingerprint
from financial_assets.models.search.adoption import Adopted, adopt, chosen_until, read_hyperparameters, write_candidate
from financial_assets.models.search.result import SearchResult
from financial_assets.models.variants import VARIANTS, choose_variants
from tests.models.search.conftest import FakeFit


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hyperparameters.yaml"
    path.write_text(text)
    return path


def test_a_candidate_can_be_adopted_and_makes_another_model(
    tmp_path: Path, run_search: Callable[..., SearchResult], fake_fit: FakeFit
) -> None:
    variant = VARIANTS["baseline"]
    result = run_search(12, variant=variant)
    path = tmp_path / "candidate.yaml"
    assert write_candidate(path, result)
    assert result.best is not None
    found = read_hyperparameters(path)
    adopted = adopt(variant, found.settings)
    assert adopted == replace(variant, **dict(result.best.values))  # to the last digit
    same = {"data_hash": "d", "seed": 1, "sequence_length": 10, "cutoff": pd.Timestamp("2010-05-03"), "code": "c"}
    assert fingerprint(variant=adopted, **same) != fingerprint(variant=variant, **same)
    assert "Nothing uses this file" in path.read_text()
    assert result.read_until is not None
    assert found.chosen_until == {"baseline": result.read_until}, "a walk-forward has to know what the search has seen"


def test_nothing_is_written_before_a_trial_is_complete(
    tmp_path: Path, run_search: Callable[..., SearchResult], fake_fit: FakeFit
) -> None:
    fake_fit.diverges = lambda variant: True
    path = tmp_path / "candidate.yaml"
    assert not write_candidate(path, run_search(1))
    assert not path.exists()


def test_nothing_is_written_where_no_trial_beats_the_present_settings(
    tmp_path: Path, run_search: Callable[..., SearchResult], fake_fit: FakeFit
) -> None:
    result = run_search(1, variant=VARIANTS["baseline"])
    path = tmp_path / "candidate.yaml"
    assert result.best is not None
    assert not write_candidate(path, result)
    assert not path.exists()
    loss = result.best.loss
    assert (
        f"the present settings stay, because no other trial has a lower loss on the stop block than theirs ({loss:.5f})"
        in (result.sentence)
    )
    worse = replace(result.best, number=1, loss=loss + 0.01, values={**result.present, "hidden": 999})
    among_others = replace(result, trials=(*result.trials, worse))
    assert not write_candidate(path, among_others)
    assert f"({loss:.5f}; the best other one {loss + 0.01:.5f})" in among_others.sentence
    better = replace(worse, loss=loss - 0.01)
    assert write_candidate(path, replace(result, trials=(*result.trials, better)))
    outside = replace(result, trials=(better,))
    assert write_candidate(path, outside), "present settings that were not tried are not known to be better"
    assert "with the present settings unknown" in outside.sentence


def test_other_variants_keep_their_settings(tmp_path: Path) -> None:
    adopted = read_hyperparameters(written(tmp_path, "enhanced: {hidden: 32, dropout: 0}\n")).settings
    assert adopt(VARIANTS["baseline"], adopted) is not None
    assert adopt(VARIANTS["baseline"], adopted) == VARIANTS["baseline"]
    assert adopt(VARIANTS["enhanced"], adopted) == replace(VARIANTS["enhanced"], hidden=32, dropout=0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must map variants"),
        ("baseline", "must map variants"),
        ("baseline: 3", "must map variants"),
        ("[baseline]", "must map variants"),
        ("baselin: {hidden: 3}", "no variant 'baselin'"),
        ("baseline: {hiden: 3}", "no setting 'hiden'"),
        ("baseline: {hidden: many}", "must be of type int"),
        ("baseline: {hidden: 0}", "hidden must be at least 1"),
        ("baseline: {hidden: 3}\nbaseline: {hidden: 4}", "'baseline' is there twice"),
        ("baseline: {hidden: 3, hidden: 4}", "'hidden' is there twice"),
        ("baseline: {hidden: 3", "is not YAML"),
        ("baseline: {1: 3}", "no setting 1"),
        ("baseline: {chosen_until: soon}", "chosen_until of baseline must be a date such as"),
        ("baseline: {chosen_until: 2009-02-03 12:00:00}", "must be a date"),
        ("baseline: {chosen_until: }", "must be a date"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read_hyperparameters(written(tmp_path, text))
    assert "HYPERPARAMETERS" in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"HYPERPARAMETERS: .*absent\.yaml cannot be read"):
        read_hyperparameters(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_hyperparameters(tmp_path / "binary.yaml")


def test_an_ensemble_was_chosen_on_whatever_its_members_were_chosen_on() -> None:
    early, late = pd.Timestamp("2009-02-03"), pd.Timestamp("2010-02-03")
    adopted = Adopted(chosen_until={"baseline": early, "enhanced": late, "advanced": late})
    variants = choose_variants(["baseline", "enhanced", "linear", "ensemble"])
    found = chosen_until(variants, adopted)
    assert found == {"baseline": early, "enhanced": late, "ensemble": late}
    assert chosen_until(variants, Adopted()) == {}
