"""The board of the A/B test: what each question has come to, and whether its traffic can be believed."""

from financial_assets.monitoring.boards.panel import Board, Query, Row, now, series

_WHO = "{{question}}: {{model_name}}"

BOARD = Board(
    name="ab-test",
    title="A/B test",
    question="Is the challenger better, how far has the test come, and can it still be won?",
    rows=(
        Row(
            "Verdict",
            (
                now(
                    "Answer",
                    "Latest answer to each question about each challenger. Open is the normal state of a test: most "
                    "days bring no answer.",
                    Query("ab_test_question_answer", _WHO),
                    words={-1: "worse", 0: "open", 1: "better"},
                    thresholds=((-1, "red"), (0, "blue"), (1, "green")),
                ),
                now(
                    "Test over",
                    "Whether the planned test has ended. A test that is over promotes nothing more; the interval that "
                    "is valid on every day goes on watching for harm.",
                    Query("ab_test_question_ended", _WHO),
                    words={0: "running", 1: "over"},
                    thresholds=((0, "green"), (1, "blue")),
                ),
                now(
                    "Looks left",
                    "Planned looks at the evidence that are still to come. Without one left, only the sequence that is "
                    "valid on every day can show anything.",
                    Query("ab_test_question_looks_left", _WHO),
                ),
                now(
                    "Probability of promotion",
                    "Probability that the challenger still wins by the horizon, were the plausible effect true: as of "
                    "the latest look, before the first look that of the plan. A low one ends the test as futile.",
                    Query("ab_test_question_promotion_probability", _WHO),
                    unit="ratio",
                    base="red",
                    thresholds=((0.15, "orange"), (0.8, "green")),
                ),
            ),
        ),
        Row(
            "Evidence",
            (
                series(
                    "z at the latest look, and what it must reach",
                    "The challenger's advantage beyond the margin in standard errors, beside the boundary of the same "
                    "look. A look is won when z reaches its boundary and all guards hold.",
                    Query("ab_test_question_z", f"z, {_WHO}"),
                    Query("ab_test_question_z_boundary", f"boundary, {_WHO}"),
                ),
                series(
                    "Evidence that is valid on every day",
                    "Base-10 logarithm of the e-value against 'not better than the margin': 2 means 100 to 1. It may "
                    "be looked at at any time; below 0 the days speak against the challenger.",
                    Query("ab_test_question_log10_e_value", _WHO),
                ),
                series(
                    "Daily difference and its interval",
                    "Mean daily difference of challenger and champion in the unit of the metric, with the interval "
                    "that holds on every day. As long as it contains zero, neither better nor worse has been shown.",
                    Query("ab_test_question_effect", f"estimate, {_WHO}"),
                    Query("ab_test_question_effect_lower", f"lower, {_WHO}"),
                    Query("ab_test_question_effect_upper", f"upper, {_WHO}"),
                ),
                now(
                    "Smallest effect that the test can detect",
                    "Minimum detectable effect of the registered plan over the plausible effect. Above 1 the test is "
                    "too small for the largest difference that one can expect.",
                    Query("ab_test_question_detectable_effect / ab_test_question_plausible_effect", _WHO),
                    thresholds=((1, "orange"), (2, "red")),
                ),
                series(
                    "Day of the horizon",
                    "Evaluated sessions beside the session of the last planned look.",
                    Query("ab_test_question_sessions", f"evaluated, {_WHO}"),
                    Query("ab_test_question_planned_sessions", f"planned, {_WHO}"),
                    unit="sessions",
                    lowest=0,
                ),
                now(
                    "Error probability spent",
                    "Share of the planned looks' error probability that has been spent.",
                    Query("ab_test_question_alpha_spent / ab_test_question_alpha_planned", _WHO),
                    unit="ratio",
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                series(
                    "Share of requests, and the weights",
                    "What each arm got of the requests of the current weight epoch, beside what the weights ask for.",
                    Query("ab_test_traffic_percentage", "seen, {{model_name}}"),
                    Query("ab_test_traffic_weight_percentage", "wanted, {{model_name}}"),
                    unit="percent",
                    lowest=0,
                    highest=100,
                ),
                series(
                    "Is the split as the weights say?",
                    "p-value of the sequential sample-ratio test beside its registered error probability. At or below "
                    "it the split is broken: believe no routed figure of these arms.",
                    Query("ab_test_srm_p_value", "p-value, {{experiment}}"),
                    Query("ab_test_srm_alpha", "broken at, {{experiment}}"),
                    lowest=0,
                    highest=1,
                ),
                now(
                    "Guardrails that have fired",
                    "Guardrails of the latest decision that moves traffic. One that fires rolls back or holds.",
                    Query("ab_test_guardrail_fired", "{{guardrail}} {{model_name}}"),
                    words={0: "quiet", 1: "fired"},
                    thresholds=((0, "green"), (1, "red")),
                ),
                now(
                    "Decisions on record",
                    "Decisions by what was done. Each one is a record that can be computed again: "
                    "`financial-assets decide --repeat`.",
                    Query("ab_test_decisions_total", "{{action}}"),
                ),
                now(
                    "Weight epoch",
                    "Counts how often the weights have changed; 1 is the start.",
                    Query("ab_test_weight_epoch", "{{experiment}}"),
                ),
            ),
        ),
    ),
)
