"""The command ``explain``: what moves the answers of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from financial_assets.cli import examples, open_configured

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


@click.command(
    epilog=examples("explain --variant baseline", "explain --variant baseline --ablation --family trend --seeds 3")
)
@click.option("--variant", required=True, help="Model variant whose current training is explained.")
@click.option("--ablation", is_flag=True, help="Train without each family of features, too.")
@click.option("--family", "families", multiple=True, help="Family to train without; may be repeated. Default: each.")
@click.option("--seeds", type=click.IntRange(1, 20), default=1, help="Trainings of each; default: 1.")
def explain(variant: str, ablation: bool, families: tuple[str, ...], seeds: int) -> None:
    """Say what moves a model's answers, and when it is wrong.

    Integrated gradients, permutation of feature families and errors by group, on sessions that the model's weights
    never saw. The result is kept, logged to MLflow, and shown in the next A/B report.
    """
    if (families or seeds > 1) and not ablation:
        raise click.UsageError("--family and --seeds are about trainings without a family: give --ablation too")
    installation = open_configured()
    from rich.console import Console

    from financial_assets.models.explanations.explain import ExplanationPlan
    from financial_assets.models.explanations.tables import by_question, families_table, features_table, segments_table
    from financial_assets.workflows.explanations import explain_variant

    progress, out = Console(stderr=True), Console()
    plan = ExplanationPlan(ablation=ablation, families=families, seeds=seeds)
    explained = explain_variant(variant, installation.market, installation.models, plan, progress.print)
    explanation = explained.explanation
    for answer in explanation.gradients:
        progress.print(f"{answer.answer}: completeness error {answer.completeness_error:.2%}")
    for title, frame in by_question(families_table(explanation)).items():
        _print(out, title, frame)
    _print(out, "Features that move the direction", features_table(explanation))
    _print(out, "Errors by group", segments_table(explanation))
    for sentence in explanation.sentences:
        click.echo(sentence)
    click.echo(f"kept in {explained.path}")


def _print(console: Console, title: str, frame: pd.DataFrame) -> None:
    from financial_assets.cli.tables import make_table

    if not frame.empty:
        cells = [[str(value) for value in row] for row in frame.itertuples(index=False)]
        console.print(make_table(title, list(frame.columns), cells))
