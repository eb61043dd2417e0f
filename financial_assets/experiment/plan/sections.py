"""What a rollout policy fixes beside the arms: the test, the guardrails, how traffic moves. Frozen, with limits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.regimes import DIMENSIONS, VALUES, Dimension, Regime
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.metrics.registry import METRICS, metrics_of
from financial_assets.experiment.paired_score import MetricSetting, PairedMetric

FORBID = ConfigDict(extra="forbid")
"""A misspelt key must not leave a default in force."""


def between(low: float, high: float, *, whole: bool = False) -> BeforeValidator:
    """Refuses what is not a number from ``low`` to ``high``: also YAML's ``yes``, ``"1"`` and ``.nan``."""

    def check(value: object) -> object:
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            raise ValueError(f"{'a whole number' if whole else 'a number'} from {low:g} to {high:g}")
        return value

    return BeforeValidator(check)


def auto_or_between(low: float, high: float) -> BeforeValidator:
    """``auto``, or a whole number that :func:`between` takes."""

    def check(value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        if value != "auto" and not is_number:
            raise ValueError(f"auto, or a whole number from {low:g} to {high:g}")
        return value

    return BeforeValidator(check)


HORIZONS = tuple(range(63, 253, 21))
"""Sessions, by months from a quarter to a year, of which ``horizon_sessions: auto`` takes the fewest that do."""

_LOOK_EVERY, _FIRST_LOOK = 14, 42
"""Sessions between the looks of ``looks: auto``, and the day before which there is none: a loss that comes once in ten
sessions is not seen in one test of nine that has twenty of them, and in one of a hundred that has forty."""


def planned_looks(horizon: int, looks: int | Literal["auto"]) -> tuple[int, ...]:
    """Evenly spaced days of the planned looks; the last is the horizon.

    Parameters
    ----------
    horizon
        Sessions of the test.
    looks
        How many; ``auto``: one about every 14 sessions, but none before day 42 unless the test is shorter.

    Raises
    ------
    ExperimentError
        There are more looks than sessions.
    """
    count = max(horizon // _LOOK_EVERY, 1) if looks == "auto" else looks
    if not 1 <= count <= horizon:
        raise ExperimentError(f"{count} looks do not fit into a horizon of {horizon} sessions")
    days = tuple(round(horizon * place / count) for place in range(1, count + 1))
    if looks == "auto":
        days = tuple(day for day in days if day >= min(_FIRST_LOOK, horizon))
    return days


def _rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    if not steps or list(steps) != sorted(set(steps)):
        raise ValueError("a rising list of whole percentages from 0 (a mirror) to 99")
    return steps


def _each_once(dimensions: tuple[Dimension, ...]) -> tuple[Dimension, ...]:
    if len(set(dimensions)) != len(dimensions):
        raise ValueError(f"a list of some of {', '.join(DIMENSIONS)}, each once")
    return tuple(name for name in DIMENSIONS if name in dimensions)


def _are_sectors(sectors: Mapping[str, str]) -> Mapping[str, str]:
    if not all(re.fullmatch(r"[a-z0-9]{1,20}", sector) for sector in sectors.values()):
        raise ValueError("ticker: sector pairs, sectors of up to 20 lower-case letters and digits")
    return sectors


Guard = Literal["accuracy", "profit", "tail"]
"""What a challenger must not be shown to be worse in, beside its metric."""


def _are_margins(margins: Mapping[Guard, float]) -> Mapping[Guard, float]:
    if not all(0 <= margin <= 1 for margin in margins.values()):
        raise ValueError("margins from 0 to 1 for some of accuracy, profit, tail")
    return margins


Margin = Annotated[float, between(0.0, 0.5)]
PlausibleEffect = Annotated[float, between(0.000001, 0.5)]


@dataclass(frozen=True, slots=True, config=FORBID)
class TestRules:
    """What all tests of a policy have in common, whichever question they ask.

    Attributes
    ----------
    alpha_planned
        Two-sided error probability of the planned looks, of all challengers and questions together.
    alpha_always
        Two-sided error probability of the confidence sequences that may be looked at any day, likewise.
    power
        Probability of finding the minimum detectable effect.
    horizon_sessions
        Evaluated sessions after which the test ends; ``auto``: the fewest of :data:`HORIZONS` in which the whole rule
        finds the plausible effect with the power asked for, by the spread of days that are no evidence; else the most.
    looks
        Planned looks, evenly spaced up to the horizon; ``auto``: see :func:`planned_looks`.
    noninferiority
        A challenger may be worse than a baseline by less than this part of the plausible effect.
    guard_alpha
        One-sided error probability of "not worse than a baseline by that much" and of "shown to do harm".
    guard_margins
        Guard -> how much worse than the champion a challenger may be shown to be: ``accuracy`` in its own unit,
        ``profit`` in net return of a day, ``tail`` in its score; 0 for those that are not named.
    futility
        A look ends the test if the probability of still winning, were the plausible effect true, is below this.
        0: never.
    deflated_sharpe
        Probability that the challenger's Sharpe ratio is more than the luck of the best of all registered versions;
        below it nothing is promoted. 0: it is reported only.
    at_horizon
        What happens to a challenger that has not won by the horizon: ``keep`` its requests, or ``release`` them, so
        that it is scored in pairs only.
    """

    __test__ = False  # not a test case, whatever its name

    alpha_planned: Annotated[float, between(0.0001, 0.2)] = 0.04
    alpha_always: Annotated[float, between(0.0001, 0.2)] = 0.01
    power: Annotated[float, between(0.5, 0.99)] = 0.8
    horizon_sessions: Annotated[int | Literal["auto"], auto_or_between(20, 5040)] = "auto"
    looks: Annotated[int | Literal["auto"], auto_or_between(1, 12)] = "auto"
    noninferiority: Annotated[float, between(0.01, 10.0)] = 0.5
    guard_alpha: Annotated[float, between(0.0001, 0.2)] = 0.05
    guard_margins: Annotated[Mapping[Guard, float], AfterValidator(_are_margins)] = field(default_factory=dict)
    futility: Annotated[float, between(0.0, 0.5)] = 0.15
    deflated_sharpe: Annotated[float, between(0.0, 0.999)] = 0.0
    at_horizon: Literal["keep", "release"] = "keep"

    @property
    def horizons(self) -> tuple[int, ...]:
        """Those that a plan may choose from, rising."""
        return HORIZONS if self.horizon_sessions == "auto" else (self.horizon_sessions,)


@dataclass(frozen=True, slots=True, config=FORBID)
class PlannedTest(TestRules):
    """The test of a registered plan: its metric and its horizon have been chosen.

    Attributes
    ----------
    horizon_sessions, looks
        Those of the plan.
    metric
        See :data:`~financial_assets.experiment.paired_score.PairedMetric`; margin and effect are in its unit.
    margin
        A challenger must be better by more than this to be promoted, worse by more than this to be rolled back.
    plausible_effect
        The largest difference that one may reasonably hope for; a test that cannot find it promotes nothing.
    """

    horizon_sessions: int = 252
    looks: int = 4
    metric: PairedMetric = "accuracy"
    margin: Margin = 0.0
    plausible_effect: PlausibleEffect = 0.02


@dataclass(frozen=True, slots=True, config=FORBID)
class QuestionPolicy:
    """A question that is asked of each challenger, and how it is measured.

    Attributes
    ----------
    question
        What is asked.
    metric
        One of the question's, or ``auto``: the one that can find the smallest part of its plausible effect, chosen when
        the plan is registered.
    plausible_effect
        See :class:`PlannedTest`; ``None``: that of the metric.
    margin
        See :class:`PlannedTest`.
    """

    question: Question
    metric: MetricSetting = "auto"
    plausible_effect: PlausibleEffect | None = None
    margin: Margin = 0.0

    def broken_rules(self, section: str) -> Iterator[tuple[str, Any, str]]:
        """Key, value, and what is allowed, of each rule that is broken; ``section`` says where it stands."""
        own = [metric.name for metric in metrics_of(self.question)]
        if self.metric != "auto" and self.metric not in own:
            named = METRICS[self.metric]
            allowed = f"auto, or a metric of the question of {self.question}: {', '.join(own)}"
            yield f"{section}.metric", self.metric, f"{allowed}; {named.name} answers the question of {named.question}"
        if self.metric == "auto":
            unknown = f"while {section}.metric is auto, because its unit is not known before the metric is chosen"
            # Policies of earlier versions left the metric out and meant accuracy; their numbers are in its unit.
            example = f"remove it, or name the metric too, such as {own[0]}"
            example += " (the default of earlier versions)" if self.question == "direction" else ""
            if self.plausible_effect is not None:
                yield f"{section}.plausible_effect", self.plausible_effect, f"no value {unknown}: {example}"
            if self.margin:
                yield f"{section}.margin", self.margin, f"0 {unknown}: {example}"

    def planned(
        self, metric: PairedMetric, rules: TestRules, *, horizon: int | None = None, moves_traffic: bool = True
    ) -> PlannedTest:
        """The test of a plan that asks this, once its metric and its horizon are chosen.

        Parameters
        ----------
        metric
            Which.
        rules
            What it has in common with the policy's other tests.
        horizon
            One of ``rules.horizons``; by default the longest.
        moves_traffic
            A question that moves no traffic takes none away at its horizon either.
        """
        common = {item.name: getattr(rules, item.name) for item in fields(TestRules)}
        common["horizon_sessions"] = horizon or rules.horizons[-1]
        common["looks"] = len(planned_looks(common["horizon_sessions"], rules.looks))
        if not moves_traffic:
            common["at_horizon"] = "keep"
        hoped = METRICS[metric].plausible_effect if self.plausible_effect is None else self.plausible_effect
        return PlannedTest(**common, metric=metric, margin=self.margin, plausible_effect=hoped)


@dataclass(frozen=True, slots=True, config=FORBID)
class TestPolicy(TestRules):
    """What the test of a challenger against the champion is, before any evidence is seen.

    Attributes
    ----------
    question
        The one question whose answer moves traffic; ``None``: that of the metric, or ``direction``.
    metric, margin, plausible_effect
        See :class:`QuestionPolicy`.
    """

    question: Question | None = None
    metric: MetricSetting = "auto"
    margin: Margin = 0.0
    plausible_effect: PlausibleEffect | None = None

    def asked(self) -> QuestionPolicy:
        """The question that moves traffic. Policies that only name a metric ask the question that it answers."""
        question = self.question or ("direction" if self.metric == "auto" else METRICS[self.metric].question)
        return QuestionPolicy(question, self.metric, self.plausible_effect, self.margin)


@dataclass(frozen=True, slots=True, config=FORBID)
class GuardrailPolicy:
    """What a challenger must never do, whatever it predicts; each is watched after every request.

    Attributes
    ----------
    latency_objective_s
        A request that takes longer is slow.
    slow_share, error_share
        Shares of slow and of failed requests that are still fine.
    alpha
        Probability of a false alarm of each guardrail, over the whole life of an experiment.
    srm_alpha
        The same for the sample ratio.
    missing_share
        Share of due predictions that may be missing before nothing is concluded.
    incident_requests, incident_seconds
        Answers of one session, and time, that belong to one incident: a crash that takes several requests with it
        counts once. A longer one counts again.
    """

    latency_objective_s: Annotated[float, between(0.0001, 60.0)] = 0.2
    slow_share: Annotated[float, between(0.0001, 0.5)] = 0.01
    error_share: Annotated[float, between(0.0001, 0.5)] = 0.01
    alpha: Annotated[float, between(0.000001, 0.2)] = 0.01
    srm_alpha: Annotated[float, between(0.000001, 0.2)] = 0.001
    missing_share: Annotated[float, between(0.0, 0.9)] = 0.05
    incident_requests: Annotated[int, between(1, 1000, whole=True)] = 10
    incident_seconds: Annotated[float, between(0.001, 86400.0)] = 600.0


@dataclass(frozen=True, slots=True, config=FORBID)
class TrafficPolicy:
    """How the challenger's share of the requests moves.

    Attributes
    ----------
    mode
        ``fixed``: the arms' weights, until a decision; ``ladder``: from a mirror upwards, step by step; ``thompson``
        and ``hedge``: shares that follow the daily scores, within bounds. They raise what the traffic earns while a
        test runs and prove nothing: decisions rest on the pairs, which no weights touch.
    steps
        The challengers' shares together in percent; 0 is a mirror: one challenger gets a copy of every request and
        answers none.
    dwell_sessions
        Sessions on a step before the next one.
    maximum_step
        Largest increase of the share at once, in percentage points.
    floor, hysteresis
        For ``thompson`` and ``hedge``: smallest share of an arm, and the change of share that is worth another epoch.
    regimes
        For ``thompson`` and ``hedge``: what requests are told apart by, each kind with shares of its own (see
        :mod:`~financial_assets.experiment.allocation.contextual`); empty: all alike.
    sectors
        Ticker -> sector, if ``regimes`` has sectors; lower-case letters and digits.
    approval
        ``automatic``, or ``manual``: a promotion waits for a person.
    """

    mode: Literal["fixed", "ladder", "thompson", "hedge"] = "fixed"
    steps: Annotated[tuple[Annotated[int, between(0, 99, whole=True)], ...], AfterValidator(_rising)] = (0, 10, 30, 50)
    dwell_sessions: Annotated[int, between(1, 252, whole=True)] = 5
    maximum_step: Annotated[int, between(1, 100, whole=True)] = 50
    floor: Annotated[int, between(10, 50, whole=True)] = 10
    hysteresis: Annotated[int, between(0, 100, whole=True)] = 3
    regimes: Annotated[tuple[Dimension, ...], AfterValidator(_each_once)] = ()
    sectors: Annotated[Mapping[str, str], AfterValidator(_are_sectors)] = field(default_factory=dict)
    approval: Literal["automatic", "manual"] = "automatic"

    def every_regime(self) -> tuple[Regime, ...]:
        """All regimes that requests may be split by; none unless ``regimes`` asks for some."""
        if not self.regimes:
            return ()
        values = {**VALUES, "sector": tuple(sorted(set(self.sectors.values())))}
        return tuple(
            Regime.of(**dict(zip(self.regimes, chosen, strict=True)))
            for chosen in itertools.product(*(values[name] for name in self.regimes))
        )
