"""What a state folder holds, as rows that two runs must have in common; what may differ between runs is left out."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sqlite3
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object

from benchmarks.kill_matrix.boundaries import VOLATILE
from financial_assets.market.clock import HistoricalClock
from financial_assets.market.store import PriceStore
from financial_assets.tracking.owners import owner_is_alive

Holdings = Mapping[str, Counter[str]]
"""Part of the state folder -> its rows, as text, and how often each is there."""

_VOLATILE_COLUMNS = {
    "id",  # in the order of insertion
    "request_id",
    "latency_s",
    "attempts",  # a request that a killed run left open is sent again
    "opened_at",
    "intended_at",
    "sent_at",
    "completed_at",
    "registered_at",
    "noted_at",
    "decided_at",
    "approved_at",
}
_ROUTED = ("experiment", "epoch", "session", "target_session", "ticker", "status", "regime", "inclusion")
_ANSWER = ("probability_up", "q01", "q05", "q50", "q95", "q99", "q50_5d", "excess_return")
_TRAFFIC = ("guardrails", "traffic_digest", "digest")
_ROUNDING = 1e-5
_VOLATILE_ARRAYS = {
    *("panel.npy", "lineage.npy", "state.npy"),  # which writing of something else an array belongs to
    "longest.npy",  # times of requests
}
_DRAWN = ("model", "latency_s", "sent_at")
"""Columns of kept requests that differ between runs: the draw of the gateway, and times."""
_UNCOMPARED_TABLES = {
    "replay_locks",  # who sends, while it sends
    "prediction_log_version",
    "sealed_records",  # digests of the rows of the others, ids and instants among them
    "complete_sessions",  # which sessions need not be read again, noted by whoever reads them next
}
_AS_OF_THE_CLOCK = ("panel", "features")
_RUN_TAGS = ("dagster.", "mlflow.", "financial_assets.owner.")
_LITTER = re.compile(r"^\..+\.[a-z0-9_]{8}(\.[^.]*)?$")
_OPEN = ("RUNNING", "SCHEDULED")


@dataclass(frozen=True)
class Difference:
    """How a state folder differs from another one, which nothing disturbed.

    Attributes
    ----------
    lost, doubled, foreign
        Rows, each with its part: missing here, here more often than there, and unknown there.
    """

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    foreign: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.foreign)


def compare(found: Holdings, undisturbed: Holdings, further: Holdings | None = None) -> Difference:
    """Row by row.

    Parameters
    ----------
    found
        Of the state folder in which a run was broken off.
    undisturbed
        Of the one that nothing disturbed.
    further
        Of that one after another run. Panel and features reach as far as the market clock stood when a run began; a run
        that goes on after another, which has moved the clock, takes them as far as this one.
    """
    lost, doubled, foreign = list[str](), list[str](), list[str]()
    for part in sorted({*found, *undisturbed}):
        here, there = found.get(part, Counter()), undisturbed.get(part, Counter())
        if further is not None and part in _AS_OF_THE_CLOCK:
            there = there | (here & further.get(part, Counter()))
        lost += [f"{part}: {row}" for row in (there - here).elements()]
        for row in (here - there).elements():
            (doubled if there[row] else foreign).append(f"{part}: {row}")
    return Difference(tuple(lost), tuple(doubled), tuple(foreign))


def holdings(home: Path) -> Holdings:
    """Everything that the jobs leave in the state folder ``home``."""
    parts: dict[str, Counter[str]] = {}
    if (home / "predictions.db").exists():
        parts |= _prediction_log(home / "predictions.db")
    if (home / "mlflow.db").exists():
        parts |= _tracked(home / "mlflow.db")
    if (home / "prices").exists():
        store = PriceStore(home / "prices")
        parts["prices"] = _rows(store.read())
        parts["prices/history"] = Counter(f"{change.old_hash} -> {change.new_hash}" for change in store.history())
    if (home / "clock.json").exists():
        parts["market clock"] = Counter([f"{HistoricalClock(home / 'clock.json').now():%Y-%m-%d}"])
    for path in sorted((home / "signals").glob("*")):
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        parts[f"signals/{path.name}"] = _rows(frame)
    parts["panel"] = _by_session(sorted((home / "panel").glob("*.npz")), "days", ("values", "valid", "adjusted"))
    parts["features"] = _by_session(sorted((home / "features").glob("features*.npz")), "sessions", ("values", "valid"))
    kept_requests = home / "evidence" / "requests.npz"
    for pattern in ("evidence/*.npz", "drift/*.npz"):
        for path in sorted(home.glob(pattern)):
            rows = _kept_requests(path) if path == kept_requests else _arrays(path)
            parts[path.relative_to(home).as_posix()] = rows
    for pattern in ("evidence/**/*.parquet", "models/baseline-predictions/**/*.parquet", "reports/**/*.parquet"):
        for path in sorted(home.glob(pattern)):
            if "load" not in path.parts:  # the times of requests
                # Once each: a killed writer may leave a file that nobody reads beside the one that is read.
                part = _part(home, path)
                parts[part] = Counter({*parts.get(part, ()), *_rows(pd.read_parquet(path))})
    documents = ["training.json", "market.json", "models/*/current.json", "models/baselines/*.json"]
    for path in sorted(path for pattern in documents for path in home.glob(pattern)):
        text = json.dumps(json.loads(path.read_text()), sort_keys=True)
        parts[path.relative_to(home).as_posix()] = Counter([VOLATILE.sub("*", text)])
    records = sorted((home / "reports" / "decisions").glob("*.json"))
    parts["reports/decisions"] = Counter(_without_traffic(path.read_text()) for path in records)
    if (home / "days.json").exists():
        days = json.loads((home / "days.json").read_text())
        claim = days["claim"]
        is_held = claim is not None and owner_is_alive(claim["owner"])  # that of a dead process holds nobody up
        parts["days.json"] = Counter([f"claimed: {is_held}", f"completed {days.get('completed')}"])
    if (home / "serving" / "desired.json").exists():
        desired = json.loads((home / "serving" / "desired.json").read_text())
        parts["served"] = Counter([*desired["models"], json.dumps(desired["experiments"], sort_keys=True)])
    return {part: rows for part, rows in parts.items() if rows}


def litter(home: Path) -> tuple[str, ...]:
    """Temporary files of killed processes, relative to the state folder."""
    return tuple(sorted(path.relative_to(home).as_posix() for path in home.rglob(".*") if _LITTER.match(path.name)))


def left_open(home: Path) -> tuple[str, ...]:
    """Runs of MLflow that have not ended."""
    if not (home / "mlflow.db").exists():
        return ()
    with _reading(home / "mlflow.db") as store:
        rows = store.execute("SELECT name, status FROM runs").fetchall()
    return tuple(f"{name} is {status}" for name, status in rows if status in _OPEN)


def _reading(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    return connection


def _prediction_log(path: Path) -> dict[str, Counter[str]]:
    with _reading(path) as log:
        names = [row["name"] for row in log.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {
            name: [
                {key: value for key, value in dict(row).items() if key not in _VOLATILE_COLUMNS}
                for row in log.execute(f"SELECT * FROM {name}")
            ]
            for name in names
            if name not in _UNCOMPARED_TABLES
        }
    tables["decisions"] = [{"document": _without_traffic(row["document"])} for row in tables["decisions"]]
    tables["routed_predictions"] = _without_the_draw(tables["routed_predictions"], tables["direct_predictions"])
    return {f"prediction log/{name}": Counter(map(_text, rows)) for name, rows in tables.items()}


def _without_the_draw(routed: list[dict[str, Any]], direct: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Routed requests without the arm, which the gateway draws anew in each run: what it answered must be its own."""
    answers = {(row["session"], row["ticker"], row["model"]): row for row in direct}
    rows: list[dict[str, Any]] = []
    for row in routed:
        own = answers.get((row["session"], row["ticker"], row["model"]), {})
        differing = sorted(key for key in _ANSWER if not _agree(row[key], own.get(key)))
        rows.append({key: row[key] for key in _ROUTED} | {"differs from its arm in": differing})
    return rows


