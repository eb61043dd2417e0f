"""Evidence that grows by its new sessions: what one session said is kept as long as nothing behind it has changed.

The evidence of a session depends on its rows in the log, its outcomes and the baselines' predictions of it. The log is
append-only and its results are final, so that changes have larger ids or were pending; outcomes are compared by digest,
predictions by token. Only the sessions that changed are tabulated again, by the same code as all of them: the result is
that of :func:`.evidence.gather` bit for bit. The same holds for the confidence sequence, whose state after the days so
far is kept.

All of it can be made anew: a file that is missing, damaged, or of other code, another plan or another log costs time
only. It is written whole or not at all; of two processes that write at once, the last one's stays.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from financial_assets.experiment import keyed_rows
from financial_assets.experiment import outcomes as outcomes_module
from financial_assets.experiment.decision import evidence as evidence_module
from financial_assets.experiment.decision import looks
from financial_assets.experiment.decision import series as series_module
from financial_assets.experiment.decision.evidence import (
    Evidence,
    SharedSeries,
    assemble,
    counts_of,
    first_sessions,
    series_names,
    tabulate,
)
from financial_assets.experiment.decision.guardrails import longest_of_pairs
from financial_assets.experiment.decision.kept_evidence import (
    STATE_ARRAYS,
    KeptDay,
    KeptEvidence,
    load_evidence,
    save_evidence,
)
from financial_assets.experiment.decision.record import ConfidenceSequence
from financial_assets.experiment.decision.series import (
    looks_back,
    needs_scaled_outcomes,
    outcome_columns,
    prediction_columns,
)
from financial_assets.experiment.metrics import books, direction, metric, paired, ranking, registry, risk
from financial_assets.experiment.outcomes import KnownPrices, outcome_frame, outcome_matrices
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.kept_requests import KeptRequests
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.experiment.statistics import betting, capital
from financial_assets.experiment.statistics.betting import BettingSequence
from financial_assets.kept import code_digest
from financial_assets.market import outcomes as market_outcomes
from financial_assets.market.panel import PricePanel
from financial_assets.portfolio import books as portfolio_books
from financial_assets.scoring import classification, quantiles, volatility
from financial_assets.scoring import ranking as ranking_scores
from financial_assets.scoring import risk as risk_scores
from financial_assets.serving.bar_rules import SESSIONS_5D

EVIDENCE_COLUMNS = ("session", "ticker", "model", "status", "probability_up", "latency_s")
"""Columns of the log's direct predictions that evidence needs, beside those of the plan's metric."""

_FORWARD = SESSIONS_5D  # sessions after a decision that its outcomes reach


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


class SharedTables:
    """What plans of one pair have in common as of one decision: the same reads of one log, the same prices."""

    def __init__(self) -> None:
        self._series: dict[tuple[object, ...], SharedSeries] = {}
        self._matrices: dict[tuple[int, str], np.ndarray] = {}
        self._outcomes: dict[tuple[object, ...], pd.DataFrame] = {}
        self._rows: dict[tuple[object, ...], pd.DataFrame] = {}

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

    def rows(self, plan: ExperimentPlan, log: DirectReader, sessions: set[pd.Timestamp]) -> pd.DataFrame:
        """Direct predictions of a plan's pair on some sessions, pending ones among them."""
        key = (plan.champion, plan.challenger, frozenset(sessions))
        if key not in self._rows:
            self._rows[key] = _rows(plan, log, sessions)
        return self._rows[key]

    def outcome_rows(self, span: PricePanel, sessions: Iterable[pd.Timestamp], *, scaled: bool) -> pd.DataFrame:
        """Outcomes of some sessions of a span of the known ones, see :func:`.outcome_frame`."""
        asked_for = tuple(sessions)
        key = (span.sessions[0], span.sessions[-1], asked_for, scaled)
        if key not in self._outcomes:
            self._outcomes[key] = outcome_frame(span, scaled=scaled, sessions=asked_for)
        return self._outcomes[key]

    def outcomes(self, known: PricePanel, start: int, names: set[str]) -> dict[str, np.ndarray]:
        """Outcomes of all sessions from ``start`` on, see :func:`.outcome_matrices`."""
        lacking = {name for name in names if (start, name) not in self._matrices}
        if lacking:
            found = outcome_matrices(_between(known, start, len(known.sessions)), lacking)
            self._matrices |= {(start, name): values for name, values in found.items()}
        return {name: self._matrices[start, name] for name in names if (start, name) in self._matrices}


