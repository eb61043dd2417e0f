"""The baselines' daily predictions, kept on disk: of a new session only that session is computed.

A prediction depends on the last bars alone, so that what is kept stays true as long as a ticker's earlier bars have not
changed, which the panel's lineage says. Sessions from the first changed one on are computed again, and tickers with
older changes over all sessions. The result is the same bit for bit. Every session has a token that changes whenever its
predictions may have: whoever has derived something from them compares tokens instead of predictions.

Beside ``history.json``, which is written last, lie the files that it names; whatever it does not name is void.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_path, atomic_write_text
from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.features.recent import compute_recent
from financial_assets.market.panel import PricePanel
from financial_assets.market.panels.lineage import Lineage
from financial_assets.models.artifacts.fingerprint import code_version
from financial_assets.models.baselines import fitted as baselines
from financial_assets.models.baselines import ranks, risk, trailing
from financial_assets.models.baselines.fitted import HISTORY, Baselines
from financial_assets.models.risk import bars, har, simple

MOST_PARTS = 21
"""Files, after which all is written as one anew: a month of sessions."""

_MOST_APART = 0.1
"""Share of tickers up to which restated ones are computed apart; beyond, computing everything is simpler."""


@dataclass(frozen=True)
class _Part:
    """A file, of which the sessions before ``until`` (ISO date; empty: all) count."""

    file: str
    until: str = ""


@dataclass(frozen=True)
class _State:
    """What is kept: of which predictions (a digest), up to which state of the panel, in which files."""

    of: str
    panel: str
    sessions: int
    tickers: tuple[str, ...]
    parts: tuple[_Part, ...]
    tokens: Mapping[str, str]


_STATE = TypeAdapter(_State)


class DailyPredictions:
    """Predictions of one set of fitted baselines after their data cut-off.

    Attributes
    ----------
    tokens
        Session -> token of its predictions; a session without one may have changed.
    """

    def __init__(self, parts: list[tuple[Path, str]], tokens: Mapping[pd.Timestamp, str]) -> None:
        self._parts, self.tokens = parts, dict(tokens)

    def frame(self) -> pd.DataFrame:
        """All of them: ``baselines.PREDICTION_COLUMNS``, sorted by date, ticker and model."""
        return pd.concat([_read(path, None, until) for path, until in self._parts], ignore_index=True)

    def of(self, sessions: Iterable[pd.Timestamp]) -> pd.DataFrame:
        """Those of some sessions."""
        wanted = sorted(sessions)
        found = [_read(path, wanted, until) for path, until in self._parts]
        return pd.concat(found, ignore_index=True)


class BaselineHistory:
    """Where the predictions of one set of fitted baselines are kept.

    Parameters
    ----------
    folder
        Of these baselines alone; made when missing.
    fitted
        The baselines.
    """

    def __init__(self, folder: Path, fitted: Baselines) -> None:
        self._folder, self._fitted = folder, fitted

    def up_to(self, panel: PricePanel, lineage: Lineage) -> DailyPredictions:
        """The predictions on all sessions of the panel after the data cut-off; what is missing is computed and kept.

        Parameters
        ----------
        panel
            Prices.
        lineage
            What the panel has in common with earlier ones.
        """
        graph = FeatureGraph(covariates=panel.covariates)
        of, state = self._digest(graph), self._load()
        ancestor = None if state is None or state.of != of else lineage.since(state.panel, state.sessions)
        if state is None or ancestor is None or state.tickers != panel.tickers:
            state = self._anew(panel, graph, lineage, of)
        elif ancestor.kept < len(panel.sessions) or ancestor.apart:
            few = len(ancestor.apart) <= _MOST_APART * len(panel.tickers)
            state = self._continued(panel, graph, lineage, state, ancestor.kept, ancestor.apart) if few else None
            state = state or self._anew(panel, graph, lineage, of)
        tokens = {pd.Timestamp(day): token for day, token in state.tokens.items()}
        return DailyPredictions([(self._folder / part.file, part.until) for part in state.parts], tokens)

    def _digest(self, graph: FeatureGraph) -> str:
        """Names what decides a prediction besides the bars: the fit and the code."""
        code = tuple(map(inspect.getsource, (baselines, ranks, risk, trailing, bars, har, simple)))
        known = (asdict(self._fitted), graph.names, code_version(), code, np.__version__)
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def _anew(self, panel: PricePanel, graph: FeatureGraph, lineage: Lineage, of: str) -> _State:
        rows = self._fitted.predict(compute_panel(panel, graph), panel, self._after(panel))
        days = _days(self._after(panel))
        return self._save(_State(of, lineage.name, len(panel.sessions), panel.tickers, (), {}), rows, days, ())

    def _continued(
        self,
        panel: PricePanel,
        graph: FeatureGraph,
        lineage: Lineage,
        state: _State,
        kept: int,
        apart: tuple[str, ...],
    ) -> _State | None:
        """The state after new sessions; ``None`` where a file is gone, or there is too little before them."""
        count = len(panel.sessions)
        new = count - kept
        depth = new + max(HISTORY, graph.lookback, CAUSAL_VOLATILITY_LOOKBACK)
        if count < graph.lookback + new or any(not (self._folder / part.file).exists() for part in state.parts):
            return None
        recent = _last(panel, min(depth, count))
        rows = self._fitted.predict(_recent_features(panel, graph, new), recent, self._after(panel)) if new else None
        first = f"{panel.sessions[kept]:%Y-%m-%d}" if new else ""
        tokens = {day: token for day, token in state.tokens.items() if not first or day < first}
        parts = tuple(_Part(part.file, min(filter(None, (part.until, first)), default="")) for part in state.parts)
        later = _State(state.of, lineage.name, count, panel.tickers, parts, tokens)
        if not apart:
            days = [day for day in _days(self._after(panel)) if first and day >= first]
            return self._save(later, rows, days, parts)
        earlier = DailyPredictions([(self._folder / part.file, part.until) for part in parts], {}).frame()
        own = panel_of_tickers(panel, apart)
        again = self._fitted.predict(compute_panel(own, graph), own, self._after(panel))
        others = earlier[~earlier["ticker"].isin(apart)]
        if rows is not None:
            others = pd.concat([others, rows[~rows["ticker"].isin(apart)]])
        whole = pd.concat([others, again]).sort_values(["date", "ticker", "model"], ignore_index=True)
        return self._save(later, whole, _days(self._after(panel)), ())

    def _after(self, panel: PricePanel) -> pd.DatetimeIndex:
        return panel.sessions[panel.sessions > pd.Timestamp(self._fitted.cutoff)]

    def _save(self, state: _State, rows: pd.DataFrame | None, days: list[str], parts: tuple[_Part, ...]) -> _State:
        """Write ``rows`` of the sessions ``days`` behind ``parts``, then the state that names them."""
        tokens = {**state.tokens, **dict.fromkeys(days, uuid.uuid4().hex)}
        if rows is not None:
            if len(parts) >= MOST_PARTS:
                earlier = DailyPredictions([(self._folder / part.file, part.until) for part in parts], {}).frame()
                rows, parts = pd.concat([earlier, rows], ignore_index=True), ()
            file = f"{uuid.uuid4().hex}.parquet"
            with atomic_path(self._folder / file) as temporary:
                rows.to_parquet(temporary, index=False)
            parts = (*parts, _Part(file))
        state = _State(state.of, state.panel, state.sessions, state.tickers, parts, tokens)
        atomic_write_text(self._folder / "history.json", _STATE.dump_json(state).decode())
        named = {part.file for part in parts}
        for path in self._folder.glob("*.parquet"):
            if path.name not in named:
                path.unlink(missing_ok=True)
        return state

    def _load(self) -> _State | None:
        """What is kept; ``None`` for nothing or a damaged file: all of it can be computed again."""
        try:
            return _STATE.validate_json((self._folder / "history.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None


def predict_last(fitted: Baselines, panel: PricePanel, sessions: int) -> pd.DataFrame:
    """What baselines answer in the last sessions of a panel, from the bars that those need alone.

    Parameters
    ----------
    fitted
        The baselines.
    panel
        Prices, of at least the features' lookback and these sessions.
    sessions
        How many.

    Returns
    -------
    pandas.DataFrame
        ``baselines.PREDICTION_COLUMNS``, sorted by date, ticker and model.
    """
    graph = FeatureGraph(covariates=panel.covariates)
    depth = sessions + max(HISTORY, graph.lookback, CAUSAL_VOLATILITY_LOOKBACK)
    recent = _last(panel, min(depth, len(panel.sessions)))
    return fitted.predict(_recent_features(panel, graph, sessions), recent, panel.sessions[-sessions:])


def panel_of_tickers(panel: PricePanel, tickers: Iterable[str]) -> PricePanel:
    """Some tickers of a panel."""
    names = set(tickers)
    rows = [row for row, ticker in enumerate(panel.tickers) if ticker in names]
    return PricePanel(
        tickers=tuple(panel.tickers[row] for row in rows),
        sessions=panel.sessions,
        values=np.ascontiguousarray(panel.values[rows]),
        valid=np.ascontiguousarray(panel.valid[rows]),
        covariates=panel.covariates,
    )


def _last(panel: PricePanel, sessions: int) -> PricePanel:
    """The last sessions of a panel."""
    return PricePanel(
        tickers=panel.tickers,
        sessions=panel.sessions[-sessions:],
        values=np.ascontiguousarray(panel.recent(sessions)),
        valid=np.ascontiguousarray(panel.valid[:, -sessions:]),
        covariates=panel.covariates,
    )


def _recent_features(panel: PricePanel, graph: FeatureGraph, sessions: int) -> FeaturePanel:
    complete = panel.listed_bars()[:, -sessions:] >= graph.lookback
    values = compute_recent(panel, graph, sessions)
    return FeaturePanel(
        graph.names, panel.tickers, panel.sessions[-sessions:], values, panel.valid[:, -sessions:] & complete
    )


def _days(sessions: pd.DatetimeIndex) -> list[str]:
    return [f"{session:%Y-%m-%d}" for session in sessions]


def _read(path: Path, sessions: list[pd.Timestamp] | None, until: str) -> pd.DataFrame:
    """Rows of a file before ``until`` (ISO date; empty: all), of some sessions or of all."""
    filters = [] if sessions is None else [("date", "in", sessions)]
    filters += [("date", "<", pd.Timestamp(until))] if until else []
    table = pyarrow.parquet.read_table(path, filters=filters or None, read_dictionary=["ticker", "model"])
    frame = table.to_pandas()
    # One object per distinct text: comparisons and hashes of the columns are then faster.
    for name in ("ticker", "model"):
        frame[name] = frame[name].astype(object)
    return frame.astype({"date": "datetime64[ns]"})
