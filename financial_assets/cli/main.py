"""The command line: run the graph, and look after the serving plane."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from financial_assets.disk import explain
from financial_assets.errors import FinancialAssetsError, NotReadyError, SettingsError, TargetError
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.target import ServingTarget
from financial_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from financial_assets.market.clock import ClockGap

__all__ = ["main"]

_HELP = {"help_option_names": ["-h", "--help"]}


class _Commands(click.Group):
    """Prints errors raised on purpose, and what a disk refuses, as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FinancialAssetsError as error:
            raise click.ClickException(str(error)) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            said = explain(error, Path(os.environ.get("FINANCIAL_ASSETS_HOME") or ".financial_assets").absolute())
            if said is None or getattr(error, "errno", None) == errno.EPIPE:
                raise
            raise click.ClickException(said) from error


@click.group(cls=_Commands, context_settings=_HELP)
def main() -> None:
    """From raw prices to a served, A/B-tested forecasting model.

    Settings are environment variables; docs/settings.md lists them.
    """


@main.command()
def run() -> None:
    """Materialize the whole graph and print where report and gateway are."""
    settings = load_settings()
    instance_home = _dagster_home()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dagster's own deprecations are no news to who runs this
        import dagster as dg

        from financial_assets.automation.dead_runs import end_dead_tracked_runs, sweeping
        from financial_assets.resources import make_resources
        from financial_assets.tracking.owners import owner_tags

        say = partial(click.echo, err=True)
        with dg.DagsterInstance.from_config(str(instance_home)) as instance, sweeping(instance, say):
            # Not before Dagster has made its folder, which the definitions make private.
            from financial_assets.definitions import defs

            end_dead_tracked_runs(make_resources(settings)["workshop"].tracker(), say)
            # Dagster replaces the job's executor here, which would have named the owner.
            result = defs.resolve_job_def("full_pipeline").execute_in_process(
                instance=instance, tags=owner_tags(), raise_on_error=False
            )
    if not result.success:
        raise click.ClickException(f"the run failed; what failed is printed above (run {result.run_id})")
    _print_where(settings)


def _dagster_home() -> Path:
    """The folder of ``dagster.yaml``: ``DAGSTER_HOME``, or the current folder."""
    home = Path(os.environ.get("DAGSTER_HOME") or Path.cwd())
    if not (home / "dagster.yaml").is_file():
        raise SettingsError(
            f"DAGSTER_HOME: {home} has no dagster.yaml; run this in the repository's root or set DAGSTER_HOME"
        )
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def _target(settings: Settings) -> ServingTarget:
    """The configured target; that of this machine without what only a cluster needs."""
    if settings.serving_target == "local":
        return _local_target(settings)
    from financial_assets.resources import make_resources

    return make_resources(settings)["serving"].target()


def _local_target(settings: Settings) -> LocalTarget:
    from financial_assets.serving.local.restoring import from_registry

    return LocalTarget(settings.home, restore=from_registry(settings.tracking_uri))


def _need_local(settings: Settings, command: str) -> None:
    if settings.serving_target != "local":
        raise SettingsError(
            f"SERVING_TARGET: {settings.serving_target!r}; `financial-assets {command}` is for the plane of this "
            "machine (SERVING_TARGET=local) and leaves others as they are; `financial-assets status` shows how they are"
        )


def _print_where(settings: Settings) -> None:
    from financial_assets.experiment.plan.policy import load_policy
    from financial_assets.resources import make_resources

    experiment = load_policy(settings.rollout_policy).experiment
    url = _target(settings).endpoint().http_url
    click.echo(f"\nA/B report   {settings.home / 'reports' / 'ab-evaluation.html'}")
    click.echo(f"served at    {url}/v2/models/{experiment}/infer   (header seldon-model: {experiment}.experiment)")
    _print_clock(make_resources(settings)["market"].clock_gap())
    stop = ", make stop" if settings.serving_target == "local" else ""
    click.echo(f"further      make ui (the graph in the browser), financial-assets status{stop}")


def _print_clock(gap: ClockGap) -> None:
    """Which session is now, where prices go on after it, and what moves the clock."""
    if gap.sentence:
        click.echo(gap.sentence)


@main.command()
@click.option(
    "--with-monitoring", is_flag=True, help="Also the exporter, Prometheus and Alertmanager (Debian packages)."
)
def serve(with_monitoring: bool) -> None:
    """Start the local serving plane with the models that it last held.

    A damaged model file is put back; a plane that still serves gets back the supervisor that it has lost.
    """
    from financial_assets.monitoring import local
    from financial_assets.serving.local import control
    from financial_assets.serving.local.desired import DesiredState
    from financial_assets.serving.local.layout import Layout

    loaded = load_settings()
    _need_local(loaded, "serve")
    home, urls, target = loaded.home, {}, _local_target(loaded)
    if not DesiredState.read(Layout(home).desired).models:
        raise NotReadyError(
            f"FINANCIAL_ASSETS_HOME={home} holds no model; `financial-assets run` trains models and serves them"
        )
    lost = target.mend()
    if with_monitoring:
        settings = {"FINANCIAL_ASSETS_HOME": str(home)}
        urls = local.start(home, local.configuration_folder(), environment=settings)
    ports = control.start(home)
    target.load()
    click.echo(f"gateway at http://127.0.0.1:{ports.gateway}")
    for name, url in urls.items():
        click.echo(f"{name} at {url}")
    if lost:
        raise TargetError("; ".join(lost.values()))


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 (default): a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0: every one.")
@click.option("--window", type=click.IntRange(2, 2000), default=60, help="Sessions of the rolling accuracy.")
def exporter(port: int, host: str, window: int) -> None:
    """Serve Prometheus metrics of the experiment, read from the prediction log, until Ctrl-C."""
    settings = load_settings()
    from financial_assets.monitoring.exporter import run_exporter
    from financial_assets.monitoring.metrics import ExperimentCollector, open_log
    from financial_assets.resources import make_resources

    market = make_resources(settings)["market"]
    collector = ExperimentCollector(lambda: open_log(settings.log_url), market.panel, window=window)
    run_exporter(collector, port, click.echo, host=host)


