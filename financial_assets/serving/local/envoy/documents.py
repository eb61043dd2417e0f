"""Parts that many of Envoy's documents have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Document", "at_status", "discovery_response", "extension", "message"]

Document = dict[str, Any]


def message(kind: str, **values: object) -> Document:
    """A message that names its own protobuf type, as Envoy wants it wherever several types are possible."""
    return {"@type": f"type.googleapis.com/envoy.{kind}", **values}


def extension(name: str, kind: str, **values: object) -> Document:
    """An extension of Envoy with its configuration."""
    return {"name": name, "typed_config": message(f"extensions.{kind}", **values)}


def at_status(operator: str, status: int, key: str) -> Document:
    """A filter for answers whose status is equal to ``status`` (``EQ``) or at least that (``GE``).

    Envoy lets the number be overridden at run time under a ``key``, and does not accept one without.
    """
    value = {"default_value": status, "runtime_key": f"financial_assets.{key}"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def discovery_response(version: str, kind: str, resources: Sequence[Document]) -> Document:
    """What Envoy reads from a file: typed resources under a version."""
    return {"version_info": version, "resources": [message(kind, **resource) for resource in resources]}
