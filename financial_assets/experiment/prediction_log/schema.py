"""Tables of the prediction log, for SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = 6
"""Raised whenever a table or column is added. Added columns must be nullable: rows of before have no value."""

UPGRADABLE = range(1, SCHEMA_VERSION)
"""Versions that lack nothing but whole tables and nullable columns; these are added when the log is opened."""

QUANTILE_COLUMNS = ("q01", "q05", "q50", "q95", "q99")
"""Quantiles of the next session's log return."""

QUANTILE_5D_COLUMNS = tuple(f"{name}_5d" for name in QUANTILE_COLUMNS)
"""Quantiles of the log return over five sessions; empty where the model has no such head."""

metadata = sa.MetaData()
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class UtcInstant(sa.TypeDecorator[datetime]):
    """A UTC instant; SQLite stores no time zone, so it is added again on reading."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Refuse naive instants, store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Add the zone again."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _answer_columns() -> list[sa.Column[Any]]:
    """Columns of routed and of direct predictions; one that has the name of a ``Result`` field is filled from it."""
    return [
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("failure", sa.String(16)),
        sa.Column("error", sa.Text),
        sa.Column("probability_up", sa.Float(53)),
        *(sa.Column(name, sa.Float(53)) for name in (*QUANTILE_COLUMNS, *QUANTILE_5D_COLUMNS)),
        sa.Column("excess_return", sa.Float(53)),
        sa.Column("latency_s", sa.Float(53)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("intended_at", UtcInstant, nullable=False),
        sa.Column("sent_at", UtcInstant, nullable=False),
        sa.Column("completed_at", UtcInstant),
    ]


version = sa.Table("prediction_log_version", metadata, sa.Column("version", sa.Integer, primary_key=True))

epochs = sa.Table(
    "weight_epochs",
    metadata,
    sa.Column("experiment", sa.String(255), primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("opened_at", UtcInstant, nullable=False),
    sa.Column("arms", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("regimes", sa.JSON(none_as_null=True)),
)

routed = sa.Table(
    "routed_predictions",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("request_id", sa.String(255), nullable=False),
    sa.Column("experiment", sa.String(255), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("session", sa.Date, nullable=False),
    sa.Column("target_session", sa.Date, nullable=False),
    sa.Column("ticker", sa.String(64), nullable=False),
    sa.Column("model", sa.String(255)),
    sa.Column("variant", sa.String(255)),
    sa.Column("model_version", sa.Integer),
    sa.Column("propensity", sa.Float(53)),
    *_answer_columns(),
    sa.Column("regime", sa.String(64)),
    sa.Column("inclusion", sa.Float(53)),  # none in rows of before there were samples: all tickers were asked for
    sa.UniqueConstraint("experiment", "epoch", "session", "ticker", name="routed_once"),
    sa.ForeignKeyConstraint(["experiment", "epoch"], ["weight_epochs.experiment", "weight_epochs.epoch"]),
)

direct = sa.Table(
    "direct_predictions",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("session", sa.Date, nullable=False),
    sa.Column("target_session", sa.Date, nullable=False),
    sa.Column("ticker", sa.String(64), nullable=False),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("variant", sa.String(255), nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    *_answer_columns(),
    sa.UniqueConstraint("session", "ticker", "model", name="direct_once"),
)

# What is complete stays complete, because results are final: so that nobody has to read all rows to know it.
complete = sa.Table(
    "complete_sessions",
    metadata,
    sa.Column("session", sa.Date, primary_key=True),
    sa.Column("model", sa.String(255), primary_key=True),
    sa.Column("tickers", sa.String(64), nullable=False),  # digest of those whose direct predictions all have a result
)

plans = sa.Table(
    "experiment_plans",
    metadata,
    sa.Column("experiment", sa.String(255), primary_key=True),
    sa.Column("champion", sa.String(255), primary_key=True),
    sa.Column("challenger", sa.String(255), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("registered_at", UtcInstant, nullable=False),
    sa.Column("document", sa.Text, nullable=False),  # canonical text: its digest is compared with the registered one
)

# Plans of further questions, whose answers move no traffic; their columns are those of the table above.
question_plans = sa.Table(
    "question_plans",
    metadata,
    sa.Column("experiment", sa.String(255), primary_key=True),
    sa.Column("champion", sa.String(255), primary_key=True),
    sa.Column("challenger", sa.String(255), primary_key=True),
    sa.Column("question", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("registered_at", UtcInstant, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

# Questions that could not be asked of a pair when its plans were registered; the latest reason counts.
unasked_questions = sa.Table(
    "unasked_questions",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("experiment", sa.String(255), nullable=False),
    sa.Column("champion", sa.String(255), nullable=False),
    sa.Column("challenger", sa.String(255), nullable=False),
    sa.Column("question", sa.String(16), nullable=False),
    sa.Column("noted_at", UtcInstant, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("experiment", sa.String(255), nullable=False),
    sa.Column("as_of", sa.Date, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("decided_at", UtcInstant, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("experiment", sa.String(255), primary_key=True),
    sa.Column("champion", sa.String(255), primary_key=True),
    sa.Column("challenger", sa.String(255), primary_key=True),
    sa.Column("session", sa.Date, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("digest", sa.String(64), sa.ForeignKey("decisions.digest"), primary_key=True),
    sa.Column("approved_at", UtcInstant, nullable=False),
    sa.Column("approved_by", sa.Text, nullable=False),
)
