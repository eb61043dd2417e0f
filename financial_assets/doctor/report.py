"""Findings for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from financial_assets.doctor.walk import Finding, first_broken

__all__ = ["as_json", "as_table"]

_STYLES = {"ok": "green", "warn": "yellow", "broken": "bold red", "not reached": "dim"}


def as_table(findings: Sequence[Finding]) -> RenderableType:
    """One row a layer; below it in full what is to be done, the first broken layer before all."""
    table = Table("layer", "state", "said", title="doctor", title_justify="left")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for column, name in enumerate(("layer", "state")):
        table.columns[column].width = max(len(name), *(len(getattr(finding, name)) for finding in findings))
    for finding in findings:
        table.add_row(finding.layer, Text(finding.state, _STYLES[finding.state]), Text(finding.said))
    first = first_broken(findings)
    open_ones = [finding for finding in findings if finding.remedy and finding is not first]
    lines = [Text(f"{one.layer} ({one.state}): {one.said}\n  remedy: {one.remedy}") for one in open_ones]
    if first is None:
        lines.insert(0, Text("every layer works", "green"))
    else:
        lines.insert(0, Text(f"first broken: {first.layer}: {first.said}\n  remedy: {first.remedy}", "bold red"))
    return Group(table, *lines)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same as plain values: ``healthy``, ``first_broken`` (a layer or ``None``), ``layers``."""
    first = first_broken(findings)
    return {
        "healthy": first is None,
        "first_broken": first.layer if first else None,
        "layers": [asdict(finding) for finding in findings],
    }
