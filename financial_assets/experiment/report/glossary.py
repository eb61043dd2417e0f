"""The words of the page: who the forecasters are, and the terms that a reader may not know."""

from __future__ import annotations

from financial_assets.experiment.evaluation.evaluation import Evaluation

__all__ = ["GLOSSARY", "forecasters"]

_ROLES = {
    "champion": "The model in production; the others are measured against it.",
    "challenger": "A newer model that gets part of the requests and may replace the champion.",
    "shadow": "A model that answers copies of the requests; its answers are scored, and no client sees them.",
}
_REFERENCES = {
    "majority": "Reference: always names the direction that was more frequent in the models' training data.",
    "persistence": "Reference: knows only whether the latest session rose or fell.",
    "logistic": "Reference: a logistic regression on the same features as the models.",
    "historical": "Reference for ranges, without a direction: quantiles of the ticker's last 500 returns.",
    "filtered": "Reference for ranges, without a direction: quantiles of past returns in units of volatility, times "
    "today's volatility (filtered historical simulation).",
}
_OTHERS = (
    ("coin", "Reference: 50 % for each direction, always."),
    ("buy and hold", "Reference for profit: holds every ticker all the time."),
)

GLOSSARY = (
    ("arm", "A model that takes part in the test: the champion, a challenger or a shadow."),
    ("bp", "Basis point: 0.01 %."),
    ("Brier score, log loss", "Errors of a probability; smaller is better. A coin has 0.25 and 0.6931."),
    ("champion", "The model in production."),
    ("challenger", "A newer model that may replace the champion."),
    ("e-value", "The worth today of 1 dollar that was bet fairly on “better”; large values are evidence."),
    ("guardrail", "A limit on errors, latency or traffic; a breach beyond chance stops the test at once."),
    ("horizon", "The day of the last planned look."),
    ("interval valid on every day", "It contains the true value on all days at once, so it may be read every day. An "
     "ordinary interval holds for a single look only."),
    ("look", "A day fixed in advance on which the evidence may decide."),
    ("pinball loss", "Error of a forecast range, averaged over its quantiles; smaller is better."),
    ("pp, points", "Percentage points: from 50 % to 52 % are 2 points."),
    ("sample-ratio (SRM) test", "Asks whether the requests were split between the arms as their weights require. If "
     "not, nothing can be compared."),
    ("session", "A trading day of the exchange."),
    ("VaR", "Value at risk: a loss that is exceeded on 5 % (VaR 95 %) or 1 % (VaR 99 %) of days."),
    ("weight epoch", "A period in which the arms' shares of the requests do not change."),
    ("z", "The mean difference in units of its standard error."),
)  # fmt: skip
"""Terms in alphabetical order."""


def forecasters(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Name and one line for each forecaster of the page: arms first, then what they are compared with."""
    arms = [
        (
            arm["model"],
            f"{arm['role'].capitalize()}. {_ROLES[arm['role']]} Network variant {arm['variant']}, trained on sessions "
            f"up to {arm['data_cutoff']}.",
        )
        for arm in evaluation.arms
    ]
    references = [(name, text) for name, text in _REFERENCES.items() if evaluation.skill(name) is not None]
    return [*arms, *references, *_OTHERS]
