"""Whatever forecasts, as a forecast table: frames of one's own, a training, a file with the served signature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import torch
from torch import Tensor

from financial_assets.errors import ForecastError
from financial_assets.features.graph import FeatureGraph
from financial_assets.market.panel import PricePanel
from financial_assets.models.forecasts import HEADS, KEYS, OUTCOMES, Predict, forecasts_of, with_outcomes
from financial_assets.models.onnx.export import INPUT_NAME, OUTPUT_NAMES, onnx_session
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.training import Training
from financial_assets.research.arguments import named_as_arguments

Source = pd.DataFrame | Training | str | Path
"""A forecast table; scores, tidy (``date``, ``ticker``, ``score``) or wide (sessions by tickers); a training; the path
of an ``.onnx`` file with the served signature."""

Day = str | pd.Timestamp

_EARLIER_OUTPUTS = 2
"""Outputs of the served graph before it had those of five sessions and of ranking."""


def forecast_table(
    source: object,
    panel: PricePanel,
    *,
    argument: str,
    name: str | None = None,
    start: Day | None = None,
    end: Day | None = None,
) -> pd.DataFrame:
    """What ``source`` forecasts, joined with what the panel says happened.

    Parameters
    ----------
    source
        See ``Source``. Outcomes in a forecast table are not read: they are those of the panel.
    panel
        Prices, up to what is known now.
    argument
        What errors call ``source``.
    name
        Column ``model``; default: that of the table, of the variant or of the file, ``scores`` of bare scores.
    start, end
        First and last decision session. Default of a training: all after its data cut-off. A file does not say what it
        has learned from, so that it needs ``start``.

    Raises
    ------
    ForecastError
        It cannot be read as any of these, or does not belong to the panel; names ``argument``.
    """
    first, last = (_day(value, label) for value, label in ((start, "start"), (end, "end")))
    if isinstance(source, pd.DataFrame):
        table = _between(_heads(source, argument, name), first, last)
        if table.empty:
            raise ForecastError(f"{argument} has no forecast between start and end")
    elif isinstance(source, Training):
        if first is not None and first <= source.cutoff:
            raise ForecastError(
                f"start={first:%Y-%m-%d}: {argument} has learned from sessions up to {source.cutoff:%Y-%m-%d}; "
                "forecasts of these are no evidence"
            )
        sessions = _sessions(panel, first or source.cutoff + pd.Timedelta(days=1), last, argument)
        with named_as_arguments():
            graph = _graph(source, panel, argument)
            return forecasts_of(source, panel, sessions, model=name or source.variant.name, graph=graph)
    elif isinstance(source, str | Path):
        path = Path(source)
        if first is None:
            raise ForecastError(
                f"start is missing: {path.name} does not say which sessions it has learned from; name the first after"
            )
        predict = _predictor(path, panel, argument)
        with named_as_arguments():
            return forecasts_of(predict, panel, _sessions(panel, first, last, argument), model=name or path.stem)
    else:
        raise ForecastError(
            f"{argument} must be a frame of scores or forecasts, a Training or the path of an .onnx file, not "
            f"{type(source).__name__}"
        )
    try:
        return with_outcomes(table, panel)
    except ForecastError as error:
        raise ForecastError(f"{argument}: {error}") from error


def _heads(frame: pd.DataFrame, argument: str, name: str | None) -> pd.DataFrame:
    """``date``, ``ticker``, ``model`` and the heads that there are, of a frame of any form; rows that say something."""
    named = [level for level in frame.index.names if level is not None]
    tidy = frame.reset_index() if {"date", "ticker"} & set(named) else frame
    if "ticker" not in tidy:
        tidy = _melted(tidy.set_index("date") if "date" in tidy else tidy, argument)
    table = tidy.drop(columns=[column for column in OUTCOMES if column in tidy])
    heads = [str(column) for column in table if column in HEADS]
    unknown = [str(column) for column in table if column not in (*KEYS, *HEADS)]
    if unknown or "date" not in table or not heads:
        raise ForecastError(
            f"{argument} needs the columns date, ticker and score, or those of a forecast table; it has "
            f"{', '.join(map(str, tidy.columns))}"
        )
    if name is not None or "model" not in table:
        if "model" in table and table["model"].nunique() > 1:
            raise ForecastError(f"{argument} holds the forecasts of several models: they cannot all be called {name!r}")
        table = table.assign(model=name or "scores")
    try:
        numbers = table[heads].astype("float64")
        dates = pd.DatetimeIndex(pd.to_datetime(table["date"]))
    except (TypeError, ValueError) as error:  # pandas' errors of dates are ValueErrors
        raise ForecastError(f"{argument} holds values that are no dates or numbers: {error}") from error
    if dates.tz is not None:
        raise ForecastError(f"{argument}: dates have a time zone; sessions have none: use .dt.tz_localize(None)")
    table = table.assign(date=dates.as_unit("ns"), **{head: numbers[head] for head in heads})
    if table[["date", "ticker", "model"]].isna().to_numpy().any():
        raise ForecastError(f"{argument} has rows without a date, a ticker or a model")
    said = table[numbers.notna().any(axis=1).to_numpy()]
    if said.empty:
        raise ForecastError(f"{argument} holds no number")
    return said.reset_index(drop=True)


def _melted(wide: pd.DataFrame, argument: str) -> pd.DataFrame:
    """Scores of a wide frame, a row per session and ticker."""
    if wide.columns.nlevels > 1 or not wide.columns.is_unique:
        raise ForecastError(f"{argument}: the columns of a wide frame of scores are tickers, each once")
    if not isinstance(wide.index, pd.DatetimeIndex) and pd.api.types.is_numeric_dtype(wide.index):
        raise ForecastError(f"{argument}: the index of a wide frame of scores holds sessions, not numbers")
    columns = [str(column) for column in wide.columns]
    return (
        wide.set_axis(columns, axis=1)
        .rename_axis(index="date", columns=None)
        .reset_index()
        .melt(id_vars="date", var_name="ticker", value_name="score")
    )


def _between(table: pd.DataFrame, first: pd.Timestamp | None, last: pd.Timestamp | None) -> pd.DataFrame:
    kept = np.ones(len(table), dtype=bool)
    if first is not None:
        kept &= (table["date"] >= first).to_numpy()
    if last is not None:
        kept &= (table["date"] <= last).to_numpy()
    return table[kept]


def _sessions(panel: PricePanel, first: pd.Timestamp, last: pd.Timestamp | None, argument: str) -> pd.DatetimeIndex:
    chosen = panel.sessions[(panel.sessions >= first) & (panel.sessions <= (last or panel.sessions[-1]))]
    if not len(chosen):
        raise ForecastError(
            f"{argument} can be asked on no session: the panel ends on {panel.sessions[-1]:%Y-%m-%d}, the first "
            f"session to ask about is {first:%Y-%m-%d}"
        )
    return chosen


def _day(value: Day | None, argument: str) -> pd.Timestamp | None:
    if value is None:
        return None
    try:
        day = pd.Timestamp(value)
    except ValueError as error:
        raise ForecastError(f"{argument}={value!r} is not a date") from error
    if day is pd.NaT or day.tz is not None:
        raise ForecastError(f"{argument}={value!r} must be a date without a time zone")
    return day.normalize()


def _graph(training: Training, panel: PricePanel, argument: str) -> FeatureGraph:
    """The features that a training has learned from, in their order."""
    known = {feature.name: feature for feature in FeatureGraph(covariates=panel.covariates).features}
    if missing := [name for name in training.feature_names if name not in known]:
        raise ForecastError(f"{argument} reads features that this panel does not have: {', '.join(missing)}")
    return FeatureGraph([known[name] for name in training.feature_names], covariates=panel.covariates)


def _predictor(path: Path, panel: PricePanel, argument: str) -> Predict:
    """The graph in a file, as it would be served."""
    try:
        session = onnx_session(path)
    except OSError as error:
        raise ForecastError(f"{argument}: {path} cannot be read: {error.strerror}") from error
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise ForecastError(f"{argument}: {path.name} is not a model that onnxruntime opens: {error}") from error
    outputs = _outputs(session, panel, f"{argument}: {path.name}")

    def predict(bars: Tensor) -> tuple[Tensor, ...]:
        feed = {INPUT_NAME: bars.numpy()}
        try:
            answers = session.run(outputs, feed)
        except Exception as error:  # likewise
            raise ForecastError(f"{argument}: {path.name} fails on real bars: {error}") from error
        return tuple(torch.from_numpy(np.asarray(answer)) for answer in answers)

    return predict


def _outputs(session: ort.InferenceSession, panel: PricePanel, file: str) -> list[str]:
    """The served outputs that a graph has, in their order; of an earlier version, the first two."""
    inputs = {value.name: list(value.shape[1:]) for value in session.get_inputs()}
    names = {value.name for value in session.get_outputs()}
    served = [name for name in OUTPUT_NAMES if name in names]
    if inputs != {INPUT_NAME: [SERVED_LOOKBACK, len(panel.channels)]}:
        raise ForecastError(
            f"{file} reads {inputs}, where {INPUT_NAME} [batch, {SERVED_LOOKBACK}, {len(panel.channels)}] is wanted: "
            f"the channels of the panel are {', '.join(panel.channels)}"
        )
    if served not in (list(OUTPUT_NAMES), list(OUTPUT_NAMES[:_EARLIER_OUTPUTS])):
        raise ForecastError(f"{file} answers {', '.join(sorted(names))}, where {', '.join(OUTPUT_NAMES)} are wanted")
    return served
