"""The sentence that says what can be concluded from an experiment, and what cannot.

The verdict describes the evidence at this one look. It promotes nothing: looking every day and stopping at the first
favourable interval would find a "better" challenger among equals in a third of all cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.evaluation.measures import Comparison, Conclusion, EpochTraffic, ProfitAndLoss, Verdict

__all__ = ["FEWEST_DAYS", "conclude", "conclude_all", "ruin_remarks"]

FEWEST_DAYS = 30
"""Below, the day-clustered interval is too narrow to be believed."""

_FEWEST_DISAGREEMENTS = 10
_MOST_UNATTRIBUTED = 0.01


_STRENGTH: tuple[Verdict, ...] = (
    "refused",
    "challenger_better",
    "champion_better",
    "underpowered",
    "no_difference",
    "no_data",
)


def conclude_all(
    champion: str,
    challengers: Sequence[str],
    epochs: Sequence[EpochTraffic],
    comparisons: Sequence[Comparison],
    splits: Mapping[str, Guardrail],
) -> Conclusion:
    """Judge the evidence about all challengers: the most definite verdict, and every one's sentence.

    Parameters
    ----------
    champion, challengers
        Served names; with one challenger, or none, it is that of :func:`conclude`.
    epochs, comparisons
        As there.
    splits
        The guardrail "sample ratio" by challenger.
    """
    conclusions: list[Conclusion] = []
    for challenger in challengers:
        others = set(challengers) - {challenger}
        own = [item for item in comparisons if not {item.first, item.second} & others]
        conclusions.append(
            conclude(champion, challenger, epochs, own, split=splits.get(challenger), several=bool(others))
        )
    if not challengers:
        return conclude(champion, None, epochs, comparisons, split=splits.get(champion))
    if len(conclusions) == 1:
        return conclusions[0]
    conclusions.sort(key=lambda conclusion: _STRENGTH.index(conclusion.verdict))
    sentences = dict.fromkeys(conclusion.sentence for conclusion in conclusions)  # a refusal is one sentence for all
    remarks = dict.fromkeys(remark for conclusion in conclusions for remark in conclusion.remarks)
    return Conclusion(conclusions[0].verdict, " ".join(sentences), tuple(remarks))


def conclude(
    champion: str,
    challenger: str | None,
    epochs: Sequence[EpochTraffic],
    comparisons: Sequence[Comparison],
    *,
    split: Guardrail | None = None,
    several: bool = False,
) -> Conclusion:
    """Judge the evidence.

    Parameters
    ----------
    champion, challenger
        Served names of the two arms.
    epochs
        Traffic by weight epoch. An epoch whose own test fails is remarked.
    comparisons
        Paired comparisons; that of the two arms in accuracy decides, the others qualify it.
    split
        The guardrail "sample ratio" that the decision about these two arms goes by: if it has fired, the analysis is
        refused here as well. Without a challenger, that of the champion.
    several
        Whether sentences about other challengers stand beside it, so that it must name its arms.
    """
    arms = {champion, challenger} - {None}
    against = [c for c in comparisons if c.second not in arms]
    own = [epoch for epoch in epochs if arms <= set(epoch.weights)]
    is_broken = split is not None and split.fired
    remarks = _traffic_remarks(epochs, own, is_broken)
    if is_broken:  # what may not be compared is not compared in the remarks either
        return Conclusion("refused", _refusal(min(own, key=lambda epoch: epoch.p_value)), tuple(remarks))
    remarks += [_remark(c, c.second) for c in against]
    remarks += [_brier_remark(c) for c in comparisons if c.score == "brier"]
    if challenger is None:
        return Conclusion("no_data", f"No conclusion: {champion} serves alone, there is no challenger.", tuple(remarks))
    pair = [c for c in comparisons if (c.first, c.second, c.score) == (challenger, champion, "accuracy")]
    if not pair:
        sentence = (
            f"No conclusion yet: there are fewer than two sessions after both data cut-offs on which {challenger} and "
            f"{champion} answered and the outcome is known."
        )
        return Conclusion("no_data", sentence, tuple(remarks))
    verdict, sentence = _judge(pair[0], against)
    if verdict != "challenger_better" and pair[0].difference.days >= FEWEST_DAYS:
        sentence += _unbeaten(against, f" {challenger} nor {champion}" if several else "")
    return Conclusion(verdict, sentence, tuple(remarks))


def ruin_remarks(books: Mapping[str, ProfitAndLoss | None]) -> tuple[str, ...]:
    """One sentence for each book that lost all its capital in a session; ``books`` are by forecaster."""
    return tuple(
        f"The book of {name} was wiped out on {book.wiped_out}: it lost its whole capital in one session, as a short "
        "position can when a price more than doubles. It does not trade again; its ratios are those of the days until "
        "then."
        for name, book in books.items()
        if book is not None and book.wiped_out is not None
    )


def _judge(main: Comparison, against: Sequence[Comparison]) -> tuple[Verdict, str]:
    d, seen = main.difference, _seen(main)
    if d.days < FEWEST_DAYS:
        return "underpowered", (
            f"Too few days to conclude anything: {seen}, and with {d.days} days even the interval is not to be trusted "
            f"(at least {FEWEST_DAYS} are needed)."
        )
    if main.disagreements < _FEWEST_DISAGREEMENTS:
        return "no_difference", (
            f"No difference to speak of: {main.first} and {main.second} differed in being right on only "
            f"{main.disagreements} of {main.rows:,} predictions in {d.days} days."
        )
    if d.low > 0:
        return "challenger_better", (
            f"{main.first} predicted the direction better than {main.second}: {seen}{_beaten(main.first, against)}."
        )
    if d.high < 0:
        return "champion_better", f"{main.first} predicted the direction worse than {main.second}: {seen}."
    if main.worthwhile is not None and max(-d.low, d.high) <= main.worthwhile:
        return "no_difference", (
            f"No difference that matters: {seen}; a difference of {_size(main.worthwhile)} or more is excluded with "
            f"{d.level:.0%} confidence."
        )
    return "underpowered", (
        f"It cannot be concluded that {main.first} is better or worse than {main.second}: {seen}, which includes no "
        "difference."
    )


def _seen(main: Comparison) -> str:
    d = main.difference
    return (
        f"the difference in accuracy over {d.days} days is {_signed(d.estimate)} ({d.level:.0%} interval "
        f"{_signed(d.low)} to {_signed(d.high)})"
    )


def _beaten(challenger: str, against: Sequence[Comparison]) -> str:
    own = [c for c in against if c.first == challenger]
    if not own:
        return ""
    unbeaten = [c.second for c in own if c.difference.low <= 0]
    if not unbeaten:
        return f"; it also beats {' and '.join(c.second for c in own)}"
    return f"; but it has not been shown to beat {' or '.join(unbeaten)}, so that nothing is gained yet"


def _unbeaten(against: Sequence[Comparison], names: str) -> str:
    """What neither arm beats; empty if one of them beats everything."""
    arms = {c.first for c in against}
    baselines = list(dict.fromkeys(c.second for c in against))
    if len(arms) < 2 or any(all(c.difference.low > 0 for c in against if c.first == arm) for arm in arms):
        return ""
    worse = [name for name in baselines if all(c.difference.high < 0 for c in against if c.second == name)]
    sentence = f" Neither{names} has been shown to beat {' and '.join(baselines)}"
    sentence += f", and both are worse than {' and '.join(worse)}." if worse else "."
    ahead = [name for name in baselines if all(c.difference.estimate < 0 for c in against if c.second == name)]
    for name in (name for name in ahead if name not in worse):
        gaps = [c for c in against if c.second == name]
        by = " and ".join(_size(c.difference.estimate) for c in gaps)
        clear = " and ".join(c.first for c in gaps if c.difference.high < 0)
        how = f"significantly so only against {clear}" if clear else "but not significantly"
        sentence += f" The baseline {name} was right more often than both (by {by}), {how}."
    return sentence


def _refusal(epoch: EpochTraffic) -> str:
    split = " and ".join(f"{count:,} to {model}" for model, count in epoch.observed.items())
    asked = " and ".join(f"{epoch.expected[model]:,.0f}" for model in epoch.observed)
    weights = "/".join(str(epoch.weights.get(model, 0)) for model in epoch.observed)
    return (
        f"No conclusion may be drawn: in weight epoch {epoch.label} the requests went {split}, where the weights "
        f"{weights} ask for {asked} (sample-ratio mismatch, p = {epoch.p_value:.1e}); assignment or logging is broken, "
        "and until that is fixed nothing in this experiment can be compared."
    )


def _traffic_remarks(epochs: Sequence[EpochTraffic], own: Sequence[EpochTraffic], is_broken: bool) -> list[str]:
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
                f"arm ({epoch.unattributed / total:.1%}): shares and latencies are those of the others only."
            )
        if epoch.pending:
            remarks.append(f"In weight epoch {epoch.label}, {epoch.pending:,} requests have no result: replay again.")
    return remarks


def _remark(item: Comparison, baseline: str) -> str:
    d = item.difference
    shown = f"{_signed(d.estimate)} ({_signed(d.low)} to {_signed(d.high)})."
    if d.low <= 0 <= d.high:
        return f"No measurable difference in accuracy between {item.first} and the baseline {baseline}: {shown}"
    return f"{item.first} {'beats' if d.low > 0 else 'is worse than'} the baseline {baseline}: {shown}"


def _brier_remark(item: Comparison) -> str:
    d = item.difference
    word, sign = ("lower", 1) if d.estimate >= 0 else ("higher", -1)
    low, high = sorted((sign * d.low, sign * d.high))
    shown = f"Brier score {word} by {abs(d.estimate):.4f} ({low:.4f} to {high:.4f})."
    if d.low <= 0 <= d.high:
        return (
            f"No measurable difference in the quality of the probabilities of {item.first} and {item.second}: {shown}"
        )
    verdict = "better" if d.low > 0 else "worse"
    return f"The probabilities of {item.first} are {verdict} than those of {item.second}: {shown}"


def _size(value: float) -> str:
    return f"{abs(100 * value):.1f} pp"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} pp"
