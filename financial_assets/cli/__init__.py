"""The command line ``financial-assets``.

Modules here import click alone at the top, and what a command needs inside the command: help, and the refusal of a
wrong option, must not wait for pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from financial_assets.installation import Installation

__all__ = ["examples", "open_configured"]


def open_configured() -> Installation:
    """The installation that the settings describe."""
    from financial_assets.settings import load_settings

    settings = load_settings()  # before the import below, which takes seconds
    from financial_assets.installation import open_installation

    return open_installation(settings)


def examples(*commands: str) -> str:
    """Text below a command's help: lines to copy."""
    return "\n".join(["\b", "Examples:", *(f"  financial-assets {command}" for command in commands)])
