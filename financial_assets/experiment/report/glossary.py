"""The words of the page: who the forecasters are, and the terms that a reader may not know."""

from __future__ import annotations

from importlib import resources

import yaml

from financial_assets.experiment.evaluation.evaluation import Evaluation

_WORDS: dict[str, dict[str, str]] = yaml.safe_load(
    resources.files("financial_assets.experiment.report").joinpath("words.yaml").read_text(encoding="utf-8")
)
GLOSSARY = tuple(_WORDS["terms"].items())
"""Terms in alphabetical order."""


def forecasters(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Name and one line for each forecaster of the page: arms first, then what they are compared with."""
    arms = [
        (
            arm["model"],
            f"{arm['role'].capitalize()}. {_WORDS['roles'][arm['role']]} Variant {arm['variant']}, trained on "
            f"sessions up to {arm['data_cutoff']}.",
        )
        for arm in evaluation.arms
    ]
    references = [item for item in _WORDS["references"].items() if evaluation.skill(item[0]) is not None]
    return [*arms, *references, *_WORDS["always"].items()]
