"""Group sessions: past days by partition, to be filled in after an outage or for a model that joined later.

``daily`` needs none of this: it works off what was missed by itself, in order. A partition is a session of the exchange
up to the market clock; ``raw_prices`` adds them. Each partition may be repeated: what is there stays.
"""

import dagster as dg
import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.session_scores import PREDICTION_COLUMNS, session_scores
from financial_assets.metadata import column_schema, link, refusal, table
from financial_assets.resources import ABTest, Market, Serving
from financial_assets.serving.signal_files import has_signals, read_signals, save_signals
from financial_assets.serving.signals import SIGNAL_SCHEMA
from financial_assets.workflows.replay import score_sessions
from financial_assets.workflows.signals import signals_as_of

GROUP = "sessions"
OWNERS = ["team:quant-research"]
SESSIONS = dg.DynamicPartitionsDefinition(name="session")


def add_sessions(instance: dg.DagsterInstance, sessions: pd.DatetimeIndex) -> None:
    """Make partitions of ``sessions`` that are none yet."""
    known = set(instance.get_dynamic_partitions(str(SESSIONS.name)))
    fresh = [name for name in (f"{session:%Y-%m-%d}" for session in sessions) if name not in known]
    if fresh:
        instance.add_dynamic_partitions(str(SESSIONS.name), fresh)


@dg.asset(
    key=["sessions", "predictions"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sql"},
    code_version="1",
    deps=["experiment"],
    partitions_def=SESSIONS,
    pool="serving",
)
def session_predictions(
    context: dg.AssetExecutionContext, market: Market, serving: Serving, ab_test: ABTest
) -> dg.MaterializeResult:
    """What every arm of today's experiment says of the bars of a past session, in pairs; nothing is routed.

    Rows that the prediction log has are not asked for again. A session that an arm has learned from is refused.
    """
    session = _session(context, market)
    report = score_sessions(pd.DatetimeIndex([session]), market, serving, ab_test)
    with ab_test.log() as log:
        models = [arm.model for arm in ab_test.current_epoch(log).arms]
        columns = ("session", "ticker", "model", "status", "probability_up")
        rows = log.direct(models, since=session, until=session, columns=columns)
    context.log.info(f"{session:%Y-%m-%d}: {report.direct:,} answers asked for now, {len(rows):,} in the log")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{len(rows)} of {', '.join(sorted(models))}"),
        metadata={
            "dagster/partition_row_count": len(rows),
            "asked for now": report.direct,
            "predictions": table(rows.drop(columns="session")),
        },
    )


@dg.asset(
    key=["sessions", "signals"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    deps=["experiment"],
    partitions_def=SESSIONS,
    pool="serving",
)
def session_signals(
    context: dg.AssetExecutionContext, market: Market, serving: Serving, ab_test: ABTest
) -> dg.MaterializeResult:
    """Signals of a past session, as of its own close, by today's champion; those that were written then stay.

    A session that the champion has learned from is refused: its signals would know what came after.
    """
    session, folder = _session(context, market), market.folder / "signals"
    is_there = has_signals(folder, session)
    if is_there:
        signals = read_signals(folder, session)
        assert signals is not None
        context.log.info(f"{session:%Y-%m-%d} has its {len(signals)} signals of {signals['model'].iloc[0]}")
    else:
        signals, failures = signals_as_of(session, market, serving, ab_test)
        if not failures.empty:
            raise refusal(f"the signals of {session:%Y-%m-%d} are not sound; none is stored", failures)
        save_signals(signals, folder)
        context.log.info(f"{session:%Y-%m-%d}: {len(signals)} signals of {signals['model'].iloc[0]} are written")
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": len(signals),
            "dagster/column_schema": column_schema(SIGNAL_SCHEMA),
            "model": str(signals["model"].iloc[0]),
            "written": "before" if is_there else "now",
            "signals": table(signals),
            "file": link(folder / f"{session:%Y-%m-%d}.parquet"),
        },
    )


@dg.asset(
    key=["sessions", "evaluation"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    deps=[session_predictions],
    partitions_def=SESSIONS,
)
def session_evaluation(context: dg.AssetExecutionContext, market: Market, ab_test: ABTest) -> dg.MaterializeResult:
    """How each arm did on a past session: a row per model, with every metric that prices settle by now.

    The scores of a single session decide nothing; they show which session a figure of ``ab_evaluation`` comes from.
    Repeat the partition when five sessions have passed, for the scores of five sessions.
    """
    session = _session(context, market)
    with ab_test.log() as log:
        models = [arm.model for arm in ab_test.current_epoch(log).arms]
        predictions = log.direct(models, since=session, until=session, columns=PREDICTION_COLUMNS)
    clock = market.clock().now()
    scores = session_scores(predictions, session, KnownPrices.of(market.panel(), clock))
    if scores.empty:
        raise dg.Failure(
            f"no arm has answered for {session:%Y-%m-%d}: materialize sessions/predictions of it first",
            allow_retries=False,
        )
    if not scores["settled"].any():
        raise dg.Failure(
            f"what follows {session:%Y-%m-%d} is not known as of {clock:%Y-%m-%d}: evaluate it one session later",
            allow_retries=False,
        )
    path = market.folder / "session_scores" / f"{session:%Y-%m-%d}.parquet"
    with atomic_path(path) as temporary:
        scores.to_parquet(temporary, index=False)
    context.log.info(f"{session:%Y-%m-%d}: {len(scores)} models, {scores['settled'].sum():,} answers settled")
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": len(scores),
            "as of": f"{clock:%Y-%m-%d}",
            "scores": table(scores),
            "how to read them": "means over tickers; larger is better, losses are negative",
            "not settled yet": ", ".join(str(name) for name in scores if scores[name].isna().all()),
            "file": link(path),
        },
    )


def _session(context: dg.AssetExecutionContext, market: Market) -> pd.Timestamp:
    """The partition as a session; refused after the market clock, where nothing is known yet."""
    if not context.has_partition_key:
        raise dg.Failure("choose a session: this asset is made by partition", allow_retries=False)
    session, now = pd.Timestamp(context.partition_key), market.clock().now()
    if session > now:
        raise dg.Failure(
            f"{session:%Y-%m-%d} is after the market clock ({now:%Y-%m-%d}): `financial-assets replay` or the job "
            "`daily` moves it on",
            allow_retries=False,
        )
    return session
