"""What a rollout policy fixes beside the arms: the test, the guardrails, how traffic moves. Frozen, with limits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from financial_assets.experiment.allocation.regimes import VALUES, Dimension, Regime
from financial_assets.experiment.paired_score import METRICS, PairedMetric

__all__ = ["GuardrailPolicy", "TestPolicy", "TrafficPolicy"]

Mode = Literal["fixed", "ladder", "thompson", "hedge"]


def _number(default: float, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class TestPolicy:
    """What the test of a challenger against the champion is, before any evidence is seen.

    Attributes
    ----------
    metric
        See :data:`~financial_assets.experiment.paired_score.PairedMetric`; margin and effects are in its unit.
    margin
        A challenger must be better by more than this to be promoted, worse by more than this to be rolled back.
    plausible_effect
        The largest difference that one may reasonably hope for; a test that cannot find it promotes nothing.
    alpha_planned
        Two-sided error probability of the planned looks, of all challengers together.
    alpha_always
        Two-sided error probability of the confidence sequences that may be looked at any day, likewise.
    power
        Probability of finding the minimum detectable effect.
    horizon_sessions
        Evaluated sessions after which the test ends.
    looks
        Planned looks, evenly spaced up to the horizon.
    deflated_sharpe
        Probability that the challenger's Sharpe ratio is more than the luck of the best of all registered versions;
        below it nothing is promoted. 0: not asked for.
    at_horizon
        What happens to a challenger that has not won by the horizon: ``keep`` its requests, or ``release`` them, so
        that it is scored in pairs only.
    """

    __test__ = False  # not a test case, whatever its name

    metric: PairedMetric = field(default="accuracy", metadata={"choices": METRICS})
    margin: float = _number(0.0, 0.0, 0.5)
    plausible_effect: float = _number(0.02, 0.000001, 0.5)
    alpha_planned: float = _number(0.04, 0.0001, 0.2)
    alpha_always: float = _number(0.01, 0.0001, 0.2)
    power: float = _number(0.8, 0.5, 0.99)
    horizon_sessions: int = _number(252, 20, 5040)
    looks: int = _number(4, 1, 12)
    deflated_sharpe: float = _number(0.95, 0.0, 0.999)
    at_horizon: Literal["keep", "release"] = field(default="keep", metadata={"choices": ("keep", "release")})


@dataclass(frozen=True, slots=True)
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
    """

    latency_objective_s: float = _number(0.2, 0.0001, 60.0)
    slow_share: float = _number(0.01, 0.0001, 0.5)
    error_share: float = _number(0.01, 0.0001, 0.5)
    alpha: float = _number(0.01, 0.000001, 0.2)
    srm_alpha: float = _number(0.001, 0.000001, 0.2)
    missing_share: float = _number(0.05, 0.0, 0.9)


@dataclass(frozen=True, slots=True)
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

    mode: Mode = field(default="fixed", metadata={"choices": ("fixed", "ladder", "thompson", "hedge")})
    steps: tuple[int, ...] = (0, 10, 30, 50)
    dwell_sessions: int = _number(5, 1, 252)
    maximum_step: int = _number(50, 1, 100)
    floor: int = _number(10, 10, 50)
    hysteresis: int = _number(3, 0, 100)
    regimes: tuple[Dimension, ...] = field(default=(), metadata={"kind": "dimensions"})
    sectors: Mapping[str, str] = field(default_factory=dict, metadata={"kind": "sectors"})

    def every_regime(self) -> tuple[Regime, ...]:
        """All regimes that requests may be split by; none unless ``regimes`` asks for some."""
        if not self.regimes:
            return ()
        values = {**VALUES, "sector": tuple(sorted(set(self.sectors.values())))}
        return tuple(
            Regime.of(**dict(zip(self.regimes, chosen, strict=True)))
            for chosen in itertools.product(*(values[name] for name in self.regimes))
        )

    approval: Literal["automatic", "manual"] = field(default="automatic", metadata={"choices": ("automatic", "manual")})
