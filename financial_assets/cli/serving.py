"""Commands about the serving target: start, stop and show it, and export the experiment's metrics."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from financial_assets.cli import examples, open_configured
from financial_assets.errors import NotReadyError, SettingsError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from financial_assets.monitoring.receivers import Receivers
    from financial_assets.serving.local.layout import Ports
    from financial_assets.serving.local.processes.process import ProcessSpec
    from financial_assets.serving.local.target import LocalTarget
    from financial_assets.serving.target import ServingTarget
    from financial_assets.settings import Settings


@click.command(epilog=examples("serve", "serve --with-api", "serve --with-api --with-monitoring"))
@click.option(
    "--with-monitoring", is_flag=True, help="Also the exporter, Prometheus and Alertmanager (Debian packages)."
)
@click.option("--with-api", is_flag=True, help="Also signals and risk over HTTP (`financial-assets api`).")
def serve(with_monitoring: bool, with_api: bool) -> None:
    """Start the local serving plane with the models it last held.

    A damaged model file is put back; a plane that has lost its supervisor gets a new one and goes on serving.
    """
    from financial_assets.monitoring import local
    from financial_assets.serving.local import control
    from financial_assets.serving.local.desired import DesiredState
    from financial_assets.serving.local.layout import Layout
    from financial_assets.settings import load_settings

    settings = load_settings()
    _need_local(settings, "serve")
    home, target = settings.home, _local_target(settings)
    urls: dict[str, str] = {}
    if not DesiredState.read(Layout(home).desired).models:
        raise NotReadyError(
            f"FINANCIAL_ASSETS_HOME={home} holds no model; `financial-assets run` trains models and serves them"
        )
    lost = target.mend()
    further = _further_processes(settings) if with_api else lambda _: ()
    if with_monitoring:
        urls = dict(
            local.start(
                home,
                local.configuration_folder(),
                environment={"FINANCIAL_ASSETS_HOME": str(home)},
                receivers=_receivers(settings),
                further=further,
            )
        )
    ports = control.start(home, beside=further)
    if with_api:
        urls |= {"api": _api_url(home)}
    target.load()
    click.echo(f"gateway at http://127.0.0.1:{ports.gateway}")
    for name, url in urls.items():
        click.echo(f"{name} at {url}")
    if lost:
        raise TargetError("; ".join(lost.values()))


def _further_processes(settings: Settings) -> Callable[[Ports], Sequence[ProcessSpec]]:
    from financial_assets.api.local import beside_the_plane

    return beside_the_plane(settings)


def _api_url(home: Path) -> str:
    from financial_assets.api.local import running_url

    url = running_url(home)
    if url is None:
        raise TargetError(
            "the plane already runs without the API: `financial-assets stop`, then `financial-assets serve --with-api` "
            "(models and weights are kept)"
        )
    return url


@click.command(epilog=examples("stop", "--home .mine stop"))
def stop() -> None:
    """Stop the local serving plane and every process it started."""
    from financial_assets.serving.local import control
    from financial_assets.settings import load_settings

    settings = load_settings()
    _need_local(settings, "stop")
    click.echo("stopped" if control.stop(settings.home) else "nothing was running")


@click.command(epilog=examples("status", "status --url"))
@click.option("--url", "url_only", is_flag=True, help="Print the gateway's address only, for other commands.")
def status(url_only: bool) -> None:
    """Show processes, models and weights of the serving target.

    While trading is halted, the first line says so. The exit code is 1 when something is wrong.
    """
    from financial_assets.settings import load_settings

    settings = load_settings()
    if url_only:
        click.echo(_target(settings).endpoint().http_url)
        return
    from rich.console import Console
    from rich.markup import escape

    from financial_assets.api.local import running_url
    from financial_assets.cli.tables import make_table
    from financial_assets.halt import KillSwitch
    from financial_assets.monitoring import local

    target = _target(settings).status()
    console = Console()
    halted = KillSwitch.of(settings.home).halt_in_force()
    if halted is not None:
        console.print(f"[bold red]{escape(halted.sentence)}[/bold red]", highlight=False, soft_wrap=True)
    if target.processes:
        rows = [(p.name, str(p.pid or "-"), p.state, str(p.restarts)) for p in target.processes]
        console.print(make_table("processes", ("name", "pid", "state", "restarts"), rows))
    if target.models:
        rows = [(m.name, m.route or "-", "yes" if m.ready else "no") for m in target.models]
        console.print(make_table("models", ("name", "route", "ready"), rows))
    for experiment in target.experiments:
        rows = [(name, str(weight)) for name, weight in experiment.weights.items()]
        console.print(make_table(experiment.name, ("model", "weight"), rows))
    console.print(f"gateway: {target.endpoint.http_url if target.endpoint else 'not running'} ({target.target})")
    urls = dict(local.running_urls(settings.home))
    if api := running_url(settings.home):
        urls["api"] = api
    for name, url in urls.items():
        console.print(f"{name}: {url}")
    _print_state_folder(settings)
    for problem in target.problems:
        console.print(f"[red]{problem}[/red]")
    sys.exit(0 if target.ready else 1)


def _print_state_folder(settings: Settings) -> None:
    """Which folder was asked, and whether the settings name tickers that it does not hold yet."""
    from financial_assets.settings.state_folder import recorded

    remembered = recorded(settings.home)
    market = f"PRICE_SOURCE={settings.price_source}, TICKERS={','.join(settings.tickers)}" if remembered else "empty"
    click.echo(f"state folder: {settings.home} ({market})")
    held = remembered.get("tickers")
    absent = [ticker for ticker in settings.tickers if held is not None and ticker not in held.split(",")]
    if absent:
        click.echo(f"TICKERS: {', '.join(absent)} is not in the state folder yet; run `financial-assets run`")


@click.command(epilog=examples("exporter --port 9108"))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 (default): a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0: every one.")
@click.option("--window", type=click.IntRange(2, 2000), default=60, help="Sessions of the rolling accuracy.")
def exporter(port: int, host: str, window: int) -> None:
    """Serve Prometheus metrics of the experiment until Ctrl-C.

    They are read from the prediction log and the state folder at each scrape; docs/dashboards.md lists them.
    """
    installation = open_configured()
    from financial_assets.monitoring.exporter import run_exporter
    from financial_assets.monitoring.metrics import ExperimentCollector, open_log
    from financial_assets.workflows.exported_state import state_sources

    log_url, panel, switch = installation.settings.log_url, installation.market.panel, installation.trading.switch
    collector = ExperimentCollector(
        lambda: open_log(log_url),
        panel,
        further=state_sources(installation),
        window=window,
        halted=lambda: switch.halt_in_force() is not None,
    )
    run_exporter(collector, port, click.echo, host=host)


def _receivers(settings: Settings) -> Receivers:
    """Where Alertmanager sends alerts: the same channels as those of the sensors."""
    from financial_assets.monitoring.notifications import MailServer
    from financial_assets.monitoring.receivers import Receivers

    return Receivers(
        webhook=settings.notify_webhook_url,
        slack=settings.notify_slack_url,
        mail=MailServer.of(settings.smtp_url) if settings.smtp_url and settings.notify_email_to else None,
        sender=settings.notify_email_from or (settings.notify_email_to or "").partition(",")[0],
        recipients=settings.notify_email_to or "",
    )


def _target(settings: Settings) -> ServingTarget:
    """The configured target; that of this machine without what only a cluster needs."""
    if settings.serving_target == "local":
        return _local_target(settings)
    from financial_assets.installation import open_installation

    return open_installation(settings).serving.target()


def _local_target(settings: Settings) -> LocalTarget:
    from financial_assets.serving.local.restoring import from_registry
    from financial_assets.serving.local.target import LocalTarget

    return LocalTarget(settings.home, restore=from_registry(settings.tracking_uri))


def _need_local(settings: Settings, command: str) -> None:
    if settings.serving_target != "local":
        raise SettingsError(
            f"SERVING_TARGET: {settings.serving_target!r}; `financial-assets {command}` is for the plane of this "
            "machine (SERVING_TARGET=local) and leaves others as they are; `financial-assets status` shows how they are"
        )
