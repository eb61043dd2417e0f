"""Waiting for a serving plane that does not answer, until every arm answers again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from financial_assets.errors import InferenceError, ReplayError, TargetError
from financial_assets.serving.client.inference import Connect

if TYPE_CHECKING:
    from financial_assets.experiment.replay.dispatcher import RequestDispatcher
    from financial_assets.experiment.replay.runner import ReplayContext

_POLL_S = 0.25


def await_ready(context: ReplayContext, dispatcher: RequestDispatcher, models: Sequence[str]) -> None:
    """Return when all ``models`` answer, wherever the gateway is by then.

    Nothing is sent again before *all* arms answer. If only some did, the requests of the others would move to them, and
    the split would reflect the outage instead of the weights.

    Parameters
    ----------
    context
        Opens connections, says how long to wait at most, shows the wait, and counts it.
    dispatcher
        Its guard is asked meanwhile and may raise; its stop ends a pause between two looks.
    models
        Who must answer.

    Raises
    ------
    ReplayError
        They do not answer in time; all intents without an answer stay open.
    """
    timeout_s, began = context.request.ready_timeout, time.monotonic()
    try:
        while problem := _problem(context.connect, models):
            waited = time.monotonic() - began
            if waited > timeout_s:
                raise ReplayError(
                    f"no answer from the serving plane: waited {timeout_s:g} s (READY_TIMEOUT) for all arms "
                    f"({problem}). Nothing is lost: unanswered requests stay open in the log. See "
                    "`financial-assets status`, start the plane with `financial-assets serve`, then replay again: "
                    "it continues here"
                )
            context.view.waits(f"waiting for the gateway ({waited:.0f} s of {timeout_s:g} s): {problem}")
            dispatcher.guard()
            dispatcher.stop.wait(_POLL_S)
    finally:
        context.counts.waits += 1
        context.counts.waited_s += time.monotonic() - began
        context.view.waits("")


def _problem(connect: Connect, models: Sequence[str]) -> str:
    try:
        # A new connection each time: the gateway may come back at another address.
        with connect() as client:
            for model in models:
                client.check_ready(model)
    except (TargetError, InferenceError) as error:
        return str(error)
    return ""
