"""The command ``demonstrate``: a better, an equal and a worse model, and what the judge makes of them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from financial_assets.cli import examples


@click.command(epilog=examples("demonstrate", "demonstrate --pair better", "demonstrate --folder /tmp/demonstration"))
@click.option(
    "--pair",
    "chosen",
    type=click.Choice(["better", "equal", "worse"]),
    multiple=True,
    help="Which challenger; may be repeated. Default: all three.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".financial_assets_demonstration"),
    show_default=True,
    help="Where models, state and reports are kept.",
)
def demonstrate(chosen: tuple[str, ...], folder: Path) -> None:
    """See it decide: promoted, ended by futility, rolled back.

    Three pairs of models with known risk heads are served by the real gateway and judged on the bundled prices, each in
    a state folder of its own. Settings of the environment do not count here. An interrupted demonstration goes on where
    it stopped; one that has ended is printed again.
    """
    from functools import partial

    from financial_assets.settings import Settings
    from financial_assets.workflows.demonstration import PAIRS, judge, stop

    names = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name.upper() not in names}
    verdicts = []
    for pair in PAIRS:
        if chosen and pair.name not in chosen:
            continue
        place = folder.absolute() / pair.name
        try:
            verdicts.append(judge(pair, place, partial(click.echo, err=True), environment))
        finally:
            stop(place, environment)
    for verdict in verdicts:
        decision, pair = verdict.decision, verdict.pair
        click.echo(f"\n{pair.name}: {decision.challenger} {verdict.said} after {decision.days} sessions")
        for label, text in (
            ("known", pair.why),
            ("reason", decision.reasons[0]),
            ("record", verdict.record),
            ("report", verdict.report),
        ):
            click.echo(f"  {label}  {text}")
    if wrong := [verdict for verdict in verdicts if not verdict.as_planted]:
        raise click.ClickException(
            "; ".join(f"{one.pair.name}: {one.pair.verdict} was planted, but it {one.said}" for one in wrong)
        )
