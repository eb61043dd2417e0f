"""The command ``doctor``."""

from __future__ import annotations

import json
import sys
import warnings

import click

from financial_assets.cli import examples


@click.command(epilog=examples("doctor", "doctor --json"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: healthy, first_broken, and each layer's finding.")
def doctor(as_json: bool) -> None:
    """Check every layer and name the first broken one, with the fix.

    Runs of Dagster and MLflow whose process no longer exists are ended as failed; nothing else is changed. The exit
    code is 1 when a layer is broken.
    """
    from financial_assets.doctor import examine, first_broken, report

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of libraries are not what is asked for
        findings = examine()
    if as_json:
        click.echo(json.dumps(report.as_json(findings), indent=2))
    else:
        from rich.console import Console

        Console().print(report.as_table(findings))
    sys.exit(1 if first_broken(findings) else 0)
