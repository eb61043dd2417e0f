"""Grafana's dashboards, made from the boards by Grafana's own SDK: files that Grafana 10.1 and later take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MonitoringError
from financial_assets.monitoring.boards.panel import Board, Panel, Unit

_UNITS: dict[Unit, str] = {
    "number": "short",
    "percent": "percent",
    "ratio": "percentunit",
    "seconds": "s",
    "per second": "reqps",
    "sessions": "none",
}
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""A variable of the dashboard: whoever imports it picks the Prometheus, and no address is in the file."""
_HEIGHT, _COLUMNS = 8, 24


def write_dashboards(boards: tuple[Board, ...], folder: Path) -> tuple[Path, ...]:
    """Write one JSON file per board into ``folder``; returns the paths.

    Raises
    ------
    MonitoringError
        ``folder`` does not exist.
    """
    if not folder.is_dir():
        raise MonitoringError(f"--output: {folder} is not a folder")
    paths = tuple(folder / f"{board.name}.json" for board in boards)
    for board, path in zip(boards, paths, strict=True):
        atomic_write_text(path, render(board))
    return paths


def render(board: Board) -> str:
    """A board as the JSON that Grafana imports and provisions."""
    made = (
        dashboard.Dashboard(f"financial_assets: {board.title}")
        .uid(f"financial-assets-{board.name}")
        .description(board.question)
        .tags(["financial-assets"])
        .time("now-7d", "now")
        .refresh("1m")
        .timezone("browser")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(_to_the_others())
    )
    top = number = 0
    for row in board.rows:
        number += 1
        heading = dashboard.Row(row.title).id(number)
        made = made.with_row(heading.grid_pos(models.GridPos(h=1, w=_COLUMNS, x=0, y=top)))
        top += 1
        for line in row.lines:
            width = _COLUMNS // len(line)
            for place, panel in enumerate(line):
                number += 1
                position = models.GridPos(h=_HEIGHT, w=width, x=place * width, y=top)
                made = made.with_panel(_panel(panel, number).grid_pos(position))
            top += _HEIGHT
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _to_the_others() -> Any:
    return (
        dashboard.DashboardLink("Other boards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags(["financial-assets"])
        .as_dropdown(True)
        .keep_time(True)
    )


def _panel(panel: Panel, number: int) -> Any:
    made: Any = timeseries.Panel() if panel.kind == "series" else stat.Panel()
    made = (
        made.id(number)
        .title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .unit(_UNITS[panel.unit])
        .no_value("no data: see docs/dashboards.md")
    )
    for place, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.promql).legend_format(query.legend)
        target = target.ref_id(chr(ord("A") + place)).datasource(_SOURCE)
        made = made.with_target(target.range() if panel.kind == "series" else target.instant())
    if panel.lowest is not None:
        made = made.min(panel.lowest)
    if panel.highest is not None:
        made = made.max(panel.highest)
    if panel.words:
        options: dict[str, Any] = {
            f"{value:g}": models.ValueMappingResult(text=word) for value, word in panel.words.items()
        }
        made = made.mappings([models.ValueMap(options=options)])
    return _drawn_over_time(made) if panel.kind == "series" else _drawn_now(made, panel)


def _drawn_over_time(made: Any) -> Any:
    legend = (
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    return made.legend(legend).line_width(2).fill_opacity(0).show_points(common_models.VisibilityMode.NEVER)


def _drawn_now(made: Any, panel: Panel) -> Any:
    # The first step has no value: it is what lies below the others.
    steps = [models.Threshold(value=None, color=panel.base)]
    steps += [models.Threshold(value=value, color=color) for value, color in panel.thresholds]
    return (
        made.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
