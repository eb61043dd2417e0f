"""Group market_data: raw prices let in after their checks, and the dense panel up to the market clock."""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.checks.prices import CHECK_SPECS, fresh_check, ingestion_checks, stored_price_checks
from financial_assets.errors import FinancialAssetsError, MarketDataError, SourceError
from financial_assets.market.covariates.channels import covariate_gaps
from financial_assets.market.freshness import LATENESS, longest_wait, overdue
from financial_assets.market.ingestion import Ingestion
from financial_assets.market.panel import PricePanel
from financial_assets.market.quality.notes import notes_of, warnings_of
from financial_assets.market.schemas import PRICE_SCHEMA
from financial_assets.metadata import column_lineage, column_schema, link, table
from financial_assets.resources import Market
from financial_assets.workflows.run_history import superseded_by

GROUP = "market_data"
OWNERS = ["team:market-data"]
_LEARNERS = "training"
"""Group of the assets that learn from prices, each up to its data cut-off."""

_MOST_NAMED = 10
"""Tickers named in a warning; a universe may have hundreds."""


def freshness_policy() -> dg.FreshnessPolicy:
    """That of raw_prices: a window longer than any weekend with holidays of the coming year, and than a late run.

    Dagster's policies know windows and cron, not calendars: this one notices prices that nobody updates any more. The
    check ``fresh`` notices each missed session.
    """
    today = dt.datetime.now(dt.UTC).date()
    wait = longest_wait(today - dt.timedelta(days=7), today + dt.timedelta(days=365)) + LATENESS
    return dg.FreshnessPolicy.time_window(fail_window=wait.to_pytimedelta())


class RawPricesConfig(dg.Config):
    """Which session the run works on, and how far the data cut-off moves.

    The universe belongs to the state folder, not to a run: for another one, set another FINANCIAL_ASSETS_HOME.
    """

    advance_sessions: int = Field(
        default=0,
        ge=0,
        description="Sessions after a historical clock that the run works on; a live clock moves by itself. The clock "
        "moves when all of the session is done (asset completed_session), and one run at a time brings a new session.",
    )
    move_cutoff: bool = Field(
        default=False,
        description="Move the data cut-off of what this run trains up to the clock; only if no other retraining is "
        "under way.",
    )


@checkable_asset(
    judge=stored_price_checks,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    retry_policy=dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS),
    pool="price_source",
    check_specs=CHECK_SPECS,
)
def raw_prices(context: dg.AssetExecutionContext, config: RawPricesConfig, market: Market) -> Iterator[Any]:
    """Daily bars of the universe, as the source gives them, upserted by session into the price store.

    Bars that cannot be true are shown in the failed check and never reach the store; a ticker with too many of them
    waits, and the others go on (QUALITY_POLICY).
    """
    if config.move_cutoff:
        _give_way(context)
    if config.advance_sessions:
        _claim_day(market)
    ingestion = _ingest(market)
    is_strict = market.quality_policy == "strict"
    yield from ingestion_checks(ingestion, len(market.tickers), is_strict)
    messages = [*ingestion.notes, *warnings_of(notes_of(ingestion.screening))]
    if ingestion.report is None:
        raise _refusal(ingestion, messages)
    for message in messages:
        context.log.warning(message)
    if ingestion.failures and not is_strict:
        context.log.warning(_undelivered(ingestion, market))
    if ingestion.never_delivered and is_strict:
        raise dg.Failure(
            f"PRICE_SOURCE={market.price_source} never delivered {', '.join(ingestion.never_delivered)}: "
            + "; ".join(f"{name}: {ingestion.failures[name]}" for name in ingestion.never_delivered),
            allow_retries=False,
        )
    for line in ingestion.source_changes:
        context.log.warning(line)
    now = pd.Timestamp(dt.datetime.now(dt.UTC))
    yield fresh_check(overdue(now, now), now)
    coverage = market.coverage()
    sessions, spans = coverage.sessions, coverage.spans()
    market.begin(sessions)
    _begin_session(context, market, config.advance_sessions, sessions)
    if config.move_cutoff:
        _move_cutoffs(context, market, sessions)
    besides = " with those of covariates" if market.covariate_channels().tickers else ""
    context.log.info(
        f"{coverage.bars:,} bars of {len(spans)} tickers, {sessions[0]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d}; "
        f"{ingestion.report.added:,} new{besides}; clock at {market.clock().now():%Y-%m-%d}"
    )
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(market.store().content_hash()),
        metadata=_price_metadata(ingestion, spans, market),
    )


