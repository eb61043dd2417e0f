"""Bars -> one signal per ticker: where the next session's adjusted close is expected, and what could be lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.errors import InferenceError, MarketDataError, RequestRejectedError
from financial_assets.market.calendar import next_session
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.serving.bar_rules import SESSIONS_5D
from financial_assets.serving.client.answers import INPUT, Answer
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.signal_schema import (
    FURTHER_COLUMNS,
    QUANTILE_5D_COLUMNS,
    QUANTILE_COLUMNS,
    SIGNAL_SCHEMA,
    check_signals,
    missing_heads,
    ranks,
)

__all__ = [
    "BATCH_ROWS",
    "SIGNAL_SCHEMA",
    "ask_signals",
    "check_signals",
    "make_signals",
    "missing_heads",
    "tail_loss",
    "without_signal",
]

BATCH_ROWS = 512
"""Tickers in one gRPC request: 3.7 MB of bars, below gRPC's default limit of 4 MB per message."""

_CLOSE = CHANNELS.index("close")
_UP = 0.5
"""As in ``scoring.classification``: "up" when the probability is greater."""


def make_signals(
    tickers: Sequence[str], answer: Answer, *, as_of: pd.Timestamp, model: str, version: int
) -> pd.DataFrame:
    """One row per ticker from a model's answer; values are taken as they are, see ``check_signals``.

    Parameters
    ----------
    tickers
        One for each row of the answer, in its order.
    answer
        ``probability_up`` ``[n]`` and ``return_quantiles`` ``[n, 5]`` (log returns); ``return_quantiles_5d`` and
        ``excess_return``, or neither of them from a model of an earlier version: what is made of them is then empty.
    as_of
        Session of the last bar.
    model, version
        The model that was asked, and its version in the registry.

    Returns
    -------
    pandas.DataFrame
        Columns and types of ``SIGNAL_SCHEMA``. With a quantile q of the log return, a return is ``exp(q) - 1`` and a
        value at risk ``1 - exp(q)``: a loss is positive. Expected shortfall: see :func:`tail_loss`.

    Raises
    ------
    InferenceError
        Another model answered, the answer has other shapes, only one of the two further heads, or one with a value
        that is not a number: an empty column means that there is no head, nothing else.
    """
    count = len(tickers)
    if answer.route != model:
        raise InferenceError(f"{model} was asked for signals, but {answer.route} answered", route=answer.route)
    probability = np.asarray(answer.probability_up, dtype=np.float64)
    quantiles = np.asarray(answer.return_quantiles, dtype=np.float64)
    if probability.shape != (count,) or quantiles.shape != (count, len(QUANTILE_COLUMNS)):
        raise InferenceError(
            f"{model} was asked for {count} signals, but answered with shapes {probability.shape} and "
            f"{quantiles.shape}",
            route=answer.route,
        )
    rows = pd.DataFrame(
        {
            "ticker": list(tickers),
            "as_of": pd.Series([as_of] * count, dtype="datetime64[ns]"),
            "target_session": pd.Series([next_session(as_of)] * count, dtype="datetime64[ns]"),
            "direction": np.where(probability > _UP, "up", "down").astype(object),
            "probability_up": probability,
            **_horizon(quantiles),
            **_further(answer, tickers, as_of),
            "model": pd.Series([model] * count, dtype=object),
            "version": np.full(count, version, dtype=np.int64),
        }
    )
    return _ranked(rows)


def _horizon(quantiles: np.ndarray, suffix: str = "") -> dict[str, np.ndarray]:
    """Range, value at risk and shortfall of one horizon from its quantiles ``[n, 5]``, and these themselves."""
    levels = dict(zip(QUANTILE_COLUMNS, quantiles.T, strict=True))
    with np.errstate(over="ignore", invalid="ignore"):  # absurd quantiles overflow, and check_signals refuses them
        columns = {
            "expected_low": np.expm1(levels["q05"]),
            "expected_high": np.expm1(levels["q95"]),
            "var_95": -np.expm1(levels["q05"]),
            "var_99": -np.expm1(levels["q01"]),
            "es_95": tail_loss(levels["q01"], levels["q05"]),
            **levels,
        }
    return {f"{name}{suffix}": values for name, values in columns.items()}


