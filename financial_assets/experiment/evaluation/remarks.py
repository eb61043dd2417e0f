"""Remarks beside the conclusion: one sentence each, about traffic, reference forecasters, probabilities and ruin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from financial_assets.experiment.evaluation.measures import Comparison, EpochTraffic, ProfitAndLoss, Skill

_MOST_UNATTRIBUTED = 0.01


def ruin_remarks(books: Mapping[str, ProfitAndLoss | None]) -> tuple[str, ...]:
    """A remark for each book that lost all its capital in a session; ``books`` are by forecaster."""
    return tuple(
        f"The book of {name} was wiped out on {book.wiped_out}: it lost its whole capital in one session, as a short "
        "position can when a price more than doubles. It does not trade again; its ratios are for the days until then."
        for name, book in books.items()
        if book is not None and book.wiped_out is not None
    )


def ahead_remarks(skills: Sequence[Skill], comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """A remark for each reference forecaster that was right more often than champion and challengers.

    Parameters
    ----------
    skills
        Scores on common rows.
    comparisons
        Paired comparisons; those in accuracy say whether the difference is statistically significant.
    """
    arms = [(s.name, s.accuracy) for s in skills if s.role in ("champion", "challenger") and s.accuracy is not None]
    best = max((accuracy.estimate for _, accuracy in arms), default=1.0)
    remarks: list[str] = []
    for skill in skills:
        if skill.role != "baseline" or skill.accuracy is None or skill.accuracy.estimate <= best:
            continue
        pairs = [c for c in comparisons if c.second == skill.name and c.score == "accuracy"]
        clear = [c.first for c in pairs if c.difference.high < 0]
        unclear = [c.first for c in pairs if c.difference.high >= 0]
        if not pairs:
            test = "Whether that is statistically significant was not tested."
        elif not clear:
            test = "The difference is not statistically significant."
        elif not unclear:
            test = "The difference is statistically significant."
        else:
            test = (
                f"The difference from {' and '.join(clear)} is statistically significant, that from "
                f"{' and '.join(unclear)} is not."
            )
        shares = " and ".join(f"{100 * accuracy.estimate:.1f} % ({name})" for name, accuracy in arms)
        than = {1: arms[0][0], 2: "both arms"}.get(len(arms), "all arms")
        remarks.append(
            f"{_REFERENCES.get(skill.name, skill.name)} was right more often than {than}: "
            f"{100 * skill.accuracy.estimate:.1f} %, against {shares}. {test}"
        )
    return tuple(remarks)


_REFERENCES = {
    "logistic": "The logistic regression",
    "majority": "The constant forecast of the majority direction",
    "persistence": "The forecast from the latest session's direction alone (persistence)",
}


def traffic_remarks(epochs: Sequence[EpochTraffic], own: Sequence[EpochTraffic], is_broken: bool) -> list[str]:
    """What is unusual about the traffic.

    Parameters
    ----------
    epochs, own
        All weight epochs, and those of the two arms that are judged.
    is_broken
        Whether the test over all epochs of the two arms, which decides, found their split broken.
    """
    remarks: list[str] = []
    for epoch in epochs:
        total = sum(epoch.observed.values()) + epoch.unattributed
        if not epoch.passed and epoch not in own:
            remarks.append(f"The traffic split of weight epoch {epoch.label}, between other arms, was broken.")
        elif not epoch.passed and not is_broken:
            remarks.append(
                f"The traffic split of weight epoch {epoch.label} looks broken by itself (p = {epoch.p_value:.1e}), "
                "but not together with the other epochs of these arms, which is what decides."
            )
        if epoch.unattributed > _MOST_UNATTRIBUTED * total:
            remarks.append(
                f"In weight epoch {epoch.label}, {epoch.unattributed:,} of {total:,} requests ended without a known "
                f"arm ({epoch.unattributed / total:.1%}): shares and latencies are for the others only."
            )
        if epoch.pending:
            remarks.append(f"In weight epoch {epoch.label}, {epoch.pending:,} requests have no result: replay again.")
    return remarks


def reference_remark(item: Comparison) -> str:
    """How an arm compares with one reference forecaster in accuracy."""
    d = item.difference
    figures = f"{signed_points(d.estimate)} ({signed_points(d.low)} to {signed_points(d.high)})."
    if d.low <= 0 <= d.high:
        return f"No measurable difference in accuracy between {item.first} and the reference {item.second}: {figures}"
    return f"{item.first} {'beats' if d.low > 0 else 'is worse than'} the reference {item.second}: {figures}"


def brier_remark(item: Comparison) -> str:
    """How the probabilities of two arms compare."""
    # Differences in Brier score are stored with "positive is better"; the sentence speaks of the score itself.
    d = item.difference
    word, sign = ("lower", 1) if d.estimate >= 0 else ("higher", -1)
    low, high = sorted((sign * d.low, sign * d.high))
    figures = f"Brier score {word} by {abs(d.estimate):.4f} ({low:.4f} to {high:.4f})."
    if d.low <= 0 <= d.high:
        return (
            f"No measurable difference in the quality of the probabilities of {item.first} and {item.second}: {figures}"
        )
    verdict = "better" if d.low > 0 else "worse"
    return f"The probabilities of {item.first} are {verdict} than those of {item.second}: {figures}"


def points(value: float) -> str:
    """A size in percentage points."""
    return f"{abs(100 * value):.1f} pp"


def signed_points(value: float) -> str:
    """A difference in percentage points."""
    return f"{100 * value:+.1f} pp"
