"""The rollout policy: a YAML file with a schema, read into a frozen value."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import field, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, PydanticCustomError

from financial_assets.errors import SettingsError
from financial_assets.experiment.plan.sections import (
    FORBID,
    GuardrailPolicy,
    QuestionPolicy,
    TestPolicy,
    TrafficPolicy,
    between,
)

__all__ = [
    "MOST_CHALLENGERS",
    "ArmPolicy",
    "GuardrailPolicy",
    "QuestionPolicy",
    "RolloutPolicy",
    "TestPolicy",
    "TrafficPolicy",
    "load_policy",
]

MOST_CHALLENGERS = 5
"""Each more costs the test power: the error probabilities are shared among all."""

_LONGEST = 63  # characters of a Kubernetes label


def _is_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name):
        raise ValueError("lower-case letters, digits and inner hyphens")
    return name


def _is_experiment(name: str) -> str:
    if not name.endswith("-experiment") or len(name) > _LONGEST:
        raise ValueError(f"a name that ends in -experiment, of at most {_LONGEST} characters")
    return name


def _named(question: object) -> object:
    """A question may be given by its name alone."""
    return {"question": question} if isinstance(question, str) else question


_Name = Annotated[str, AfterValidator(_is_name)]


@dataclass(frozen=True, slots=True, config=FORBID)
class ArmPolicy:
    """The variant that starts in a role, and its weight."""

    variant: _Name
    weight: Annotated[int, between(1, 99, whole=True)]


@dataclass(frozen=True, slots=True, config=FORBID)
class RolloutPolicy:
    """Who takes part in the experiment when it starts, and by which rules it is decided.

    Attributes
    ----------
    experiment
        Name of the experiment, also of its endpoint.
    champion, challengers
        Who gets requests; weights are percentages that add up to 100.
    shadow
        Variants that must take part and are scored in pairs only, as is every other one that is deployed.
    test, guardrails, traffic
        What is fixed before any evidence is seen.
    questions
        What is asked of each challenger beside the question of ``test``: tested by the same rules and reported. Answers
        to these move no traffic.
    """

    experiment: Annotated[_Name, AfterValidator(_is_experiment)]
    champion: ArmPolicy
    challengers: Annotated[tuple[ArmPolicy, ...], Field(min_length=1, max_length=MOST_CHALLENGERS)]
    shadow: tuple[_Name, ...] = ()
    test: TestPolicy = field(default_factory=TestPolicy)
    guardrails: GuardrailPolicy = field(default_factory=GuardrailPolicy)
    traffic: TrafficPolicy = field(default_factory=TrafficPolicy)
    questions: tuple[Annotated[QuestionPolicy, BeforeValidator(_named)], ...] = ()

    @property
    def asked(self) -> tuple[QuestionPolicy, ...]:
        """All questions; the first one moves traffic."""
        return (self.test.asked(), *self.questions)

    @model_validator(mode="after")
    def _check_together(self) -> RolloutPolicy:
        """What no single key can tell: the first rule that is broken, with the key to change."""
        for key, value, allowed in self._broken_rules():
            raise PydanticCustomError("rule", "{allowed}", {"key": key, "value": value, "allowed": allowed})
        return self

    def _broken_rules(self) -> Iterator[tuple[str, Any, str]]:
        routed = [self.champion.variant, *(arm.variant for arm in self.challengers)]
        named = Counter(routed + list(self.shadow))
        for place, arm in enumerate(self.challengers):
            if arm.variant in routed[: place + 1]:
                yield f"challengers[{place}].variant", arm.variant, "a variant that is routed to only once"
        for place, variant in enumerate(self.shadow):
            if named[variant] > 1:
                yield f"shadow[{place}]", variant, "a variant that is named only once in the policy"
        weights = [self.champion.weight, *(arm.weight for arm in self.challengers)]
        if sum(weights) != 100:
            yield "champion.weight + challengers", " + ".join(map(str, weights)), "percentages that add up to 100"
        yield from self.test.asked().broken_rules("test")
        for place, question in enumerate(self.questions):
            yield from question.broken_rules(f"questions[{place}]")
            if question.question in {earlier.question for earlier in self.asked[: place + 1]}:
                allowed = "a question that is asked only once, by test.question or here"
                yield f"questions[{place}].question", question.question, f"{allowed}: remove this entry"
        traffic, arms = self.traffic, len(routed)
        if arms > 2 and traffic.mode == "ladder" and traffic.steps[0] < arms - 1:
            allowed = f"{arms - 1} or more: a gateway sends copies (a step of 0) to one model only"
            yield "traffic.steps[0]", traffic.steps[0], allowed
        is_adaptive = traffic.mode in ("thompson", "hedge")
        if traffic.regimes and not is_adaptive:
            yield "traffic.regimes", [*traffic.regimes], "[], as only thompson and hedge learn shares by regime"
        if "sector" in traffic.regimes and not traffic.sectors:
            yield "traffic.sectors", dict(traffic.sectors), "a sector for each ticker, as regimes has sector"
        if is_adaptive and arms * traffic.floor > 100:
            yield "traffic.floor", traffic.floor, f"at most {100 // arms} with so many arms"
        # Each regime has an experiment of its own in the gateway, whose name must fit, too.
        longest = max((regime.label for regime in traffic.every_regime()), key=len, default="")
        if longest and len(self.experiment) + len(longest) + 1 > _LONGEST:
            most = _LONGEST - len(longest) - 1
            yield "experiment", self.experiment, f"at most {most} characters, as the regime {longest} is added to it"


_POLICY = TypeAdapter(RolloutPolicy)


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
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"ROLLOUT_POLICY: {shown} cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"ROLLOUT_POLICY: {shown} is not YAML: {' '.join(str(error).split())}") from error
    if isinstance(document, dict):  # a section without entries keeps its defaults
        document = {key: value for key, value in document.items() if value is not None or key not in _OPTIONAL}
    try:
        return _POLICY.validate_python(document)
    except ValidationError as error:
        lines = [f"ROLLOUT_POLICY: {shown}: {_explain(problem)}" for problem in error.errors()]
        raise SettingsError("\n".join(lines)) from None


_OPTIONAL = {item.name for item in fields(RolloutPolicy)} - {"experiment", "champion", "challengers"}
_SECTIONS: dict[str, type] = {
    "": RolloutPolicy,
    "champion": ArmPolicy,
    "challengers": ArmPolicy,
    "test": TestPolicy,
    "guardrails": GuardrailPolicy,
    "traffic": TrafficPolicy,
    "questions": QuestionPolicy,
}


def _explain(problem: ErrorDetails) -> str:
    """One violation: the key, its value, what is allowed."""
    *sections, name = problem["loc"] or ("(top level)",)
    context, value = problem.get("ctx", {}), repr(problem["input"])
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*sections, name)).lstrip(".")
    allowed = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    match problem["type"]:
        case "missing":
            value, allowed = "'nothing'", "this key is required"
        case "unexpected_keyword_argument":
            allowed = f"keys {_keys(sections[0] if sections else '')}"
        case "dataclass_type":
            allowed = f"a mapping with the keys {_keys('' if key == '(top level)' else str(problem['loc'][0]))}"
        case "tuple_type" | "too_short" | "too_long" if name == "challengers":
            allowed = f"a list of 1 to {MOST_CHALLENGERS} arms, each a variant and a weight"
        case "tuple_type" if name == "questions":
            allowed = "a list of questions, such as [risk]"
        case "tuple_type":
            allowed = "a list"
        case "rule":
            key, value = context["key"], repr(context["value"])
        case _:
            pass
    return f"key {key} is {value}; allowed: {allowed}"


def _keys(section: str | int) -> str:
    return ", ".join(sorted(item.name for item in fields(_SECTIONS[str(section)])))
