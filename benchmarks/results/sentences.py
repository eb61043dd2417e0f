"""What a world shows, in sentences that are made from the intervals: nothing is claimed that they do not carry."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.judging import Comparison, Coverage
from benchmarks.results.tables import HEAD_TITLES, number
from financial_assets.scoring.intervals import Interval


def direction_sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """About the variant with the lowest log loss: whether it knows anything, and more than simple rules do."""
    constant, rules = comparisons[0], comparisons[1:]
    return [_of_direction(constant), *([f"Direction, against simple rules: {_against(rules)}."] if rules else [])]


def _of_direction(comparison: Comparison) -> str:
    gain = comparison.gain
    bounds = f"gain over `{comparison.rival}`: {number(gain.estimate)} nats, {_interval(gain)}"
    if comparison.verdict == "better":
        said = f"`{comparison.best}` says the direction better than the share of rises in the past ({bounds})"
    elif comparison.verdict == "worse":
        said = f"even the best variant, `{comparison.best}`, says the direction worse than a constant ({bounds})"
    else:
        said = f"no variant is shown to know the direction: the best log loss is that of `{comparison.best}` ({bounds})"
    return f"Direction: {said}."


def ranking_sentence(best: tuple[str, Interval] | None, tickers: int) -> str:
    """About the variant with the highest rank correlation."""
    if best is None:
        return f"Ranking: {tickers} tickers are too few to rank."
    name, mean = best
    bounds = f"mean rank correlation {number(mean.estimate)}, {_interval(mean)}"
    if mean.low > 0:
        return f"Ranking: the score of `{name}` ranks the universe ({bounds})."
    if mean.high < 0:
        return f"Ranking: even the best score, that of `{name}`, ranks the universe the wrong way round ({bounds})."
    return f"Ranking: no variant is shown to rank the universe; the highest is `{name}` ({bounds})."


def risk_sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """About the best variant by each loss and horizon: whom it beats, who beats it, who is not distinguishable."""
    said: list[str] = []
    for head, loss in dict.fromkeys((one.head, one.loss) for one in comparisons):
        own = [one for one in comparisons if (one.head, one.loss) == (head, loss)]
        said.append(f"Risk, {HEAD_TITLES[head]}, {loss}: {_against(own)}.")
    return said


def coverage_sentence(coverages: Sequence[Coverage], model: str) -> str:
    """Which values at risk of a model hold."""
    own = [one for one in coverages if one.model == model]
    if not own:
        return f"Value at risk: too few sessions to test that of `{model}`."
    broken = [one for one in own if not one.holds]
    if not broken:
        return (
            f"Value at risk: of `{model}`, the promised share lies inside the 95 % band in all {len(own)} tests "
            "(1 and 5 %, either horizon)."
        )
    listed = ", ".join(
        f"{one.promised:.0%} over {'one session' if one.head == 'return_quantiles' else 'five'} "
        f"({one.share.estimate:.1%} lay below, band {one.share.low:.1%} to {one.share.high:.1%})"
        for one in broken
    )
    return f"Value at risk: of `{model}`, {len(broken)} of {len(own)} are off: {listed}."


def _against(comparisons: Sequence[Comparison]) -> str:
    """Whom the best variant beats, to whom it loses, and from whom it is not distinguishable."""
    verdicts = {
        verdict: [one for one in comparisons if one.verdict == verdict]
        for verdict in ("better", "worse", "not told apart")
    }
    parts: list[str] = []
    if verdicts["better"]:
        parts.append(f"beats {_with_gains(verdicts['better'])}")
    if verdicts["worse"]:
        parts.append(f"loses to {_with_gains(verdicts['worse'])}")
    if verdicts["not told apart"]:
        parts.append(f"is not distinguishable from {', '.join(f'`{one.rival}`' for one in verdicts['not told apart'])}")
    return f"the best variant, `{comparisons[0].best}`, {', '.join(parts)}"


def _with_gains(comparisons: Sequence[Comparison]) -> str:
    return ", ".join(f"`{one.rival}` ({number(one.gain.estimate)}, {_interval(one.gain)})" for one in comparisons)


def _interval(interval: Interval) -> str:
    return f"{interval.level:.1%} interval {number(interval.low)} to {number(interval.high)}"
