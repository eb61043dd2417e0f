"""What can and cannot be concluded from an experiment, in one sentence and a few remarks.

The verdict describes the evidence at a single look. It promotes nothing: looking every day and stopping at the first
favourable interval would find a "better" challenger among equals in a third of all cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.evaluation.measures import Comparison, Conclusion, EpochTraffic, Verdict
from financial_assets.experiment.evaluation.remarks import (
    brier_remark,
    points,
    reference_remark,
    signed_points,
    traffic_remarks,
)

FEWEST_DAYS = 30
"""Below, the day-clustered interval is too narrow to be believed."""

_FEWEST_DISAGREEMENTS = 10


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
        Whether sentences about other challengers follow, so that this one must name its arms.
    """
    arms = {champion, challenger} - {None}
    against = [c for c in comparisons if c.second not in arms]
    own = [epoch for epoch in epochs if arms <= set(epoch.weights)]
    is_broken = split is not None and split.fired
    remarks = traffic_remarks(epochs, own, is_broken)
    if is_broken:  # what may not be compared is not compared in the remarks either
        return Conclusion("refused", _refusal(min(own, key=lambda epoch: epoch.p_value)), tuple(remarks))
    remarks += [reference_remark(c) for c in against]
    remarks += [brier_remark(c) for c in comparisons if c.score == "brier"]
    if challenger is None:
        return Conclusion("no_data", f"No conclusion: there is no challenger; {champion} serves alone.", tuple(remarks))
    pair = [c for c in comparisons if (c.first, c.second, c.score) == (challenger, champion, "accuracy")]
    if not pair:
        sentence = (
            f"No conclusion yet: on fewer than two sessions after both data cut-offs, {challenger} and {champion} "
            "answered and the outcome is known."
        )
        return Conclusion("no_data", sentence, tuple(remarks))
    verdict, sentence = _judge(pair[0], against)
    if verdict != "challenger_better" and pair[0].difference.days >= FEWEST_DAYS:
        sentence += _unbeaten(against, f" {challenger} nor {champion}" if several else "")
    return Conclusion(verdict, sentence, tuple(remarks))


def _judge(main: Comparison, against: Sequence[Comparison]) -> tuple[Verdict, str]:
    d, seen = main.difference, _seen(main)
    if d.days < FEWEST_DAYS:
        return "underpowered", (
            f"Too few days to conclude anything: {seen}. With {d.days} days even the interval is unreliable; at least "
            f"{FEWEST_DAYS} are needed."
        )
    if main.disagreements < _FEWEST_DISAGREEMENTS:
        return "no_difference", (
            f"No noticeable difference: one of {main.first} and {main.second} was right and the other wrong on only "
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
            f"No difference that matters: {seen}; a difference of {points(main.worthwhile)} or more is excluded with "
            f"{100 * d.level:.0f} % confidence."
        )
    return "underpowered", (
        f"It cannot be concluded that {main.first} is better or worse than {main.second}: {seen}, which includes no "
        "difference."
    )


def _seen(main: Comparison) -> str:
    d = main.difference
    return (
        f"the difference in accuracy over {d.days} days is {signed_points(d.estimate)} ({100 * d.level:.0f} % interval "
        f"{signed_points(d.low)} to {signed_points(d.high)})"
    )


def _beaten(challenger: str, against: Sequence[Comparison]) -> str:
    pairs = [c for c in against if c.first == challenger]
    if not pairs:
        return ""
    unbeaten = [c.second for c in pairs if c.difference.low <= 0]
    if not unbeaten:
        return f"; it also beats {' and '.join(c.second for c in pairs)}"
    return f"; but it has not been shown to beat {' or '.join(unbeaten)}, so nothing is gained yet"


def _unbeaten(against: Sequence[Comparison], names: str) -> str:
    """What neither arm beats; empty if one of them beats everything."""
    arms = {c.first for c in against}
    baselines = list(dict.fromkeys(c.second for c in against))
    if len(arms) < 2 or any(all(c.difference.low > 0 for c in against if c.first == arm) for arm in arms):
        return ""
    worse = [name for name in baselines if all(c.difference.high < 0 for c in against if c.second == name)]
    end = f", and both are worse than {' and '.join(worse)}." if worse else "."
    return f" Neither{names} has been shown to beat {' and '.join(baselines)}{end}"


def _refusal(epoch: EpochTraffic) -> str:
    split = " and ".join(f"{count:,} to {model}" for model, count in epoch.observed.items())
    asked = " and ".join(f"{epoch.expected[model]:,.0f}" for model in epoch.observed)
    weights = "/".join(str(epoch.weights.get(model, 0)) for model in epoch.observed)
    return (
        f"No conclusion may be drawn: in weight epoch {epoch.label} the requests went {split}, but the weights "
        f"{weights} require {asked} (sample-ratio mismatch, p = {epoch.p_value:.1e}). Assignment or logging is broken; "
        "until that is fixed, nothing in this experiment can be compared."
    )
