"""Asking the gateway as the replay does: whole requests, repeated a bounded number of times, no failure lost."""

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
from financial_assets.experiment.records import DirectIntent, Failure, Forecast, Result, RoutedIntent

__all__ = ["AnswerLike", "Connect", "Gateway", "Retry", "ask_direct", "ask_routed"]


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

    def infer(self, target: str, bars: np.ndarray, /, *, request_id: str | None = None) -> AnswerLike:
        """Ask once by REST."""
        ...

    def infer_batch(self, target: str, bars: np.ndarray, /) -> AnswerLike:
        """Ask once for many rows by gRPC."""
        ...


Connect = Callable[[], AbstractContextManager[Gateway]]
"""Opens a connection of its own for one worker."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently a whole request is repeated when the gateway gives no answer.

    Attributes
    ----------
    attempts
        Most times a request is sent.
    first_wait_s, longest_wait_s
        Wait before the first repetition; doubled each time up to the longest. The default waits 16 s in all, longer
        than a supervisor takes to start a killed server again.
    """

    attempts: int = 8
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0

    def wait_s(self, repetition: int) -> float:
        """Seconds to wait before repetition 1, 2, ..."""
        return min(self.first_wait_s * 2 ** (repetition - 1), self.longest_wait_s)


def ask_routed(
    client: Gateway, intent: RoutedIntent, bars: np.ndarray, retry: Retry, stop: threading.Event
) -> Result | None:
    """Send one routed request.

    Parameters
    ----------
    client
        Connection to the gateway.
    intent
        What was committed to the log.
    bars
        float32 ``[1, lookback, 7]``.
    retry
        How often to repeat; a rejected request (4xx) is never repeated.
    stop
        When set, no further attempt is made.

    Returns
    -------
    Result or None
        How it ended; ``None`` if stopped before it did, so that the intent stays open.
    """
    for attempt in range(1, retry.attempts + 1):
        if stop.is_set():
            return None
        started = time.perf_counter()
        try:
            answer = client.infer(f"{intent.endpoint}.experiment", bars, request_id=intent.request_id)
        except InferenceError as error:
            elapsed = time.perf_counter() - started
            if attempt == retry.attempts or isinstance(error, RequestRejectedError):
                said = f"{type(error).__name__}: {error}"
                return Result(intent.id, None, _failure(error), error.route, elapsed, attempt - 1, said)
            stop.wait(retry.wait_s(attempt))
        else:
            return _result(intent.id, answer, 0, 1, attempt - 1, answer.route)
    raise AssertionError("unreachable: the last attempt returns")


def ask_direct(
    client: Gateway, intents: Sequence[DirectIntent], bars: np.ndarray, retry: Retry, stop: threading.Event
) -> list[Result]:
    """Score one model on many tickers in one request.

    A rejected batch is halved until the rejected ticker is found, so that it alone fails.

    Raises
    ------
    InferenceError
        If there is no answer after the last attempt; the intents stay open.
    """
    for attempt in range(1, retry.attempts + 1):
        started = time.perf_counter()
        try:
            answer = client.infer_batch(intents[0].model, bars)
            _refuse_other_model(answer, intents[0].model)
        except RequestRejectedError as error:
            if len(intents) > 1:
                half = len(intents) // 2
                first = ask_direct(client, intents[:half], bars[:half], retry, stop)
                return first + ask_direct(client, intents[half:], bars[half:], retry, stop)
            elapsed = time.perf_counter() - started
            return [Result(intents[0].id, None, "rejected", None, elapsed, attempt - 1, str(error))]
        except InferenceError:
            if attempt == retry.attempts or stop.wait(retry.wait_s(attempt)):
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
