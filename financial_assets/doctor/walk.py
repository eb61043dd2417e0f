"""Findings, and the walk from layer to layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from financial_assets.disk import explain
from financial_assets.errors import FinancialAssetsError

State = Literal["ok", "warn", "broken", "not reached"]
T = TypeVar("T")

RUN = "`financial-assets run` (in the repository's root, or with DAGSTER_HOME set)"


def materialize(asset: str) -> str:
    """The command that materializes an asset again, run in the repository's root."""
    return f"`DAGSTER_HOME=$PWD dagster asset materialize -m financial_assets.definitions --select {asset}`"


@dataclass(frozen=True)
class Finding:
    """The result of examining one layer.

    Attributes
    ----------
    layer
        Its name.
    state
        ``warn`` deserves a look but blocks nothing; ``not reached``: a layer that it needs is broken.
    detail
        What was seen.
    remedy
        The command or setting that fixes it; empty when nothing needs to be done.
    """

    layer: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Checked(Generic[T]):
    """A layer that works: its value for later layers, what was seen, and a remedy if something deserves a look."""

    value: T
    detail: str
    remedy: str = ""


class LayerError(FinancialAssetsError):
    """A layer is broken; ``remedy`` fixes it."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


class Walk:
    """Examines one layer after the other and collects one finding for each.

    Attributes
    ----------
    findings
        In the order of the layers.
    values
        What the layers that work gave, by their names.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.values: dict[str, Any] = {}

    def step(self, layer: str, remedy: str, check: Callable[..., Checked[Any]], *needed: str) -> None:
        """Examine a layer.

        Parameters
        ----------
        layer
            Its name.
        remedy
            The fix for an error that names none of its own.
        check
            Called with the values of ``needed``; raises when the layer is broken.
        needed
            Layers without which this one cannot be examined.
        """
        missing = [need for need in needed if need not in self.values]
        if missing:
            self.findings.append(Finding(layer, "not reached", f"needs {missing[0]}"))
            return
        try:
            checked = check(*(self.values[need] for need in needed))
        except (FinancialAssetsError, OSError) as error:
            is_ours = isinstance(error, FinancialAssetsError)  # then its text already names cause and fix
            text = str(error) if is_ours else explain(error, Path()) or str(error)
            detail = " ".join(text.split()) or type(error).__name__
            fix = error.remedy if isinstance(error, LayerError) else remedy
            self.findings.append(Finding(layer, "broken", detail, fix))
            return
        self.findings.append(Finding(layer, "warn" if checked.remedy else "ok", checked.detail, checked.remedy))
        self.values[layer] = checked.value


def first_broken(findings: Sequence[Finding]) -> Finding | None:
    """The layer to fix first, ``None`` when all work."""
    return next((finding for finding in findings if finding.state == "broken"), None)
