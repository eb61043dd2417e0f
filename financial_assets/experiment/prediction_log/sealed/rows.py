"""Predictions sealed by session, when a decision is recorded: the write path of the log pays nothing for it.

A record seals the rows of one session that were complete and not sealed before, by their ids, with a digest for each
model (of paired predictions) or experiment (of routed ones). Rows that come later, of a model that joined or of an
answer that was open, are sealed by a later record of the same session. A row that is changed *before* its record is
written is sealed as it is then; from then on no change of it stays unseen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from financial_assets.errors import ChainError
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.frames import driver_rows
from financial_assets.experiment.prediction_log.sealed.chain import SealedChain, SealedRecord

DIRECT, ROUTED = "direct", "routed"
"""Kinds of records: paired predictions, by model, and routed ones, by experiment."""

_TABLES = {DIRECT: (schema.direct, "model"), ROUTED: (schema.routed, "experiment")}
_FORMS = {DIRECT: "direct form", ROUTED: "routed form"}
"""Kinds of the records that name the columns of what follows, so that a later release may add some."""
_AT_ONCE = 20_000  # rows that are held in memory: a first sealing may be of millions
_BOUND = 500  # ids in one condition

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # made once: there is a line per row

Row = tuple[Any, ...]
"""One row as the driver of the database gives it."""


@dataclass(frozen=True)
class _State:
    """How far a table is sealed: last id that was looked at, how many rows are sealed, and which were still open."""

    last: int = 0
    count: int = 0
    still_open: tuple[int, ...] = ()


def seal_rows(chain: SealedChain) -> dict[str, str | None]:
    """Seal what is complete and not sealed yet.

    Returns
    -------
    dict
        Kind -> digest of the latest record of it, ``None`` where the log has no such row.
    """
    heads: dict[str, str | None] = {}
    for kind, (table, group) in _TABLES.items():
        latest = chain.latest(kind)
        said = {} if latest is None else latest.values
        state = _State(said.get("last", 0), said.get("sealed", 0), tuple(said.get("open", ())))
        form = chain.latest(_FORMS[kind])
        known = [] if form is None else form.values["columns"]
        columns = columns_of(table, known)
        for batch, after in _batches(chain, kind, state, columns):
            if known != columns:
                chain.append(_FORMS[kind], table.name, {"columns": columns})
                known = columns
            latest = _append(chain, kind, batch, after, columns, group)
        heads[kind] = None if latest is None else latest.digest
    return heads


def columns_of(table: sa.Table, known: Sequence[str]) -> list[str]:
    """The columns of a table, those that were sealed before first: the digests of earlier rows are of these.

    Raises
    ------
    ChainError
        The table lacks one of them.
    """
    names = [column.name for column in table.columns]
    lost = [name for name in known if name not in names]
    if lost:
        raise ChainError(
            f"the log's table {table.name} has no column {', '.join(lost)}, of which rows were sealed: this release "
            "cannot seal this log; use the one that wrote it"
        )
    return [*known, *(name for name in names if name not in known)]


def _append(
    chain: SealedChain, kind: str, rows: Sequence[Row], state: _State, columns: Sequence[str], group: str
) -> SealedRecord | None:
    """Records of the sessions of a batch, in order; each says how far the table is sealed with it."""
    session, grouped = columns.index("session"), columns.index(group)
    by_session: dict[str, list[Row]] = {}
    for row in rows:
        by_session.setdefault(str(row[session]), []).append(row)
    done, last = state.count - len(rows), None
    for day, own in sorted(by_session.items()):
        done += len(own)
        groups: dict[str, list[str]] = {}
        for row in own:
            groups.setdefault(row[grouped], []).append(row_text(row))
        last = chain.append(
            kind,
            day,
            {
                "of": {name: [len(lines), lines_digest(lines)] for name, lines in sorted(groups.items())},
                "ids": id_ranges([row[0] for row in own]),
                "last": state.last,
                "sealed": done,
                "open": list(state.still_open),
            },
        )
    return last


def _batches(
    chain: SealedChain, kind: str, state: _State, columns: Sequence[str]
) -> Iterator[tuple[list[Row], _State]]:
    """Complete rows that are not sealed, by id, with the state after each batch; a batch without any is left out."""
    connection, (table, _), status = chain.connection, _TABLES[kind], columns.index("status")
    selected = sa.select(*(table.c[name] for name in columns)).order_by(table.c.id)
    found = [row for row in _rows_of(connection, selected, table, state.still_open) if row[status] != "pending"]
    answered = {row[0] for row in found}
    state = replace(state, still_open=tuple(row for row in state.still_open if row not in answered))
    while True:
        later = _plain(driver_rows(connection, selected.where(table.c.id > state.last).limit(_AT_ONCE)))
        pending = [row[0] for row in later if row[status] == "pending"]
        found += [row for row in later if row[status] != "pending"]
        state = _State(later[-1][0] if later else state.last, state.count + len(found), (*state.still_open, *pending))
        if len(later) < _AT_ONCE:
            break
        if found:
            yield sorted(found), state
        found = []
    # PostgreSQL gives ids before rows are committed: a slow writer's may be smaller than what was seen already.
    if connection.dialect.name == "postgresql":
        missed = _rows_of(connection, selected, table, _missed(chain, kind, state, {row[0] for row in found}))
        complete = [row for row in missed if row[status] != "pending"]
        still_open = (*state.still_open, *(row[0] for row in missed if row[status] == "pending"))
        found += complete
        state = replace(state, count=state.count + len(complete), still_open=still_open)
    if found:
        yield sorted(found, key=lambda row: row[0]), state


def _missed(chain: SealedChain, kind: str, state: _State, found: Collection[int]) -> list[int]:
    """Ids that are there, and neither sealed nor found nor known to be open."""
    connection, (table, _) = chain.connection, _TABLES[kind]
    total = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    if total <= state.count + len(state.still_open):
        return []
    known = {one for record in chain.all(kind) for one in ids_in(record.values["ids"])} | {*found, *state.still_open}
    present = connection.execute(sa.select(table.c.id).where(table.c.id <= state.last)).scalars()
    return [one for one in present if one not in known]


def _rows_of(connection: Connection, selected: sa.Select[Any], table: sa.Table, ids: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    for begin in range(0, len(ids), _BOUND):
        rows += _plain(driver_rows(connection, selected.where(table.c.id.in_(ids[begin : begin + _BOUND]))))
    return rows


def sealed_rows(
    connection: Connection,
    chain: Sequence[SealedRecord],
    kind: str,
    groups: Collection[str],
    sessions: tuple[str, str],
) -> Iterator[str]:
    """The rows that a chain seals, as the lines that its digests are of.

    Rows that are gone are missing; who checks the digests sees it.

    Parameters
    ----------
    connection
        Of the log.
    chain
        All of its records up to some number.
    kind, groups
        Of these models, or experiments.
    sessions
        After the first and up to the second of these (ISO dates).
    """
    table, group = _TABLES[kind]
    columns: list[str] = []
    for record in chain:
        if record.kind == _FORMS[kind]:
            columns = record.values["columns"]
        if record.kind != kind or not sessions[0] < record.subject <= sessions[1]:
            continue
        where = (table.c.session == date.fromisoformat(record.subject), table.c[group].in_(list(groups)))
        selected = sa.select(*(table.c[name] for name in columns)).where(*where).order_by(table.c.id)
        own = {*ids_in(record.values["ids"])}
        yield from (row_text(row) for row in _plain(driver_rows(connection, selected)) if row[0] in own)


def row_text(row: Row) -> str:
    """A row as JSON on one line: doubles read back equal, days and instants (UTC) as SQLite keeps them."""
    return _ENCODER.encode(row)


def lines_digest(lines: Sequence[str]) -> str:
    """SHA-256 of the lines, each with its line break."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def id_ranges(ids: Sequence[int]) -> list[list[int]]:
    """Rising ids as first and last of each run without a gap."""
    values = np.array(sorted(ids), dtype=np.int64)
    cuts = np.flatnonzero(np.diff(values) != 1) + 1
    return [[int(run[0]), int(run[-1])] for run in np.split(values, cuts) if len(run)]


def ids_in(ranges: Sequence[Sequence[int]]) -> Iterator[int]:
    """The ids of :func:`id_ranges`."""
    for first, last in ranges:
        yield from range(first, last + 1)


def _plain(rows: Sequence[Row]) -> list[Row]:
    """Days and instants as text: PostgreSQL's driver gives objects, SQLite's what it has stored."""
    if not rows or not any(isinstance(value, date) for value in rows[0]):
        return [tuple(row) for row in rows]
    return [tuple(map(_as_text, row)) for row in rows]


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return value.isoformat() if isinstance(value, date) else value
