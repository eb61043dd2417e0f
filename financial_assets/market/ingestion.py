"""One ingestion: fetch what is missing, check it, and only then let it into the store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from financial_assets.errors import MarketDataError
from financial_assets.market.quality import QualityResult
from financial_assets.market.quality.checks import blocks, results_of
from financial_assets.market.quality.overrides import Override
from financial_assets.market.quality.screening import QualityPolicy, Screening, screen
from financial_assets.market.sources import PriceSource
from financial_assets.market.store import PriceStore, UpsertReport

__all__ = ["Ingestion", "ingest"]

_OVERLAP = dt.timedelta(days=15)
"""Calendar days fetched again before the last stored session, so that a restated history shows itself."""


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
    """

    prices: pd.DataFrame
    failures: Mapping[str, str]
    never_delivered: tuple[str, ...]
    quality: tuple[QualityResult, ...]
    report: UpsertReport | None
    screening: Screening

    @property
    def blocking_failures(self) -> tuple[QualityResult, ...]:
        """The checks that keep these prices out of the store."""
        return tuple(result for result in self.quality if result.blocking and not result.passed)


def ingest(
    source: PriceSource,
    store: PriceStore,
    tickers: Sequence[str],
    start: dt.date | None = None,
    end: dt.date | None = None,
    *,
    policy: QualityPolicy = "quarantine",
    overrides: Sequence[Override] = (),
) -> Ingestion:
    """Bring the store up to date with the source.

    A live source is asked only for what lies after the stored sessions, with a short overlap; when the overlap shows
    that history was restated (a split, a dividend), the whole span is fetched again.

    Raises
    ------
    SourceError
        The source delivered nothing at all.
    MarketDataError
        History was restated, and the settings do not let all of it be fetched again.
    """
    stored = store.read(tickers)
    since = _resume_from(stored, tickers) if source.live else None
    first = max(filter(None, (start, since)), default=None)
    outcome = _ingest_span(source, store, tickers, stored, first, end, policy, overrides)
    if since is not None and outcome.report is not None and not outcome.report.restated.empty:
        outcome = _ingest_span(source, store, tickers, stored, start, end, policy, overrides)
    if outcome.report is not None and outcome.report.held_back:
        raise MarketDataError(
            f"the source restates the history of {', '.join(outcome.report.held_back)}, but INGESTION_START_DATE "
            "leaves out the beginning of what is stored; unset it, or set FINANCIAL_ASSETS_HOME to a new folder"
        )
    return outcome


def _ingest_span(
    source: PriceSource,
    store: PriceStore,
    tickers: Sequence[str],
    stored: pd.DataFrame,
    start: dt.date | None,
    end: dt.date | None,
    policy: QualityPolicy,
    overrides: Sequence[Override],
) -> Ingestion:
    fetched = source.fetch(tickers, start, end)
    now = pd.Timestamp.now(tz="UTC")
    screening = screen(fetched.prices, stored=stored, policy=policy, overrides=overrides, now=now)
    quality = results_of(screening, stored)
    admitted = screening.decided if policy == "strict" else screening.accepted
    return Ingestion(
        prices=fetched.prices,
        failures=fetched.failures,
        never_delivered=tuple(sorted(set(fetched.failures) - set(stored["ticker"].unique()))),
        quality=quality,
        report=None if blocks(quality) else store.upsert(admitted),
        screening=screening,
    )


def _resume_from(stored: pd.DataFrame, tickers: Sequence[str]) -> dt.date | None:
    """First day to fetch: shortly before the least advanced ticker's last session; all of it for a new ticker."""
    last = stored.groupby("ticker")["date"].max()
    if stored.empty or set(tickers) - set(last.index):
        return None
    return (pd.Timestamp(last.min()) - _OVERLAP).date()
