"""Bars -> one signal per ticker: where the next session's adjusted close is expected, and what could be lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.errors import InferenceError, MarketDataError, RequestRejectedError
from financial_assets.market.calendar import next_session
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.serving.client.answers import INPUT, Answer
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.signal_schema import QUANTILE_COLUMNS, SIGNAL_SCHEMA, check_signals

__all__ = [
    "BATCH_ROWS",
    "SIGNAL_SCHEMA",
    "ask_signals",
    "check_signals",
    "has_signals",
    "make_signals",
    "save_signals",
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
        ``probability_up`` ``[n]`` and ``return_quantiles`` ``[n, 5]`` (log returns).
    as_of
        Session of the last bar.
    model, version
        The model that was asked, and its version in the registry.

    Returns
    -------
    pandas.DataFrame
        Columns and types of ``SIGNAL_SCHEMA``. With a quantile q of the log return, a return is ``exp(q) - 1`` and a
        value at risk ``1 - exp(q)``: a loss is positive.

    Raises
    ------
    InferenceError
        Another model answered, or the answer has other shapes.
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
    columns = dict(zip(QUANTILE_COLUMNS, quantiles.T, strict=True))
    with np.errstate(over="ignore"):  # an absurd quantile overflows to infinity, which check_signals refuses
        returns = {name: np.expm1(values) for name, values in columns.items()}
    rows = pd.DataFrame(
        {
            "ticker": list(tickers),
            "as_of": pd.Series([as_of] * count, dtype="datetime64[ns]"),
            "target_session": pd.Series([next_session(as_of)] * count, dtype="datetime64[ns]"),
            "direction": np.where(probability > _UP, "up", "down").astype(object),
            "probability_up": probability,
            "expected_low": returns["q05"],
            "expected_high": returns["q95"],
            "var_95": -returns["q05"],
            "var_99": -returns["q01"],
            **columns,
            "model": pd.Series([model] * count, dtype=object),
            "version": np.full(count, version, dtype=np.int64),
        }
    )
    return rows.sort_values("ticker", ignore_index=True)


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
    return pd.concat(parts).sort_values("ticker", ignore_index=True)


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


def save_signals(signals: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """Write ``<as-of>.parquet`` and ``<as-of>.csv`` into ``folder``, each atomically; returns the paths.

    Raises
    ------
    ValueError
        The signals are not those of one session.
    """
    sessions = signals["as_of"].unique()
    if len(sessions) != 1:
        raise ValueError(f"signals of one session are needed, not of {len(sessions)}")
    parquet, csv = _files(folder, pd.Timestamp(sessions[0]))
    with atomic_path(parquet) as temporary:
        signals.to_parquet(temporary, index=False)
    with atomic_path(csv) as temporary:
        signals.to_csv(temporary, index=False, date_format="%Y-%m-%d")
    return parquet, csv


def has_signals(folder: Path, session: pd.Timestamp) -> bool:
    """Whether ``folder`` holds both files of ``session``."""
    return all(path.is_file() for path in _files(folder, session))


def _files(folder: Path, session: pd.Timestamp) -> tuple[Path, Path]:
    return folder / f"{session:%Y-%m-%d}.parquet", folder / f"{session:%Y-%m-%d}.csv"
