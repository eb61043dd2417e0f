"""Totals of the prediction log, summed by its database: what counters and histograms are made of.

A completed prediction never changes, so every total only grows; nothing has to be remembered between two readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url

from financial_assets.errors import LogError
from financial_assets.experiment import log_schema as schema
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.log_engine import transaction
from financial_assets.experiment.log_epochs import select_epochs

__all__ = ["UNATTRIBUTED", "Histogram", "LogTotals", "Requests", "read_totals", "refuse_missing_file"]

UNATTRIBUTED = "unattributed"
"""Stands for the model where the gateway did not name an arm; no served model can have this name."""


@dataclass(frozen=True)
class Requests:
    """Number of routed requests of one weight epoch and model that ended in one way (or are ``pending``)."""

    experiment: str
    epoch: int
    model: str
    status: str
    count: int


@dataclass(frozen=True)
class Histogram:
    """A histogram of one model.

    Attributes
    ----------
    experiment, model
        Whose.
    buckets
        (upper bound, number of values up to it), ascending, the last bound infinite.
    total
        Sum of the values.
    """

    experiment: str
    model: str
    buckets: tuple[tuple[float, int], ...]
    total: float


@dataclass(frozen=True)
class LogTotals:
    """One consistent reading of the log.

    Attributes
    ----------
    epochs
        All weight epochs, by experiment and number.
    requests
        Routed requests by epoch, model and status.
    latency
        Seconds to the end of a request, whatever its end.
    probability
        Answered probabilities.
    last_answer
        Experiment -> UTC instant of its latest answered request.
    """

    epochs: tuple[WeightEpoch, ...]
    requests: tuple[Requests, ...]
    latency: tuple[Histogram, ...]
    probability: tuple[Histogram, ...]
    last_answer: dict[str, pd.Timestamp]


def refuse_missing_file(url: str) -> None:
    """Raise ``LogError`` for an SQLite file that is not there: opening it would make an empty log."""
    try:
        parsed = make_url(url)
        missing = parsed.get_backend_name() == "sqlite" and not sa.create_engine(parsed).dialect.name == ""
    except sa.exc.ArgumentError:
        return  # opening it says what is wrong
    from pathlib import Path

    if missing and parsed.database and not Path(parsed.database).is_file():
        raise LogError(f"there is no prediction log {parsed.database}; run the full_pipeline job or a replay first")


def read_totals(
    engine: Engine, latency_bounds: Sequence[float], probability_bounds: Sequence[float]
) -> LogTotals:
    """Read all totals in one transaction.

    Parameters
    ----------
    engine
        The log's.
    latency_bounds, probability_bounds
        Finite upper bounds of the histograms, ascending.

    Raises
    ------
    LogError
        The database refuses.
    """
    table = schema.routed
    with transaction(engine) as connection:
        return LogTotals(
            epochs=select_epochs(connection, None),
            requests=_requests(connection),
            latency=_histograms(connection, table.c.latency_s, latency_bounds, table.c.status != "pending"),
            probability=_histograms(connection, table.c.probability_up, probability_bounds, table.c.status == "ok"),
            last_answer=_last_answers(connection),
        )
