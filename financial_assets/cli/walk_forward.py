"""The command ``walk-forward``: every model fitted and judged fold by fold on the past."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from financial_assets.cli import command_run, examples, open_configured

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from rich.console import Console

    from financial_assets.models.walk_forward.folds import Fold
    from financial_assets.models.walk_forward.run import WalkForward
    from financial_assets.models.walk_forward.tracked import FoldRuns

_HEADLINES = {
    ("direction", "accuracy"): "accuracy",
    ("direction", "log_loss"): "log loss",
    ("excess_return", "rank_ic"): "rank IC",
    ("return_quantiles", "pinball_normalised"): "pinball",
    ("return_quantiles", "coverage_5%"): "below\n5 % VaR",
    ("return_quantiles_5d", "pinball_normalised"): "pinball\n5 sessions",
}


@click.command("walk-forward", epilog=examples("walk-forward", "walk-forward --variants baseline --splits 3"))
@click.option("--variants", metavar="NAMES", help="Comma-separated variants; default: all. Baselines always take part.")
@click.option("--splits", type=click.IntRange(min=1), help="Folds; the same as WALK_FORWARD_SPLITS.")
def walk_forward(variants: str | None, splits: int | None) -> None:
    """Judge models fold by fold on the past.

    Each fold is fitted as in production on the sessions up to its cut-off, and judged on the 30 sessions after it. It
    needs prices and features: run `financial-assets run` once before. Folds that are there are reused; after Ctrl-C the
    same command continues. Each fold is a run in MLflow. Tables of all scores are written to walk_forward/report in the
    state folder.
    """
    installation = open_configured()
    from rich.console import Console

    from financial_assets.models.walk_forward.report import make_report
    from financial_assets.models.walk_forward.run import models_and_folds
    from financial_assets.models.walk_forward.tracked import FoldRuns

    models = installation.models
    if splits is not None:
        models = models.model_copy(update={"walk_forward_splits": splits})
    walk, tracker = models.walk_forward(installation.market), models.tracker()
    chosen = None if variants is None else [name.strip() for name in variants.split(",") if name.strip()]
    todo, console = models_and_folds(walk, chosen), Console()
    with command_run(tracker, "walk-forward", "Its folds are nested below.") as run:
        _compute(FoldRuns(walk, tracker, run.id, {}), todo, console if models.progress else None)
        report = make_report(walk)
        models.record_walk_forward(walk)
        folder = models.walk_forward_folder / "report"
        report.save(folder)
    _print_scores(console, report.scores, walk)
    click.echo(f"tables        {folder}")


def _compute(runs: FoldRuns, todo: Sequence[tuple[str, Fold]], console: Console | None) -> None:
    """All folds of the chosen sets, with a bar that names the one at work."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=console is None) as bar:
        task = bar.add_task("walk-forward", total=len(todo))
        for name, fold in todo:
            bar.update(task, description=f"{fold.name} {name}")
            try:
                runs.run(name, fold)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("finished folds are kept; the same command continues after them") from None
            bar.advance(task)


def _print_scores(console: Console, scores: pd.DataFrame, walk: WalkForward) -> None:
    from financial_assets.cli.tables import make_table

    pooled = scores[scores["fold"] == "all"]
    half = (pooled["high"] - pooled["low"]) / 2
    text = [f"{estimate:.4f}\n± {width:.4f}" for estimate, width in zip(pooled["estimate"], half, strict=True)]
    cells = dict(zip(zip(pooled["model"], pooled["head"], pooled["score"], strict=True), text, strict=True))
    models = pooled["model"].drop_duplicates().tolist()
    known = [key for key in _HEADLINES if any((model, *key) in cells for model in models)]
    rows = [[model, *(cells.get((model, *key), "") for key in known)] for model in models]
    first, last = walk.panel.sessions[walk.folds[0].test[0]], walk.panel.sessions[walk.folds[-1].test[-1]]
    title = f"{len(walk.folds)} folds, decisions of {first:%Y-%m-%d} to {last:%Y-%m-%d}; ± is half of the 95 % interval"
    console.print(make_table(title, ["model", *(_HEADLINES[key] for key in known)], rows))
