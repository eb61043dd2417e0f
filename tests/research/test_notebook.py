"""The tutorial's notebook: it runs from its first cell to its last, and shows what it says."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[2] / "docs" / "research.ipynb"


@pytest.fixture(scope="module")
def stored() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_stored_without_outputs(stored: NotebookNode) -> None:
    nbformat.validate(stored)
    cells = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert len(cells) >= 8
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count is not None] == []


def test_it_runs_and_shows_tables_pictures_and_sentences(
    stored: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))
    work = tmp_path / "work"
    work.mkdir()
    client = NotebookClient(stored.copy(), timeout=240, resources={"metadata": {"path": str(work)}})
    done = client.execute()
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.output_type in ("stream", "error")] == []
    shown = [output.data for output in outputs]
    pages = "\n".join(data["text/html"] for data in shown if "text/html" in data)
    for title in ("Features", "Backtest", "Walk-forward", "Comparison: direction"):
        assert f"<h4>{title}</h4>" in pages
    assert sum("image/png" in data for data in shown) == sum(".plot(" in cell.source for cell in done.cells)
    assert "do not show whether it earns or loses money" in pages
    assert list(work.iterdir()) == []
