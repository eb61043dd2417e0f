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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from financial_assets.experiment import keyed_rows
from financial_assets.experiment import outcomes as outcomes_module
from financial_assets.experiment.decision import evidence as evidence_module
from financial_assets.experiment.decision import looks
from financial_assets.experiment.decision import series as series_module
from financial_assets.experiment.decision.evidence import Evidence, EvidenceDays, assemble, figure_names, tabulate
from financial_assets.experiment.decision.kept import file as file_module
from financial_assets.experiment.decision.kept import shared as shared_module
from financial_assets.experiment.decision.kept.file import (
    DIGEST_SIZE,
    KeptDays,
    KeptEvidence,
    KeptLongest,
    arrays_in,
    arrays_of,
    load_evidence,
    save_evidence,
)
from financial_assets.experiment.decision.kept.shared import DirectReader, PairRows, SessionPredictions, SharedTables
from financial_assets.experiment.decision.record import ConfidenceSequence
from financial_assets.experiment.decision.series import looks_back, needs_scaled_outcomes, outcome_columns
from financial_assets.experiment.metrics import (
    books,
    compensated,
    direction,
    metric,
    paired,
    ranking,
    registry,
    risk,
)
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.kept_requests import KeptRequests
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.experiment.prediction_log.shared_reads import SharedReads
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

_FEW = 10  # sessions up to which each is looked up by itself
_FORWARD = SESSIONS_5D  # sessions after a decision that its outcomes reach


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a decision takes from log and prices.

    Attributes
    ----------
    evidence
        As of :func:`.evidence.gather`, without ``by_ticker``.
    always_on
        See :func:`.looks.watch`.
    kept, as_of
        What :attr:`longest` is taken from.
    """

    evidence: Evidence
    always_on: ConfidenceSequence
    kept: KeptLongest
    as_of: pd.Timestamp

    @property
    def longest(self) -> pd.DataFrame:
        """See :func:`.guardrails.longest_of_pairs`; only plans that move traffic ask for it."""
        due = self.kept.day <= np.datetime64(self.as_of, "D")
        index = pd.DatetimeIndex(self.kept.day[due].astype("datetime64[ns]"))
        return pd.DataFrame(self.kept.seconds[due], index=index, columns=list(self.kept.models))


class EvidenceHistory:
    """Where the evidence of plans is kept.

    Parameters
    ----------
    folder
        Made when missing; a file per plan.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def routed(
        self, log: LogReader | SharedReads, experiment: str, until: pd.Timestamp, columns: Sequence[str]
    ) -> pd.DataFrame:
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
        name, figures = plan.digest, len(figure_names(plan))
        path, shared = self._folder / f"{name[:32]}.npz", shared or SharedTables()
        kept = load_evidence(path, figures)
        first = int(known.panel.sessions.searchsorted(pd.Timestamp(plan.starts_after), side="right"))
        panel = shared.span(known.panel, first, len(known.panel.sessions))
        depends_on, pair = _depends_on(name, panel), (plan.champion, plan.challenger)
        read, state = log.last_direct(), kept.state
        later = log.direct_after(pair, state.last, state.begun) if state.depends_on == depends_on else None
        if later is None or state.count + later[0] != read[1]:
            kept = KeptEvidence.none(depends_on, figures)
            later = log.direct_after(pair, 0, "") or (0, set[pd.Timestamp]())
        settled = _settled(plan, known.panel, panel, baselines, shared)
        touched = later[1] | {pd.Timestamp(day) for day in kept.state.pending}
        todo = {session for session in touched if session in panel.sessions} | _changed(kept.days, settled)
        todo = _with_neighbours(plan, todo, panel.sessions, 1)
        rows = shared.rows(plan, log, _with_neighbours(plan, todo, panel.sessions, -1))
        if _moves_first_sessions(kept, rows):
            todo = set(panel.sessions)
            kept = replace(kept, state=replace(kept.state, first={}))
            rows = shared.rows(plan, log, todo)
        kept = _updated(plan, kept, todo, rows, baselines, known.panel, settled, shared)
        to_come = {_iso(session) for session in touched if session > known.as_of}
        pending = tuple(sorted({*kept.state.pending, *to_come}))
        state = replace(kept.state, last=read[0], count=read[1], begun=read[2], pending=pending)
        found = assemble(plan, _table(plan, kept.days, settled))
        kept, always_on = _watched(plan, replace(kept, state=state), found)
        save_evidence(path, kept)
        return Gathered(found, always_on, kept.longest, known.as_of)