def _ingest(market: Market) -> Ingestion:
    """Ingest; only network failures are worth another attempt."""
    try:
        return market.ingest()
    except FinancialAssetsError as error:
        is_passing = isinstance(error, SourceError) and market.price_source == "yahoo"
        raise dg.Failure(str(error), allow_retries=is_passing) from error


def _undelivered(ingestion: Ingestion, market: Market) -> str:
    reasons = list(ingestion.failures.items())
    shown = [f"  {name}: {reason}" for name, reason in reasons[:_MOST_NAMED]]
    more = [f"  and {len(reasons) - _MOST_NAMED} more"] if len(reasons) > _MOST_NAMED else []
    further = set(market.covariate_channels().tickers) - set(market.tickers)
    count = f"{len(reasons)} of {len(market.tickers) + len(further)} tickers"
    lists = "TICKERS or COVARIATES" if further & set(ingestion.failures) else "TICKERS"
    fix = f"  The others go on. Correct the source, or take these out of {lists}."
    return "\n".join([f"Prices: PRICE_SOURCE={market.price_source} did not deliver {count}:", *shown, *more, fix])


def _refusal(ingestion: Ingestion, messages: Sequence[str]) -> dg.Failure:
    """The failure of the run, naming the rows: once each where the screening has sorted them."""
    if messages and ingestion.screening.policy == "quarantine":
        title = "no bar of any ticker can be used; the price store is unchanged"
        return dg.Failure("\n".join([title, *messages]), allow_retries=False)
    lines = [
        f"{result.name}: {len(result.failures)} of {result.checked} rows\n"
        + result.failures.head(10).to_string(index=False)
        for result in ingestion.blocking_failures
    ]
    return dg.Failure(
        "the price source delivered bars that cannot be true; the price store is unchanged\n" + "\n".join(lines),
        metadata={result.name: table(result.failures) for result in ingestion.blocking_failures},
        allow_retries=False,
    )


def _give_way(context: dg.AssetExecutionContext) -> None:
    """End the run here, before it has changed anything, if another retraining came first."""
    reason = superseded_by(context.instance, context.run.run_id, dt.datetime.now(dt.UTC))
    if reason is not None:
        raise dg.Failure(
            f"{reason}: nothing was changed. Launch it again when that one is over; `financial-assets doctor` ends "
            "runs whose process is gone",
            allow_retries=False,
        )


def _claim_day(market: Market) -> None:
    """End the run here, before it has changed anything, if another one brings a new session."""
    try:
        market.claim_day()
    except MarketDataError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def _begin_session(context: dg.AssetExecutionContext, market: Market, advance: int, sessions: pd.DatetimeIndex) -> None:
    session = market.begin_session(sessions, advance)
    if advance and market.is_historical and session == sessions[-1] == market.last_completed():
        context.log.warning(f"the source has 0 sessions after {session:%Y-%m-%d}; the clock stays there")


def _move_cutoffs(context: dg.AssetExecutionContext, market: Market, sessions: pd.DatetimeIndex) -> None:
    """Move those of the selected assets that learn, and only those: the others keep their models."""
    layer = context.job_def.asset_layer
    for key in sorted(layer.selected_asset_keys):
        if layer.asset_graph.get(key).group_name == _LEARNERS:
            learner = key.to_user_string()
            context.log.info(f"{learner} learns from sessions up to {market.move_cutoff(learner, sessions):%Y-%m-%d}")


