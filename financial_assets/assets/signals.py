"""Group signals: the champion's forecast for the next session, one row per ticker, and the end of a session's work."""

import hashlib
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.evaluation import ab_evaluation, predictions
from financial_assets.assets.monitoring import drift
from financial_assets.assets.rollout import rollout
from financial_assets.assets.sessions import add_sessions
from financial_assets.errors import SignalsError
from financial_assets.market.calendar import sessions_later
from financial_assets.market.panel import PricePanel
from financial_assets.metadata import column_schema, link, quality_check, refusal, table
from financial_assets.resources import ABTest, Market, Serving
from financial_assets.serving.signal_files import has_signals, read_signals, save_signals
from financial_assets.serving.signals import SIGNAL_SCHEMA, check_signals, missing_heads
from financial_assets.workflows.desk.session import MAKE_SIGNALS
from financial_assets.workflows.signals import ask_champion, checked_signals, doubtful_bars, no_signal

GROUP = "signals"
OWNERS = ["team:quant-research"]
_SOUND = "Every ticker that traded and has enough bars has exactly one row; values finite, possible and in order"
_COVERAGE = "Every ticker of the universe has a signal"
_MOST_NAMED = 10
"""Tickers named in a warning; a universe may have hundreds."""
_SHOWN = [
    *("ticker", "direction", "probability_up", "expected_low", "expected_high", "var_95", "var_99", "es_95"),
    *("expected_low_5d", "expected_high_5d", "var_95_5d", "var_99_5d", "score", "rank"),
]


def _judge(market: Market) -> list[dg.AssetCheckResult]:
    """Of the stored signals of the last session that has prices."""
    panel = market.panel()
    session = panel.sessions[-1]
    signals = read_signals(market.folder / "signals", session)
    if signals is None:
        raise SignalsError(f"there are no signals of {session:%Y-%m-%d}", stale=False, fix=MAKE_SIGNALS)
    reasons = no_signal(panel, market, market.tickers)
    expected = [name for name in market.tickers if name not in reasons]
    failures = check_signals(signals, expected)
    broken = None if failures.empty else f"{len(failures)} of {len(signals)} stored signals break a rule"
    return [
        quality_check("sound", _SOUND, len(signals), failures, description=broken),
        _coverage(reasons, len(market.tickers)),
        _current(session, market.clock().now()),
    ]


@checkable_asset(
    judge=_judge,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="2",
    deps=["experiment", predictions],
    check_specs=[
        dg.AssetCheckSpec("sound", asset="daily_signals", blocking=True, description=_SOUND),
        dg.AssetCheckSpec("coverage", asset="daily_signals", description=_COVERAGE),
        dg.AssetCheckSpec("current", asset="daily_signals", description="Prices reach the session of the market clock"),
    ],
    pool="serving",
    # Before the evaluation, drift and reports, which take longer and which nobody trades by.
    op_tags={"dagster/priority": "1"},
)
def daily_signals(
    context: dg.AssetExecutionContext, market: Market, serving: Serving, ab_test: ABTest
) -> Iterator[Any]:
    """The champion's forecast for the next session: one row per ticker with direction, expected range and risk.

    Signals that fail the check `sound` are shown in it and never stored. Sessions missed since the last completed one
    get their signals first, in order, each as of its own close.
    """
    panel = market.panel()
    caught_up = _catch_up(context, panel, market, serving, ab_test)
    reasons = no_signal(panel, market, market.tickers)
    doubts = [note.sentence for note in doubtful_bars(panel, market) if note.ticker not in reasons]
    _warn(context, reasons, doubts)
    yield _coverage(reasons, len(market.tickers))
    yield _current(panel.sessions[-1], market.clock().now())
    signals = ask_champion(panel, serving, ab_test)
    expected = [name for name in market.tickers if name not in reasons]
    failures = check_signals(signals, expected)
    broken = f"{len(failures)} of {len(signals)} signals break a rule; none is stored"
    yield quality_check("sound", _SOUND, len(signals), failures, description=None if failures.empty else broken)
    if not failures.empty:
        raise refusal("the signals are not sound; none is stored", failures)
    parquet, csv = save_signals(signals, market.folder / "signals")
    first, lacking = signals.iloc[0], missing_heads(signals)
    if lacking:
        context.log.warning(lacking)
    context.log.info(f"{len(signals)} signals of {first['model']} for {first['target_session']:%Y-%m-%d}: {parquet}")
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(hashlib.sha256(signals.to_csv(index=False).encode()).hexdigest()),
        metadata={
            "dagster/row_count": len(signals),
            "dagster/column_schema": column_schema(SIGNAL_SCHEMA),
            "as of": f"{first['as_of']:%Y-%m-%d}",
            "target session": f"{first['target_session']:%Y-%m-%d}",
            "model": first["model"],
            "up": int((signals["direction"] == "up").sum()),
            "down": int((signals["direction"] == "down").sum()),
            "without a signal": len(reasons),
            "five sessions and ranking": lacking or "in all rows",
            "doubts about the bars": "\n".join(doubts) or "none",
            "caught up": ", ".join(f"{session:%Y-%m-%d}" for session in caught_up) or "none",
            "signals": table(signals[_SHOWN]),
            "file": link(parquet),
            "CSV file": link(csv),
        },
    )


