"""Group signals: what the champion says of the next session, one row a ticker; and the end of a session's work."""

import hashlib
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.evaluation import ab_evaluation, predictions
from financial_assets.assets.monitoring import drift
from financial_assets.assets.rollout import rollout
from financial_assets.assets.serving import experiment
from financial_assets.market.panel import PricePanel
from financial_assets.metadata import column_schema, link, quality_metadata, table
from financial_assets.resources import ABTest, Market, Serving
from financial_assets.serving.signals import (
    SIGNAL_SCHEMA,
    check_signals,
    has_signals,
    save_signals,
    without_signal,
)
from financial_assets.workflows.signals import ask_champion

__all__ = ["completed_session", "daily_signals"]

GROUP = "signals"
OWNERS = ["team:quant-research"]
_SOUND = "Every ticker that traded and has enough bars has exactly one row; values finite, possible and in order"
_COVERAGE = "Every ticker of the universe has a signal"
_SHOWN = ["ticker", "direction", "probability_up", "expected_low", "expected_high", "var_95", "var_99"]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    deps=[experiment, predictions],
    check_specs=[
        dg.AssetCheckSpec("sound", asset="daily_signals", blocking=True, description=_SOUND),
        dg.AssetCheckSpec("coverage", asset="daily_signals", description=_COVERAGE),
        dg.AssetCheckSpec("current", asset="daily_signals", description="Prices reach up to the market clock"),
    ],
    pool="serving",
)
def daily_signals(
    context: dg.AssetExecutionContext, market: Market, serving: Serving, ab_test: ABTest
) -> Iterator[Any]:
    """The champion's word on the next session: direction, probability, expected range and value at risk a ticker.

    Signals that fail a check are shown in it and never stored. Sessions that were missed since the last complete one
    get theirs first, in order, each as of its own close.
    """
    panel = market.panel()
    caught_up = _catch_up(context, panel, market, serving, ab_test)
    reasons = without_signal(panel, market.tickers)
    yield _coverage(reasons, len(market.tickers))
    yield _current(panel.sessions[-1], market.clock().now())
    signals = ask_champion(panel, serving, ab_test)
    expected = [name for name in market.tickers if name not in reasons]
    failures = check_signals(signals, expected)
    metadata: dict[str, Any] = dict(quality_metadata(_SOUND, len(signals), failures))
    yield dg.AssetCheckResult(check_name="sound", passed=failures.empty, metadata=metadata)
    if not failures.empty:
        raise dg.Failure(
            f"the signals are not sound; none is stored\n{failures.head(10).to_string(index=False)}",
            allow_retries=False,
        )
    parquet, csv = save_signals(signals, market.folder / "signals")
    first = signals.iloc[0]
    context.log.info(f"{len(signals)} signals of {first['model']} for {first['target_session']:%Y-%m-%d}: {parquet}")
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(_content_hash(signals)),
        metadata={
            "dagster/row_count": len(signals),
            "dagster/column_schema": column_schema(SIGNAL_SCHEMA),
            "as of": f"{first['as_of']:%Y-%m-%d}",
            "target session": f"{first['target_session']:%Y-%m-%d}",
            "model": first["model"],
            "up": int((signals["direction"] == "up").sum()),
            "down": int((signals["direction"] == "down").sum()),
            "without a signal": len(reasons),
            "caught up": ", ".join(f"{session:%Y-%m-%d}" for session in caught_up) or "none",
            "signals": table(signals[_SHOWN]),
            "file": link(parquet),
            "CSV file": link(csv),
        },
    )


def _catch_up(
    context: dg.AssetExecutionContext, panel: PricePanel, market: Market, serving: Serving, ab_test: ABTest
) -> list[pd.Timestamp]:
    """Write the signals of missed sessions; those that have theirs, or that the champion has learned from, stay."""
    missed = [one for one in market.uncompleted(panel.sessions)[:-1] if not has_signals(market.folder / "signals", one)]
    if not missed:
        return []
    with ab_test.log() as log:
        learned = ab_test.current_epoch(log).champion.data_cutoff
    written: list[pd.Timestamp] = []
    for session in (one for one in missed if one > learned):
        seen = panel.until(session)
        expected = [name for name in market.tickers if name not in without_signal(seen, market.tickers)]
        if not expected:
            context.log.warning(f"{session:%Y-%m-%d} was missed and no ticker can have a signal for it")
            continue
        signals = ask_champion(seen, serving, ab_test)
        failures = check_signals(signals, expected)
        if not failures.empty:
            raise dg.Failure(
                f"the signals of the missed session {session:%Y-%m-%d} are not sound; none is stored\n"
                f"{failures.head(10).to_string(index=False)}",
                allow_retries=False,
            )
        save_signals(signals, market.folder / "signals")
        written.append(session)
        context.log.info(f"{session:%Y-%m-%d} was missed: its {len(signals)} signals are written now")
    return written


def _coverage(reasons: dict[str, str], universe: int) -> dg.AssetCheckResult:
    failures = pd.DataFrame({"ticker": list(reasons), "problem": list(reasons.values())})
    metadata: dict[str, Any] = dict(quality_metadata(_COVERAGE, universe, failures))
    return dg.AssetCheckResult(
        check_name="coverage", passed=failures.empty, severity=dg.AssetCheckSeverity.WARN, metadata=metadata
    )


def _current(as_of: pd.Timestamp, clock: pd.Timestamp) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="current",
        passed=bool(as_of == clock),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"last session with prices": f"{as_of:%Y-%m-%d}", "market clock": f"{clock:%Y-%m-%d}"},
    )


def _content_hash(signals: pd.DataFrame) -> str:
    return hashlib.sha256(signals.to_csv(index=False).encode()).hexdigest()


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version="1",
    deps=[ab_evaluation, rollout, drift, daily_signals],
)
def completed_session(context: dg.AssetExecutionContext, market: Market) -> dg.MaterializeResult:
    """The last session of which all is done: evaluation, rollout, drift and signals. The market clock moves here.

    A run that breaks off before leaves the clock where it is, and the next one does the same session again.
    """
    # Prices of a live source may lag behind its clock: what has no bar yet is left to a later run.
    session = market.panel().sessions[-1]
    market.complete_session(session)
    context.log.info(f"session {session:%Y-%m-%d} is complete")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{session:%Y-%m-%d}"), metadata={"session": f"{session:%Y-%m-%d}"}
    )
