"""Group signals: what the champion says of the next session, one row a ticker."""

import hashlib
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from financial_assets.assets.evaluation import predictions
from financial_assets.assets.serving import experiment
from financial_assets.metadata import column_schema, link, quality_metadata, table
from financial_assets.resources import Experiment, Market, Serving
from financial_assets.resources.signals import ask_champion
from financial_assets.serving.signals import SIGNAL_SCHEMA, check_signals, save_signals, without_signal

__all__ = ["daily_signals"]

_SOUND = "Every ticker that traded and has enough bars has exactly one row; values finite, possible and in order"
_COVERAGE = "Every ticker of the universe has a signal"
_SHOWN = ["ticker", "direction", "probability_up", "expected_low", "expected_high", "var_95", "var_99"]


@dg.asset(
    group_name="signals",
    owners=["team:quant-research"],
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
    context: dg.AssetExecutionContext, market: Market, serving: Serving, ab_test: Experiment
) -> Iterator[Any]:
    """The champion's word on the next session: direction, probability, expected range and value at risk a ticker.

    Signals that fail a check are shown in it and never stored.
    """
    panel = market.panel()
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
            "signals": table(signals[_SHOWN]),
            "file": link(parquet),
            "CSV file": link(csv),
        },
    )


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
