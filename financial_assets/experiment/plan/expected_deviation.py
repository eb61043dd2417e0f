"""What a test can expect before it starts: how much the two arms' daily scores differ, on days that are no evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from financial_assets.experiment.metrics.choice import MeasuredDays
from financial_assets.experiment.metrics.metric import Metric, Question
from financial_assets.experiment.metrics.paired import KEYS, PairedDays, paired_days
from financial_assets.experiment.metrics.registry import GUARDS, METRICS, metrics_of
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.block_answers import CALIBRATION, Block, KnownModel, block_answers
from financial_assets.experiment.plan.daily_deviation import FEWEST_REFERENCE_DAYS, DailyDeviation
from financial_assets.experiment.plan.long_run_spread import inflation_of, long_run_of
from financial_assets.market.panel import PricePanel


def expected_deviation(
    champion: KnownModel,
    challenger: KnownModel,
    metric: PairedMetric,
    tickers: int,
    panel: PricePanel,
    baselines: pd.DataFrame | None = None,
) -> DailyDeviation:
    """Standard deviation of the daily paired differences of the two arms on days that are no evidence.

    These are the days of the block that calibrated a trained model. An external model has none: beside a trained one it
    is asked about that one's block, and two of them are asked about the last year up to the later of their data
    cut-offs, after which evidence begins. The mean there is worth nothing, because calibration, or an external model's
    makers, may have seen these days; how much the two differ from day to day is what a plan needs. Should what they
    learned by heart have changed that as well, only the plan's figures of power would be wrong: each look estimates
    the deviation again.

    Without 20 common days, or where they never differ, cautious figures are assumed.

    Parameters
    ----------
    champion, challenger
        What was kept of their trainings, or their graphs.
    metric
        By which the two are compared.
    tickers
        Tickers of the experiment.
    panel
        Prices; those after the data cut-offs are not read.
    baselines
        Their predictions on the same days (:func:`.block_predictions`), for simulations; ``None``: not known.

    Raises
    ------
    ExperimentError
        See :meth:`.DailyDeviation.assumed`.
    """
    found = measured_days(champion, challenger, (METRICS[metric],), tickers, panel, baselines).spreads
    return found.get(metric) or DailyDeviation.assumed(tickers, metric)


def expected_deviations(
    champion: KnownModel,
    challenger: KnownModel,
    question: Question,
    panel: PricePanel,
    baselines: pd.DataFrame | None = None,
) -> dict[str, DailyDeviation]:
    """:func:`expected_deviation` of every metric of a question that the two models' common days can measure."""
    metrics = metrics_of(question)
    return dict(measured_days(champion, challenger, metrics, len(panel.tickers), panel, baselines).spreads)


def deviation_of_days(
    days: PairedDays, metric: Metric, panel: PricePanel, block: str = CALIBRATION
) -> DailyDeviation | None:
    """What days that are no evidence say of those to come; ``None`` with fewer than 20 or without any difference.

    Parameters
    ----------
    days
        Daily differences of the block.
    metric
        Of the differences.
    panel
        Prices up to where the block is settled.
    block
        What the block is, in words.
    """
    measured = DailyDeviation.of_days(days.differences, block)
    if measured is None:
        return None
    long_run = long_run_of(metric, panel, days.sessions)
    calm = f", times {long_run.regime:.2f}, because it was calmer than the past" if long_run.regime > 1 else ""
    inflation = inflation_of(days.differences, metric.horizon)
    if metric.horizon > 1:
        # A block of a few months shows too little of how much outcomes that overlap share: the past says it better.
        # Days that do not overlap depend on each other as the two models make them, not as other forecasters do.
        inflation = max(inflation, long_run.inflation)
    return replace(
        measured,
        deviation=measured.deviation * long_run.regime,
        basis=f"{measured.basis}{calm}",
        regime=long_run.regime,
        inflation=inflation,
    )


def measured_days(
    champion: KnownModel,
    challenger: KnownModel,
    metrics: Sequence[Metric],
    tickers: int,
    panel: PricePanel,
    baselines: pd.DataFrame | None = None,
) -> MeasuredDays:
    """:func:`expected_deviation` of each metric that can be measured, and why the others cannot.

    Parameters
    ----------
    champion, challenger, tickers, panel, baselines
        See :func:`expected_deviation`.
    metrics
        Those of one question.
    """
    answered = AnsweredBlock.of(champion, challenger, panel, baselines)
    return MeasuredDays({}, tickers) if answered is None else days_of(answered, metrics, tickers)


@dataclass(frozen=True, eq=False)
class AnsweredBlock:
    """What two models answered on the days that are no evidence: asked once, measured for every question.

    Attributes
    ----------
    block
        The days.
    scored, rival
        Answers of the challenger with their outcomes, and of the champion.
    baselines
        Answers of the baselines; ``None``: not known.
    """

    block: Block
    scored: pd.DataFrame
    rival: pd.DataFrame
    baselines: pd.DataFrame | None

    @classmethod
    def of(
        cls, champion: KnownModel, challenger: KnownModel, panel: PricePanel, baselines: pd.DataFrame | None = None
    ) -> AnsweredBlock | None:
        """Those of two models, see :func:`measured_days`; ``None`` where there are no days to ask about."""
        block = Block.of(champion, challenger, panel)
        if block is None:
            return None
        outcomes = outcome_frame(block.known, scaled=True)
        scored = block_answers(challenger, block).merge(outcomes, on=KEYS)
        rows = None if baselines is None else baselines.rename(columns={"date": "session"})
        return cls(block, scored, block_answers(champion, block), rows)


def days_of(answered: AnsweredBlock, metrics: Sequence[Metric], tickers: int) -> MeasuredDays:
    """:func:`measured_days` of models that were asked before."""
    block, scored, rival, rows = answered.block, answered.scored, answered.rival, answered.baselines
    guards = {name: paired_days(scored, rival, guard) for name, guard in GUARDS.items()}
    found, alike, most = dict[str, DailyDeviation](), set[str](), 0
    for metric in metrics:
        days = paired_days(scored, rival, metric)
        if len(days.differences) >= FEWEST_REFERENCE_DAYS and not days.differences.any():
            alike.add(metric.name)
            most = max(most, len(days.differences))
        measured = deviation_of_days(days, metric, block.known, block.name)
        if measured is None:
            continue
        others = {f"guard {name}": guards[name] for name, guard in GUARDS.items() if guard.name != metric.name}
        if rows is not None:
            others |= {
                f"against {name}": paired_days(scored, rows[rows["model"] == name], metric) for name in metric.baselines
            }
        found[metric.name] = replace(measured, beside=_on_the_same_days(days, others))
    if not alike:
        return MeasuredDays(found, tickers)
    lacking = f"the two models scored exactly alike on all {most} days of {block.name}"
    return MeasuredDays(found, tickers, lacking, frozenset(alike))


def _on_the_same_days(days: PairedDays, others: Mapping[str, PairedDays]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Series that vary and have a value on each of the days; simulations draw all of them together."""
    found = list[tuple[str, tuple[float, ...]]]()
    for name, other in others.items():
        place = other.sessions.get_indexer(days.sessions)
        if place.min() < 0:
            continue
        values = other.differences[place]
        if np.ptp(values) > 0:
            found.append((name, tuple(map(float, values))))
    return tuple(found)
