"""The sentence that says what can be concluded from an experiment, and what cannot.

The verdict describes the evidence at this one look. It promotes nothing: looking every day and stopping at the first
favourable interval would find a "better" challenger among equals in a third of all cases.
"""

from __future__ import annotations

from collections.abc import Sequence

from financial_assets.experiment.results import Comparison, Conclusion, EpochTraffic, Estimate

__all__ = ["FEWEST_DAYS", "conclude"]

FEWEST_DAYS = 30
"""Below, the day-clustered interval is too narrow to be believed."""

_FEWEST_DISAGREEMENTS = 10
_MOST_UNATTRIBUTED = 0.01


def conclude(
    champion: str,
    challenger: str | None,
    epochs: Sequence[EpochTraffic],
    comparisons: Sequence[Comparison],
) -> Conclusion:
    """Judge the evidence.

    Parameters
    ----------
    champion, challenger
        Served names of the two arms.
    epochs
        Traffic by weight epoch, with the sample-ratio tests.
    comparisons
        Paired comparisons; that of challenger and champion decides, those with baselines qualify it.
    """
    remarks = tuple(_traffic_remarks(epochs) + _baseline_remarks(comparisons, {champion, challenger}))
    broken = next((epoch for epoch in epochs if not epoch.passed), None)
    if broken is not None:
        return Conclusion("refused", _refusal(broken), remarks)
    main = next((c for c in comparisons if c.first == challenger and c.second == champion), None)
    if challenger is None:
        return Conclusion("no_data", f"No conclusion: {champion} serves alone, there is no challenger.", remarks)
    if main is None:
        sentence = (
            f"No conclusion yet: there are fewer than two sessions after both data cut-offs on which {challenger} and "
            f"{champion} answered and the outcome is known."
        )
        return Conclusion("no_data", sentence, remarks)
    return _judge(main, remarks)


def _judge(main: Comparison, remarks: tuple[str, ...]) -> Conclusion:
    d, seen = main.difference, _seen(main)
    if d.days < FEWEST_DAYS:
        sentence = (
            f"Too few days to conclude anything: {seen}, and with {d.days} days even the interval is not to be trusted "
            f"(at least {FEWEST_DAYS} are needed).{_needed(main)}"
        )
        return Conclusion("underpowered", sentence, remarks)
    if main.disagreements < _FEWEST_DISAGREEMENTS:
        sentence = (
            f"No difference to speak of: {main.first} and {main.second} differed in being right on only "
            f"{main.disagreements} of {main.rows} predictions in {d.days} days."
        )
        return Conclusion("no_difference", sentence, remarks)
    if d.low > 0:
        sentence = f"{main.first} predicted the direction better than {main.second}: {seen}."
        return Conclusion("challenger_better", sentence, remarks)
    if d.high < 0:
        sentence = f"{main.first} predicted the direction worse than {main.second}: {seen}."
        return Conclusion("champion_better", sentence, remarks)
    if max(abs(d.low), abs(d.high)) <= main.worthwhile:
        sentence = (
            f"No difference that matters: {seen}; a difference of {_points(main.worthwhile)} or more is excluded with "
            f"{d.level:.0%} confidence."
        )
        return Conclusion("no_difference", sentence, remarks)
    sentence = (
        f"It cannot be concluded that {main.first} is better or worse than {main.second}: {seen}, which includes no "
        f"difference.{_needed(main)}"
    )
    return Conclusion("underpowered", sentence, remarks)


def _seen(main: Comparison) -> str:
    d = main.difference
    return (
        f"the difference in accuracy over {d.days} days is {_signed(d.estimate)} ({d.level:.0%} interval "
        f"{_signed(d.low)} to {_signed(d.high)})"
    )


def _needed(main: Comparison) -> str:
    if main.mde is None or main.days_needed is None:
        return ""
    return (
        f" With these days the smallest difference found with {main.power:.0%} power is {_points(main.mde)}; for "
        f"{_points(main.worthwhile)} about {main.days_needed:,} days would do."
    )


def _refusal(epoch: EpochTraffic) -> str:
    split = " and ".join(f"{count:,} to {model}" for model, count in epoch.observed.items())
    asked = " and ".join(f"{epoch.expected[model]:,.0f}" for model in epoch.observed)
    weights = "/".join(str(epoch.weights.get(model, 0)) for model in epoch.observed)
    return (
        f"No conclusion may be drawn: in weight epoch {epoch.number} the requests went {split}, where the weights "
        f"{weights} ask for {asked} (sample-ratio mismatch, p = {epoch.p_value:.1e}); assignment or logging is broken, "
        "and until that is mended nothing in this experiment can be compared."
    )


def _traffic_remarks(epochs: Sequence[EpochTraffic]) -> list[str]:
    remarks: list[str] = []
    for epoch in epochs:
        total = sum(epoch.observed.values()) + epoch.unattributed
        if epoch.unattributed > _MOST_UNATTRIBUTED * total:
            remarks.append(
                f"In weight epoch {epoch.number}, {epoch.unattributed} of {total} requests ended without a known arm "
                f"({epoch.unattributed / total:.1%}): the traffic split and latencies are those of the others only."
            )
        if epoch.pending:
            remarks.append(
                f"In weight epoch {epoch.number}, {epoch.pending} requests have no result yet: replay again."
            )
    return remarks


def _baseline_remarks(comparisons: Sequence[Comparison], arms: set[str | None]) -> list[str]:
    remarks: list[str] = []
    for item in comparisons:
        if item.second in arms:
            continue
        d: Estimate = item.difference
        if d.low > 0:
            said = "beats"
        elif d.high < 0:
            said = "is worse than"
        else:
            said = "cannot be told from"
        remarks.append(
            f"{item.first} {said} the baseline {item.second}: {_signed(d.estimate)} "
            f"({_signed(d.low)} to {_signed(d.high)})."
        )
    return remarks


def _points(value: float) -> str:
    return f"{100 * value:.1f} pp"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} pp"
