"""The log's routed predictions as the guardrails watch them, kept on disk: only sessions with news are read again.

As for :mod:`.kept_predictions`: the log is append-only and its results are final, the result is that of
:meth:`LogReader.routed` bit for bit, and all of it can be made anew. Requests are few, so that one file holds them all,
behind its own digest, and is written again whenever there are new ones.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_write_bytes
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.experiment.prediction_log.shared_reads import SharedReads


@dataclass(frozen=True)
class _State:
    """What is kept: of which experiment, how far the log was read, sessions with open intents, and texts by column.

    A column of texts is kept as numbers of the texts; a negative one is nothing.
    """

    experiment: str
    columns: tuple[str, ...]
    last: int = 0
    count: int = 0
    begun: str = ""
    pending: tuple[str, ...] = ()
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instants: tuple[str, ...] = ()


_STATE = TypeAdapter(_State)
_DIGEST = 16  # bytes


class KeptRequests:
    """Where routed predictions of an experiment are kept.

    Parameters
    ----------
    path
        The file; its folder is made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def routed(
        self, log: LogReader | SharedReads, experiment: str, until: pd.Timestamp, columns: Sequence[str]
    ) -> pd.DataFrame:
        """What ``log.routed(experiment, until=until, columns=columns)`` gives; what is not kept yet is from now on.

        Parameters
        ----------
        log, experiment, until
            Of which log, or of reads of it that others share.
        columns
            Of the log; ``epoch``, ``session`` and ``status`` among them, none of nullable whole numbers.
        """
        end, found = log.last_request(), self._load(experiment, tuple(columns))
        news = None if found is None else log.requests_after(experiment, found[0].last, found[0].begun)
        if found is None or news is None or found[0].count + news[0] != end[1]:
            whole = log.routed(experiment, columns=columns)
            self._save(_State(experiment, tuple(columns), *end), whole)
            return _up_to(whole, until)
        state, whole = found
        again = [*(news[1] | {pd.Timestamp(day) for day in state.pending})]
        if again:
            rows = log.routed(experiment, since=min(again), until=max(again), columns=columns)
            whole = pd.concat(
                [whole[~whole["session"].isin(again)], rows[rows["session"].isin(again)]], ignore_index=True
            )
            # A session is whole in one of the two, and its tickers are ordered.
            order = np.lexsort((whole["session"].to_numpy(), whole["epoch"].to_numpy()))
            whole = whole.iloc[order].reset_index(drop=True)
        if again or news[0]:
            self._save(_State(experiment, tuple(columns), *end), whole)
        return _up_to(whole, until)

    def _save(self, read: _State, rows: pd.DataFrame) -> None:
        texts, arrays, instants = dict[str, tuple[str, ...]](), dict[str, np.ndarray](), list[str]()
        for name in read.columns:
            column = rows[name]
            if column.dtype == object:
                codes, distinct = pd.factorize(column.to_numpy())
                texts[name], arrays[name] = tuple(map(str, distinct)), codes
            elif isinstance(column.dtype, pd.DatetimeTZDtype):
                instants.append(name)
                arrays[name] = pd.DatetimeIndex(column).tz_convert(None).to_numpy()
            else:
                arrays[name] = column.to_numpy()
        open_days = rows.loc[(rows["status"] == "pending").to_numpy(), "session"].unique()
        pending = tuple(f"{pd.Timestamp(day):%Y-%m-%d}" for day in sorted(open_days))
        state = _State(
            read.experiment, read.columns, read.last, read.count, read.begun, pending, texts, tuple(instants)
        )
        # One array of records: each array is a file of its own in the archive, and takes longer to open than to read.
        records = np.empty(len(rows), [(name, values.dtype) for name, values in arrays.items()])
        for name, values in arrays.items():
            records[name] = values
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, state=np.frombuffer(_STATE.dump_json(state), dtype=np.uint8), rows=records)
        content = stream.getvalue()
        atomic_write_bytes(self._path, _digest(content) + content)

    def _load(self, experiment: str, columns: tuple[str, ...]) -> tuple[_State, pd.DataFrame] | None:
        """What is kept; ``None`` for a file that is missing, damaged, or of other columns or another experiment."""
        try:
            written = self._path.read_bytes()
        except FileNotFoundError:
            return None
        digest, content = written[:_DIGEST], written[_DIGEST:]
        if digest != _digest(content):
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            try:
                state = _STATE.validate_json(held["state"].tobytes())
            except ValidationError:  # of another version
                return None
            if (state.experiment, state.columns) != (experiment, columns):
                return None
            if "rows" not in held:  # of an earlier version
                return None
            records = held["rows"]
        arrays = {name: np.ascontiguousarray(records[name]) for name in columns}
        for name, distinct in state.texts.items():
            arrays[name] = np.array([*distinct, None], dtype=object)[arrays[name]]
        instants = {name: pd.DatetimeIndex(arrays[name], tz="UTC") for name in state.instants}
        return state, pd.DataFrame(arrays | instants, columns=list(columns))


def _up_to(rows: pd.DataFrame, until: pd.Timestamp) -> pd.DataFrame:
    early = (rows["session"] <= until).to_numpy()
    return rows if early.all() else rows[early].reset_index(drop=True)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
