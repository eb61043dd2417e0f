"""Envoy's documents: those of ``envoy.yaml``, and parts that many of them have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any

import yaml

from financial_assets.serving.local import limits
from financial_assets.serving.local.layout import LOOPBACK

Document = dict[str, Any]


def document(name: str, /, **values: object) -> Document:
    """A document of ``envoy.yaml`` with values for its ``$names``: those of ``limits.py``, and ``values``."""
    return _filled(_documents()[name], {**vars(limits), "loopback": LOOPBACK, **values})


def source(name: str) -> str:
    """The text of a file beside this module."""
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


@cache
def _documents() -> dict[str, Document]:
    return yaml.safe_load(source("envoy.yaml"))


def _filled(node: Any, values: Mapping[str, object]) -> Any:
    """A new document: a text that is nothing but a name becomes the value itself, of whatever type."""
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, values) for value in node]
    if not isinstance(node, str):
        return node
    return values[node[1:]] if node[:1] == "$" and node[1:] in values else Template(node).substitute(values)


def discovery_response(version: str, kind: str, resources: Sequence[Document]) -> Document:
    """What Envoy reads from a file: typed resources under a version."""
    typed = [{"@type": f"type.googleapis.com/envoy.{kind}", **resource} for resource in resources]
    return {"version_info": version, "resources": typed}
