"""Commands in this process: importing everything takes most of the time of a process of their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dagster._cli import cli as dagster_cli
from dagster._core.definitions.reconstruct import ReconstructableJob

from financial_assets.cli.main import main

ROOT = Path(__file__).parents[1]


def financial_assets(*arguments: str, environment: Mapping[str, str]) -> Result:
    """``financial-assets`` with these arguments."""
    return _invoke(main, arguments, environment)


def execute_job(job: str, environment: Mapping[str, str]) -> Result:
    """``dagster job execute`` of the whole graph."""
    return _invoke(dagster_cli, ["job", "execute", "-m", "financial_assets.definitions", "-j", job], environment)


def _invoke(command: object, arguments: object, environment: Mapping[str, str]) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(ROOT)
        # Read from the environment when it is imported; whoever imported it before did so with another one.
        patch.delitem(sys.modules, "financial_assets.definitions", raising=False)
        # Dagster keeps the last job that it built, and the definitions behind it, with the settings of whoever asked.
        for kept in (ReconstructableJob.get_definition, ReconstructableJob.get_repository_definition):
            kept.cache_clear()
        return CliRunner().invoke(command, list(arguments))  # type: ignore[arg-type, call-overload]