def _price_metadata(ingestion: Ingestion, spans: pd.DataFrame, market: Market) -> dict[str, Any]:
    assert ingestion.report is not None
    return {
        "dagster/row_count": int(spans["bars"].sum()),
        "dagster/column_schema": column_schema(PRICE_SCHEMA),
        "rows added": ingestion.report.added,
        "rows unchanged": ingestion.report.unchanged,
        "rows restated": len(ingestion.report.restated),
        "restated history": table(ingestion.report.restated),
        "rescaled history": table(ingestion.report.rescaled),
        "rows removed": len(ingestion.report.removed),
        "missing at the source": table(ingestion.missing_at_source),
        "corporate actions": table(ingestion.report.corporate_actions),
        "tickers": table(spans),
        "quality policy": ingestion.screening.policy,
        "rows left out": table(ingestion.screening.quarantined),
        "rows left out, count": len(ingestion.screening.quarantined),
        "suspicious rows": table(ingestion.screening.suspicious),
        "repaired rows": table(ingestion.screening.repaired),
        "rows repaired, count": len(ingestion.screening.repaired),
        "waiting tickers": ", ".join(ingestion.screening.waiting) or "none",
        "quality overrides": "\n".join(
            f"{override} ({rows:,} rows)" for override, rows in ingestion.screening.overridden
        )
        or "none",
        "market clock": f"{market.clock().now():%Y-%m-%d}",
        "source": market.price_source,
        "store": link(market.store().root),
    }


_ADJUSTED = "float32, adjusted for splits and dividends"
_CHANNELS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: (f"{name} price, {_ADJUSTED}", (name, "close", "adj_close")) for name in ("open", "high", "low")},
    "close": (f"close price, {_ADJUSTED}", ("adj_close",)),
    "volume": (f"shares traded, {_ADJUSTED}", ("volume", "close", "adj_close")),
    "market": ("level of the equal-weighted index of the universe", ("adj_close",)),
    "day": ("days since 1970-01-01 of the session", ("date",)),
}
"""Channel of the panel -> what it is, and the columns of ``raw_prices`` that it is made of."""


def _panel_columns(panel: PricePanel) -> dict[str, Any]:
    """Channels as columns, with their sources; those of a covariate are the closes of its own series."""
    known = dict.fromkeys(panel.covariates, ("covariate, see docs/covariates.md", ("adj_close",))) | _CHANNELS
    columns = [dg.TableColumn(name, "float32", description=known[name][0]) for name in panel.channels]
    sources = {name: known[name][1] for name in panel.channels}
    return {
        "dagster/column_schema": dg.TableSchema(columns),
        "dagster/column_lineage": column_lineage(raw_prices.key, sources),
    }


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"numpy"}, code_version="1", deps=[raw_prices])
def price_panel(context: dg.AssetExecutionContext, market: Market) -> dg.MaterializeResult:
    """Dense float32 panel [ticker, channel, session] of adjusted bars up to the market clock, with validity mask."""
    current = market.current_panel()
    current.save(market.panel_path)
    panel = current.panel
    tickers, sessions = len(panel.tickers), len(panel.sessions)
    context.log.info(f"{tickers} tickers x {sessions:,} sessions up to {panel.sessions[-1]:%Y-%m-%d}")
    for line in covariate_gaps(panel):
        context.log.warning(line)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(panel.version()),
        metadata={
            **_panel_columns(panel),
            "tickers": tickers,
            "sessions": sessions,
            "traded share": float(panel.valid.mean()),
            "covariates": ", ".join(panel.covariates) or "none",
            "first session": f"{panel.sessions[0]:%Y-%m-%d}",
            "last session": f"{panel.sessions[-1]:%Y-%m-%d}",
            "file": link(market.panel_path),
        },
    )
