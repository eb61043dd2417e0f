"""Asking the gateway as the replay does: no failure lost, and none invented.

What a model says, and that it says nothing within the deadline, is a result and is never asked for again: the gateway
would draw an arm anew, and the failures of one arm would become answers of another. What no model can have answered is
no result: it is sent again when all arms answer, to the arm that the gateway had drawn if it named one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from financial_assets.errors import (
    InferenceError,
    InferenceTimeoutError,
    LogError,
    RequestRejectedError,
)
from financial_assets.experiment.prediction_log.records import DirectIntent, Failure, Forecast, Result, RoutedIntent

__all__ = ["AnswerLike", "Connect", "Gateway", "Retry", "Unanswered", "ask_direct", "ask_routed"]


class AnswerLike(Protocol):
    """What an inference client answers; arrays have one row a ticker."""

    @property
    def probability_up(self) -> np.ndarray:
        """Probabilities ``[n]``."""
        ...

    @property
    def return_quantiles(self) -> np.ndarray:
        """Quantiles ``[n, 5]``."""
        ...

    @property
    def route(self) -> str | None:
        """The model that answered, as the gateway says."""
        ...

    @property
    def latency_s(self) -> float:
        """Seconds from sending to the answer."""
        ...


class Gateway(Protocol):
    """The part of the inference client that a replay uses."""

    def infer(
        self, target: str, bars: np.ndarray, /, *, route: str | None = None, request_id: str | None = None
    ) -> AnswerLike:
        """Ask once by REST; with a ``route``, that arm."""
        ...

    def infer_batch(self, target: str, bars: np.ndarray, /) -> AnswerLike:
        """Ask once for many rows by gRPC."""
        ...

    def check_ready(self, name: str, /) -> None:
        """Return if a model is ready; otherwise raise the ``InferenceError`` that fits."""
        ...


Connect = Callable[[], AbstractContextManager[Gateway]]
"""Opens a connection of its own for one worker."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently paired scoring is repeated when a model gives no usable answer.

    Attributes
    ----------
    attempts
        Most times a batch is sent.
    first_wait_s, longest_wait_s
        Wait before the first repetition; doubled each time up to the longest.
    """

    attempts: int = 8
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0

    def wait_s(self, repetition: int) -> float:
        """Seconds to wait before repetition 1, 2, ..."""
        return min(self.first_wait_s * 2 ** (repetition - 1), self.longest_wait_s)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that no model has answered.

    Attributes
    ----------
    said
        Why, in words.
    route, sticky
        The arm that the gateway had drawn, and its name for it; ``None`` if it did not say.
    asked
        Whether there was a gateway to ask at all.
    """

    said: str
    route: str | None = None
    sticky: str | None = None
    asked: bool = True


def ask_routed(
    client: Gateway, intent: RoutedIntent, bars: np.ndarray, arms: Sequence[str], sticky: str | None = None
) -> Result | Unanswered:
    """Send one routed request, once.

    Parameters
    ----------
    client
        Connection to the gateway.
    intent
        What was committed to the log.
    bars
        float32 ``[1, lookback, 7]``.
    arms
        Models that may answer: they are asked if they are there when nobody has answered within the deadline, because
        the gateway itself waits for a server that is away, and may do so for longer.
    sticky
        The arm that was drawn when this request was sent before.
    """
    started = time.perf_counter()
    pinned = {} if sticky is None else {"route": sticky}
    try:
        answer = client.infer(f"{intent.endpoint}.experiment", bars, request_id=intent.request_id, **pinned)
    except InferenceError as error:
        said = f"{type(error).__name__}: {error}"
        elapsed = time.perf_counter() - started
        unnamed = isinstance(error, InferenceTimeoutError) and error.route is None
        if not error.answered or (unnamed and _is_away(client, arms)):
            return Unanswered(said, error.route, error.sticky)
        return Result(intent.id, None, _failure(error), error.route, elapsed, error=said)
    return _result(intent.id, answer, 0, 1, 0, answer.route)


def _is_away(client: Gateway, arms: Sequence[str]) -> bool:
    """Whether one of the arms is not there; one that only does not say so in time is busy, or slow."""
    for model in arms:
        try:
            client.check_ready(model)
        except InferenceTimeoutError:
            continue
        except InferenceError:
            return True
    return False


def ask_direct(
    client: Gateway, intents: Sequence[DirectIntent], bars: np.ndarray, retry: Retry, stop: threading.Event
) -> list[Result]:
    """Score one model on many tickers in one request.

    A rejected batch is halved until the rejected ticker is found, so that it alone fails.

    Raises
    ------
    InferenceError
        If no model has answered, or none well after the last attempt; the intents stay open.
    """
    for attempt in range(1, retry.attempts + 1):
        started = time.perf_counter()
        try:
            answer = client.infer_batch(intents[0].model, bars)
            _refuse_other_model(answer, intents[0].model)
        except RequestRejectedError as error:
            if not error.answered:
                raise
            if len(intents) > 1:
                half = len(intents) // 2
                first = ask_direct(client, intents[:half], bars[:half], retry, stop)
                return first + ask_direct(client, intents[half:], bars[half:], retry, stop)
            elapsed = time.perf_counter() - started
            return [Result(intents[0].id, None, "rejected", None, elapsed, attempt - 1, str(error))]
        except InferenceError as error:
            if not error.answered or attempt == retry.attempts or stop.wait(retry.wait_s(attempt)):
                raise
        else:
            rows = len(intents)
            return [_result(intent.id, answer, i, rows, attempt - 1, None) for i, intent in enumerate(intents)]
    raise AssertionError("unreachable: the last attempt returns or raises")


def _result(id_: int, answer: AnswerLike, row: int, rows: int, repeated: int, route: str | None) -> Result:
    latency = float(answer.latency_s)
    try:
        _check_shape(answer, rows)
        return Result(id_, _forecast(answer, row), None, route, latency, repeated)
    except LogError as error:
        return Result(id_, None, "failed", route, latency, repeated, f"unusable answer: {error}")


def _refuse_other_model(answer: AnswerLike, model: str) -> None:
    if answer.route not in (None, model):
        raise InferenceError(f"{model} was asked, but {answer.route} answered", route=answer.route)


def _check_shape(answer: AnswerLike, rows: int) -> None:
    shape = np.shape(answer.return_quantiles)
    if np.size(answer.probability_up) != rows or shape != (rows, 5):
        raise LogError(f"{np.size(answer.probability_up)} probabilities and quantiles {shape} for {rows} rows")


def _forecast(answer: AnswerLike, row: int) -> Forecast:
    q01, q05, q50, q95, q99 = (float(value) for value in np.asarray(answer.return_quantiles)[row])
    return Forecast(float(np.ravel(answer.probability_up)[row]), (q01, q05, q50, q95, q99))


def _failure(error: InferenceError) -> Failure:
    if isinstance(error, RequestRejectedError):
        return "rejected"
    return "timeout" if isinstance(error, InferenceTimeoutError) else "failed"