def _without_traffic(document: str) -> str:
    """A decision record but for what is about the draw of the gateway and its latency."""
    record = {key: value for key, value in json.loads(document).items() if key not in _TRAFFIC}
    return json.dumps(record, sort_keys=True)


def _part(home: Path, path: Path) -> str:
    """Without what names one run's file."""
    return VOLATILE.sub("*", path.relative_to(home).as_posix())


def _agree(value: float | None, other: float | None) -> bool:
    """Up to the rounding of float32, which depends on how many rows one request has."""
    return value == other or (value is not None and other is not None and abs(value - other) < _ROUNDING)


def _tracked(path: Path) -> dict[str, Counter[str]]:
    """Registered versions, and the runs that ended well; those of killed processes, and of pipelines, are not work."""
    with _reading(path) as store:
        tags = store.execute("SELECT name, version, key, value FROM model_version_tags").fetchall()
        versions: dict[tuple[str, int], dict[str, str]] = {}
        for row in store.execute("SELECT name, version FROM model_versions"):
            versions[row["name"], row["version"]] = {}
        for row in tags:
            if not row["key"].startswith(_RUN_TAGS):
                versions[row["name"], row["version"]][row["key"]] = row["value"]
        aliases = store.execute("SELECT name, alias, version FROM registered_model_aliases").fetchall()
        kinds = "SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'financial_assets.kind'"
        runs = store.execute(f"SELECT name, ({kinds}) AS kind FROM runs WHERE status = 'FINISHED'").fetchall()
    return {
        "registry/versions": Counter(_text({"version": key[1], **value}) for key, value in versions.items()),
        "registry/aliases": Counter(f"{row['alias']} -> {row['version']}" for row in aliases),
        "tracked runs": Counter(f"{row['kind']} {row['name']}" for row in runs if row["kind"] != "pipeline"),
    }


