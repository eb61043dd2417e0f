"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table with its title on the left; without a header where no column has a name."""
    table = Table(title=title, title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")  # a narrow terminal breaks a number and does not cut it off
    for row in rows:
        table.add_row(*row)
    return table
