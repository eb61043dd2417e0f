"""The forecast table: what any model says of any ticker and session, beside what happened.

One form for networks, baselines, ensembles and models of others, so that whoever scores, trades or attributes forecasts
reads nothing else. A forecast is calibrated and in the unit that is served; a model without a head leaves its columns
NaN, and so is an outcome that is not settled. Nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import torch
from torch import Tensor

from financial_assets.atomic import atomic_path
from financial_assets.disk import disk_errors
from financial_assets.errors import ForecastError
from financial_assets.features.graph import FeatureGraph
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.predictor import build_predictor
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.training import Training
from financial_assets.models.training_data import panel_volatility
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

KEYS = ("date", "ticker", "model", "fold")
"""Of a row: no two rows have the same date, ticker and model. ``fold`` is empty outside a walk-forward."""

QUANTILES = tuple(f"q{100 * level:02.0f}" for level in QUANTILE_LEVELS)
"""Columns of the quantiles of the next session's log return, in the order of their levels."""

QUANTILES_5D = tuple(f"{name}_5d" for name in QUANTILES)
"""Columns of the quantiles of the log return over the next five sessions."""

HEADS = ("probability_up", *QUANTILES, *QUANTILES_5D, "score")
"""What a model says."""

OUTCOMES = ("volatility", "outcome", "outcome_5d", "excess")
"""What is known of the row whoever forecasts."""

FORECAST_COLUMNS = (*KEYS, *HEADS, *OUTCOMES)

_BATCH = 512
_LONGER_HORIZON = 5

Predict = Callable[[Tensor], tuple[Tensor, ...]]
"""Windows of raw bars ``[batch, SERVED_LOOKBACK, channel]`` to the served outputs, such as a ``Predictor``."""


def _is_finite(values: pd.Series) -> pd.Series:
    return ~values.isin([np.inf, -np.inf])


def _number(description: str, *checks: pa.Check) -> pa.Column:
    finite = pa.Check(_is_finite, error="is infinite", description="finite, or NaN where unknown")
    return pa.Column("float64", [finite, *checks], nullable=True, description=description)


def _quantiles(names: tuple[str, ...], horizon: str) -> dict[str, pa.Column]:
    return {
        name: _number(f"{level:.0%} quantile of the log return {horizon}")
        for name, level in zip(names, QUANTILE_LEVELS, strict=True)
    }


def _ordered(names: tuple[str, ...]) -> pa.Check:
    def rises(forecasts: pd.DataFrame) -> pd.Series:
        values = forecasts[list(names)]
        # All or none: a head answers whole. NaN compares as false, so that what is unknown is not out of order.
        whole = values.isna().all(axis=1) | values.notna().all(axis=1)
        return whole & ~(values.diff(axis=1).iloc[:, 1:] < 0).any(axis=1)

    return pa.Check(rises, error=f"{names[0]} to {names[-1]} fall or are known in part", description="rise")


FORECAST_SCHEMA = pa.DataFrameSchema(
    {
        "date": pa.Column(
            "datetime64[ns]",
            pa.Check(lambda dates: dates == dates.dt.normalize(), error="has a time of day"),
            description="Session at whose close the forecast is made, tz-naive",
        ),
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), description="Symbol"),
        "model": pa.Column(str, pa.Check.str_length(min_value=1), description="Who forecasts"),
        "fold": pa.Column(str, description="Fold of the walk-forward; empty outside one"),
        "probability_up": _number(
            "Calibrated probability that the next close is higher",
            pa.Check.in_range(0, 1, error="is not a probability"),
        ),
        **_quantiles(QUANTILES, "to the next session"),
        **_quantiles(QUANTILES_5D, "over five sessions"),
        "score": _number("Expected log return beyond the market's, in units of volatility: it ranks a session"),
        "volatility": _number("Causal daily volatility at the session", pa.Check.gt(0, error="is not above 0")),
        "outcome": _number("Log return to the next session; NaN until it is settled"),
        "outcome_5d": _number("Log return over the next five sessions; NaN until it is settled"),
        "excess": _number("outcome minus the market's log return"),
    },
    checks=[_ordered(QUANTILES), _ordered(QUANTILES_5D)],
    unique=["date", "ticker", "model"],
    strict=True,
    ordered=True,
    name="forecasts",
    description="Forecasts and what followed, one row per model, session and ticker",
)


def check_forecasts(forecasts: pd.DataFrame) -> pd.DataFrame:
    """``forecasts`` in their one form: columns in order, sorted by date, ticker and model, on a fresh index.

    A table without a column ``fold`` belongs to none.

    Raises
    ------
    ForecastError
        A column is missing or unknown, a key occurs twice, or a value cannot be a forecast; says which.
    """
    frame = forecasts if "fold" in forecasts else forecasts.assign(fold="")
    wrong = sorted(set(FORECAST_COLUMNS) ^ set(map(str, frame.columns)))
    if wrong:
        raise ForecastError(f"a forecast table has the columns {', '.join(FORECAST_COLUMNS)}; at fault: {wrong}")
    try:
        numbers = dict.fromkeys((*HEADS, *OUTCOMES), "float64")
        frame = frame[list(FORECAST_COLUMNS)].astype({"date": "datetime64[ns]", **numbers})
    except (TypeError, ValueError) as error:
        raise ForecastError(f"a column of the forecast table holds values of another type: {error}") from error
    try:
        # On a fresh index: pandera names the rows at fault by their labels, which must then differ.
        frame = frame.reset_index(drop=True)
        checked: pd.DataFrame = FORECAST_SCHEMA.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases[["column", "check", "failure_case"]].drop_duplicates(["column", "check"])
        found = "; ".join(f"{row.column}: {row.check} ({row.failure_case})" for row in cases.head(5).itertuples())
        raise ForecastError(f"{len(error.failure_cases)} values cannot be forecasts: {found}") from error
    return checked.sort_values(["date", "ticker", "model"], ignore_index=True)


