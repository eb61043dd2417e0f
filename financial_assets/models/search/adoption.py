"""Adopting what a search has found: a YAML file of settings by variant, which ``HYPERPARAMETERS`` names.

A search writes such a file as a candidate and changes nothing else. Whoever wants its settings names the file; every
training from then on has them, under a fingerprint of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import SettingsError, TrainingError
from financial_assets.models.search.space import with_values
from financial_assets.models.variants import VARIANTS, Variant

if TYPE_CHECKING:
    from financial_assets.models.search.result import SearchResult

SETTING = "HYPERPARAMETERS"


def write_candidate(path: Path, result: SearchResult) -> bool:
    """Write the best trial of a search as a file that can be adopted; whether there was one."""
    best = result.best
    if best is None:
        return False
    head = (
        f"# {result.sentence}.\n"
        f"# Nothing uses this file until the setting {SETTING} names it. Then all trainings of {result.variant} have\n"
        "# these values; a new model enters the experiment as a challenger, which judges it on sessions of its own.\n"
    )
    body = yaml.safe_dump({result.variant: dict(best.values)}, sort_keys=False)
    atomic_write_text(path, head + body)
    return True


def read_hyperparameters(path: Path) -> dict[str, dict[str, Any]]:
    """Adopted settings: variant -> setting -> value.

    Raises
    ------
    SettingsError
        The file is missing, is not YAML of this form, or names a variant, a setting or a value that cannot be.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{SETTING}: {path} cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{SETTING}: {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not all(isinstance(values, dict) for values in document.values()):
        raise SettingsError(f"{SETTING}: {path} must map variants to their settings, e.g. baseline: {{hidden: 32}}")
    for name, values in document.items():
        if name not in VARIANTS:
            raise SettingsError(f"{SETTING}: {path}: there is no variant {name!r}; there are {', '.join(VARIANTS)}")
        _adopted(VARIANTS[name], values, path)
    return document


def adopt(variant: Variant, adopted: Mapping[str, Mapping[str, Any]]) -> Variant:
    """The variant with the settings that were adopted for it, if any."""
    return with_values(variant, adopted.get(variant.name, {}))


def _adopted(variant: Variant, values: Mapping[str, Any], path: Path) -> Variant:
    try:
        return with_values(variant, values)
    except TrainingError as error:
        raise SettingsError(f"{SETTING}: {path}: {error}") from error


class _Strict(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)
