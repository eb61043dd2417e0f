"""Totals of the prediction log, summed by its database: what counters and histograms are made of.

A completed prediction never changes, so every total only grows; nothing has to be remembered between two readings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.engine import transaction
from financial_assets.experiment.prediction_log.rows import select_epochs

UNATTRIBUTED = "unattributed"
"""In place of the model where the gateway did not name an arm; no served model can have this name."""


@dataclass(frozen=True)
class Requests:
    """Number of routed requests of one weight epoch, model and regime that ended in one way (or are ``pending``)."""

    experiment: str
    epoch: int
    model: str
    status: str
    regime: str | None
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

    @property
    def current_epochs(self) -> tuple[WeightEpoch, ...]:
        """The latest weight epoch of each experiment."""
        return tuple({epoch.experiment: epoch for epoch in self.epochs}.values())


def read_totals(engine: Engine, latency_bounds: Sequence[float], probability_bounds: Sequence[float]) -> LogTotals:
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
    answered = sa.select(table.c.experiment, sa.func.max(table.c.completed_at)).where(table.c.status == "ok")
    with transaction(engine) as connection:
        return LogTotals(
            epochs=select_epochs(connection, None),
            requests=_requests(connection),
            latency=_histograms(connection, table.c.latency_s, latency_bounds, table.c.status != "pending"),
            probability=_histograms(connection, table.c.probability_up, probability_bounds, table.c.status == "ok"),
            last_answer={
                experiment: pd.Timestamp(instant)
                for experiment, instant in connection.execute(answered.group_by(table.c.experiment))
            },
        )


_model = sa.func.coalesce(schema.routed.c.model, UNATTRIBUTED)


def _requests(connection: Connection) -> tuple[Requests, ...]:
    table = schema.routed
    keys = (table.c.experiment, table.c.epoch, _model, table.c.status, table.c.regime)
    groups = connection.execute(sa.select(*keys, sa.func.count()).group_by(sa.text("1, 2, 3, 4, 5")))
    rows: list[tuple[Any, ...]] = sorted((tuple(row) for row in groups), key=lambda row: (*row[:4], row[4] or ""))
    return tuple(Requests(*row) for row in rows)


def _histograms(
    connection: Connection, value: sa.Column[float], bounds: Sequence[float], where: sa.ColumnElement[bool]
) -> tuple[Histogram, ...]:
    # The number of the first bucket that holds a value: one pass over the log instead of one per bound.
    bucket = sa.case(*((value <= bound, number) for number, bound in enumerate(bounds)), else_=len(bounds))
    keys = (schema.routed.c.experiment, _model, bucket.label("bucket"))
    query = sa.select(*keys, sa.func.count(), sa.func.sum(value)).where(where, value.is_not(None))
    counts: dict[tuple[str, str], list[int]] = {}
    totals: dict[tuple[str, str], float] = {}
    for experiment, model, number, count, total in connection.execute(query.group_by(sa.text("1, 2, 3"))):
        key = (experiment, model)
        counts.setdefault(key, [0] * (len(bounds) + 1))[number] = count
        totals[key] = totals.get(key, 0.0) + float(total)
    return tuple(
        Histogram(*key, tuple(zip((*bounds, math.inf), accumulate(counts[key]), strict=True)), totals[key])
        for key in sorted(counts)
    )
