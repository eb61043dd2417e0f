"""Findings for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from financial_assets.doctor.walk import Finding, first_broken

_STYLES = {"ok": "green", "warn": "yellow", "broken": "bold red", "not reached": "dim"}
_SHORT = 100
"""Characters of a finding in the table when its whole text stands below."""


def as_table(findings: Sequence[Finding]) -> RenderableType:
    """One short row per layer; below it, in full, every finding that needs action, the first broken layer first."""
    table = Table("layer", "state", "finding", title="doctor", title_justify="left")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    table.columns[2].overflow = "fold"  # an address is of no use with its end cut off
    for finding in findings:
        detail = textwrap.shorten(finding.detail, _SHORT, placeholder=" ...") if finding.remedy else finding.detail
        table.add_row(finding.layer, Text(finding.state, _STYLES[finding.state]), Text(detail))
    first = first_broken(findings)
    others = [finding for finding in findings if finding.remedy and finding is not first]
    lines = [Text(f"{other.layer} ({other.state}): {other.detail}\n  fix: {other.remedy}") for other in others]
    if first is None:
        lines.insert(0, Text("every layer works", "green"))
    else:
        lines.insert(0, Text(f"first broken: {first.layer}: {first.detail}\n  fix: {first.remedy}", "bold red"))
    return Group(table, *lines)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same as plain values: ``healthy``, ``first_broken`` (a layer or ``None``), ``layers``."""
    first = first_broken(findings)
    return {
        "healthy": first is None,
        "first_broken": first.layer if first else None,
        "layers": [
            # ``said`` is the key that earlier releases printed and that scripts read.
            {"layer": finding.layer, "state": finding.state, "said": finding.detail, "remedy": finding.remedy}
            for finding in findings
        ],
    }
