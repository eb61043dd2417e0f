"""Files that were clean when they were last read, and are the same now: they are not read and judged again.

A source of files delivers whole histories, and a historical clock moves through them session by session while they
stay as they are. Whether they do is a question of their bytes, which costs little beside reading prices from them; the
time of a file's last change says nothing. What decides about a bar besides is part of the key: settings, the store's
content, and the code.

Only a delivery with nothing to tell but suspicious bars is remembered: whoever has bars left out or repaired, or a file
that cannot be read, hears it from the files themselves, each day. A bar that is not due yet is left out, so that a
delivery that is remembered does not depend on the day.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet

from financial_assets.atomic import atomic_path
from financial_assets.market import calendar
from financial_assets.market.frames import empty_prices
from financial_assets.market.ingestion import Ingestion
from financial_assets.market.quality.checks import results_of
from financial_assets.market.quality.screening import Screening
from financial_assets.market.sources.files.places import find_files
from financial_assets.market.sources.files.source import FilePrices
from financial_assets.market.store import PriceStore

_KEY, _CHECKED, _UNCHANGED = b"delivery", b"checked", b"unchanged"
_DAMAGED = (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException)


def delivery_digest(source: FilePrices, tickers: Sequence[str], settings: Sequence[str]) -> str:
    """Names the files' bytes and all that decides how they are read and judged.

    Parameters
    ----------
    settings
        What else decides it: the span that is asked for.

    Raises
    ------
    SourceError
        There are no files.
    """
    digest = hashlib.sha256(repr((source.paths, source.rules, list(tickers), list(settings))).encode())
    digest.update(repr((calendar.name(), pd.__version__, pyarrow.__version__, _code())).encode())
    for path, name in find_files(source.paths):
        with path.open("rb") as stream:
            digest.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()


@cache
def _code() -> str:
    """Hash of the code that reads and judges prices, as it is on the disk when this process first asks.

    While that is being replaced (an upgrade, a checkout), a file that was listed may be gone. Then nobody knows what
    this process is executing: its version is one that no other has, and nothing is known again.
    """
    digest = hashlib.sha256()

    def add(folder: Traversable) -> None:
        for entry in sorted(folder.iterdir(), key=lambda each: each.name):
            if entry.name.endswith(".py"):
                digest.update(entry.name.encode() + b"\0" + entry.read_bytes())
            elif entry.is_dir() and entry.name != "__pycache__":  # where files come and go, none of them source
                add(entry)

    try:
        add(files("financial_assets.market"))
    except FileNotFoundError:
        return uuid.uuid4().hex
    return digest.hexdigest()


def remember(path: Path, digest: str, outcome: Ingestion, store: PriceStore) -> None:
    """Keep a clean outcome with the digest of its delivery, atomically; forget what is there after any other one."""
    if not _is_clean(outcome):
        path.unlink(missing_ok=True)
        return
    assert outcome.report is not None
    table = pyarrow.Table.from_pandas(outcome.screening.suspicious, preserve_index=False)
    held = outcome.report.added + outcome.report.unchanged + len(outcome.report.restated)
    numbers = {_CHECKED: outcome.screening.checked, _UNCHANGED: held}
    named = {_KEY: _key(digest, store), **{name: str(number) for name, number in numbers.items()}}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **named})
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def remembered(path: Path, digest: str, store: PriceStore) -> Ingestion | None:
    """The outcome of the same delivery into the same store, without its prices; ``None``: it must be read.

    A file that is damaged is none: all of it can be made anew from the prices.
    """
    try:
        table = pyarrow.parquet.read_table(path)
        named = table.schema.metadata or {}
        if named[_KEY].decode() != _key(digest, store):
            return None
        suspicious, checked, unchanged = table.to_pandas(), int(named[_CHECKED]), int(named[_UNCHANGED])
    except _DAMAGED:
        return None
    nothing = suspicious.head(0)
    screening = Screening(
        "quarantine", empty_prices(), empty_prices(), nothing, suspicious, nothing, {}, {}, (), checked
    )
    # No row was let in this time, but none had to be: nothing blocks.
    quality = tuple(replace(result, blocking=False) for result in results_of(screening, empty_prices()))
    report = replace(store.upsert(empty_prices()), unchanged=unchanged)
    return Ingestion(empty_prices(), {}, (), quality, report, screening)


def _key(digest: str, store: PriceStore) -> str:
    return f"{digest} {len(store.history())} {store.content_hash()}"


def _is_clean(outcome: Ingestion) -> bool:
    """Whether there is nothing to tell of a delivery but suspicious bars."""
    screening, report = outcome.screening, outcome.report
    is_told = outcome.failures or outcome.notes or outcome.doubtful or screening.waiting or screening.overridden
    left_out = len(screening.quarantined) + len(screening.repaired) + len(outcome.missing_at_source)
    return report is not None and screening.policy == "quarantine" and not is_told and not left_out
