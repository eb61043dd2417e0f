"""The pandera schema of signals, and the check of signals against it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pandera.pandas as pa

from financial_assets.market.quality import IMPOSSIBLE_MOVE
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

QUANTILE_COLUMNS = tuple(f"q{100 * level:02.0f}" for level in QUANTILE_LEVELS)
"""Columns of the served quantiles, in the order of their levels."""


def _return(description: str) -> pa.Column:
    possible = pa.Check.gt(-1, error="is -100 % or less", description="> -1")
    return pa.Column("float64", possible, description=description)


def _loss(description: str) -> pa.Column:
    possible = pa.Check.lt(1, error="is a loss of all or more", description="< 1")
    return pa.Column("float64", possible, description=description)


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
        **{
            name: pa.Column(
                "float64",
                pa.Check.in_range(
                    -IMPOSSIBLE_MOVE,
                    IMPOSSIBLE_MOVE,
                    error="is not a possible log return of a listed share",
                    description=f"from {-IMPOSSIBLE_MOVE:.2f} to {IMPOSSIBLE_MOVE:.2f}",
                ),
                description=f"{level:.0%} quantile of the log return to the target session, as served",
            )
            for name, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True)
        },
        "model": pa.Column(str, pa.Check.str_length(min_value=1), description="Served model that answered"),
        "version": pa.Column("int64", pa.Check.ge(1), description="Its version in the registry"),
    },
    checks=[
        pa.Check(
            lambda signals: (signals[list(QUANTILE_COLUMNS)].diff(axis=1).iloc[:, 1:] >= 0).all(axis=1),
            error="has quantiles out of order",
            description="quantiles do not fall with their level",
        ),
        pa.Check(
            lambda signals: signals["target_session"] > signals["as_of"],
            error="is about a session that is over",
            description="the target session comes later",
        ),
    ],
    unique=["ticker"],
    strict=True,
    ordered=True,
    name="signals",
    description="One row per ticker that traded, sorted by ticker",
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
