"""The log's direct predictions as the report reads them, kept on disk: only sessions with news are read from the log.

The log is append-only and its results are final, so that whatever is new has a larger id, or was pending: those
sessions are read again as a whole, and the result is that of :meth:`LogReader.direct` bit for bit. All of it can be
made anew: files that are missing, damaged, of other columns or of another log cost time only.

Beside ``predictions.json``, which is written last and begins with its own digest, lie the files that it names with
theirs; whatever it does not name is void. Of two processes that write at once, the last one's stays.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_write_bytes
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.experiment.prediction_log.shared_reads import SharedReads

MOST_PARTS = 21
"""Files, after which all is written as one anew: a month of sessions."""


@dataclass(frozen=True)
class _State:
    """What is kept: how far the log was read (as by ``LogReader.last_direct``), and which file has which session.

    ``pending`` are sessions with open intents; ``digests`` are those of the files.
    """

    columns: tuple[str, ...]
    last: int = 0
    count: int = 0
    begun: str = ""
    pending: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


_STATE = TypeAdapter(_State)


class KeptPredictions:
    """Where direct predictions are kept.

    Parameters
    ----------
    folder
        Made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def direct(self, log: LogReader | SharedReads, columns: Sequence[str]) -> pd.DataFrame:
        """What ``log.direct(columns=columns)`` gives; what is not kept yet is kept from now on.

        Parameters
        ----------
        log
            The prediction log, or reads of it that others share.
        columns
            Of the log; ``session``, ``ticker``, ``model`` and ``status`` among them.
        """
        state, read = self._load(tuple(columns)), log.last_direct()
        news = log.direct_after(None, state.last, state.begun) if state.files else None
        parts = self._parts(state) if news is not None and state.count + news[0] == read[1] else None
        if news is None or parts is None:
            rows = log.direct(columns=columns)
            return self._save(_State(tuple(columns), *read), [], rows, _days(rows))[0]
        again = news[1] | {pd.Timestamp(day) for day in state.pending}
        if not again:
            return _joined(parts)
        rows = log.direct(since=min(again), until=max(again), columns=columns)
        rows = rows[rows["session"].isin(list(again))].reset_index(drop=True)
        days = {_iso(session) for session in again}
        parts = [part[~part["session"].isin(list(again))] if days & set(_days(part)) else part for part in parts]
        files = {day: file for day, file in state.files.items() if day not in days}
        return self._save(_State(tuple(columns), *read, (), files, state.digests), parts, rows, sorted(days))[0]

    def _save(
        self, state: _State, parts: list[pd.DataFrame], rows: pd.DataFrame, days: Iterable[str]
    ) -> tuple[pd.DataFrame, _State]:
        """Write ``rows`` of the sessions ``days`` beside ``parts``, then the state that names them; all rows."""
        whole = _joined([*parts, rows])
        named = set(state.files.values())
        if len(named) >= MOST_PARTS:
            rows, days, named, state = whole, _days(whole), set[str](), _without_files(state)
        file = f"{uuid.uuid4().hex}.parquet"
        stream = io.BytesIO()
        rows.to_parquet(stream, index=False)
        atomic_write_bytes(self._folder / file, stream.getvalue())
        pending = _days(whole[whole["status"].to_numpy() == "pending"])
        digests = {name: digest for name, digest in state.digests.items() if name in named}
        state = _State(
            state.columns,
            state.last,
            state.count,
            state.begun,
            tuple(pending),
            {**state.files, **dict.fromkeys(days, file)},
            {**digests, file: _digest(stream.getbuffer())},
        )
        body = _STATE.dump_json(state)
        atomic_write_bytes(self._folder / "predictions.json", _digest(body).encode() + b"\n" + body)
        for path in self._folder.glob("*.parquet"):
            if path.name not in {*named, file}:
                path.unlink(missing_ok=True)
        return whole, state

    def _load(self, columns: tuple[str, ...]) -> _State:
        """What is kept; nothing for a file that is missing, damaged or of other columns."""
        try:
            digest, _, body = (self._folder / "predictions.json").read_bytes().partition(b"\n")
            state = _STATE.validate_json(body) if digest.decode() == _digest(body) else _State(columns)
        except (FileNotFoundError, UnicodeDecodeError, ValidationError):
            return _State(columns)
        return state if state.columns == columns else _State(columns)

    def _parts(self, state: _State) -> list[pd.DataFrame] | None:
        """The rows of each file that still count; ``None`` where one is gone or damaged."""
        parts: list[pd.DataFrame] = []
        for file in dict.fromkeys(state.files.values()):
            try:
                content = (self._folder / file).read_bytes()
            except FileNotFoundError:  # or just replaced by another process
                return None
            if _digest(content) != state.digests.get(file):
                return None
            rows = _frame(content, state.columns)
            owned = {pd.Timestamp(day) for day, name in state.files.items() if name == file}
            codes, sessions = pd.factorize(rows["session"])
            counts = np.array([session in owned for session in pd.DatetimeIndex(sessions)], dtype=bool)
            parts.append(rows if counts.all() else rows[counts[codes]])
        return parts


def _without_files(state: _State) -> _State:
    return _State(state.columns, state.last, state.count, state.begun)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows in the log's order: a session is whole in its part, and ordered."""
    if len(parts) == 1:
        whole = parts[0].reset_index(drop=True)
    else:
        # By column, and not put together into blocks: that would copy all of them twice again.
        columns = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
        whole = pd.DataFrame(columns, copy=False)
    session = whole["session"].to_numpy()
    if (session[1:] < session[:-1]).any():
        whole = whole.iloc[np.argsort(session, kind="stable")].reset_index(drop=True)
    return whole


def _frame(content: bytes, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of a file; one object per distinct text, as the log gives them, so that later comparisons are fast."""
    texts = [name for name in columns if isinstance(schema.direct.c[name].type, sa.String)]
    table = pyarrow.parquet.read_table(io.BytesIO(content), read_dictionary=texts)
    rows = table.to_pandas(split_blocks=True)  # one array per column: they are put together with others by column
    for name in texts:
        distinct = np.array([*rows[name].cat.categories, None], dtype=object)
        rows[name] = distinct[rows[name].cat.codes.to_numpy()]  # -1, the last one, is nothing
    rows["session"] = rows["session"].astype("datetime64[ns]")
    return rows


def _days(rows: pd.DataFrame) -> list[str]:
    return [_iso(session) for session in pd.DatetimeIndex(np.unique(rows["session"].to_numpy()))]


def _iso(session: pd.Timestamp) -> str:
    return session.date().isoformat()


def _digest(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