def _rows(frame: pd.DataFrame) -> Counter[str]:
    """Large frames by the hash of their rows."""
    if len(frame) > 500:
        return Counter(map(str, hash_pandas_object(frame.reset_index(drop=True), index=False)))
    return Counter(_text(row) for row in frame.to_dict("records"))


def _by_session(paths: Sequence[Path], days: str, names: Sequence[str]) -> Counter[str]:
    """Arrays whose last axis is the session, by session: how many sessions one file holds is of no account.

    Files are in their order, and what a later one says of a session counts.
    """
    rows: dict[str, str] = {}
    for path in paths:
        with np.load(path, allow_pickle=True) as arrays:
            found = {name: arrays[name] for name in (days, *names)}
        for place, day in enumerate(found[days]):
            contents = [np.ascontiguousarray(found[name][..., place]).tobytes() for name in names]
            rows[str(day)] = hashlib.sha256(b"".join(contents)).hexdigest()[:16]
    return Counter(f"{day} {digest}" for day, digest in rows.items())


def _arrays(path: Path) -> Counter[str]:
    """Each array by its digest: the archive around them holds the time of its writing."""
    with zipfile.ZipFile(path) as archive:
        return Counter(
            f"{name} {hashlib.sha256(archive.read(name)).hexdigest()[:16]}"
            for name in archive.namelist()
            if name not in _VOLATILE_ARRAYS
        )


def _kept_requests(path: Path) -> Counter[str]:
    """The requests that the guardrails watch, but for what the gateway draws and how long it took."""
    with zipfile.ZipFile(path) as archive:
        state = json.loads(np.load(io.BytesIO(archive.read("state.npy"))).tobytes())
        records = np.load(io.BytesIO(archive.read("rows.npy")))
    # Texts are kept as numbers into these; a negative one is nothing.
    texts = {name: (*distinct, None) for name, distinct in state["texts"].items()}
    rows = (
        {name: texts[name][record[name]] if name in texts else str(record[name]) for name in state["columns"]}
        for record in records
    )
    return Counter(_text({name: value for name, value in row.items() if name not in _DRAWN}) for row in rows)


def _text(row: Mapping[Any, Any]) -> str:
    return json.dumps({str(key): value for key, value in row.items()}, sort_keys=True, default=str)
