"""How much the arms' daily scores vary before a test: what its plan is registered with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

from financial_assets.errors import TrainingError
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.metrics.choice import MeasuredDays
from financial_assets.experiment.metrics.registry import metrics_of
from financial_assets.experiment.plan.block_answers import block_predictions
from financial_assets.experiment.plan.expected_deviation import AnsweredBlock, days_of
from financial_assets.experiment.plan.sections import QuestionPolicy
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore


class DaysBefore:
    """The days before the tests of one champion; models and baselines are asked once per challenger.

    Parameters
    ----------
    market, models
        Prices, and the models of the registry.
    champion
        Of the current epoch.
    warn
        Told of what cannot be measured.
    """

    def __init__(self, market: MarketState, models: ModelStore, champion: Arm, warn: Callable[[str], object]) -> None:
        self._market, self._models, self._champion, self._warn = market, models, champion, warn
        self._answered: dict[int, AnsweredBlock | str | None] = {}

    def of(self, challenger: Arm, asked: QuestionPolicy) -> MeasuredDays:
        """How much the two arms' scores of a question vary against each other; the plan states the figure's source."""
        return replace(self._days(challenger, asked), silent=self._silent)

    @cached_property
    def _silent(self) -> Mapping[str, str]:
        """Baselines that forecast nothing today, and why: no metric that asks for a win over them can be planned."""
        try:
            return self._models.baselines_for(self._market.clock().now()).silent
        except TrainingError:  # nobody has fitted any yet; the evaluation says so
            return {}

    def _days(self, challenger: Arm, asked: QuestionPolicy) -> MeasuredDays:
        tickers = len(self._market.tickers)
        if challenger.version not in self._answered:
            self._answered[challenger.version] = self._ask(challenger)
        answered = self._answered[challenger.version]
        if isinstance(answered, str):
            self._warn(f"the days of the arms' scores of {asked.question} cannot be measured, because {answered}")
            return MeasuredDays({}, tickers, answered)
        if answered is None:
            return MeasuredDays({}, tickers)
        return days_of(answered, metrics_of(asked.question), tickers)

    def _ask(self, challenger: Arm) -> AnsweredBlock | str | None:
        """What the two models and the baselines answer; why not, as the end of a sentence; ``None``: no days."""
        lifecycle = self._models.lifecycle()
        try:
            ours, theirs = (lifecycle.known_model(arm.version) for arm in (self._champion, challenger))
        except TrainingError as error:  # e.g. registered by somebody else's training
            return str(error)
        panel = self._market.load_panel()
        try:
            baselines = block_predictions(
                self._models.baselines_for(max(ours.cutoff, theirs.cutoff)), ours, theirs, panel
            )
        except TrainingError as error:
            self._warn(f"the plan assumes how the challenger's scores differ from the baselines', because {error}")
            baselines = None
        return AnsweredBlock.of(ours, theirs, panel, baselines)
