"""Every panel's query asked of a real Prometheus, and which of them it has no data for."""

from __future__ import annotations

from collections.abc import Iterable

from financial_assets.monitoring.boards import Board, Panel
from financial_assets.monitoring.prometheus import PrometheusClient

Asked = dict[tuple[str, str, str], int]
"""Board, title of the panel and query -> number of series that were answered."""


def ask_all(boards: Iterable[Board], client: PrometheusClient) -> Asked:
    """Each query on its own: a panel with one query that answers and one that does not is half empty."""
    return {
        (board.name, panel.title, query.promql): len(client.now(query.promql))
        for board in boards
        for panel in board.panels
        for query in panel.queries
    }


def without_data(asked: Asked) -> list[tuple[str, str, str]]:
    """Those that nothing was answered to."""
    return [query for query, answered in asked.items() if not answered]


def legends(panel: Panel, client: PrometheusClient) -> list[str]:
    """Names of all series of a panel."""
    return [query.named(series.labels) for query in panel.queries for series in client.now(query.promql)]
