"""The rollout policy: a YAML file with a schema, read into a frozen value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml

from financial_assets.errors import SettingsError

__all__ = ["ArmPolicy", "RolloutPolicy", "load_policy"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME_RULE = "lower-case letters, digits and inner hyphens"


@dataclass(frozen=True, slots=True)
class ArmPolicy:
    """The variant that starts in a role, and its weight."""

    variant: str
    weight: int


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """Who takes part in the experiment when it starts.

    Attributes
    ----------
    experiment
        Name of the experiment, also of its endpoint.
    champion, challenger
        The two routed roles; weights are percentages that add up to 100.
    shadow
        Variants that are scored in pairs only.
    """

    experiment: str
    champion: ArmPolicy
    challenger: ArmPolicy
    shadow: tuple[str, ...] = ()


def load_policy(path: Path | None = None) -> RolloutPolicy:
    """Read a rollout policy.

    Parameters
    ----------
    path
        YAML file; ``None`` for the one that comes with the package.

    Raises
    ------
    SettingsError
        If the file is missing or breaks the schema; the message names file, key, value and what is allowed.
    """
    shown = "policy.yaml of the package" if path is None else str(path)
    try:
        source = resources.files("financial_assets.experiment").joinpath("policy.yaml") if path is None else path
        document = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"rollout policy {shown} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"rollout policy {shown} is not YAML: {' '.join(str(error).split())}") from error
    return _Reader(shown).policy(document)


@dataclass(frozen=True)
class _Reader:
    file: str

    def policy(self, document: Any) -> RolloutPolicy:
        top = self.mapping("(top level)", document, {"experiment", "champion", "challenger"}, {"shadow"})
        champion, challenger = (self.arm(role, top[role]) for role in ("champion", "challenger"))
        if champion.weight + challenger.weight != 100:
            shown = f"{champion.weight} + {challenger.weight}"
            raise self.wrong("champion.weight + challenger.weight", shown, "percentages that add up to 100")
        if champion.variant == challenger.variant:
            raise self.wrong("challenger.variant", challenger.variant, "a variant other than the champion's")
        return RolloutPolicy(
            experiment=self.name("experiment", top["experiment"]),
            champion=champion,
            challenger=challenger,
            shadow=self.shadow(top.get("shadow"), {champion.variant, challenger.variant}),
        )

    def arm(self, key: str, value: Any) -> ArmPolicy:
        fields = self.mapping(key, value, {"variant", "weight"}, set())
        weight = fields["weight"]
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 99:
            raise self.wrong(f"{key}.weight", weight, "a whole number from 1 to 99")
        return ArmPolicy(self.name(f"{key}.variant", fields["variant"]), weight)

    def shadow(self, value: Any, routed: set[str]) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong("shadow", value, "a list of variants")
        names = tuple(self.name(f"shadow[{i}]", item) for i, item in enumerate(cast("list[Any]", value)))
        for i, name in enumerate(names):
            if name in routed or name in names[:i]:
                raise self.wrong(f"shadow[{i}]", name, "a variant that is named only once in the policy")
        return names

    def name(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self.wrong(key, value, _NAME_RULE)
        return value

    def mapping(self, key: str, value: Any, required: set[str], optional: set[str]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(key, value, f"a mapping with the keys {', '.join(sorted(required | optional))}")
        found = cast("dict[str, Any]", value)
        prefix = "" if key == "(top level)" else f"{key}."
        for missing in sorted(required - set(found)):
            raise self.wrong(f"{prefix}{missing}", "nothing", "this key is required")
        for unknown in sorted(set(map(str, found)) - required - optional):
            raise self.wrong(f"{prefix}{unknown}", found.get(unknown), f"keys {', '.join(sorted(required | optional))}")
        return found

    def wrong(self, key: str, value: Any, allowed: str) -> SettingsError:
        return SettingsError(f"rollout policy {self.file}: key {key} is {value!r}; allowed: {allowed}")
