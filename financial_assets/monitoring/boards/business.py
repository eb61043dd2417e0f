"""The board for whoever pays: what a promotion would be worth, and what the forecasts would have earned after costs."""

from financial_assets.monitoring.boards.panel import Board, Query, Row, now, series

_BOOK = "{{model_name}}, {{book}}"

BOARD = Board(
    name="business",
    title="Business",
    question="What would a promotion be worth, and what would the forecasts have earned after costs?",
    rows=(
        Row(
            "Worth of a promotion",
            (
                now(
                    "Expected gain over the horizon",
                    "Sum of the net returns that a promotion is expected to add over BUSINESS_HORIZON_SESSIONS, as a "
                    "share of the capital, with its 95 % interval. While the interval contains zero, these days do not "
                    "show whether it earns or loses money.",
                    Query("financial_assets_promotion_value_ratio", "expected, {{model_name}}"),
                    Query("financial_assets_promotion_value_ratio_lower", "lower, {{model_name}}"),
                    Query("financial_assets_promotion_value_ratio_upper", "upper, {{model_name}}"),
                    unit="ratio",
                    base="red",
                    thresholds=((0, "green"),),
                ),
                series(
                    "Expected gain over time",
                    "The same, evaluation by evaluation: the interval narrows as days come in.",
                    Query("financial_assets_promotion_value_ratio", "expected, {{model_name}}"),
                    Query("financial_assets_promotion_value_ratio_lower", "lower, {{model_name}}"),
                    Query("financial_assets_promotion_value_ratio_upper", "upper, {{model_name}}"),
                    unit="ratio",
                ),
                now(
                    "Decisions on record",
                    "What the test has decided so far.",
                    Query("ab_test_decisions_total", "{{action}}"),
                ),
            ),
        ),
        Row(
            "What the forecasts would have earned",
            (
                now(
                    "Net return per year",
                    "Compounded, at market costs: books of the models, and of the baselines on the same sessions.",
                    Query("financial_assets_book_annual_return_ratio", _BOOK),
                    unit="ratio",
                    base="red",
                    thresholds=((0, "green"),),
                ),
                series(
                    "Sharpe ratio and its interval",
                    "Annual Sharpe ratio of the arms' books at market costs. The interval of a few months is wider "
                    "than any difference between models.",
                    Query('financial_assets_book_sharpe_ratio{model_name=~".*-predictor-v.*"}', _BOOK),
                    Query(
                        'financial_assets_book_sharpe_ratio_lower{model_name=~".*-predictor-v.*"}', f"lower, {_BOOK}"
                    ),
                    Query(
                        'financial_assets_book_sharpe_ratio_upper{model_name=~".*-predictor-v.*"}', f"upper, {_BOOK}"
                    ),
                ),
                now(
                    "Probability of more than luck",
                    "Deflated Sharpe ratio: the probability that the ratio exceeds what the best of all trials without "
                    "skill would show. Below 95 % the profit may well be luck.",
                    Query("financial_assets_book_deflated_sharpe_ratio", _BOOK),
                    unit="ratio",
                    base="red",
                    thresholds=((0.5, "orange"), (0.95, "green")),
                ),
                now(
                    "Costs per year",
                    "Commission, spread, impact and borrowing as a share of the capital.",
                    Query("financial_assets_book_annual_cost_ratio", _BOOK),
                    unit="ratio",
                ),
                now(
                    "Traded per session",
                    "Mean traded volume per session as a share of the capital: what the costs come from.",
                    Query("financial_assets_book_turnover_ratio", _BOOK),
                    unit="ratio",
                ),
            ),
        ),
        Row(
            "Risk",
            (
                now(
                    "Largest drawdown",
                    "Largest fall from a peak, as a share of the capital.",
                    Query("financial_assets_book_max_drawdown_ratio", _BOOK),
                    unit="ratio",
                    base="red",
                    thresholds=((-0.2, "orange"), (-0.1, "green")),
                ),
                now(
                    "Loss on a bad day",
                    "Loss that one day in twenty exceeds, by history, as a share of the capital.",
                    Query("financial_assets_arm_value_at_risk_ratio", "{{model_name}}"),
                    unit="ratio",
                ),
                now(
                    "Mean loss of the worst days",
                    "Mean loss of the worst 5 % of days (expected shortfall), as a share of the capital.",
                    Query("financial_assets_arm_expected_shortfall_ratio", "{{model_name}}"),
                    unit="ratio",
                ),
            ),
        ),
    ),
)