@dataclass(frozen=True)
class Gathered:
    """What a decision takes from log and prices.

    Attributes
    ----------
    evidence
        As of :func:`.evidence.gather`, without ``by_ticker``.
    longest
        See :func:`.guardrails.longest_of_pairs`.
    always_on
        See :func:`.looks.watch`.
    """

    evidence: Evidence
    longest: pd.DataFrame
    always_on: ConfidenceSequence


class EvidenceHistory:
    """Where the evidence of plans is kept.

    Parameters
    ----------
    folder
        Made when missing; a file per plan.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def routed(self, log: LogReader, experiment: str, until: pd.Timestamp, columns: Sequence[str]) -> pd.DataFrame:
        """See :meth:`.KeptRequests.routed`."""
        return KeptRequests(self._folder / "requests.npz").routed(log, experiment, until, columns)

    def gather(
        self,
        plan: ExperimentPlan,
        log: DirectReader,
        baselines: SessionPredictions,
        known: KnownPrices,
        shared: SharedTables | None = None,
    ) -> Gathered:
        """The evidence of a plan as of a session; only what has changed since the last call is looked at.

        Parameters
        ----------
        plan
            Which pair, since when, by which metric.
        log
            The prediction log.
        baselines
            Daily predictions of the baselines.
        known
            Prices as of the decision.
        shared
            What other plans have had computed from the same reads of the log and the same prices.
        """
        name = plan.digest
        path = self._folder / f"{name[:32]}.npz"
        state, arrays = load_evidence(path)
        panel = _after(known.panel, pd.Timestamp(plan.starts_after))
        depends_on = _depends_on(name, panel)
        shared = shared or SharedTables()
        digests = _outcome_digests(plan, known.panel, panel, shared)
        read = log.last_direct()
        pair = (plan.champion, plan.challenger)
        later = log.direct_after(pair, state.last, state.begun) if state.depends_on == depends_on else None
        if later is None or state.count + later[0] != read[1]:
            state, arrays, later = (
                KeptEvidence(depends_on),
                {},
                log.direct_after(pair, 0, "") or (0, set[pd.Timestamp]()),
            )
        tokens = baselines.tokens
        touched = later[1] | {pd.Timestamp(day) for day in state.pending}
        todo = {session for session in touched if session in panel.sessions}
        to_come = {_iso(session) for session in touched if session > known.as_of}
        todo |= {
            session
            for session, digest in digests.items()
            if (day := state.days.get(_iso(session))) is None
            or (day.outcomes, day.token) != (digest, tokens.get(session, ""))
        }
        todo = _with_followers(plan, todo, panel.sessions)
        rows = shared.rows(plan, log, _with_past(plan, todo, panel.sessions))
        first = _first_sessions(rows)
        if _moves_first_sessions(state, first):
            todo = set(panel.sessions)
            state, rows = replace(state, first={}), shared.rows(plan, log, todo)
            first = _first_sessions(rows)
        state = _updated(plan, state, todo, rows, first, baselines, (known.panel, panel), digests, shared)
        pending = tuple(sorted({*state.pending, *to_come}))
        state = replace(state, last=read[0], count=read[1], begun=read[2], pending=pending)
        found = assemble(plan, _table(plan, state, digests))
        state, arrays, always_on = _watched(plan, state, arrays, found)
        save_evidence(path, state, arrays)
        return Gathered(found, _longest(state, known.as_of), always_on)


@dataclass(frozen=True, slots=True)
class _Span:
    """Whose prices evidence is about, and its sessions; the prices are those of the whole panel."""

    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex


def _after(panel: PricePanel, session: pd.Timestamp) -> _Span:
    """The sessions after one."""
    return _Span(panel.tickers, panel.sessions[int(panel.sessions.searchsorted(session, side="right")) :])


def _between(panel: PricePanel, first: int, end: int) -> PricePanel:
    return PricePanel(
        tickers=panel.tickers,
        sessions=panel.sessions[first:end],
        values=np.ascontiguousarray(panel.values[:, :, first:end]),
        valid=np.ascontiguousarray(panel.valid[:, first:end]),
        covariates=panel.covariates,
    )


@cache
def _code() -> str:
    evidence = (evidence_module, series_module, outcomes_module, keyed_rows, market_outcomes)
    metrics = (books, direction, metric, paired, ranking, registry, risk)
    scores = (classification, portfolio_books, quantiles, ranking_scores, risk_scores, volatility)
    sequences = (looks, betting, capital)
    return code_digest((*evidence, *metrics, *scores, *sequences, sys.modules[__name__]), (np, pd))


def _depends_on(plan: str, panel: _Span) -> str:
    """Names what all sessions depend on: code, plan (its digest), and whose rows the digests of outcomes are about."""
    return hashlib.sha256("\0".join((_code(), plan, *panel.tickers)).encode()).hexdigest()


def _memory(plan: ExperimentPlan) -> int:
    """Sessions before one that its outcomes depend on: what a volatility looks back to."""
    if not needs_scaled_outcomes(plan):
        return 0
    from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK  # torch: seconds, for who needs it only

    return CAUSAL_VOLATILITY_LOOKBACK


def _with_past(plan: ExperimentPlan, sessions: set[pd.Timestamp], calendar: pd.DatetimeIndex) -> set[pd.Timestamp]:
    """The sessions and, if their figures depend on it, the one before each."""
    if not looks_back(plan) or not sessions:
        return sessions
    places = calendar.get_indexer(pd.DatetimeIndex(sorted(sessions))) - 1
    return sessions | {*calendar[places[places >= 0]]}


def _with_followers(plan: ExperimentPlan, sessions: set[pd.Timestamp], calendar: pd.DatetimeIndex) -> set[pd.Timestamp]:
    """The sessions and, if its figures depend on them, the one after each."""
    if not looks_back(plan) or not sessions:
        return sessions
    places = calendar.get_indexer(pd.DatetimeIndex(sorted(sessions))) + 1
    return sessions | {*calendar[places[places < len(calendar)]]}


def _outcome_digests(
    plan: ExperimentPlan, known: PricePanel, panel: _Span, shared: SharedTables
) -> dict[pd.Timestamp, str]:
    """Session of ``panel`` -> digest of what its outcomes say, for sessions with any.

    The sign of a return is all that hits and losses of a probability depend on: prices that are rescaled after a
    dividend change returns in the last digit only.
    """
    first = len(known.sessions) - len(panel.sessions)
    start = max(first - _memory(plan), 0)
    found = shared.outcomes(known, start, {"log_return", *outcome_columns(plan)})
    matrices = {name: np.ascontiguousarray(values[:, first - start :].T) for name, values in found.items()}
    returns = matrices["log_return"]
    is_known = np.isfinite(returns)
    said = np.where(is_known, (returns > 0).astype(np.int8), np.int8(-1))
    # One NaN is as good as another, whatever its bits.
    further = [
        np.where(np.isnan(matrices[name]), np.nan, matrices[name]) for name in outcome_columns(plan) if name in found
    ]
    rows = np.flatnonzero(is_known.any(axis=1))
    content = np.hstack([np.ascontiguousarray(values).view(np.uint8) for values in (said, *further)])
    return {
        session: hashlib.blake2b(content[row], digest_size=16).hexdigest()
        for row, session in zip(rows, panel.sessions[rows], strict=True)
    }


def _rows(plan: ExperimentPlan, log: DirectReader, sessions: set[pd.Timestamp]) -> pd.DataFrame:
    """Direct predictions of the pair on some sessions, pending ones among them."""
    columns = evidence_columns(plan)
    pair = (plan.champion, plan.challenger)
    if not sessions:
        return log.direct((), columns=columns)
    # All columns that are read for any plan: plans of one pair share what is made of them.
    rows = log.direct(pair, since=min(sessions), until=max(sessions))
    return rows[rows["session"].isin(list(sessions))]


def _first_sessions(rows: pd.DataFrame) -> dict[str, str]:
    """Ticker -> ISO date of the first session on which it was requested, by rows that pending ones are among."""
    requested = first_sessions(rows[rows["status"] != "pending"])
    return {ticker: _iso(session) for ticker, session in requested.items()}


def _moves_first_sessions(state: KeptEvidence, found: Mapping[str, str]) -> bool:
    """Whether a ticker was requested earlier than was known, so that more of its predictions were due."""
    newest = max(state.days, default="")
    return any(
        day < state.first.get(ticker, "") or (ticker not in state.first and day <= newest)
        for ticker, day in found.items()
    )


def _updated(
    plan: ExperimentPlan,
    state: KeptEvidence,
    todo: set[pd.Timestamp],
    rows: pd.DataFrame,
    requested: Mapping[str, str],
    baselines: SessionPredictions,
    panels: tuple[PricePanel, _Span],
    digests: Mapping[pd.Timestamp, str],
    shared: SharedTables,
) -> KeptEvidence:
    """The state after the sessions ``todo`` were tabulated again; ``panels`` are the whole one and the evidence's."""
    if not todo:
        return state
    pair = rows[rows["status"] != "pending"]
    first = {**requested, **{ticker: min(day, requested.get(ticker, day)) for ticker, day in state.first.items()}}
    due = [session for session in todo if session in digests]
    again = {_iso(session) for session in todo}
    days = {day: kept for day, kept in state.days.items() if day not in again}
    if due:
        whole, panel = panels
        needed = sorted(_with_past(plan, set(due), panel.sessions))
        places = whole.sessions.get_indexer(pd.DatetimeIndex(needed))
        span = _between(whole, max(int(places.min()) - _memory(plan), 0), int(places.max()) + 1 + _FORWARD)
        scaled = needs_scaled_outcomes(plan)
        known = shared.outcome_rows(span, needed, scaled=scaled)
        begun = {ticker: pd.Timestamp(day) for ticker, day in first.items()}
        series = shared.series(plan, (*needed, span.sessions[0], span.sessions[-1]), due, scaled=scaled)
        table = tabulate(plan, pair, baselines.of(needed), known, begun, only=due, shared=series).table
        tokens = baselines.tokens
        for session, figures in _by_session(table).items():
            days[_iso(session)] = KeptDay(digests[session], tokens.get(session, ""), figures)
    longest = {day: kept for day, kept in state.longest.items() if day not in again}
    longest |= {_iso(session): figures for session, figures in _by_session(longest_of_pairs(plan, rows)).items()}
    pending = {_iso(session) for session in rows.loc[rows["status"] == "pending", "session"]}
    pending |= {day for day in state.pending if day not in again}
    return replace(state, days=days, first=first, longest=longest, pending=tuple(sorted(pending)))


