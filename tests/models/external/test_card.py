"""The folder of external models and their cards."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from financial_assets.errors import ExternalModelError
from financial_assets.models.external.card import ExternalModel, find_external, read_card

CARD = "name: house\ndata_cutoff: 2020-06-30\nlicence: Apache-2.0\n"


def model(folder: Path, card: str | bytes | None = CARD, name: str = "house") -> ExternalModel:
    path = folder / f"{name}.onnx"
    path.write_bytes(b"")
    if card is not None:
        path.with_suffix(".yaml").write_bytes(card if isinstance(card, bytes) else card.encode())
    return ExternalModel(path)


def test_a_card_says_what_must_be_known(tmp_path: Path) -> None:
    card = read_card(model(tmp_path, CARD + "description: of our own\nsource: somewhere\n"))
    assert (card.name, card.data_cutoff, card.licence) == ("house", dt.date(2020, 6, 30), "Apache-2.0")
    assert (card.description, card.source) == ("of our own", "somewhere")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "has no card"),
        ("", "must hold the fields"),
        ("- house\n", "must hold the fields"),
        (": [", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("data_cutoff: 2020-06-30\nlicence: MIT\n", "name"),
        ("name: house\nlicence: MIT\n", "data_cutoff"),
        ("name: house\ndata_cutoff: 2020-06-30\n", "licence"),
        ("name: house\ndata_cutoff: 2020-06-30\nlicence: ''\n", "licence"),
        ("name: house\ndata_cutoff: 20200630\nlicence: MIT\n", "data_cutoff.*YYYY-MM-DD"),
        ("name: house\ndata_cutoff: soon\nlicence: MIT\n", "data_cutoff"),
        ("name: house\ndata_cutoff: 2020-02-30\nlicence: MIT\n", "data_cutoff|cannot be read"),
        ("name: other\ndata_cutoff: 2020-06-30\nlicence: MIT\n", "'other'"),
        (CARD + "colour: red\n", "colour"),
    ],
)
def test_cards_that_say_too_little(tmp_path: Path, card: str | bytes | None, said: str) -> None:
    with pytest.raises(ExternalModelError, match=said):
        read_card(model(tmp_path, card))


def test_models_of_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("house", "a-2"):
        model(tmp_path, name=name)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    assert [found.name for found in find_external(tmp_path)] == ["a-2", "house"]


@pytest.mark.parametrize("name", ["House", "a_b", "-a", "a.b", "x" * 31])
def test_names_that_no_model_can_have(tmp_path: Path, name: str) -> None:
    model(tmp_path, name=name)
    with pytest.raises(ExternalModelError, match="named by its file"):
        find_external(tmp_path)


def test_a_variant_keeps_its_name(tmp_path: Path) -> None:
    model(tmp_path, name="enhanced")
    with pytest.raises(ExternalModelError, match="rename"):
        find_external(tmp_path)


def test_a_folder_must_hold_models(tmp_path: Path) -> None:
    with pytest.raises(ExternalModelError, match="not a folder"):
        find_external(tmp_path / "nowhere")
    with pytest.raises(ExternalModelError, match=r"holds no \.onnx"):
        find_external(tmp_path)
