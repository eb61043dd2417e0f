"""YAML that people read too: written one way only, and changed in place so that their comments survive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from financial_assets.errors import TargetError

__all__ = ["render", "replace_resources"]

# Plain only where every YAML reader sees text: others take 1e3 for a number and y for a truth value.
_PLAIN = re.compile(r"(?=.*[A-Za-z]{2})[A-Za-z][\w./:-]*[\w/]")


class _Dumper(yaml.SafeDumper):
    """Quotes whatever some reader could take for something else than text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if _PLAIN.fullmatch(value) else '"')


_Dumper.add_representer(str, _text)


def render(document: Mapping[str, Any]) -> str:
    """The one text of a document: keys sorted, no line folded."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=2**20)


def replace_resources(text: str, resources: Sequence[str]) -> str:
    """A kustomization's text with other ``resources``, all else byte for byte.

    Entries that stay keep their line; new ones are put before the first that sorts after them.

    Raises
    ------
    TargetError
        The list is laid out in a way that cannot be edited safely.
    """
    document = {**(yaml.safe_load(text) or {}), "resources": list(resources)}
    root = yaml.compose(text, yaml.SafeLoader)
    found = _value(root, "resources") if isinstance(root, yaml.MappingNode) else None
    if found is None:
        text = f"{text.rstrip()}\n{_block(resources)}".lstrip()
    elif isinstance(found, yaml.SequenceNode) and not found.flow_style and found.value:
        text = _edited_block(text, found, resources)
    else:
        start, end = found.start_mark.index, found.end_mark.index
        listed = "".join(f"\n- {name}" for name in resources) or " []"
        text = f"{text[:start].rstrip(' ')}{listed}{text[end:]}"
    return _checked(text, document, "resources of the kustomization")


def _edited_block(text: str, found: yaml.SequenceNode, resources: Sequence[str]) -> str:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    first, dash = found.start_mark.line, " " * found.start_mark.column
    if not resources:
        head, *tail = lines[:first], lines[found.value[-1].end_mark.line + 1 :]
        key = text[: found.start_mark.index].rstrip()
        return f"{key} []\n{''.join(line for part in tail for line in part)}" if head else text
    own = {node.value: node for node in found.value}
    gone = {number for name, node in own.items() if name not in resources for number in _lines_of(node)}
    out: list[str] = []
    after = found.value[-1].end_mark.line
    before = {node.start_mark.line: name for name, node in own.items() if name in resources}
    new = [name for name in resources if name not in own]
    for number, line in enumerate(lines):
        if number in before:
            ready = [name for name in new if name < before[number]]
            out += [f"{dash}- {name}\n" for name in ready]
            new = [name for name in new if name not in ready]
        if number not in gone:
            out.append(line)
        if number == after:
            out += [f"{dash}- {name}\n" for name in new]
    return "".join(out)


def _lines_of(node: yaml.Node) -> range:
    return range(node.start_mark.line, node.end_mark.line + 1)


def _block(resources: Sequence[str]) -> str:
    return "resources:" + ("".join(f"\n- {name}" for name in resources) or " []") + "\n"


def _value(node: Any, key: str) -> Any:
    """The node under ``key`` of a mapping node, ``None`` if there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _checked(text: str, wanted: Any, what: str) -> str:
    """``text``, if it says what is wanted."""
    try:
        same = yaml.safe_load(text) == wanted
    except yaml.YAMLError:
        same = False
    if not same:
        raise TargetError(f"{what} cannot be edited where they stand; write them as a plain block list, one a line")
    return text
