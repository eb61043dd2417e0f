"""What plans of one pair share in one decision: the same rows of one log, the same prices, the same baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from financial_assets.experiment.decision.evidence import SharedSeries
from financial_assets.experiment.decision.guardrails import longest_of_pairs
from financial_assets.experiment.decision.series import prediction_columns
from financial_assets.experiment.outcomes import frame_names, outcome_frame, outcome_matrices
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.market.panel import PricePanel

EVIDENCE_COLUMNS = ("session", "ticker", "model", "status", "probability_up", "latency_s")
"""Columns of the log's direct predictions that evidence needs, beside those of the plan's metric."""


def evidence_columns(plan: ExperimentPlan) -> tuple[str, ...]:
    """Columns of the log's direct predictions that a plan's evidence needs."""
    return tuple(dict.fromkeys((*EVIDENCE_COLUMNS, *prediction_columns(plan))))


class DirectReader(Protocol):
    """Direct predictions: the log itself, or reads that several plans share."""

    def last_direct(self) -> tuple[int, int, str]:
        """See :meth:`.LogReader.last_direct`."""
        ...

    def direct_after(self, models: Iterable[str] | None, last: int, begun: str) -> tuple[int, set[pd.Timestamp]] | None:
        """See :meth:`.LogReader.direct_after`."""
        ...

    def direct(
        self,
        models: Iterable[str] | None = None,
        *,
        since: pd.Timestamp | None = None,
        until: pd.Timestamp | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """See :meth:`.LogReader.direct`."""
        ...


class SessionPredictions(Protocol):
    """Daily predictions of the baselines, by session."""

    @property
    def tokens(self) -> Mapping[pd.Timestamp, str]:
        """Session -> what changes whenever its predictions may have."""
        ...

    def of(self, sessions: Iterable[pd.Timestamp]) -> pd.DataFrame:
        """The predictions of some sessions: ``date``, ``ticker``, ``model``, ``probability_up``."""
        ...


@dataclass(frozen=True, eq=False)
class PairRows:
    """Direct predictions of a pair on some sessions, pending ones among them, and what they say for every plan.

    Attributes
    ----------
    plan
        One of the pair's.
    rows
        As of :meth:`DirectReader.direct`.
    """

    plan: ExperimentPlan
    rows: pd.DataFrame

    @cached_property
    def _is_pending(self) -> np.ndarray:
        return self.rows["status"].to_numpy() == "pending"

    @cached_property
    def complete(self) -> pd.DataFrame:
        """Those that have a result."""
        return self.rows[~self._is_pending] if self._is_pending.any() else self.rows

    @cached_property
    def pending(self) -> tuple[pd.Timestamp, ...]:
        """Sessions with open intents."""
        return tuple(pd.DatetimeIndex(np.unique(self.rows["session"].to_numpy()[self._is_pending])))

    @cached_property
    def first(self) -> Mapping[str, str]:
        """Ticker -> ISO date of the first session on which it was requested: see :func:`.evidence.first_sessions`."""
        codes, tickers = pd.factorize(self.complete["ticker"].to_numpy())
        days = self.complete["session"].to_numpy().astype("datetime64[D]")
        first = np.full(len(tickers), np.datetime64("9999-12-31"))
        np.minimum.at(first, codes, days)
        return dict(zip(map(str, tickers), first.astype(str).tolist(), strict=True))

    @cached_property
    def longest(self) -> pd.DataFrame:
        """See :func:`.guardrails.longest_of_pairs`."""
        return longest_of_pairs(self.plan, self.rows)


class SharedTables:
    """What plans of one pair have in common as of one decision: the same reads of one log, the same prices."""

    def __init__(self) -> None:
        self._series: dict[tuple[object, ...], SharedSeries] = {}
        self._matrices: dict[tuple[int, str], np.ndarray] = {}
        self._outcomes: dict[tuple[object, ...], pd.DataFrame] = {}
        self._spans: dict[tuple[object, ...], Mapping[str, np.ndarray]] = {}
        self._rows: dict[tuple[object, ...], PairRows] = {}
        self._panels: dict[tuple[int, int], PricePanel] = {}
        # The baselines are part of the value, so that no other object can get the identity of the key.
        self._predictions: dict[tuple[int, tuple[pd.Timestamp, ...]], tuple[SessionPredictions, pd.DataFrame]] = {}
        self._tokens: dict[tuple[int, pd.Timestamp], tuple[SessionPredictions, tuple[str, ...]]] = {}

    def series(
        self,
        plan: ExperimentPlan,
        rests_on: Iterable[pd.Timestamp],
        asked_for: Iterable[pd.Timestamp],
        *,
        scaled: bool,
    ) -> SharedSeries:
        """Differences between the arms of a plan on the same rows.

        Parameters
        ----------
        plan
            Whose pair, and since when.
        rests_on
            The sessions whose rows they are made of, and the first and last of the prices.
        asked_for
            The sessions whose evidence is asked for.
        scaled
            Whether outcomes are given in units of the volatility as well.
        """
        key = (plan.champion, plan.challenger, plan.starts_after, tuple(rests_on), tuple(sorted(asked_for)), scaled)
        return self._series.setdefault(key, SharedSeries())

    def rows(self, plan: ExperimentPlan, log: DirectReader, sessions: set[pd.Timestamp]) -> PairRows:
        """Direct predictions of a plan's pair on some sessions, pending ones among them."""
        key = (plan.champion, plan.challenger, frozenset(sessions))
        if key not in self._rows:
            self._rows[key] = PairRows(plan, _rows(plan, log, sessions))
        return self._rows[key]

    def predictions(self, baselines: SessionPredictions, sessions: Sequence[pd.Timestamp]) -> pd.DataFrame:
        """Predictions of the baselines on some sessions."""
        key = (id(baselines), tuple(sessions))
        if key not in self._predictions:
            self._predictions[key] = baselines, baselines.of(sessions)
        return self._predictions[key][1]

    def tokens(self, baselines: SessionPredictions, sessions: pd.DatetimeIndex) -> tuple[str, ...]:
        """The token of the baselines' predictions by session; empty where there is none.

        ``sessions`` are all known ones from one of them on.
        """
        key = (id(baselines), sessions[0]) if len(sessions) else (id(baselines), pd.Timestamp.max)
        if key not in self._tokens:
            known = baselines.tokens
            self._tokens[key] = baselines, tuple(known.get(session, "") for session in sessions)
        return self._tokens[key][1]

    def outcome_rows(self, span: PricePanel, sessions: Iterable[pd.Timestamp], *, scaled: bool) -> pd.DataFrame:
        """Outcomes of some sessions of a span of the known ones, see :func:`.outcome_frame`."""
        asked_for, of_span = tuple(sessions), (span.sessions[0], span.sessions[-1], scaled)
        key = (*of_span, asked_for)
        if key not in self._outcomes:
            # Volatilities cost most, and plans ask for other sessions of the same span.
            if of_span not in self._spans:
                self._spans[of_span] = outcome_matrices(span, frame_names(scaled))
            matrices = self._spans[of_span]
            self._outcomes[key] = outcome_frame(span, scaled=scaled, sessions=asked_for, matrices=matrices)
        return self._outcomes[key]

    def outcomes(self, known: PricePanel, start: int, names: set[str]) -> dict[str, np.ndarray]:
        """Outcomes of all sessions from ``start`` on, see :func:`.outcome_matrices`."""
        lacking = {name for name in names if (start, name) not in self._matrices}
        if lacking:
            found = outcome_matrices(self.span(known, start, len(known.sessions)), lacking)
            self._matrices |= {(start, name): values for name, values in found.items()}
        return {name: self._matrices[start, name] for name in names if (start, name) in self._matrices}

    def span(self, known: PricePanel, first: int, end: int) -> PricePanel:
        """The known sessions from one place up to another."""
        if (first, end) not in self._panels:
            self._panels[first, end] = PricePanel(
                tickers=known.tickers,
                sessions=known.sessions[first:end],
                values=np.ascontiguousarray(known.values[:, :, first:end]),
                valid=np.ascontiguousarray(known.valid[:, first:end]),
                covariates=known.covariates,
            )
        return self._panels[first, end]


def _rows(plan: ExperimentPlan, log: DirectReader, sessions: set[pd.Timestamp]) -> pd.DataFrame:
    if not sessions:
        return log.direct((), columns=evidence_columns(plan))
    # All columns that are read for any plan: plans of one pair share what is made of them.
    rows = log.direct((plan.champion, plan.challenger), since=min(sessions), until=max(sessions))
    inside = np.isin(rows["session"].to_numpy(), pd.DatetimeIndex(list(sessions)).to_numpy())
    return rows if inside.all() else rows[inside]
