"""The card of an external model: what its makers say of it."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from financial_assets.errors import ExternalModelError
from financial_assets.models.variants import VARIANTS

CARD_ENDING = ".yaml"
MODEL_ENDING = ".onnx"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
"""As a part of a served model's name, which is a label in Kubernetes."""


class ExternalCard(BaseModel):
    """What the makers of an external model say of it.

    Attributes
    ----------
    name
        As that of its file: its arms are called ``<name>-predictor-v<version>``.
    data_cutoff
        Last session that anything was learned from, pre-training included. Evidence counts only after it.
    licence
        Under which it may be used, as an SPDX identifier or in words.
    description, source
        For people: what it is, and where it comes from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    data_cutoff: dt.date
    licence: str = Field(min_length=1)
    description: str = ""
    source: str = ""

    @field_validator("data_cutoff", mode="before")
    @classmethod
    def _is_a_day(cls, value: object) -> object:
        # pydantic would take a number for seconds since 1970.
        if not isinstance(value, str | dt.date) or isinstance(value, dt.datetime):
            raise ValueError(f"{value!r} is not a date; write YYYY-MM-DD")
        return value


@dataclass(frozen=True)
class ExternalModel:
    """A graph in the folder, and where its card must be."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem

    @property
    def card_path(self) -> Path:
        """The card beside it."""
        return self.path.with_suffix(CARD_ENDING)


def find_external(folder: Path) -> tuple[ExternalModel, ...]:
    """The models of a folder, by name; neither they nor their cards are opened.

    Raises
    ------
    ExternalModelError
        There is no such folder, it holds no model, or a file cannot name one.
    """
    if not folder.is_dir():
        raise ExternalModelError(f"EXTERNAL_MODELS={folder} is not a folder")
    models = tuple(ExternalModel(path) for path in sorted(folder.glob(f"*{MODEL_ENDING}")) if path.is_file())
    if not models:
        raise ExternalModelError(f"EXTERNAL_MODELS={folder} holds no {MODEL_ENDING} file; unset it, or put one there")
    for model in models:
        if not _NAME.fullmatch(model.name):
            raise ExternalModelError(
                f"{model.path}: a model is named by its file, in at most 30 lower-case letters, digits and hyphens"
            )
        if model.name in VARIANTS:
            raise ExternalModelError(f"{model.path}: {model.name} is a variant of this project; rename the file")
    return models


def read_card(model: ExternalModel) -> ExternalCard:
    """The card beside a model.

    Raises
    ------
    ExternalModelError
        It is missing, or says too little: names the field.
    """
    path = model.card_path
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExternalModelError(
            f"{model.path} has no card; write {path.name} beside it with name, data_cutoff and licence"
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # YAML has days, and 30 February is a ValueError
        raise ExternalModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ExternalModelError(f"{path} must hold the fields name, data_cutoff and licence")
    try:
        card = ExternalCard.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        field, said = ".".join(map(str, problem["loc"])), str(problem["msg"]).removeprefix("Value error, ")
        raise ExternalModelError(f"{path}, {field}: {said}") from error
    if card.name != model.name:
        raise ExternalModelError(f"{path}: its name is {card.name!r}, that of its file {model.name!r}")
    return card
