"""The command ``search``: hyper-parameters of one variant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from financial_assets.cli import command_run, examples, open_configured

if TYPE_CHECKING:
    from financial_assets.models.search.result import TrialRecord

_FIXED = 5
"""Columns of the table of trials before those of the settings."""


@click.command(epilog=examples("search --variant baseline", "search --variant enhanced --minutes 10 --trials 40"))
@click.option("--variant", required=True, help="Model variant whose settings are searched.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Begin no trial after so many minutes; default: SEARCH_BUDGET.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=None,
    help="Finished trials to reach, those of earlier searches included; default: SEARCH_TRIALS.",
)
def search(variant: str, minutes: float | None, trials: int | None) -> None:
    """Search better settings for a model variant.

    Trains on the fit block and compares on the stop block. The calibrate and evaluation blocks are not read: they judge
    the result. Ctrl-C is safe: finished trials are kept, and the same command continues. The best settings are written
    to a file if they are better than the present ones; they are used only if the setting HYPERPARAMETERS names it.
    Each trial is a run in MLflow.
    """
    installation = open_configured()
    from rich.console import Console

    from financial_assets.cli.tables import make_table
    from financial_assets.workflows.search import search_variant

    console = Console(stderr=True)
    lowest = float("inf")

    def tell(trial: TrialRecord) -> None:
        nonlocal lowest
        mark = " (lowest of this run)" if trial.outcome == "complete" and trial.loss < lowest else ""
        lowest = min(lowest, trial.loss) if mark else lowest
        console.print(f"trial {trial.number:<4} {trial.outcome:9} loss {trial.loss:.5f}{mark}", highlight=False)

    market, models = installation.market, installation.models
    run = command_run(models.tracker(), f"search {variant}", "Its trials are nested below.")
    try:
        result, candidate = search_variant(
            variant, market, models, minutes=minutes, trials=trials, on_trial=tell, parent=run
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("finished trials are kept; the same command continues after them") from None
    rows = result.table()
    cells = [
        [*map(_short, row[:_FIXED]), _settings(dict(zip(rows.columns[_FIXED:], row[_FIXED:], strict=True)))]
        for row in rows.itertuples(index=False, name=None)
    ]
    Console().print(make_table("Best trials", [*rows.columns[:_FIXED], "settings"], cells))
    click.echo(result.sentence)
    if result.importances:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importances.items())
        click.echo(f"importance: {shares}")
    if candidate is not None:
        click.echo(f"candidate   {candidate}\nto adopt    HYPERPARAMETERS={candidate} financial-assets run")


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