def _warn(context: dg.AssetExecutionContext, reasons: dict[str, str], doubts: list[str]) -> None:
    """Say on the terminal which tickers have no signal, and whose signals rest on doubtful bars."""
    lines = [f"{name} {reason}" for name, reason in reasons.items()]
    titles = (f"no signal for {len(lines)} of the tickers:", "signals that rest on doubtful bars:")
    for title, sentences in zip(titles, (lines, doubts), strict=True):
        if sentences:
            shown = [f"  {sentence}" for sentence in sentences[:_MOST_NAMED]]
            more = [f"  and {len(sentences) - _MOST_NAMED} more: see the asset's metadata"]
            context.log.warning("\n".join([title, *shown, *(more if len(sentences) > _MOST_NAMED else [])]))


def _catch_up(
    context: dg.AssetExecutionContext, panel: PricePanel, market: Market, serving: Serving, ab_test: ABTest
) -> list[pd.Timestamp]:
    """Write the signals of missed sessions, except sessions that have signals or that the champion was trained on."""
    folder = market.folder / "signals"
    missed = [session for session in market.uncompleted(panel.sessions)[:-1] if not has_signals(folder, session)]
    if not missed:
        return []
    with ab_test.log() as log:
        cutoff = ab_test.current_epoch(log).champion.data_cutoff
    written: list[pd.Timestamp] = []
    for session in (session for session in missed if session > cutoff):
        found = checked_signals(session, panel, market, serving, ab_test)
        if found is None:
            context.log.warning(f"{session:%Y-%m-%d} was missed and no ticker can have a signal for it")
            continue
        signals, failures = found
        if not failures.empty:
            raise refusal(
                f"the signals of the missed session {session:%Y-%m-%d} are not sound; none is stored", failures
            )
        save_signals(signals, folder)
        written.append(session)
        context.log.info(f"{session:%Y-%m-%d} was missed: its {len(signals)} signals are written now")
    return written


def _coverage(reasons: dict[str, str], universe: int) -> dg.AssetCheckResult:
    failures = pd.DataFrame({"ticker": list(reasons), "problem": list(reasons.values())})
    description = f"{universe - len(failures)} of {universe} tickers have a signal"
    warn = dg.AssetCheckSeverity.WARN
    return quality_check("coverage", _COVERAGE, universe, failures, severity=warn, description=description)


def _current(as_of: pd.Timestamp, clock: pd.Timestamp) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="current",
        passed=bool(as_of == clock),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Prices end on {as_of:%Y-%m-%d}, the market clock stands at {clock:%Y-%m-%d}",
        metadata={
            "last session with prices": f"{as_of:%Y-%m-%d}",
            "market clock": f"{clock:%Y-%m-%d}",
            "sessions behind": sessions_later(as_of, clock),
        },
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version="1",
    # By name: orders are made from signals, in a module that knows this one.
    deps=[ab_evaluation, rollout, drift, daily_signals, "paper_book", "orders"],
)
def completed_session(context: dg.AssetExecutionContext, market: Market) -> dg.MaterializeResult:
    """The last completed session: evaluation, rollout, drift, signals and orders are done. The clock moves there.

    A run that fails earlier leaves the clock where it is, and the next run repeats the session.
    """
    # Prices of a live source may lag behind its clock: a session without bars is left to a later run.
    sessions = market.panel().sessions
    session = sessions[-1]
    before = context.job_def.asset_layer.asset_graph.get(context.asset_key).parent_keys
    is_alone = not before & context.job_def.asset_layer.selected_asset_keys
    if is_alone and not has_signals(market.folder / "signals", session):
        raise dg.Failure(
            f"{session:%Y-%m-%d} is not complete, as it has no signals; {MAKE_SIGNALS}", allow_retries=False
        )
    market.complete_session(session)
    first = market.first_cutoff().get()
    if first is not None:
        add_sessions(context.instance, sessions[sessions > first])
    context.log.info(f"session {session:%Y-%m-%d} is complete")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{session:%Y-%m-%d}"), metadata={"session": f"{session:%Y-%m-%d}"}
    )
