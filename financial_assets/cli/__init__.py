"""The command line ``financial-assets``.

Modules here import click alone at the top, and what a command needs inside the command: help, and the refusal of a
wrong option, must not wait for pandas.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from financial_assets.installation import Installation
    from financial_assets.tracking import MlflowRun, MlflowTracker

__all__ = ["command_run", "examples", "open_configured"]


def open_configured() -> Installation:
    """The installation that the settings describe."""
    from financial_assets.settings import load_settings

    settings = load_settings()  # before the import below, which takes seconds
    from financial_assets.installation import open_installation

    return open_installation(settings)


def command_run(tracker: MlflowTracker, command: str, below: str) -> AbstractContextManager[MlflowRun]:
    """The MLflow run of a command that works outside of Dagster; what it does is nested ``below``, in a sentence."""
    from datetime import UTC, datetime

    from financial_assets.tracking import KIND_TAG, NOTE_TAG

    tags = {KIND_TAG: "command", NOTE_TAG: f"`financial-assets {command}`. {below}"}
    return tracker.run(f"{command} {datetime.now(UTC):%Y-%m-%d %H:%M}", tags=tags)


def examples(*commands: str) -> str:
    """Text below a command's help: lines to copy."""
    return "\n".join(["\b", "Examples:", *(f"  financial-assets {command}" for command in commands)])