def tail_loss(far: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Expected shortfall at 95 %, as a fraction, from the 1 and 5 % quantiles of the log return ``[n]``.

    The tail is the exponential one through both, as in ``scoring.risk.shortfall_between_quantiles``, which says how
    close that is: ``q(u) = near - slope log(0.05 / u)``. The mean of ``1 - exp(q(u))`` over levels u below 5 % is ``1 -
    exp(near) / (1 + slope)``. There is none at 99 %: beyond the 1 % quantile nothing is served that would bound it.
    """
    slope = (near - far) / np.log(5)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # of quantiles out of order, which are refused
        return 1 - np.exp(near) / (1 + slope)


def _further(answer: Answer, tickers: Sequence[str], as_of: pd.Timestamp) -> dict[str, Any]:
    """The columns of five sessions and the score; empty from a model without these heads. Ranks come at the end."""
    count, quantiles, score = len(tickers), answer.return_quantiles_5d, answer.excess_return
    if quantiles is None and score is None:
        nothing = pd.DataFrame(index=range(count), columns=list(FURTHER_COLUMNS))
        return dict(nothing.astype({name: str(SIGNAL_SCHEMA.columns[name].dtype) for name in FURTHER_COLUMNS}))
    shapes = [None if values is None else values.shape for values in (quantiles, score)]
    if quantiles is None or score is None or shapes != [(count, len(QUANTILE_5D_COLUMNS)), (count,)]:
        raise InferenceError(
            f"{answer.route} was asked for {count} signals, but answered with shapes {shapes[0]} of five sessions and "
            f"{shapes[1]} of the score",
            route=answer.route,
        )
    for name, values in (("return_quantiles_5d", quantiles), ("excess_return", score[:, None])):
        spoilt = [ticker for ticker, row in zip(tickers, values, strict=True) if np.isnan(row).any()]
        if spoilt:
            raise InferenceError(f"{answer.route} answers NaN in {name} of {', '.join(spoilt[:5])}", route=answer.route)
    target = as_of
    for _ in range(SESSIONS_5D):
        target = next_session(target)
    return {
        "target_session_5d": pd.Series([target] * count, dtype="datetime64[ns]"),
        **_horizon(np.asarray(quantiles, dtype=np.float64), "_5d"),
        "score": np.asarray(score, dtype=np.float64),
        "rank": pd.array([None] * count, dtype="Int64"),
    }


def _ranked(signals: pd.DataFrame) -> pd.DataFrame:
    """Sorted by ticker, with the ranks of the table as a whole."""
    rows = signals.sort_values("ticker", ignore_index=True)
    return rows.assign(rank=ranks(rows))


def ask_signals(
    client: InferenceClient,
    panel: PricePanel,
    *,
    model: str,
    version: int,
    tickers: Sequence[str] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> pd.DataFrame:
    """Signals for the session after the panel's last one, asked in batches by gRPC.

    Parameters
    ----------
    client
        Connected to the gateway.
    panel
        Bars up to the as-of session, nothing later.
    model, version
        The served model to ask, and its version in the registry.
    tickers
        Which ones; default: all. Those that cannot have a signal are left out, see ``without_signal``.
    batch_rows
        Most tickers in one request, of bars without covariates; with them in proportion fewer.

    Returns
    -------
    pandas.DataFrame
        Columns and types of ``SIGNAL_SCHEMA``, sorted by ticker; its values are not checked, see ``check_signals``.

    Raises
    ------
    MarketDataError
        No ticker can have a signal; says why for each.
    InferenceError
        No answer to one of the batches, another model's, or one of other shapes.
    """
    if batch_rows < 1:
        raise ValueError(f"a batch needs at least one row, not {batch_rows}")
    as_of = panel.sessions[-1]
    batch_rows = max(1, batch_rows * len(CHANNELS) // len(panel.channels))  # covariates make rows longer
    names, bars = panel.windows(as_of, SERVED_LOOKBACK, tickers)
    if not names:
        reasons = without_signal(panel, panel.tickers if tickers is None else tickers)
        raise MarketDataError("no signal: " + "; ".join(f"{name} {why}" for name, why in reasons.items()))
    parts = [
        make_signals(
            names[first : first + batch_rows],
            _ask(client, model, names[first : first + batch_rows], bars[first : first + batch_rows]),
            as_of=as_of,
            model=model,
            version=version,
        )
        for first in range(0, len(names), batch_rows)
    ]
    return _ranked(pd.concat(parts))


def _ask(client: InferenceClient, model: str, names: Sequence[str], bars: np.ndarray) -> Answer:
    """Ask for all rows; a refusal, which names a row, is raised again with that row's ticker."""
    try:
        return client.infer_batch(model, bars)
    except RequestRejectedError as error:
        row = re.search(rf"{INPUT}\[(\d+)", str(error))
        if row is None or int(row[1]) >= len(names):
            raise
        text = f"the bars of {names[int(row[1])]} are refused: {error}"
        raise RequestRejectedError(text, status=error.status, route=error.route) from error


def without_signal(panel: PricePanel, tickers: Sequence[str]) -> dict[str, str]:
    """Which of ``tickers`` cannot have a signal for the session after the panel's last one, and why."""
    rows = {name: row for row, name in enumerate(panel.tickers)}
    as_of = f"{panel.sessions[-1]:%Y-%m-%d}"
    bars = panel.listed_bars()[:, -1]
    reasons: dict[str, str] = {}
    for name in tickers:
        if name not in rows:
            reasons[name] = (
                "has no prices in the store; run `financial-assets run` (the check `delivery` of raw_prices says what "
                "it lacks)"
            )
        elif np.isnan(panel.values[rows[name], _CLOSE, -1]):
            reasons[name] = f"had no bar until {as_of}"
        elif not panel.valid[rows[name], -1]:
            reasons[name] = f"did not trade on {as_of}"
        elif bars[rows[name]] < SERVED_LOOKBACK:
            reasons[name] = f"has {bars[rows[name]]} bars at {as_of}; {SERVED_LOOKBACK} are needed"
            if unknown := panel.unknown_covariates(name, SERVED_LOOKBACK):
                reasons[name] += f" on which all covariates are known, and {', '.join(unknown)} has a gap there"
    return reasons