@dataclass(frozen=True, slots=True, eq=False)
class _Settled:
    """The sessions of a plan that have an outcome, and what their evidence depends on beside the log.

    Attributes
    ----------
    day
        datetime64[D], rising ``[session]``.
    outcomes
        Digests of what their outcomes say, uint8 ``[session, DIGEST_SIZE]``.
    tokens
        Those of the baselines' predictions, by session.
    """

    day: NDArray[np.datetime64]
    outcomes: NDArray[np.uint8]
    tokens: tuple[str, ...]


@cache
def _code() -> str:
    evidence = (evidence_module, series_module, outcomes_module, keyed_rows, market_outcomes)
    metrics = (books, compensated, direction, metric, paired, ranking, registry, risk)
    scores = (classification, portfolio_books, quantiles, ranking_scores, risk_scores, volatility)
    sequences = (looks, betting, capital)
    keeping = (file_module, shared_module, sys.modules[__name__])
    return code_digest((*evidence, *metrics, *scores, *sequences, *keeping), (np, pd))


def _depends_on(plan: str, panel: PricePanel) -> str:
    """Names what all sessions depend on: code, plan (its digest), and whose rows the digests of outcomes are about."""
    return hashlib.sha256("\0".join((_code(), plan, *panel.tickers)).encode()).hexdigest()


def _memory(plan: ExperimentPlan) -> int:
    """Sessions before one that its outcomes depend on: what a volatility looks back to."""
    if not needs_scaled_outcomes(plan):
        return 0
    from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK  # torch: seconds, for who needs it only

    return CAUSAL_VOLATILITY_LOOKBACK


def _with_neighbours(
    plan: ExperimentPlan, sessions: set[pd.Timestamp], calendar: pd.DatetimeIndex, step: int
) -> set[pd.Timestamp]:
    """The sessions and those ``step`` places after each, where figures of a session depend on the one before it."""
    if not looks_back(plan) or not sessions:
        return sessions
    if len(sessions) <= _FEW:  # as those of a day are: an index would take longer to be made than they to be found
        days = calendar.to_numpy()
        beside = [int(days.searchsorted(session.to_datetime64())) + step for session in sessions]
        return sessions | {pd.Timestamp(days[place]) for place in beside if 0 <= place < len(days)}
    places = calendar.get_indexer(pd.DatetimeIndex(list(sessions))) + step
    return sessions | {*calendar[places[(places >= 0) & (places < len(calendar))]]}


