"""One ingestion: fetch what is missing or has changed, check it, and only then let it into the store."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd

from financial_assets.errors import MarketDataError, SourceError
from financial_assets.market import calendar
from financial_assets.market.frames import empty_prices, sort_prices, ticker_codes
from financial_assets.market.quality import QualityResult
from financial_assets.market.quality.checks import blocks, results_of
from financial_assets.market.quality.overrides import Override
from financial_assets.market.quality.screening import QualityPolicy, Screening, screen
from financial_assets.market.restatement import among, missing_at_source
from financial_assets.market.sources import FetchResult, PriceSource
from financial_assets.market.store import PriceStore, StoredBars, UpsertReport

_OVERLAP = dt.timedelta(days=15)
"""Calendar days fetched again before the last stored session, so that a restated history shows itself."""

_BEHIND = dt.timedelta(days=45)
"""Calendar days by which a ticker may lag behind the most advanced one and still be fetched with it. Delisted tickers
are fetched apart: with them, everybody's years since their last bar would be downloaded each day."""

_CONTEXT = dt.timedelta(days=120)
"""Calendar days of stored bars before a delivery that its checks look at."""

REJUDGED = dt.timedelta(days=60)
"""Stored bars of this span before the delivered ones are judged again with their neighbours on both sides."""

_SHOWN = 5
"""Bars that a sentence names."""


@dataclass(frozen=True)
class Ingestion:
    """What one ingestion did.

    Attributes
    ----------
    prices
        What the source delivered.
    failures
        Ticker to reason, for those that the source could not deliver.
    never_delivered
        Failed tickers of which the store holds nothing either.
    quality
        Results of all quality checks on ``prices``.
    report
        What the store took; ``None`` when a blocking check failed, and then the store is as it was.
    screening
        Which bars were let in, left out or repaired, and which tickers wait.
    missing_at_source
        Stored bars that the source no longer has (price columns). Those of a source that delivers whole histories
        (files) are removed from the store (``report.removed``); a live source may have a hole for a day, so there they
        stay.
    doubtful
        Ticker to reason, where too many are missing for a correction: nothing is removed.
    notes
        What the source left out: files that cannot be read and that nobody asked for.
    """

    prices: pd.DataFrame
    failures: Mapping[str, str]
    never_delivered: tuple[str, ...]
    quality: tuple[QualityResult, ...]
    report: UpsertReport | None
    screening: Screening
    missing_at_source: pd.DataFrame = field(default_factory=empty_prices)
    doubtful: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def blocking_failures(self) -> tuple[QualityResult, ...]:
        """The checks that keep these prices out of the store."""
        return tuple(result for result in self.quality if result.blocking and not result.passed)

    @property
    def source_changes(self) -> tuple[str, ...]:
        """What a person should hear of stored bars that the source no longer has: one sentence per kind."""
        removed = empty_prices() if self.report is None else self.report.removed
        lines = [f"{name}: {reason}" for name, reason in self.doubtful.items()][:_SHOWN]
        if len(self.doubtful) > _SHOWN:
            lines.append(
                f"the same of {len(self.doubtful) - _SHOWN} more tickers: {_named(list(self.doubtful)[_SHOWN:])}"
            )
        kept = self.missing_at_source
        kept = kept[~among(kept, removed) & ~kept["ticker"].isin(list(self.doubtful)).to_numpy()]
        if len(removed):
            lines.append(f"the source no longer has {_bars(removed)}: removed from the store, and kept in its history")
        if len(kept):
            lines.append(f"the source did not deliver {_bars(kept)}, which the store holds: they stay")
        return tuple(lines)


