"""The board of models and risk: whether forecasts are still as good as they claim to be."""

from financial_assets.monitoring.boards.panel import Board, Panel, Query, Row, now, series

_TAIL = "{{model_name}}, {{horizon_sessions}} d, {{side}} {{level}}"


def _share(span: str, horizon: int, remark: str) -> Panel:
    """How often losses were beyond the 95 % value at risk; 99 % is seen in the breaches: its shares move in jumps."""
    tail = f'{{side="lower", horizon_sessions="{horizon}", level="0.95"}}'
    ratio = "financial_assets_var_breach_ratio"
    return series(
        f"Losses beyond the 95 % value at risk, {span}",
        f"Share of outcomes with a larger loss and its 95 % interval, beside the promised share. {remark}",
        Query(f"{ratio}{tail}", "{{model_name}}"),
        Query(f"{ratio}_lower{tail}", "lower, {{model_name}}"),
        Query(f"{ratio}_upper{tail}", "upper, {{model_name}}"),
        Query(f"max(financial_assets_var_promised_breach_ratio{tail})", "promised"),
        unit="ratio",
        lowest=0,
    )


BOARD = Board(
    name="model-risk",
    title="Model and risk quality",
    question="Are the models still right as often as before, and does the value at risk hold?",
    rows=(
        Row(
            "Direction",
            (
                series(
                    "Right directions beside the majority class",
                    "Percentage of right directions over the last sessions with a known outcome, beside what the "
                    "direction that was more frequent before gets right. Honest models are a few points above it.",
                    Query("ab_test_model_accuracy", "{{model_name}}"),
                    Query("ab_test_majority_accuracy", "majority, rows of {{model_name}}"),
                    unit="percent",
                ),
                series(
                    "Advantage over the majority class",
                    "Points of accuracy beyond the majority class on the same rows with a 99 % interval that counts "
                    "days. An upper bound below zero raises the alert ModelAccuracyDegraded.",
                    Query("ab_test_accuracy_advantage", "{{model_name}}"),
                    Query("ab_test_accuracy_advantage_lower", "lower, {{model_name}}"),
                    Query("ab_test_accuracy_advantage_upper", "upper, {{model_name}}"),
                ),
                now(
                    "Days behind these figures",
                    "Sessions with a scored prediction in the window. A new version starts at zero.",
                    Query("ab_test_accuracy_days", "{{model_name}}"),
                    unit="sessions",
                ),
                series(
                    "Mean probability of a rise",
                    "Mean of all answered probabilities. Far from one half for long, a model has become one-sided.",
                    Query("ab_test_prediction_value_sum / ab_test_prediction_value_count", "{{model_name}}"),
                    unit="ratio",
                    lowest=0,
                    highest=1,
                ),
            ),
        ),
        Row(
            "Value at risk",
            (
                now(
                    "Breaches per expected breach",
                    "Outcomes beyond the value at risk over those that should be, by horizon, side and level. 1 is as "
                    "promised; with few expected breaches it scatters widely.",
                    Query("financial_assets_var_breaches / financial_assets_var_expected_breaches", _TAIL),
                    thresholds=((0, "green"), (1.5, "orange"), (2, "red")),
                ),
                _share("one session", 1, "The interval should contain the promise."),
                _share("five sessions", 5, "Outcomes of five sessions overlap, so that the intervals are wider."),
                now(
                    "Rejected tails",
                    "Tails of single tickers whose back-test is rejected after adjustment for their number. Above 0 "
                    "the value at risk of that model is wrong for a ticker; the report names it.",
                    Query("financial_assets_var_rejected_tails", "{{model_name}}"),
                    thresholds=((0, "green"), (1, "red")),
                ),
            ),
        ),
        Row(
            "Drift",
            (
                series(
                    "Loss of the champion over its threshold",
                    "CUSUM of the champion's loss over what raises its alarm. At 1 the loss has risen since training: "
                    "retrain.",
                    Query(
                        'financial_assets_drift_statistic{stream="loss"} / '
                        'financial_assets_drift_threshold{stream="loss"}',
                        "{{model_name}}",
                    ),
                    lowest=0,
                ),
                series(
                    "Ten inputs that are closest to their threshold",
                    "CUSUM of a feature over what raises its alarm. Shifted inputs are a warning, and no reason "
                    "to retrain while the loss has not risen.",
                    Query(
                        'topk(10, financial_assets_drift_statistic{stream!="loss"} / '
                        'financial_assets_drift_threshold{stream!="loss"})',
                        "{{stream}}",
                    ),
                    lowest=0,
                ),
                now(
                    "Alarms that hold",
                    "Streams whose drift alarm holds: of the loss, and of the features.",
                    Query("financial_assets_drift_alarms", "{{kind}}"),
                    thresholds=((0, "green"), (1, "orange")),
                ),
            ),
        ),
    ),
)
