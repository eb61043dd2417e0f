"""The board of data quality: whether prices are complete, clean and in time, and whether the jobs that use them run."""

from financial_assets.monitoring.boards.panel import Board, Query, Row, now, series

BOARD = Board(
    name="data-quality",
    title="Data quality",
    question="Are the prices complete, clean and in time, and do the jobs run?",
    rows=(
        Row(
            "Prices",
            (
                now(
                    "Overdue sessions",
                    "Sessions whose prices are overdue by the exchange's calendar, so that no holiday is late. "
                    "Always 0 for sources of the past.",
                    Query("financial_assets_overdue_sessions", "overdue"),
                    unit="sessions",
                    thresholds=((0, "green"), (1, "red")),
                ),
                now(
                    "Bars and tickers",
                    "Stored daily bars, and the tickers that have any.",
                    Query("financial_assets_price_bars", "bars"),
                    Query("financial_assets_price_tickers", "tickers"),
                ),
                now(
                    "Completeness",
                    "Stored bars over sessions between a ticker's first bar and its last.",
                    Query("financial_assets_price_completeness_ratio", "bars that are there"),
                    unit="ratio",
                    base="red",
                    thresholds=((0.95, "orange"), (0.99, "green")),
                ),
                series(
                    "Rows with a quality note",
                    "Bars by what became of them in the last ingestion: left out as impossible, suspicious but used, "
                    "repaired, or of a ticker that waits because too much of it cannot be used.",
                    Query("financial_assets_price_noted_rows", "{{outcome}}"),
                    lowest=0,
                ),
                now(
                    "Tickers with a quality note",
                    "Tickers by what became of their bars. A ticker that waits brings no new bars until its source or "
                    "QUALITY_OVERRIDES says what is true.",
                    Query("financial_assets_price_noted_tickers", "{{outcome}}"),
                    thresholds=((0, "green"), (1, "orange")),
                ),
            ),
        ),
        Row(
            "Age",
            (
                now(
                    "Newest bar behind today",
                    "Time since the newest session with a bar. Years for a source of the past.",
                    Query("time() - financial_assets_newest_bar_timestamp_seconds", "newest bar"),
                    unit="seconds",
                ),
                now(
                    "Market clock behind the newest bar",
                    "How far the session that is now lies before the newest bar; a live clock at most a day.",
                    Query(
                        "financial_assets_newest_bar_timestamp_seconds - "
                        "financial_assets_market_clock_timestamp_seconds",
                        "market clock",
                    ),
                    unit="seconds",
                ),
                series(
                    "Time since each part was written",
                    "Age of the files that a daily run writes. One that is older than a weekend was left out.",
                    Query("time() - financial_assets_written_timestamp_seconds", "{{part}}"),
                    unit="seconds",
                    lowest=0,
                ),
            ),
        ),
        Row(
            "Runs",
            (
                series(
                    "Duration of the latest successful run",
                    "By job. A run that takes twice as long as usual has more work, or less machine.",
                    Query("financial_assets_run_duration_seconds", "{{job_name}}"),
                    unit="seconds",
                    lowest=0,
                ),
                now(
                    "Failed runs of 30 days",
                    "Runs of Dagster that failed, by job.",
                    Query('financial_assets_runs{status="failed"}', "{{job_name}}"),
                    thresholds=((0, "green"), (1, "orange"), (3, "red")),
                ),
                now(
                    "Runs of 30 days by state",
                    "All runs of Dagster that have begun in 30 days.",
                    Query("sum by (status) (financial_assets_runs)", "{{status}}"),
                ),
                now(
                    "Time since the last success",
                    "Since a run of the job last ended well.",
                    Query("time() - financial_assets_run_last_success_timestamp_seconds", "{{job_name}}"),
                    unit="seconds",
                ),
            ),
        ),
    ),
)