def ingest(
    source: PriceSource,
    store: PriceStore,
    tickers: Sequence[str],
    start: dt.date | None = None,
    end: dt.date | None = None,
    *,
    policy: QualityPolicy = "quarantine",
    overrides: Sequence[Override] = (),
    whole_again: Collection[str] = (),
) -> Ingestion:
    """Bring the store up to date with the source.

    A live source is asked only for what lies after the stored sessions, with a short overlap. Where the overlap shows
    that a ticker's history was restated by more than one factor, the whole of that ticker is fetched again. Sources
    that are not live deliver whole histories, so a stored bar that they lack is gone.

    Parameters
    ----------
    whole_again
        Tickers whose whole history a live source is asked for, to see corrections of bars before the overlap.

    Raises
    ------
    SourceError
        The source delivered nothing at all.
    MarketDataError
        No ticker could be taken, because all histories were restated and are not delivered from their beginning.
    """
    since = _resume(store, tickers, whole_again) if source.live else dict[str, dt.date]()
    fetched = _fetch(source, tickers, since, start, end)
    outcome = _ingest_span(fetched, store, tickers, end, policy, overrides, whole=not source.live)
    restated = [] if outcome.report is None else [name for name in outcome.report.held_back if name in since]
    if outcome.report is not None and restated:
        again = source.fetch(restated, start, end)
        kept = fetched.prices[~fetched.prices["ticker"].isin(again.prices["ticker"].unique())]
        both = FetchResult(sort_prices(pd.concat([kept, again.prices])), {**fetched.failures, **again.failures})
        second = _ingest_span(both, store, tickers, end, policy, overrides, whole=False)
        if second.report is not None:
            second = replace(second, report=_together(outcome.report, second.report))
        outcome = second
    return _settled(outcome, tickers, start)


def due_again(tickers: Sequence[str], every: int, now: pd.Timestamp) -> list[str]:
    """Tickers whose whole history is to be fetched again after the latest session: each after one in ``every``.

    Parameters
    ----------
    every
        Number of sessions, 0: none is due.
    now
        The current instant (with a time zone).
    """
    if not every:
        return []
    session = calendar.session_count(now)
    return [name for name in tickers if (zlib.crc32(name.encode()) + session) % every == 0]


def _resume(store: PriceStore, tickers: Sequence[str], whole: Collection[str]) -> dict[str, dt.date]:
    """Ticker to the first day to fetch: shortly before its last stored session. None for new ones and for ``whole``."""
    last = store.last_sessions(tickers)
    days = (last - _OVERLAP).dt.date
    return {str(ticker): day for ticker, day in zip(last.index, days, strict=True) if ticker not in whole}


def _fetch(
    source: PriceSource,
    tickers: Sequence[str],
    since: Mapping[str, dt.date],
    start: dt.date | None,
    end: dt.date | None,
) -> FetchResult:
    """One delivery of all tickers, in up to three requests: new ones, those up to date, and those left behind."""
    latest = max(since.values(), default=None)
    groups: dict[str, list[str]] = {}
    for ticker in tickers:
        behind = ticker in since and latest is not None and latest - since[ticker] > _BEHIND
        groups.setdefault("new" if ticker not in since else "behind" if behind else "current", []).append(ticker)
    results: list[FetchResult] = []
    refusals: list[SourceError] = []
    for names in groups.values():
        first = min((since[name] for name in names if name in since), default=None)
        try:
            results.append(source.fetch(names, max(filter(None, (start, first)), default=None), end))
        except SourceError as error:  # the reason of each of its tickers, unless nothing else was delivered either
            refusals.append(error)
            results.append(FetchResult(empty_prices(), dict.fromkeys(names, str(error))))
    if len(refusals) == len(groups):
        raise refusals[0]
    frames = [result.prices for result in results if len(result.prices)]
    failures = {name: reason for result in results for name, reason in result.failures.items()}
    return FetchResult(sort_prices(pd.concat(frames)) if len(frames) > 1 else frames[0], failures)


