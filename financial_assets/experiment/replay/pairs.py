"""Paired scoring: every arm on the same bars, whatever traffic it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from financial_assets.errors import InferenceError, LogError, ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import DirectIntent, Result
from financial_assets.experiment.replay.pending import PendingSession

__all__ = ["score_pairs"]

_BATCH = 256  # rows per gRPC request: 256 x 256 x 7 float32 = 1.8 MiB, below the usual limit of 4 MiB


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
