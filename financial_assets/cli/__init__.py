"""The command line ``financial-assets``.

Modules here import click alone at the top, and what a command needs inside the command: help, and the refusal of a
wrong option, must not wait for pandas.
"""

__all__ = ["examples"]


def examples(*commands: str) -> str:
    """Text below a command's help: lines to copy."""
    return "\n".join(["\b", "Examples:", *(f"  financial-assets {command}" for command in commands)])
