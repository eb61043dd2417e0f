"""Asking the gateway as a replay does: no failure is lost and none is invented.

What a model answers is a result, and so is its silence until the deadline; neither is ever asked for again. The gateway
would draw an arm anew, and failures of one arm would turn into answers of another. A request that no model can have
answered has no result: it is sent again when all arms answer, to the arm that the gateway had drawn if it named one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from financial_assets.errors import InferenceError, InferenceTimeoutError, LogError, ReplayError, RequestRejectedError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import DirectIntent, Forecast, Result, RoutedIntent
from financial_assets.experiment.replay.pending import PendingSession
from financial_assets.serving.client.answers import OUTPUTS, Answer
from financial_assets.serving.client.inference import InferenceClient

# Paired scoring is repeated when a model gives no usable answer; the wait doubles up to the longest.
_ATTEMPTS = 8
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
_WIDTHS = dict(zip(OUTPUTS, (1, 5, 5, 1), strict=True))
_BATCH = 256  # rows per gRPC request: 256 x 256 x 7 float32 = 1.8 MiB, below the usual limit of 4 MiB


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that no model has answered.

    Attributes
    ----------
    reason
        Why, in words.
    route, sticky
        The arm that the gateway had drawn, and its name for it; ``None`` if it named none.
    had_gateway
        Whether there was a gateway to ask at all.
    """

    reason: str
    route: str | None = None
    sticky: str | None = None
    had_gateway: bool = True


def ask_routed(
    client: InferenceClient, intent: RoutedIntent, bars: np.ndarray, arms: Sequence[str], sticky: str | None = None
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
        Models that may answer. If the deadline passes without an answer, they are asked whether they are ready, because
        the gateway itself waits for a server that is away, possibly for longer than the deadline.
    sticky
        The arm that was drawn when this request was sent before.
    """
    started = time.perf_counter()
    try:
        answer = client.infer(f"{intent.endpoint}.experiment", bars, route=sticky, request_id=intent.request_id)
    except InferenceError as error:
        reason = f"{type(error).__name__}: {error}"
        elapsed = time.perf_counter() - started
        is_timeout = isinstance(error, InferenceTimeoutError)
        if not error.answered or (is_timeout and error.route is None and _is_any_away(client, arms)):
            return Unanswered(reason, error.route, error.sticky)
        is_rejected = isinstance(error, RequestRejectedError)
        failure = "rejected" if is_rejected else "timeout" if is_timeout else "failed"
        return Result(intent.id, None, failure, error.route, elapsed, error=reason)
    return _result(intent.id, answer, 0, 1, 0, answer.route)


def _is_any_away(client: InferenceClient, arms: Sequence[str]) -> bool:
    """Whether an arm is away. One that merely does not reply in time is busy or slow, which is its own failure."""
    for model in arms:
        try:
            client.check_ready(model)
        except InferenceTimeoutError:
            continue
        except InferenceError:
            return True
    return False


def ask_direct(
    client: InferenceClient, intents: Sequence[DirectIntent], bars: np.ndarray, stop: threading.Event
) -> list[Result]:
    """Score one model on many tickers in one request.

    A rejected batch is halved until the rejected ticker is found, so that it alone fails.

    Raises
    ------
    InferenceError
        If no model has answered, or none usably after the last attempt; the intents stay open.
    """
    model = intents[0].model
    for attempt in range(1, _ATTEMPTS + 1):
        started = time.perf_counter()
        try:
            answer = client.infer_batch(model, bars)
            if answer.route not in (None, model):
                raise InferenceError(f"{model} was asked, but {answer.route} answered", route=answer.route)
        except RequestRejectedError as error:
            if not error.answered:
                raise
            # The server refuses a batch for one bad row. The intents of all other rows must still get their answer.
            if len(intents) > 1:
                half = len(intents) // 2
                first_half = ask_direct(client, intents[:half], bars[:half], stop)
                return first_half + ask_direct(client, intents[half:], bars[half:], stop)
            elapsed = time.perf_counter() - started
            return [Result(intents[0].id, None, "rejected", None, elapsed, attempt - 1, str(error))]
        except InferenceError as error:
            wait_s = min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S)
            if not error.answered or attempt == _ATTEMPTS or stop.wait(wait_s):
                raise
        else:
            rows = len(intents)
            return [_result(intent.id, answer, row, rows, attempt - 1, None) for row, intent in enumerate(intents)]
    raise AssertionError("unreachable: the last attempt returns or raises")


def _result(id_: int, answer: Answer, row: int, rows: int, repetitions: int, route: str | None) -> Result:
    """The result of one row of an answer; an answer that is not a forecast is a failure of the model."""
    latency_s = float(answer.latency_s)
    try:
        outputs = answer.outputs
        shapes = {name: np.shape(values) for name, values in outputs.items()}
        if any(shape != (rows, _WIDTHS[name]) for name, shape in shapes.items()):
            raise LogError(f"outputs of shape {shapes} for {rows} rows")
        # As Python's floats, which both databases' drivers take: they refuse, or store as bytes, numpy's.
        values = {name: tuple(map(float, column[row])) for name, column in outputs.items()}
        forecast = Forecast(
            values["probability_up"][0],
            values["return_quantiles"],
            values.get("return_quantiles_5d"),
            values["excess_return"][0] if "excess_return" in values else None,
        )
        return Result(id_, forecast, None, route, latency_s, repetitions)
    except LogError as error:
        return Result(id_, None, "failed", route, latency_s, repetitions, f"unusable answer: {error}")


def score_pairs(
    log: PredictionLog,
    epoch: WeightEpoch,
    item: PendingSession,
    bars: Mapping[str, np.ndarray],
    ask: Callable[[Sequence[DirectIntent], np.ndarray], list[Result]],
) -> list[tuple[DirectIntent, Result]]:
    """Score the arms that a session lacks on the same bars, with one commit before and one after.

    Parameters
    ----------
    log, epoch, item
        Where to, which arms, which session.
    bars
        Ticker -> float32 ``[lookback, 7]``.
    ask
        Gets the results of one model's intents and their bars ``[n, lookback, 7]``.

    Raises
    ------
    ReplayError
        A model does not answer. Results of the arms before it are in the log, the other intents stay open.
    """
    arms = [arm for arm in epoch.arms if arm.model in item.direct]
    # The union, so that one batch per arm suffices; the log returns only the intents that are still open.
    tickers = sorted({ticker for missing in item.direct.values() for ticker in missing})
    intents = {intent.id: intent for intent in log.begin_direct(arms, item.session, item.target, tickers)}
    results: list[Result] = []
    try:
        for arm in arms:
            own = [intent for intent in intents.values() if intent.model == arm.model]
            for start in range(0, len(own), _BATCH):
                batch = own[start : start + _BATCH]
                results += ask(batch, np.stack([bars[intent.ticker] for intent in batch]))
    except BaseException as error:  # also Ctrl-C: what was answered is kept
        try:
            log.complete_direct(results)
        except LogError as log_error:  # must not hide the first error
            error.add_note(f"and the scores of other arms are not in the log: {log_error}")
        if isinstance(error, InferenceError):
            raise ReplayError(
                f"session {item.session.date()}: no answer for paired scoring ({error}). See "
                "`financial-assets status`; replaying again continues here"
            ) from error
        raise
    log.complete_direct(results)
    return [(intents[result.id], result) for result in results]
