"""The pandera schema of signals, and the check of signals against it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pandera.pandas as pa

from financial_assets.market.quality import IMPOSSIBLE_MOVE
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

QUANTILE_COLUMNS = tuple(f"q{100 * level:02.0f}" for level in QUANTILE_LEVELS)
"""Columns of the served quantiles, in the order of their levels."""


QUANTILE_5D_COLUMNS = tuple(f"{name}_5d" for name in QUANTILE_COLUMNS)
"""Columns of the quantiles of five sessions."""


def _return(description: str, *, nullable: bool = False) -> pa.Column:
    possible = pa.Check.gt(-1, error="is -100 % or less", description="> -1")
    return pa.Column("float64", possible, description=description, nullable=nullable)


def _loss(description: str, *, nullable: bool = False) -> pa.Column:
    possible = pa.Check.lt(1, error="is a loss of all or more", description="< 1")
    return pa.Column("float64", possible, description=description, nullable=nullable)


def _quantile(description: str, *, nullable: bool = False) -> pa.Column:
    possible = pa.Check.in_range(
        -IMPOSSIBLE_MOVE,
        IMPOSSIBLE_MOVE,
        error="is not a possible log return of a listed share",
        description=f"from {-IMPOSSIBLE_MOVE:.2f} to {IMPOSSIBLE_MOVE:.2f}",
    )
    return pa.Column("float64", possible, description=description, nullable=nullable)


_FURTHER = {
    "target_session_5d": pa.Column(
        "datetime64[ns]", nullable=True, description="The fifth session after it, which the columns in _5d are about"
    ),
    "expected_low_5d": _return("Simple return over five sessions that 5 % of outcomes stay below", nullable=True),
    "expected_high_5d": _return("Simple return over five sessions that 5 % of outcomes exceed", nullable=True),
    "var_95_5d": _loss("Value at risk of five sessions at 95 %, as a fraction", nullable=True),
    "var_99_5d": _loss("Value at risk of five sessions at 99 %, as a fraction", nullable=True),
    "es_95_5d": _loss("Expected shortfall of five sessions at 95 %, as a fraction", nullable=True),
    **{
        name: _quantile(f"{level:.0%} quantile of the log return over five sessions, as served", nullable=True)
        for name, level in zip(QUANTILE_5D_COLUMNS, QUANTILE_LEVELS, strict=True)
    },
    "score": pa.Column(
        "float64",
        pa.Check(np.isfinite, error="is not finite", description="finite"),
        nullable=True,
        description="Expected log return to the target session minus the market's, in units of the ticker's volatility",
    ),
    "rank": pa.Column(
        "Int64",
        pa.Check.ge(1, error="is not a rank", description="from 1 on"),
        nullable=True,
        description="Place among the tickers of this table by score, 1 is the highest; ties by ticker",
    ),
}
"""What a model of an earlier version has no heads for: all of them are then empty in all rows."""
FURTHER_COLUMNS = tuple(_FURTHER)


def ranks(signals: pd.DataFrame) -> pd.Series:
    """Places 1 to n by falling ``score``, ties by ``ticker``; empty where there is no score."""
    order = signals[["score", "ticker"]].dropna().sort_values(["score", "ticker"], ascending=[False, True]).index
    return pd.Series(range(1, len(order) + 1), index=order, dtype="Int64").reindex(signals.index)


def _ordered(signals: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    values = signals[list(columns)]
    return ((values.diff(axis=1).iloc[:, 1:] >= 0) | values.isna().iloc[:, 1:]).all(axis=1)


SIGNAL_SCHEMA = pa.DataFrameSchema(
    {
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), description="Symbol"),
        "as_of": pa.Column("datetime64[ns]", description="session at whose close the signal was known"),
        "target_session": pa.Column("datetime64[ns]", description="The session after it, which the signal is about"),
        "direction": pa.Column(
            str,
            pa.Check.isin(["up", "down"], description="up or down"),
            description="Adjusted close of the target session against this one's",
        ),
        "probability_up": pa.Column(
            "float64",
            pa.Check.in_range(0, 1, error="is not a probability", description="from 0 to 1"),
            description="Calibrated probability that the direction is up",
        ),
        "expected_low": _return("Simple return that 5 % of outcomes stay below"),
        "expected_high": _return("Simple return that 5 % of outcomes exceed"),
        "var_95": _loss("Value at risk: the fraction lost or more on 5 % of days; negative: a gain"),
        "var_99": _loss("Value at risk: the fraction lost or more on 1 % of days; negative: a gain"),
        "es_95": _loss(
            "Expected shortfall: the mean fraction lost on the 5 % worst days, of a tail through q01 and q05"
        ),
        **{
            name: _quantile(f"{level:.0%} quantile of the log return to the target session, as served")
            for name, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True)
        },
        **_FURTHER,
        "model": pa.Column(str, pa.Check.str_length(min_value=1), description="Served model that answered"),
        "version": pa.Column("int64", pa.Check.ge(1), description="Its version in the registry"),
    },
    checks=[
        pa.Check(
            lambda signals: _ordered(signals, QUANTILE_COLUMNS),
            error="has quantiles out of order",
            description="quantiles do not fall with their level",
        ),
        pa.Check(
            lambda signals: _ordered(signals, QUANTILE_5D_COLUMNS),
            error="has quantiles of five sessions out of order",
            description="nor do those of five sessions",
        ),
        pa.Check(
            lambda signals: signals["target_session"] > signals["as_of"],
            error="is about a session that is over",
            description="the target session comes later",
        ),
        pa.Check(
            lambda signals: (
                signals["target_session_5d"].isna() | (signals["target_session_5d"] > signals["target_session"])
            ),
            error="ends five sessions before one",
            description="the fifth session comes later still",
        ),
        pa.Check(
            # Which of the two a table is, its rows must agree on: one model has answered all of them.
            lambda signals: signals[list(FURTHER_COLUMNS)].notna().eq(signals["score"].notna().any()).all(axis=1),
            error="lacks a part of five sessions and ranking",
            description="columns of five sessions, score and rank are there in all rows, or in none",
        ),
        pa.Check(
            lambda signals: signals["rank"].isna() | (signals["rank"] == ranks(signals)).fillna(False),
            error="is not ranked by its score",
            description="ranks are 1 to n by score",
        ),
    ],
    unique=["ticker"],
    strict=True,
    ordered=True,
    name="signals",
    description="One row per ticker that traded, sorted by ticker",
)


def missing_heads(signals: pd.DataFrame) -> str:
    """What the model behind signals has no heads for, in a sentence; empty if it has all."""
    without = signals.loc[signals["score"].isna(), "model"].unique()
    if not len(without):
        return ""
    return (
        f"{', '.join(without)} was deployed by an earlier version and answers for the next session only: the columns "
        "of five sessions, score and rank are empty; a model that the job `retrain` trains has them"
    )


def check_signals(signals: pd.DataFrame, expected: Sequence[str]) -> pd.DataFrame:
    """Problems of signals that should have exactly one valid row for each of ``expected``.

    Returns
    -------
    pandas.DataFrame
        ``ticker`` (empty when a whole column is at fault) and ``problem``, one row per failure; no rows if none failed.
    """
    problems: list[tuple[str, str]] = []
    held = signals["ticker"].value_counts() if "ticker" in signals else pd.Series(dtype="int64")
    problems += [(name, "has no signal") for name in expected if name not in held.index]
    problems += [(str(name), "should have no signal") for name in held.index.difference(pd.Index(expected))]
    problems += [(str(name), f"has {count} signals") for name, count in held.items() if count > 1]
    try:
        SIGNAL_SCHEMA.validate(signals, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.to_dict("records")
        problems += [_problem(signals, case) for case in cases if case["check"] != "multiple_fields_uniqueness"]
    return pd.DataFrame(problems, columns=["ticker", "problem"]).drop_duplicates(ignore_index=True)


def _problem(signals: pd.DataFrame, case: dict) -> tuple[str, str]:
    """A pandera failure case as ticker and problem."""
    column, rule, value, label = (case[name] for name in ("column", "check", "failure_case", "index"))
    if rule == "not_nullable":
        problem = f"{column} is missing"
    elif label is None or pd.isna(label):
        return "", f"{column if column is not None else 'the frame'}: {rule} ({value})"
    elif case["schema_context"] == "DataFrameSchema":
        problem = str(rule)
    else:
        problem = f"{column} {rule} ({value})"
    has_ticker = "ticker" in signals and label in signals.index
    return (str(signals["ticker"].loc[label]) if has_ticker else ""), problem
