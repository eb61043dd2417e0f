"""The board of serving: whether requests are answered, how fast, and by whom."""

from financial_assets.monitoring.boards.panel import Board, Query, Row, now, series

BOARD = Board(
    name="serving",
    title="Serving health",
    question="Are requests answered, in time, by models that are loaded, from signals of the current session?",
    rows=(
        Row(
            "Requests of the experiment",
            (
                now(
                    "Sessions without a prediction",
                    "Sessions of the exchange that have closed since the latest answered request. Above 0 the daily "
                    "job is late or has failed.",
                    Query("ab_test_sessions_since_last_prediction", "{{experiment}}"),
                    unit="sessions",
                    thresholds=((0, "green"), (1, "red")),
                ),
                now(
                    "Requests by ending",
                    "Routed requests over the whole log by how they ended. Everything but ok needs an explanation.",
                    Query("sum by (status) (ab_test_requests_total)", "{{status}}"),
                ),
                now(
                    "Requests without a result",
                    "Intents that wait for their end, and answers that named no arm. Both belong at 0 between runs.",
                    Query("ab_test_pending_requests", "pending"),
                    Query("ab_test_unattributed_total", "unattributed"),
                    thresholds=((0, "green"), (1, "orange")),
                ),
                series(
                    "95 % of requests end within",
                    "95th percentile of the seconds to the end of a routed request, over the whole log. The guardrail "
                    "of a packaged policy allows 1 % of requests above 0.2 s.",
                    Query(
                        "histogram_quantile(0.95, sum by (le, model_name) (ab_test_response_time_seconds_bucket))",
                        "{{model_name}}",
                    ),
                    unit="seconds",
                    lowest=0,
                ),
            ),
        ),
        Row(
            "Gateway",
            (
                series(
                    "Requests per second through the gateway",
                    "What Envoy sends to each model, of all clients. A daily service has short peaks.",
                    Query(
                        "sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_total[5m]))",
                        "{{envoy_cluster_name}}",
                    ),
                    unit="per second",
                    lowest=0,
                    needs="envoy",
                ),
                series(
                    "Answers by class of status",
                    "Answers per second that clients get from Envoy, by class: 2 is fine, 4 the client's fault, "
                    "5 ours.",
                    Query(
                        "sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx[5m]))",
                        "{{envoy_response_code_class}}xx",
                    ),
                    unit="per second",
                    lowest=0,
                    needs="envoy",
                ),
                series(
                    "Time of a model as the gateway sees it",
                    "Mean time from the gateway to a model and back since the gateway started.",
                    Query(
                        "sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_time_sum) / "
                        "sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_time_count) / 1000",
                        "{{envoy_cluster_name}}",
                    ),
                    unit="seconds",
                    lowest=0,
                    needs="envoy",
                ),
                now(
                    "Connections of clients",
                    "Open connections to the gateway.",
                    Query("sum(envoy_http_downstream_cx_active)", "open"),
                    needs="envoy",
                ),
            ),
        ),
        Row(
            "Models",
            (
                now(
                    "Inferences by model",
                    "Inferences that MLServer has completed since it started.",
                    Query("sum by (model) (model_infer_request_success_total)", "{{model}}"),
                    needs="mlserver",
                ),
                now(
                    "Failed inferences by model",
                    "Inferences that have failed since MLServer started.",
                    Query("sum by (model) (model_infer_request_failure_total)", "{{model}}"),
                    thresholds=((0, "green"), (1, "red")),
                    needs="mlserver",
                ),
                series(
                    "Seconds per inference",
                    "Mean time of an inference inside MLServer since it started, without the gateway.",
                    Query(
                        "sum by (model) (model_infer_request_duration_sum) / "
                        "sum by (model) (model_infer_request_duration_count)",
                        "{{model}}",
                    ),
                    unit="seconds",
                    lowest=0,
                    needs="mlserver",
                ),
                series(
                    "Memory of MLServer",
                    "Resident memory in MB. It rises with each loaded model and must not rise between them.",
                    Query(
                        'sum by (job) (process_resident_memory_bytes{job=~".*mlserver.*|.*seldon-server.*"}) / 1e6',
                        "{{job}}",
                    ),
                    lowest=0,
                    needs="mlserver",
                ),
            ),
        ),
        Row(
            "Signals over HTTP",
            (
                now(
                    "Session behind the market clock",
                    "1 while `financial-assets api` serves signals of an earlier session than the market clock, or "
                    "none. It loads a new session by itself once the signals are written.",
                    Query(
                        "financial_assets_api_session_timestamp_seconds < bool on () group_left () "
                        "max(financial_assets_market_clock_timestamp_seconds)",
                        "{{instance}}",
                    ),
                    words={0: "current", 1: "old"},
                    thresholds=((0, "green"), (1, "red")),
                    needs="api",
                ),
                now(
                    "Requests of desks by status",
                    "Requests that the HTTP interface has answered since it started.",
                    Query("sum by (status) (financial_assets_api_requests_total)", "{{status}}"),
                    needs="api",
                ),
                series(
                    "95 % of desks' requests end within",
                    "95th percentile of the seconds of a request since the interface started, by route.",
                    Query(
                        "histogram_quantile(0.95, sum by (le, route) (financial_assets_api_request_seconds_bucket))",
                        "{{route}}",
                    ),
                    unit="seconds",
                    lowest=0,
                    needs="api",
                ),
            ),
        ),
        Row(
            "Monitoring itself",
            (
                now(
                    "What is scraped",
                    "Whether Prometheus reaches each process.",
                    Query("min by (job) (up)", "{{job}}"),
                    words={0: "down", 1: "up"},
                    base="red",
                    thresholds=((0, "red"), (1, "green")),
                ),
                now(
                    "What the exporter can read",
                    "Sources of the exporter. Where one is unreadable its metrics are left out, and the exporter's "
                    "log says why.",
                    Query("ab_test_exporter_up", "{{source}}"),
                    Query("financial_assets_source_up", "state: {{source}}"),
                    words={0: "unreadable", 1: "read"},
                    base="red",
                    thresholds=((0, "red"), (1, "green")),
                ),
            ),
        ),
    ),
)
