"""The rollout policy: a YAML file with a schema, read into a frozen value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from financial_assets.errors import SettingsError
from financial_assets.experiment.allocation.regimes import DIMENSIONS, Dimension
from financial_assets.experiment.plan.sections import GuardrailPolicy, TestPolicy, TrafficPolicy

__all__ = [
    "MOST_CHALLENGERS",
    "ArmPolicy",
    "GuardrailPolicy",
    "RolloutPolicy",
    "TestPolicy",
    "TrafficPolicy",
    "load_policy",
]

_Section = TypeVar("_Section", TestPolicy, GuardrailPolicy, TrafficPolicy)

MOST_CHALLENGERS = 5
"""Each more costs the test power: the error probabilities are shared among all."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONGEST = 63
_SECTOR = re.compile(r"[a-z0-9]{1,20}")
_OPTIONAL = {"shadow", "test", "guardrails", "traffic"}
_NAME_RULE = "lower-case letters, digits and inner hyphens"


@dataclass(frozen=True, slots=True)
class ArmPolicy:
    """The variant that starts in a role, and its weight."""

    variant: str
    weight: int


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """Who takes part in the experiment when it starts, and by which rules it is decided.

    Attributes
    ----------
    experiment
        Name of the experiment, also of its endpoint.
    champion, challengers
        Who gets requests; weights are percentages that add up to 100.
    shadow
        Variants that are scored in pairs only.
    test, guardrails, traffic
        What is fixed before any evidence is seen.
    """

    experiment: str
    champion: ArmPolicy
    challengers: tuple[ArmPolicy, ...]
    shadow: tuple[str, ...] = ()
    test: TestPolicy = field(default_factory=TestPolicy)
    guardrails: GuardrailPolicy = field(default_factory=GuardrailPolicy)
    traffic: TrafficPolicy = field(default_factory=TrafficPolicy)


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
        source = resources.files("financial_assets.experiment.plan").joinpath("policy.yaml") if path is None else path
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
        top = self.mapping("(top level)", document, {"experiment", "champion", "challengers"}, _OPTIONAL)
        champion = self.arm("champion", top["champion"])
        challengers = self.challengers(top["challengers"], champion)
        traffic = self.section("traffic", top.get("traffic"), TrafficPolicy)
        self.check_traffic(traffic, len(challengers))
        experiment = self.experiment(top["experiment"])
        self.check_regime_names(experiment, traffic)
        return RolloutPolicy(
            experiment=experiment,
            champion=champion,
            challengers=challengers,
            shadow=self.shadow(top.get("shadow"), {champion.variant, *(arm.variant for arm in challengers)}),
            test=self.section("test", top.get("test"), TestPolicy),
            guardrails=self.section("guardrails", top.get("guardrails"), GuardrailPolicy),
            traffic=traffic,
        )

    def experiment(self, value: Any) -> str:
        name = self.name("experiment", value)
        if not name.endswith("-experiment") or len(name) > _LONGEST:
            raise self.wrong("experiment", name, f"a name that ends in -experiment, of at most {_LONGEST} characters")
        return name

    def challengers(self, value: Any, champion: ArmPolicy) -> tuple[ArmPolicy, ...]:
        items = cast("list[Any]", value) if isinstance(value, list) else []
        if not 1 <= len(items) <= MOST_CHALLENGERS:
            raise self.wrong(
                "challengers", value, f"a list of 1 to {MOST_CHALLENGERS} arms, each a variant and a weight"
            )
        arms = tuple(self.arm(f"challengers[{place}]", item) for place, item in enumerate(items))
        for place, arm in enumerate(arms):
            if arm.variant in (champion.variant, *(other.variant for other in arms[:place])):
                raise self.wrong(f"challengers[{place}].variant", arm.variant, "a variant that is routed to only once")
        weights = [champion.weight, *(arm.weight for arm in arms)]
        if sum(weights) != 100:
            shown = " + ".join(map(str, weights))
            raise self.wrong("champion.weight + challengers", shown, "percentages that add up to 100")
        return arms

    def check_traffic(self, traffic: TrafficPolicy, challengers: int) -> None:
        """What is possible with one challenger only, or not with so many."""
        if challengers > 1 and traffic.mode == "ladder" and traffic.steps[0] < challengers:
            allowed = f"{challengers} or more: a gateway sends copies (a step of 0) to one model only"
            raise self.wrong("traffic.steps[0]", traffic.steps[0], allowed)
        if traffic.regimes and traffic.mode not in ("thompson", "hedge"):
            allowed = "[], as only thompson and hedge learn shares by regime"
            raise self.wrong("traffic.regimes", [*traffic.regimes], allowed)
        if "sector" in traffic.regimes and not traffic.sectors:
            raise self.wrong(
                "traffic.sectors", dict(traffic.sectors), "a sector for each ticker, as regimes has sector"
            )
        if traffic.mode in ("thompson", "hedge") and (challengers + 1) * traffic.floor > 100:
            raise self.wrong("traffic.floor", traffic.floor, f"at most {100 // (challengers + 1)} with so many arms")

    def check_regime_names(self, experiment: str, traffic: TrafficPolicy) -> None:
        """Each regime has an experiment of its own, whose name must fit."""
        longest = max((one.label for one in traffic.every_regime()), key=len, default="")
        if longest and len(experiment) + len(longest) + 1 > _LONGEST:
            allowed = (
                f"at most {_LONGEST - len(longest) - 1} characters, as the regime {longest} becomes part of a name"
            )
            raise self.wrong("experiment", experiment, allowed)

    def section(self, key: str, value: Any, kind: type[_Section]) -> _Section:
        """A section of named values; what is not given keeps its default."""
        known = {item.name: item for item in fields(kind)}
        given = {} if value is None else self.mapping(key, value, set(), set(known))
        return kind(**{name: self.value(f"{key}.{name}", found, known[name]) for name, found in given.items()})

    def value(self, key: str, found: Any, known: Field[Any]) -> Any:
        limits = known.metadata
        if "choices" in limits:
            if found not in limits["choices"]:
                raise self.wrong(key, found, " or ".join(limits["choices"]))
            return found
        if limits.get("kind") == "dimensions":
            return self.dimensions(key, found)
        if limits.get("kind") == "sectors":
            return self.sectors(key, found)
        if "low" not in limits:
            return self.steps(key, found)
        whole = known.type == "int"
        kinds = int if whole else (int, float)
        if isinstance(found, bool) or not isinstance(found, kinds) or not limits["low"] <= found <= limits["high"]:
            kind = "a whole number" if whole else "a number"
            raise self.wrong(key, found, f"{kind} from {limits['low']:g} to {limits['high']:g}")
        return found if whole else float(found)

    def steps(self, key: str, value: Any) -> tuple[int, ...]:
        found = cast("list[Any]", value) if isinstance(value, list) else []
        shares = tuple(item for item in found if type(item) is int and 0 <= item < 100)
        if not found or len(shares) != len(found) or list(shares) != sorted(set(shares)):
            raise self.wrong(key, value, "a rising list of whole percentages from 0 (a mirror) to 99")
        return shares

    def dimensions(self, key: str, value: Any) -> tuple[Dimension, ...]:
        found = cast("list[Any]", value) if isinstance(value, list) else [None]
        if any(item not in DIMENSIONS for item in found) or len(set(found)) != len(found):
            raise self.wrong(key, value, f"a list of some of {', '.join(DIMENSIONS)}, each once")
        return tuple(name for name in DIMENSIONS if name in found)

    def sectors(self, key: str, value: Any) -> dict[str, str]:
        found = cast("dict[Any, Any]", value) if isinstance(value, dict) else {None: None}
        for ticker, sector in found.items():
            if not isinstance(ticker, str) or not isinstance(sector, str) or not _SECTOR.fullmatch(sector):
                raise self.wrong(key, value, "ticker: sector pairs, sectors of lower-case letters and digits")
        return {str(ticker): str(sector) for ticker, sector in found.items()}

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