def with_outcomes(forecasts: pd.DataFrame, panel: PricePanel) -> pd.DataFrame:
    """A forecast table from the keys and heads that a model has: heads that it lacks are NaN, outcomes are joined.

    Parameters
    ----------
    forecasts
        ``date``, ``ticker``, ``model`` and any of ``HEADS``; possibly ``fold``.
    panel
        Prices, up to the session that is known now.

    Raises
    ------
    ForecastError
        A row is of a ticker or session that the panel does not have, or ``check_forecasts`` refuses it.
    """
    row = pd.Index(panel.tickers).get_indexer(pd.Index(forecasts["ticker"]))
    at = panel.sessions.get_indexer(pd.DatetimeIndex(forecasts["date"]))
    if (row < 0).any() or (at < 0).any():
        first = forecasts[(row < 0) | (at < 0)].iloc[0]
        raise ForecastError(f"{first['ticker']} at {first['date']} is not in the panel of prices")
    known = {name: values[row, at] for name, values in outcomes_of(panel).items()}
    missing = {name: np.nan for name in HEADS if name not in forecasts}
    return check_forecasts(forecasts.assign(**missing, **known))


def forecasts_of(
    source: Predict | Training,
    panel: PricePanel,
    sessions: pd.DatetimeIndex,
    *,
    model: str,
    fold: str = "",
    graph: FeatureGraph | None = None,
) -> pd.DataFrame:
    """What ``source`` answers at the close of each of ``sessions``, for every ticker that can have a signal then.

    It is asked as in production: windows of raw bars through the whole served graph, so that features, calibration and
    the order of quantiles are those of the answer that a client would have got.

    Parameters
    ----------
    source
        A predictor, or a training whose predictor is then built.
    panel
        Prices; outcomes are taken from it as far as it goes. A window ends at its session.
    sessions
        Decision sessions, all in the panel.
    model, fold
        Keys of the table.
    graph
        Features of a training; default: the catalogue with the panel's covariates.

    Raises
    ------
    ForecastError
        No ticker can have a signal on any of the sessions, an answer is not finite, or its shape is unknown.
    MarketDataError
        A session is not in the panel.
    """
    if isinstance(source, Training):
        source = build_predictor(source, graph or FeatureGraph(covariates=panel.covariates))
    parts: list[pd.DataFrame] = []
    for session in sessions:
        tickers, bars = panel.windows(session, SERVED_LOOKBACK)
        if tickers:
            heads = _answers(source, bars)
            parts.append(
                pd.DataFrame({"date": session, "ticker": list(tickers), "model": model, "fold": fold, **heads})
            )
    if not parts:
        raise ForecastError(
            f"{model}: no ticker has {SERVED_LOOKBACK} bars on any of {len(sessions)} sessions: set an earlier "
            "INGESTION_START_DATE"
        )
    return with_outcomes(pd.concat(parts, ignore_index=True), panel)


def save_forecasts(forecasts: pd.DataFrame, path: Path) -> None:
    """Write a checked forecast table as parquet, atomically."""
    checked = check_forecasts(forecasts)
    with atomic_path(path) as temporary:
        checked.to_parquet(temporary, index=False)


def load_forecasts(path: Path) -> pd.DataFrame:
    """Read what ``save_forecasts`` wrote.

    Raises
    ------
    ForecastError
        The file is missing, damaged or not a forecast table.
    """
    try:
        with disk_errors(path, "read"):
            frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ForecastError(f"{path} is not a readable forecast table ({error})") from error
    return check_forecasts(frame)


@torch.no_grad()
def _answers(predict: Predict, bars: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of the heads that ``predict`` has, float64 ``[ticker]``."""
    outputs = [predict(part) for part in torch.from_numpy(bars).split(_BATCH)]
    joined = [torch.cat(part).double().numpy() for part in zip(*outputs, strict=True)]
    names = _COLUMNS[: len(joined)]
    if len(joined) not in (2, len(_COLUMNS)) or any(
        values.shape != (len(bars), len(columns)) for columns, values in zip(names, joined, strict=True)
    ):
        raise ForecastError(f"a model answers 2 or {len(_COLUMNS)} outputs, not {[part.shape for part in joined]}")
    if not all(np.isfinite(values).all() for values in joined):
        raise ForecastError("an answer is not finite: look for absurd prices in the windows that were asked")
    columns = zip(names, joined, strict=True)
    return {name: values[:, place] for wide, values in columns for place, name in enumerate(wide)}


_COLUMNS = (("probability_up",), QUANTILES, QUANTILES_5D, ("score",))
"""Columns of each served output, in their order; a model of an earlier version has the first two."""


def outcomes_of(panel: PricePanel) -> dict[str, np.ndarray]:
    """``OUTCOMES`` by name, of every ticker and session, float64 ``[ticker, session]``; NaN where not settled."""
    outcome = next_session_return(panel)
    market = np.log(panel.values[:, CHANNELS.index("market")].astype(np.float64))
    following = np.full(outcome.shape, np.nan)
    following[:, :-1] = np.diff(market, axis=1)
    padded = np.pad(outcome, ((0, 0), (0, _LONGER_HORIZON - 1)), constant_values=np.nan)
    longer = np.lib.stride_tricks.sliding_window_view(padded, _LONGER_HORIZON, axis=1).sum(axis=-1)
    volatility = panel_volatility(panel).double().numpy()
    return {"volatility": volatility, "outcome": outcome, "outcome_5d": longer, "excess": outcome - following}
