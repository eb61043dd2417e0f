"""The command ``run``: the whole graph in this process."""

from __future__ import annotations

import os
import warnings
from functools import partial
from pathlib import Path

import click

from financial_assets.cli import examples, open_configured
from financial_assets.errors import SettingsError


@click.command(epilog=examples("run", "--home .mine run"))
def run() -> None:
    """Build everything: prices, models, serving plane, A/B report.

    Materializes the Dagster job full_pipeline in this process. Existing results are reused; run it again to continue
    after an error.
    """
    from financial_assets.settings import load_settings

    settings = load_settings()
    instance_home = _dagster_home()
    report = partial(click.echo, err=True)
    if not settings.home.exists():
        report(f"new state folder {settings.home} (FINANCIAL_ASSETS_HOME)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dagster's own deprecations are no news to the person who runs this
        import dagster as dg
        from dagster._core.utils import make_new_run_id

        from financial_assets.automation.dead_runs import end_dead_tracked_runs, sweeping
        from financial_assets.resources import make_resources
        from financial_assets.resources.pipeline_run import pipeline_run, run_tags, watch
        from financial_assets.tracking.owners import owner_tags

        with dg.DagsterInstance.from_config(str(instance_home)) as instance, sweeping(instance, report):
            resources = make_resources(settings)
            resources["models"].adopted()  # a file that cannot be used is refused now, and not at the first training
            resources["ab_test"].check_participants()  # likewise
            for sentence in resources["ab_test"].too_few_tickers(len(resources["market"].tickers)):
                report(sentence)
            # Not before Dagster has made its folder, which the definitions make private.
            from financial_assets.definitions import defs

            tracker, run_id = resources["models"].tracker(), make_new_run_id()
            end_dead_tracked_runs(tracker, report)
            # Dagster replaces the job's executor here, which would have named the owner and opened the MLflow run.
            with pipeline_run(tracker, "full_pipeline", run_id, settings.dagster_ui_url, report) as tracked:
                result = defs.resolve_job_def("full_pipeline").execute_in_process(
                    instance=instance,
                    run_id=run_id,
                    tags=owner_tags() | ({} if tracked is None else run_tags(tracker, tracked)),
                    raise_on_error=False,
                )
                for event in result.all_events:
                    watch(tracked, event)
                # Dagster catches Ctrl-C to close its run, and records why the run ended.
                reasons = [event.job_failure_data.failure_reason for event in result.all_events if event.is_job_failure]
                if any(reason is not None and reason.value == "UNEXPECTED_TERMINATION" for reason in reasons):
                    raise KeyboardInterrupt("finished steps are kept; the same command continues after them")
    if not result.success:
        raise click.ClickException(f"the run failed; what failed is printed above (run {result.run_id})")
    _print_results()


def _dagster_home() -> Path:
    """The folder of ``dagster.yaml``: ``DAGSTER_HOME``, or the current folder."""
    home = Path(os.environ.get("DAGSTER_HOME") or Path.cwd())
    if not (home / "dagster.yaml").is_file():
        raise SettingsError(
            f"DAGSTER_HOME: {home} has no dagster.yaml; run this in the repository's root or set DAGSTER_HOME"
        )
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def _print_results() -> None:
    installation = open_configured()
    settings = installation.settings
    experiment = installation.ab_test.policy().experiment
    url = installation.serving.target().endpoint().http_url
    click.echo(f"\nA/B report    {installation.ab_test.report_path}")
    click.echo(f"served at     {url}/v2/models/{experiment}/infer   (header seldon-model: {experiment}.experiment)")
    click.echo(f"state folder  {settings.home}")
    if sentence := installation.market.clock_gap().sentence:
        click.echo(sentence)
    stop = ", make stop" if settings.serving_target == "local" else ""
    click.echo(f"further       make ui (the graph in the browser), financial-assets status{stop}")