def _by_session(table: pd.DataFrame) -> dict[pd.Timestamp, dict[str, float | None]]:
    """The rows of a table by its index, ``None`` for NaN."""
    names, sessions = list(map(str, table.columns)), pd.DatetimeIndex(table.index)
    rows = [[None if pd.isna(value) else value for value in row] for row in table.astype(object).to_numpy().tolist()]
    return {session: dict(zip(names, row, strict=True)) for session, row in zip(sessions, rows, strict=True)}


def _table(plan: ExperimentPlan, state: KeptEvidence, digests: Mapping[pd.Timestamp, str]) -> pd.DataFrame:
    """The figures of all sessions with an outcome, in order."""
    sessions = sorted(digests)
    rows = [state.days[_iso(session)].figures for session in sessions]
    columns = dict[str, np.ndarray]()
    for name in series_names(plan):
        columns[name] = np.array([row[name] for row in rows], dtype=np.float64)
        counts = f"{name}/rows", f"{name}/unequal"
        columns |= {count: np.array([row[count] for row in rows], dtype=np.int64) for count in counts}
    columns |= {name: np.array([row[name] for row in rows], dtype=np.int64) for name in counts_of(plan)}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(sessions))


def _longest(state: KeptEvidence, as_of: pd.Timestamp) -> pd.DataFrame:
    days = sorted(day for day in state.longest if day <= _iso(as_of))
    models = sorted({model for day in days for model in state.longest[day]})
    seconds = [[state.longest[day].get(model) for model in models] for day in days]
    values = np.array(seconds, dtype=np.float64).reshape(len(days), len(models))
    return pd.DataFrame(values, index=pd.DatetimeIndex(days), columns=models)