@main.command()
def stop() -> None:
    """End the local serving plane: every process it started."""
    from financial_assets.serving.local import control

    settings = load_settings()
    _need_local(settings, "stop")
    click.echo("stopped" if control.stop(settings.home) else "nothing was running")


@main.command()
@click.option("--url", "url_only", is_flag=True, help="Print the gateway's address only, for other commands.")
def status(url_only: bool) -> None:
    """Show processes, models and weights of the serving target; exit code 1 when something is wrong."""
    from financial_assets.monitoring import local

    settings = load_settings()
    if url_only:
        click.echo(_target(settings).endpoint().http_url)
        return
    found = _target(settings).status()
    console = Console()
    if settings.serving_target == "local":
        rows = [(p.name, str(p.pid or "-"), p.state, str(p.restarts)) for p in found.processes]
        console.print(_table("processes", ("name", "pid", "state", "restarts"), rows))
    rows = [(m.name, m.route or "-", "yes" if m.ready else "no") for m in found.models]
    console.print(_table("models", ("name", "route", "ready"), rows))
    for experiment in found.experiments:
        rows = [(name, str(weight)) for name, weight in experiment.weights.items()]
        console.print(_table(experiment.name, ("model", "weight"), rows))
    console.print(f"gateway: {found.endpoint.http_url if found.endpoint else 'not running'} ({found.target})")
    for name, url in local.running_urls(settings.home).items():
        console.print(f"{name}: {url}")
    for problem in found.problems:
        console.print(f"[red]{problem}[/red]")
    sys.exit(0 if found.ready else 1)


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


_BACKTEST_FIELDS = ("side", "level", "sessions", "beyond", "expected", "kupiec", "independence", "verdict")


@main.command()
@click.argument("symbol")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: the names and values of daily_signals, and the clock."
)
@click.option("--request", is_flag=True, help="Print the V2 request instead of sending it: JSON, for curl -d @-.")
def signal(symbol: str, as_json: bool, request: bool) -> None:
    """Ask the champion for the next session of one ticker: direction, expected range, value at risk."""
    from financial_assets.resources import make_resources
    from financial_assets.workflows.signals import champion_backtest, champion_signal, signal_request

    resources = make_resources(load_settings())
    if request:
        click.echo(signal_request(symbol.upper(), resources["market"]))
        return
    found = champion_signal(symbol.upper(), resources["market"], resources["serving"], resources["ab_test"])
    gap = resources["market"].clock_gap()
    tails = champion_backtest(symbol.upper(), resources["market"], resources["ab_test"])
    days = {name: f"{found[name]:%Y-%m-%d}" for name in ("as_of", "target_session")}
    if as_json:
        held = [{name: getattr(one, name) for name in _BACKTEST_FIELDS} for one in tails]
        click.echo(json.dumps(found | days | gap.fields | {"var_backtest": held}, indent=2))
        return
    rows = [
        ("direction", found["direction"]),
        ("probability up", f"{found['probability_up']:.1%}"),
        ("expected range, 5 to 95 %", f"{found['expected_low']:+.2%} to {found['expected_high']:+.2%}"),
        ("value at risk, 95 %", f"{found['var_95']:.2%}"),
        ("value at risk, 99 %", f"{found['var_99']:.2%}"),
        *((f"{one.name}, so far", one.sentence) for one in tails if one.side == "lower"),
        ("model", f"{found['model']} (version {found['version']})"),
        ("as of the close of", days["as_of"]),
    ]
    Console().print(_table(f"{found['ticker']}, session {days['target_session']}", ("", "signal"), rows))
    _print_clock(gap)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: healthy, first_broken, and each layer's finding.")
def doctor(as_json: bool) -> None:
    """Walk all layers, name the first broken one and what mends it. Exit code 1 when one is broken.

    Runs of Dagster and MLflow whose process no longer exists are ended as failed; nothing else is changed.
    """
    from financial_assets.doctor import examine, first_broken, report

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of libraries are not what is asked for
        findings = examine()
    if as_json:
        click.echo(json.dumps(report.as_json(findings), indent=2))
    else:
        Console().print(report.as_table(findings))
    sys.exit(1 if first_broken(findings) else 0)


def _add_commands() -> None:
    from financial_assets.cli.decisions import approve, decide
    from financial_assets.cli.replay import replay

    for command in (decide, approve, replay):
        main.add_command(command)


_add_commands()
