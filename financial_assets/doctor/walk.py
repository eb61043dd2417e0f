"""Findings, and the walk from layer to layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from financial_assets.disk import explain
from financial_assets.errors import FinancialAssetsError

__all__ = ["RUN", "Checked", "Finding", "LayerError", "Reached", "State", "Walk", "first_broken", "materialize"]

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


@dataclass(frozen=True)
class Reached(Generic[T]):
    """A layer that was walked; ``checked`` is ``None`` where it is broken or was not reached."""

    layer: str
    checked: Checked[T] | None


class Walk:
    """Examines one layer after the other and collects one finding for each."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def step(self, layer: str, remedy: str, check: Callable[..., Checked[T]], *needed: Reached[Any]) -> Reached[T]:
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
        values: list[Any] = []
        for need in needed:
            if need.checked is None:
                self.findings.append(Finding(layer, "not reached", f"needs {need.layer}"))
                return Reached(layer, None)
            values.append(need.checked.value)
        try:
            checked = check(*values)
        except (FinancialAssetsError, OSError) as error:
            is_ours = isinstance(error, FinancialAssetsError)  # then its text already names cause and fix
            text = str(error) if is_ours else explain(error, Path()) or str(error)
            detail = " ".join(text.split()) or type(error).__name__
            self.findings.append(
                Finding(layer, "broken", detail, error.remedy if isinstance(error, LayerError) else remedy)
            )
            return Reached(layer, None)
        self.findings.append(Finding(layer, "warn" if checked.remedy else "ok", checked.detail, checked.remedy))
        return Reached(layer, checked)


def first_broken(findings: Sequence[Finding]) -> Finding | None:
    """The layer to fix first, ``None`` when all work."""
    return next((finding for finding in findings if finding.state == "broken"), None)