def _watched(
    plan: ExperimentPlan, state: KeptEvidence, arrays: Mapping[str, np.ndarray], evidence: Evidence
) -> tuple[KeptEvidence, Mapping[str, np.ndarray], ConfidenceSequence]:
    """The confidence sequence; only days after those whose state is kept are played."""
    reached: list[BettingSequence] = []

    def extend(start: BettingSequence, days: np.ndarray) -> BettingSequence:
        count = state.watched
        is_same = (
            0 < count <= len(days) and _digest(days[:count]) == state.watched_digest and set(arrays) == {*STATE_ARRAYS}
        )
        if is_same and arrays["up"].shape == start.up.shape:
            start = replace(start, days=count, total=state.total, **{name: arrays[name] for name in STATE_ARRAYS})
            days = days[count:]
        reached.append(start.extend(map(float, days)))
        return reached[-1]

    always_on = looks.watch(plan, evidence, extend)
    end = reached[0]
    days = looks.clipped(evidence.main.differences, plan.bound)
    state = replace(state, watched=end.days, watched_digest=_digest(days), total=end.total)
    return state, {name: getattr(end, name) for name in STATE_ARRAYS}, always_on


def _digest(days: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(days, dtype="<f8").tobytes()).hexdigest()


def _iso(session: pd.Timestamp) -> str:
    return session.date().isoformat()
