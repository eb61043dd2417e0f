"""The boards: files that are current, panels that explain themselves, queries whose metrics can be named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from financial_assets.cli.dashboard import NAMES
from financial_assets.errors import MonitoringError
from financial_assets.monitoring.boards import BOARDS, Board, Panel, Query
from financial_assets.monitoring.boards.grafana import render, write_dashboards
from financial_assets.monitoring.boards.values import words

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
PANELS = [pytest.param(panel, id=f"{board.name}: {panel.title}") for board in BOARDS for panel in board.panels]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_the_files_are_current(board: Board) -> None:
    current = (GRAFANA / "dashboards" / f"{board.name}.json").read_text()
    assert current == render(board), (
        "python -m financial_assets.monitoring.boards --output deploy/grafana/dashboards writes them anew"
    )


def test_every_board_is_deployed_and_nothing_else() -> None:
    names = {f"{board.name}.json" for board in BOARDS}
    assert {path.name for path in (GRAFANA / "dashboards").iterdir()} == names
    made = yaml.safe_load((GRAFANA / "kustomization.yaml").read_text())["configMapGenerator"]
    assert {Path(file).name for config in made for file in config["files"]} == names
    assert tuple(board.name for board in BOARDS) == NAMES
    assert len(BOARDS) == 5


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_grafana_gets_every_query_with_unit_description_and_a_place_of_its_own(board: Board) -> None:
    made = json.loads(render(board))
    drawn = [panel for panel in made["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in drawn] == [panel.title for panel in board.panels]
    for panel, asked in zip(drawn, board.panels, strict=True):
        assert [target["expr"] for target in panel["targets"]] == [query.promql for query in asked.queries]
        assert panel["description"] == asked.description
        assert panel["fieldConfig"]["defaults"]["unit"]
        # Whoever imports a board says which Prometheus: no address of ours is in it.
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert [variable["type"] for variable in made["templating"]["list"]] == ["datasource"]
    cells = Counter(cell for panel in made["panels"] for cell in _cells(panel["gridPos"]))
    assert max(cells.values()) == 1
    assert max(column for column, _ in cells) == 23
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(set(numbers)) == len(numbers)


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    x, y = place["x"], place["y"]
    return [(column, line) for column in range(x, x + place["w"]) for line in range(y, y + place["h"])]


def test_no_password_and_no_address_is_in_what_grafana_is_given() -> None:
    files = [path for path in GRAFANA.rglob("*") if path.is_file()]
    assert len(files) == 8
    for path in files:
        text = path.read_text()
        assert "://" not in text, path
    source: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())
    (prometheus,) = source["datasources"]
    assert prometheus["url"].startswith("$")
    assert all(value.startswith("$") for value in prometheus["secureJsonData"].values())


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    assert 0 < len(panel.title) <= 60
    assert panel.description.endswith(".")
    assert len(panel.description) > 30
    assert panel.queries
    starts = [start for start, _ in panel.thresholds]
    assert starts == sorted(starts)
    for query in panel.queries:
        assert query.metrics
        assert query.legend


def test_titles_are_unique_on_a_board() -> None:
    for board in BOARDS:
        titles = Counter(panel.title for panel in board.panels)
        assert max(titles.values()) == 1, board.name


@pytest.mark.parametrize(
    ("promql", "metrics"),
    [
        ("up", {"up"}),
        ("sum by (le, job) (rate(a_bucket{job=~'x'}[5m])) / 1e6", {"a_bucket"}),
        ('topk(10, a{stream!="loss b"} / b{stream!="loss"})', {"a", "b"}),
        ("time() - a_seconds", {"a_seconds"}),
        ("a < bool on () group_left () max(b)", {"a", "b"}),
        ("min without (instance) (a) or b unless c", {"a", "b", "c"}),
    ],
)
def test_the_metrics_of_a_query(promql: str, metrics: set[str]) -> None:
    assert Query(promql, "x").metrics == metrics


def test_a_legend_names_the_labels() -> None:
    query = Query("up", "lower, {{model_name}} {{ level }}")
    assert query.named({"model_name": "m", "level": "0.95", "job": "j"}) == "lower, m 0.95"
    assert query.named({"model_name": "m"}) == "lower, m"


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        *[("ratio", 0.1234, "12.3 %"), ("percent", 51.26, "51.3 %"), ("number", 12345.6, "12,346")],
        *[("number", 0.00123, "0.00123"), ("sessions", 3.0, "3"), ("per second", 0.5, "0.5/s")],
        *[("seconds", 0.0123, "12.3 ms"), ("seconds", 90.0, "90.0 s"), ("seconds", 300.0, "5.0 min")],
        *[("seconds", 86400.0 * 3, "3.0 d"), ("seconds", -7200.0, "-2.0 h"), ("number", float("inf"), "infinite")],
    ],
)
def test_a_value_in_words(unit: Any, value: float, shown: str) -> None:
    assert words(Panel("t", "d", (), unit), value) == shown


def test_words_replace_values_and_thresholds_color_them() -> None:
    panel = Panel("t", "d", (), thresholds=((-1, "red"), (1, "green")), base="blue", words={1: "better"})
    assert (words(panel, 1.0), words(panel, 2.0)) == ("better", "2")
    assert [panel.color(value) for value in (-2, -1, 0.9, 1)] == ["blue", "red", "red", "green"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MonitoringError, match=r"--output: .*absent is not a folder"):
        write_dashboards(BOARDS, tmp_path / "absent")
