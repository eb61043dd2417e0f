"""Adopting what a search has found: a YAML file of settings by variant, which ``HYPERPARAMETERS`` names.

A search writes such a file as a candidate and changes nothing else. Whoever wants its settings names the file; every
training from then on has them, under a fingerprint of its own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import SettingsError, TrainingError
from financial_assets.models.search.space import with_values
from financial_assets.models.variants import VARIANTS, Variant

if TYPE_CHECKING:
    from financial_assets.models.search.result import SearchResult

SETTING = "HYPERPARAMETERS"

CHOSEN_UNTIL = "chosen_until"
"""Key beside the settings of a variant: last session whose prices they were chosen on."""


@dataclass(frozen=True)
class Adopted:
    """What a file of settings says.

    Attributes
    ----------
    settings
        Variant -> setting -> value.
    chosen_until
        Variant -> last session whose prices its settings were chosen on, where a search chose them.
    """

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    chosen_until: Mapping[str, pd.Timestamp] = field(default_factory=dict)


def write_candidate(path: Path, result: SearchResult) -> bool:
    """Write the best trial of a search as a file that can be adopted; whether it is better than the present settings.

    Where none is, nothing is written. A file that is there stays as it is: the present settings may come from it.
    """
    best = result.best
    if best is None or not result.beats_present:
        return False
    head = (
        f"# {result.sentence}.\n"
        f"# Nothing uses this file until the setting {SETTING} names it. Then all trainings of {result.variant} have\n"
        "# these values; a new model enters the experiment as a challenger, which judges it on sessions of its own.\n"
        f"# {CHOSEN_UNTIL} is the last session that the search read: a walk-forward tests the values on later ones.\n"
    )
    chosen = {} if result.read_until is None else {CHOSEN_UNTIL: result.read_until.date()}
    body = yaml.safe_dump({result.variant: {**best.values, **chosen}}, sort_keys=False)
    atomic_write_text(path, head + body)
    return True


def read_hyperparameters(path: Path) -> Adopted:
    """The adopted settings, and what they were chosen on.

    Raises
    ------
    SettingsError
        The file is missing, is not YAML of this form, or names a variant, a setting, a value or a date that cannot be.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"{SETTING}: {path} cannot be read: {reason}; restore it, name another file, or set {SETTING} to nothing "
            f"({SETTING}=) to train with the variants' own settings"
        ) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{SETTING}: {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not all(isinstance(values, dict) for values in document.values()):
        raise SettingsError(f"{SETTING}: {path} must map variants to their settings, e.g. baseline: {{hidden: 32}}")
    chosen: dict[str, pd.Timestamp] = {}
    for name, values in document.items():
        if name not in VARIANTS:
            raise SettingsError(f"{SETTING}: {path}: there is no variant {name!r}; there are {', '.join(VARIANTS)}")
        if CHOSEN_UNTIL in values:
            chosen[name] = _session(values.pop(CHOSEN_UNTIL), name, path)
        _adopted(VARIANTS[name], values, path)
    return Adopted(document, chosen)


def adopt(variant: Variant, adopted: Mapping[str, Mapping[str, Any]]) -> Variant:
    """The variant with the settings that were adopted for it, if any."""
    return with_values(variant, adopted.get(variant.name, {}))


def chosen_until(variants: Iterable[Variant], adopted: Adopted) -> dict[str, pd.Timestamp]:
    """Variant -> last session whose prices its settings, or those of a member, were chosen on by a search."""
    searched = adopted.chosen_until
    involved = {variant.name: (variant.name, *(member.name for member in variant.members)) for variant in variants}
    known = {name: [searched[one] for one in names if one in searched] for name, names in involved.items()}
    return {name: max(sessions) for name, sessions in known.items() if sessions}


def _adopted(variant: Variant, values: Mapping[str, Any], path: Path) -> Variant:
    try:
        return with_values(variant, values)
    except TrainingError as error:
        raise SettingsError(f"{SETTING}: {path}: {error}") from error


def _session(value: Any, name: str, path: Path) -> pd.Timestamp:
    if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
        raise SettingsError(
            f"{SETTING}: {path}: {CHOSEN_UNTIL} of {name} must be a date such as 2009-02-03, not {value}"
        )
    return pd.Timestamp(value)


class _Strict(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)
