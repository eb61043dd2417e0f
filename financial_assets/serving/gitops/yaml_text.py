"""YAML that people read too: our files are written in one way only, theirs are changed in place.

A canonical text keeps commits small: two writers of the same object write the same bytes. A kustomization belongs to
people, so only its list is touched.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from financial_assets.errors import TargetError

# Plain only where every YAML reader sees text: others take 1e3 for a number and y for a truth value.
_PLAIN = re.compile(r"(?=.*[A-Za-z]{2})[A-Za-z][\w./:-]*[\w/]")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some YAML reader could take for another type."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if _PLAIN.fullmatch(value) else '"')


_Dumper.add_representer(str, _text)


def render(document: Mapping[str, Any]) -> str:
    """The canonical text of a document: keys sorted, no line folded."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=2**20)


def load(text: str) -> list[Any]:
    """The documents of a text.

    Raises
    ------
    TargetError
        It is not YAML.
    """
    try:
        return list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise TargetError(f"not YAML: {' '.join(str(error).split())}") from error


def listed_resources(file: str, text: str, namespace: str) -> tuple[str, ...]:
    """What a kustomization lists.

    Parameters
    ----------
    file, text
        Its name and content.
    namespace
        Where the objects must stay.

    Raises
    ------
    TargetError
        It cannot be used, or renames or moves the objects.
    """
    documents = load(text)
    settings: Any = documents[0] if len(documents) == 1 else None
    listed = (settings.get("resources") or []) if isinstance(settings, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise TargetError(f"GITOPS_PATH: {file} is not a kustomization whose resources are a list of names")
    # An Experiment names its Models in its spec, where kustomize renames nothing.
    for affix in ("namePrefix", "nameSuffix"):
        if settings.get(affix):
            raise TargetError(f"GITOPS_PATH: {file} sets {affix}, with which no Experiment finds its Models")
    if settings.get("namespace", namespace) != namespace:
        raise TargetError(
            f"GITOPS_PATH: {file} moves everything to namespace {settings['namespace']}; "
            f"KUBERNETES_NAMESPACE is {namespace}"
        )
    return tuple(listed)


def replace_resources(text: str, resources: Sequence[str]) -> str:
    """A kustomization's text with other ``resources``, all else byte for byte.

    Entries that stay keep their line and its comment; a new one is put before the first that sorts after it. The YAML
    library is asked for positions only: writing the document with it would lose comments and layout.

    Raises
    ------
    TargetError
        The list is laid out in a way that cannot be edited safely.
    """
    document = {**(yaml.safe_load(text) or {}), "resources": list(resources)}
    root = yaml.compose(text, yaml.SafeLoader)
    listed = _value(root, "resources") if isinstance(root, yaml.MappingNode) else None
    value = "".join(f"\n- {name}" for name in resources) or " []"
    if listed is None:
        edited = f"{text.rstrip()}\nresources:{value}\n".lstrip()
    elif isinstance(listed, yaml.SequenceNode) and not listed.flow_style and listed.value:
        edited = _edited_block(text, listed, resources)
    else:
        start, end = listed.start_mark.index, listed.end_mark.index
        edited = f"{text[:start].rstrip(' ')}{value}{text[end:]}"
    try:
        is_as_wanted = yaml.safe_load(edited) == document
    except yaml.YAMLError:
        is_as_wanted = False
    if not is_as_wanted:  # an anchor, a folded entry, two documents: text surgery is not safe there
        raise TargetError(
            "resources of the kustomization cannot be edited in place; write them as a plain block list, one per line"
        )
    return edited


def _edited_block(text: str, listed: yaml.SequenceNode, resources: Sequence[str]) -> str:
    """The text in which a non-empty block list holds other entries."""
    lines = text.splitlines(keepends=True)
    if not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    entries = {node.value: node for node in listed.value}
    after = listed.value[-1].end_mark.line + 1
    if not resources:  # a key without entries would be null
        return f"{text[: listed.start_mark.index].rstrip()} []\n{''.join(lines[after:])}"
    dropped = {
        number
        for name, node in entries.items()
        if name not in resources
        for number in range(node.start_mark.line, node.end_mark.line + 1)
    }
    # Line number -> new lines before it. Only entries that stay are a place to insert at.
    added = defaultdict[int, str](str)
    for name in resources:
        if name not in entries:
            later = (node.start_mark.line for other, node in entries.items() if other in resources and other > name)
            added[next(later, after)] += f"{' ' * listed.start_mark.column}- {name}\n"
    return "".join(added[number] + ("" if number in dropped else line) for number, line in enumerate([*lines, ""]))


def _value(node: Any, key: str) -> Any:
    """The node under ``key`` of a mapping node, ``None`` if there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)
