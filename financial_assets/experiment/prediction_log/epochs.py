"""Weight epochs in the prediction log's database."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.arms import WeightEpoch, arm_from_json, arm_to_json
from financial_assets.experiment.prediction_log import schema

__all__ = ["insert_epoch", "select_epochs"]


def insert_epoch(connection: Connection, epoch: WeightEpoch) -> None:
    """Append an epoch; of two writers that both follow the same epoch, the primary key refuses the second.

    Raises
    ------
    LogError
        If it does not follow the latest one.
    """
    query = sa.select(sa.func.max(schema.epochs.c.epoch)).where(schema.epochs.c.experiment == epoch.experiment)
    latest = int(connection.execute(query).scalar() or 0)
    if epoch.number != latest + 1:
        raise LogError(
            f"experiment {epoch.experiment} is at weight epoch {latest}, not {epoch.number - 1}: another process "
            "changed it meanwhile; read it again"
        )
    connection.execute(
        sa.insert(schema.epochs).values(
            experiment=epoch.experiment,
            epoch=epoch.number,
            opened_at=epoch.opened_at.to_pydatetime(),
            arms=[arm_to_json(arm) for arm in epoch.arms],
            reason=epoch.reason,
            regimes={label: dict(weights) for label, weights in epoch.regimes.items()} or None,
        )
    )


def select_epochs(connection: Connection, experiment: str | None) -> tuple[WeightEpoch, ...]:
    """The epochs of one or of every experiment, by experiment and number.

    Raises
    ------
    LogError
        If the arms of one cannot be read.
    """
    table = schema.epochs
    query = sa.select(table).order_by(table.c.experiment, table.c.epoch)
    if experiment is not None:
        query = query.where(table.c.experiment == experiment)
    return tuple(_epoch(row) for row in connection.execute(query))


def _epoch(row: sa.Row[Any]) -> WeightEpoch:
    try:
        arms = tuple(arm_from_json(values) for values in row.arms)
        opened = pd.Timestamp(row.opened_at)
        return WeightEpoch(row.experiment, row.epoch, opened, arms, row.reason, dict(row.regimes or {}))
    except (TypeError, ValueError, KeyError, AttributeError, ExperimentError) as error:
        shown = json.dumps(row.arms)[:200]
        raise LogError(f"weight epoch {row.epoch} of {row.experiment} has unreadable arms {shown}: {error}") from error
