"""Tables on a terminal of 80 columns."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from financial_assets.cli.tables import make_table


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    words = ["Wednesday", "volatility", "0.002911", "[0.0001475,0.005675]", "accuracy"] * 2
    shown = StringIO()
    Console(file=shown, width=80).print(make_table("title", [""] * 9 + ["name"], [words]))
    assert "…" not in shown.getvalue()
    lines = [line.split("│")[1:-1] for line in shown.getvalue().splitlines() if line.startswith("│")]
    assert ["".join(part.strip() for part in cell) for cell in zip(*lines, strict=True)] == words