def _ingest_span(
    fetched: FetchResult,
    store: PriceStore,
    tickers: Sequence[str],
    end: dt.date | None,
    policy: QualityPolicy,
    overrides: Sequence[Override],
    *,
    whole: bool,
) -> Ingestion:
    """Screen one delivery and store what may go in; with ``whole``, stored bars that it lacks are gone."""
    beside = store.bars(tickers) if whole else _stored_around(fetched.prices, store, tickers)
    stored = beside.prices
    judge = partial(screen, fetched.prices, stored=stored, policy=policy, overrides=overrides)
    now = pd.Timestamp.now(tz="UTC")
    screening = judge(now=now)
    if screening.waiting and not whole:
        # Of the last days only, six bad bars are many; of all that the ticker has, they may be few. All are counted
        # only now, as a store may hold thousands of tickers.
        histories = store.read(sorted(screening.waiting))["ticker"].value_counts()
        screening = judge(now=now, histories={str(name): int(count) for name, count in histories.items()})
    quality = results_of(screening, stored)
    failed = set(fetched.failures)
    never = failed - set(store.last_sessions(list(failed)).index) if failed else failed
    outcome = Ingestion(
        fetched.prices, fetched.failures, tuple(sorted(never)), quality, None, screening, notes=fetched.notes
    )
    if blocks(quality):
        return outcome
    admitted = screening.decided if policy == "strict" else screening.accepted
    missing, doubtful = missing_at_source(stored, fetched.prices, end)
    gone = missing[~missing["ticker"].isin(list(doubtful))] if whole else missing.head(0)
    report = store.upsert(admitted, gone, beside=beside)
    return replace(outcome, report=report, missing_at_source=missing, doubtful=doubtful)


def _stored_around(delivered: pd.DataFrame, store: PriceStore, tickers: Sequence[str]) -> StoredBars:
    """What the store holds of the delivered span and shortly before it.

    Tickers of which much more was delivered than of most are read apart: one new ticker must not make everybody's
    history be read.
    """
    codes, names = ticker_codes(delivered["ticker"])
    first = pd.to_datetime(delivered["date"], errors="coerce").groupby(codes).min().drop(-1, errors="ignore")
    first = first.set_axis(names[first.index]).reindex(list(tickers)).dropna()
    if first.empty:
        return store.bars(tickers)
    is_long = first < first.median() - _CONTEXT
    long, usual = first[is_long], first[~is_long]
    apart = {*long.index}
    rest = store.bars([name for name in tickers if name not in apart], (usual.min() - _CONTEXT).date())
    if not apart:
        return rest
    others = store.bars([*long.index], (long.min() - _CONTEXT).date())
    return replace(rest, prices=sort_prices(pd.concat([others.prices, rest.prices])))


def _named(tickers: Sequence[str]) -> str:
    return ", ".join(tickers[:_SHOWN]) + (", ..." if len(tickers) > _SHOWN else "")


def _bars(rows: pd.DataFrame) -> str:
    shown = ", ".join(f"{row.ticker} {row.date:%Y-%m-%d}" for row in rows.head(_SHOWN).itertuples())
    count = f"{len(rows):,} stored bar" + ("" if len(rows) == 1 else "s")
    return f"{count} ({shown}{', ...' if len(rows) > _SHOWN else ''})"


def _together(first: UpsertReport, second: UpsertReport) -> UpsertReport:
    """What two upserts of one ingestion did: the second one delivers all of the first one again."""
    taken = [report.restated for report in (first, second) if len(report.restated)]
    restated = pd.concat(taken).drop_duplicates(["ticker", "date"], keep="last") if taken else second.restated
    return replace(
        second,
        added=first.added + second.added,
        restated=restated.sort_values(["ticker", "date"], ignore_index=True),
        corporate_actions=pd.concat([first.corporate_actions, second.corporate_actions], ignore_index=True)
        if len(first.corporate_actions)
        else second.corporate_actions,
        rescaled=first.rescaled if len(first.rescaled) else second.rescaled,
    )


def _settled(outcome: Ingestion, tickers: Sequence[str], start: dt.date | None) -> Ingestion:
    """Tickers that were held back count as not delivered; if nobody is left, nothing was."""
    report = outcome.report
    if report is None or not report.held_back:
        return outcome
    fix = "deliver the whole history"
    if start is not None:
        fix = f"INGESTION_START_DATE={start} may leave out the beginning of what is stored: unset it, or {fix}"
    reasons = {
        name: f"{reason}; {fix}, or set FINANCIAL_ASSETS_HOME to a new folder"
        for name, reason in report.held_back.items()
    }
    if not set(tickers) - set(reasons) - set(outcome.failures):
        rest = list(reasons)[_SHOWN - 1 :]
        more = f"; and {len(rest)} more tickers: {_named(rest)}" if rest else ""
        raise MarketDataError("; ".join(f"{name}: {reasons[name]}" for name in list(reasons)[: _SHOWN - 1]) + more)
    return replace(outcome, failures={**outcome.failures, **reasons})
