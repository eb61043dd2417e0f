"""The command ``dashboard``: the boards on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from financial_assets.cli import examples
from financial_assets.errors import NotReadyError, PrometheusError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from financial_assets.monitoring.boards import Board
    from financial_assets.monitoring.prometheus import PrometheusClient
    from financial_assets.settings import Settings

# Not asked of the boards, which import takes long: a test compares.
NAMES = ("ab-test", "serving", "model-risk", "data-quality", "business")


@click.command(epilog=examples("dashboard", "dashboard --board serving", "dashboard --once", "dashboard --span 1440"))
@click.option(
    "--board",
    "name",
    type=click.Choice(NAMES),
    help="Which one. Default: ab-test; with --once all, one below the other.",
)
@click.option("--once", is_flag=True, help="Print and end; also done where the output is not a terminal.")
@click.option(
    "--refresh", type=click.FloatRange(1, 3600), default=5, show_default=True, help="Seconds between updates."
)
@click.option("--span", type=click.IntRange(1, 90 * 1440), default=60, show_default=True, help="Minutes of the past.")
def dashboard(name: str | None, once: bool, refresh: float, span: int) -> None:
    """Show the dashboards on the terminal, live until Ctrl-C.

    The same panels as those of Grafana, asked of Prometheus: each series with its latest value and a sparkline.
    """
    from rich.console import Console

    from financial_assets.monitoring.boards import BOARDS
    from financial_assets.monitoring.prometheus import PrometheusClient
    from financial_assets.settings import load_settings

    client = PrometheusClient(_prometheus(load_settings()))
    console = Console()
    is_live = console.is_terminal and not once
    boards = [board for board in BOARDS if board.name == (name or NAMES[0]) or not (is_live or name)]
    if is_live:
        _watch(boards[0], client, console, refresh, 60 * span)
    else:
        _print(boards, client, console, 60 * span)


def _prometheus(settings: Settings) -> str:
    from financial_assets.monitoring import local

    url = settings.prometheus_url or local.running_urls(settings.home).get("prometheus")
    if url is None:
        raise NotReadyError(
            f"no Prometheus runs for FINANCIAL_ASSETS_HOME={settings.home}: `financial-assets serve --with-monitoring` "
            "starts one beside the models (Debian packages prometheus and prometheus-alertmanager), or name another in "
            "PROMETHEUS_URL"
        )
    return url


def _print(boards: Sequence[Board], client: PrometheusClient, console: Console, span_s: float) -> None:
    from financial_assets.monitoring.boards.terminal import draw

    for board in boards:
        console.print(draw(board, client, span_s))


def _watch(board: Board, client: PrometheusClient, console: Console, refresh_s: float, span_s: float) -> None:
    """Until Ctrl-C. A Prometheus that does not answer for a while is said in place of the board, and asked again."""
    import time
    from datetime import datetime

    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    from financial_assets.monitoring.boards.terminal import draw

    others = ", ".join(other for other in NAMES if other != board.name)

    def frame() -> RenderableType:
        try:
            shown = draw(board, client, span_s)
        except PrometheusError as error:
            shown = Text(str(error), style="red")
        # At the top: a board may be longer than the terminal, and what does not fit is cut off at the bottom.
        head = f"{datetime.now():%H:%M:%S}, again in {refresh_s:g} s. Ctrl-C ends. Other boards (--board): {others}"
        return Group(Text(head, style="dim"), shown)

    try:
        with Live(frame(), console=console, screen=True, auto_refresh=False, vertical_overflow="ellipsis") as live:
            while True:
                time.sleep(refresh_s)
                live.update(frame(), refresh=True)
    except KeyboardInterrupt:  # how a live view is meant to end
        return
