"""What passes between the replay and the prediction log: intents, forecasts, results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pandas as pd

from financial_assets.errors import LogError
from financial_assets.experiment.allocation.regimes import regime_experiment

Failure = Literal["failed", "rejected", "timeout", "unknown_route"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A model's answer for one ticker and session.

    Attributes
    ----------
    probability_up
        Probability in [0, 1] that the next session's adjusted close is higher.
    quantiles
        The 1, 5, 50, 95 and 99 % quantiles of the next session's log return, ascending.
    quantiles_5d
        The same of the log return over five sessions; ``None`` from a model without that head, which an earlier
        version deployed.
    excess_return
        Expected log return of the next session minus the market's, in units of the stock's causal volatility; ``None``
        exactly where ``quantiles_5d`` is.
    """

    probability_up: float
    quantiles: tuple[float, ...]
    quantiles_5d: tuple[float, ...] | None = None
    excess_return: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability_up <= 1.0:  # also false for NaN
            raise LogError(f"probability_up {self.probability_up!r} is not a number from 0 to 1")
        _check_quantiles("return quantiles", self.quantiles)
        if self.quantiles_5d is None and self.excess_return is not None:
            raise LogError("excess_return without return quantiles of five sessions: a model has both or none")
        if self.quantiles_5d is not None and self.excess_return is None:
            raise LogError("return quantiles of five sessions without excess_return: a model has both or none")
        if self.quantiles_5d is not None:
            _check_quantiles("return quantiles of five sessions", self.quantiles_5d)
        if self.excess_return is not None and not math.isfinite(self.excess_return):
            raise LogError(f"excess_return {self.excess_return!r} is not a finite number")


def _check_quantiles(name: str, values: tuple[float, ...]) -> None:
    if len(values) != 5 or not all(map(math.isfinite, values)):
        raise LogError(f"{name} {values!r} are not five finite numbers")
    if any(left > right for left, right in pairwise(values)):
        raise LogError(f"{name} {values!r} are not in ascending order")


@dataclass(frozen=True, slots=True)
class RoutedIntent:
    """A request that will be sent through the experiment's endpoint; already committed.

    ``regime`` is that of the request, if the weight epoch splits it by weights of its own.
    """

    id: int
    request_id: str
    experiment: str
    epoch: int
    session: pd.Timestamp
    ticker: str
    attempts: int
    regime: str | None = None

    @property
    def endpoint(self) -> str:
        """The experiment that the gateway splits this request by."""
        return regime_experiment(self.experiment, self.regime)


@dataclass(frozen=True, slots=True)
class DirectIntent:
    """A paired scoring of one model on one ticker and session that will be requested; already committed."""

    id: int
    session: pd.Timestamp
    ticker: str
    model: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Result:
    """How an intent ended; a field that has the name of a column of the log is stored there.

    Attributes
    ----------
    id
        The intent's id.
    forecast
        The answer, ``None`` if there is none.
    failure
        Kind of failure, ``None`` for a forecast.
    route
        The model that the gateway names as its route; ``None`` if it names none, and for direct scoring.
    latency_s
        Seconds from sending to the answer or failure, last attempt only; for direct scoring that of the whole batch.
    extra_attempts
        Times the whole request was repeated after the first.
    error
        The failure in words.
    """

    id: int
    forecast: Forecast | None = None
    failure: Failure | None = None
    route: str | None = None
    latency_s: float | None = None
    extra_attempts: int = 0
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.forecast is None) == (self.failure is None):
            raise LogError(f"result of intent {self.id} needs either a forecast or a failure")
        if self.latency_s is not None and not 0.0 <= self.latency_s < math.inf:
            raise LogError(f"latency {self.latency_s!r} s of intent {self.id} is not a duration")
