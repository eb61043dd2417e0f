"""Restores a lost market clock and lost data cut-offs from the prediction log and the files beside the models.

A clock that starts over would send the sessions of the log again, and a cut-off computed again from a store that has
grown would lie later than the one that models were trained with.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from financial_assets.errors import LogNotFoundError
from financial_assets.experiment.prediction_log import schema as log_schema
from financial_assets.experiment.prediction_log.engine import transaction
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.market.clock import HistoricalClock, PinnedSession
from financial_assets.monitoring.metrics import open_log


def recover_clock(clock: HistoricalClock, log_url: str) -> str:
    """Start a clock that was lost at the last session that was sent; returns what was done, empty if nothing.

    Raises
    ------
    LogError
        The prediction log cannot be read.
    """
    if clock.started:
        return ""
    with _opened(log_url) as reader:
        sent = _last_session(reader) if reader is not None else None
    if sent is None:
        return ""
    clock.start(sent)
    return f"{clock.path} was lost; the market clock is restored to {sent:%Y-%m-%d}, the last session of the log"


def recover_cutoffs(path: Path, log_url: str, models: Path) -> str:
    """Put back the data cut-offs in ``path`` if they were lost; returns what was done, empty if nothing.

    The first cut-off is the earliest of the weight epochs; a variant whose newest arm has learned from later
    sessions has a cut-off of its own, and so have the baselines.

    Raises
    ------
    LogError
        The prediction log cannot be read.
    """
    if PinnedSession(path, "first_data_cutoff").get() is not None:
        return ""
    with _opened(log_url) as reader:
        epochs = () if reader is None else reader.epochs()
    if not epochs:
        return ""
    # Not by the instant at which they were opened: a machine's clock may have been set back, cut-offs never are.
    first = min(epoch.data_cutoff for epoch in epochs)
    cutoffs = {"first_data_cutoff": first, "data_cutoff": first}
    # In the order of versions, so that the newest arm of a variant has the last word.
    arms = sorted((arm for epoch in epochs for arm in epoch.arms), key=lambda arm: arm.version)
    own = {f"models/{arm.variant}": arm.data_cutoff for arm in arms}
    fitted = sorted(path.stem for path in (models / "baselines").glob("*.json"))
    own |= {"baselines": pd.Timestamp(fitted[-1])} if fitted else {}
    cutoffs |= {f"data_cutoff of {learner}": cutoff for learner, cutoff in own.items() if cutoff > first}
    for key, session in cutoffs.items():
        PinnedSession(path, key).set(session)
    shown = json.dumps({key: f"{session:%Y-%m-%d}" for key, session in cutoffs.items()})
    return f"{path} was lost; the data cut-offs are restored from the log's arms: {shown}"


@contextmanager
def _opened(log_url: str) -> Generator[LogReader | None]:
    """The prediction log, ``None`` if there is none: reading must not make one."""
    try:
        log = open_log(log_url)
    except LogNotFoundError:
        yield None
        return
    with log:
        yield log


def _last_session(reader: LogReader) -> pd.Timestamp | None:
    with transaction(reader.engine) as connection:
        sessions = [
            connection.execute(sa.select(sa.func.max(table.c.session))).scalar()
            for table in (log_schema.routed, log_schema.direct)
        ]
    return max((pd.Timestamp(session) for session in sessions if session is not None), default=None)