def _settled(
    plan: ExperimentPlan,
    known: PricePanel,
    panel: PricePanel,
    baselines: SessionPredictions,
    shared: SharedTables,
) -> _Settled:
    """The sessions of ``panel`` with an outcome.

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
    digests = b"".join(hashlib.blake2b(row, digest_size=DIGEST_SIZE).digest() for row in content[rows])
    tokens = shared.tokens(baselines, panel.sessions)
    return _Settled(
        _days(panel.sessions[rows]),
        np.frombuffer(digests, np.uint8).reshape(len(rows), DIGEST_SIZE),
        tuple(tokens[row] for row in rows),
    )


def _changed(days: KeptDays, settled: _Settled) -> set[pd.Timestamp]:
    """Sessions with an outcome of which nothing is kept, or something that no longer holds."""
    place = np.searchsorted(days.day, settled.day)
    is_kept = np.isin(settled.day, days.day)
    holds = np.zeros(len(settled.day), bool)
    holds[is_kept] = (days.outcomes[place[is_kept]] == settled.outcomes[is_kept]).all(axis=1)
    tokens, known = np.array(settled.tokens, dtype=object), np.array(days.tokens, dtype=object)
    holds[holds] = tokens[holds] == known[place[holds]]
    return {*pd.DatetimeIndex(settled.day[~holds].astype("datetime64[ns]"))}


def _moves_first_sessions(kept: KeptEvidence, rows: PairRows) -> bool:
    """Whether a ticker was requested earlier than was known, so that more of its predictions were due."""
    first, newest = kept.state.first, str(kept.days.day[-1]) if len(kept.days.day) else ""
    return any(
        day < first.get(ticker, "") or (ticker not in first and day <= newest) for ticker, day in rows.first.items()
    )


def _updated(
    plan: ExperimentPlan,
    kept: KeptEvidence,
    todo: set[pd.Timestamp],
    rows: PairRows,
    baselines: SessionPredictions,
    known: PricePanel,
    settled: _Settled,
    shared: SharedTables,
) -> KeptEvidence:
    """What is kept after the sessions ``todo`` were tabulated again."""
    if not todo:
        return kept
    first = dict(rows.first)
    first |= {ticker: min(day, first.get(ticker, day)) for ticker, day in kept.state.first.items()}
    again = np.sort(_days(pd.DatetimeIndex(list(todo))))
    due = np.flatnonzero(np.isin(settled.day, again))
    new = KeptDays.none(len(figure_names(plan)))
    if len(due):
        table = _tabulated(plan, settled.day[due], rows, first, baselines, known, shared)
        figures = np.column_stack([table.figures[name] for name in figure_names(plan)]).astype(np.float64)
        new = KeptDays(settled.day[due], settled.outcomes[due], figures, tuple(settled.tokens[row] for row in due))
    longest = rows.longest
    scored = KeptLongest(
        _days(pd.DatetimeIndex(longest.index)), tuple(map(str, longest.columns)), longest.to_numpy(np.float64)
    )
    gone = np.union1d(again, scored.day)
    open_now = {_iso(session) for session in rows.pending}
    iso_again = {str(day) for day in again}
    pending = open_now | {day for day in kept.state.pending if day not in iso_again}
    state = replace(kept.state, first=first, pending=tuple(sorted(pending)))
    return replace(
        kept, state=state, days=kept.days.with_days(again, new), longest=kept.longest.with_days(gone, scored)
    )


def _tabulated(
    plan: ExperimentPlan,
    due: NDArray[np.datetime64],
    rows: PairRows,
    first: Mapping[str, str],
    baselines: SessionPredictions,
    known: PricePanel,
    shared: SharedTables,
) -> EvidenceDays:
    """The evidence of the sessions ``due``."""
    asked_for = list(pd.DatetimeIndex(due.astype("datetime64[ns]")))
    after = known.sessions[int(known.sessions.searchsorted(pd.Timestamp(plan.starts_after), side="right")) :]
    needed = sorted(_with_neighbours(plan, set(asked_for), after, -1))
    places = known.sessions.get_indexer(pd.DatetimeIndex(needed))
    end = min(int(places.max()) + 1 + _FORWARD, len(known.sessions))
    span = shared.span(known, max(int(places.min()) - _memory(plan), 0), end)
    scaled = needs_scaled_outcomes(plan)
    outcomes = shared.outcome_rows(span, needed, scaled=scaled)
    begun = {ticker: pd.Timestamp(day) for ticker, day in first.items()}
    series = shared.series(plan, (*needed, span.sessions[0], span.sessions[-1]), asked_for, scaled=scaled)
    predicted = shared.predictions(baselines, needed)
    return tabulate(plan, rows.complete, predicted, outcomes, begun, only=asked_for, shared=series)


def _table(plan: ExperimentPlan, days: KeptDays, settled: _Settled) -> EvidenceDays:
    """The figures of all sessions with an outcome, in order."""
    kept = days.figures[np.isin(days.day, settled.day)]
    # By columns: means over the days must meet them one after the other in memory, as they always have.
    figures = dict(zip(figure_names(plan), np.ascontiguousarray(kept.T), strict=True))
    return EvidenceDays(settled.day.astype("datetime64[ns]"), figures)


def _watched(plan: ExperimentPlan, kept: KeptEvidence, evidence: Evidence) -> tuple[KeptEvidence, ConfidenceSequence]:
    """The confidence sequence; only days after those whose state is kept are played."""
    state, reached = kept.state, list[BettingSequence]()

    def extend(start: BettingSequence, days: np.ndarray) -> BettingSequence:
        count = state.watched
        is_same = 0 < count <= len(days) and _digest(days[:count]) == state.watched_digest
        arrays = arrays_in(kept.sequence, start) if is_same and kept.sequence is not None else None
        if arrays is not None:
            start, days = replace(start, days=count, total=state.total, **arrays), days[count:]
        reached.append(start.extend(map(float, days)))
        return reached[-1]

    always_on = looks.watch(plan, evidence, extend)
    end = reached[0]
    days = looks.clipped(evidence.main.differences, plan.bound)
    state = replace(state, watched=end.days, watched_digest=_digest(days), total=end.total)
    return replace(kept, state=state, sequence=arrays_of(end)), always_on


def _digest(days: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(days, dtype="<f8").tobytes()).hexdigest()


def _days(sessions: pd.DatetimeIndex) -> NDArray[np.datetime64]:
    return sessions.to_numpy().astype("datetime64[D]")


def _iso(session: pd.Timestamp) -> str:
    return session.date().isoformat()
