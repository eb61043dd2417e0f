"""Waiting for objects of a cluster, with a total timeout that says what was waited for and what was seen last."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from financial_assets.errors import NotReadyError, TargetError
from financial_assets.serving.client.probe import GatewayProbe
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.kubernetes.api import ApiCallError, SeldonApi
from financial_assets.serving.kubernetes.conditions import Verdict, is_current, judge, passing_error
from financial_assets.serving.manifests import Manifest

_POLL_S = 0.2
_UNBELIEVED_S = 5.0
"""How long a 403 may be that of an API server which has just started and does not know its roles yet."""


class Refusals:
    """Whether a fault of a read ends a wait: a starting API server refuses for a moment what it will allow."""

    def __init__(self) -> None:
        self._first: float | None = None

    def end_the_wait(self, fault: ApiCallError) -> bool:
        """Whether ``fault`` must be believed: it is neither transient nor a 403 of the last few seconds."""
        if fault.status != 403:
            return not fault.transient
        now = time.monotonic()
        self._first = now if self._first is None else self._first
        return now - self._first >= _UNBELIEVED_S

    def answered(self) -> None:
        """The API server allowed the read: a later refusal is another one."""
        self._first = None


@dataclass
class Awaited:
    """An object to wait for.

    Attributes
    ----------
    kind, name
        Which.
    stale
        The object as the API server returned it with a change that an older verdict does not cover; ``None`` if its
        conditions may be taken as they are.
    seen
        What was seen last, in words.
    since
        From when on the settling time of a changed Experiment counts (monotonic clock).
    hiccup
        The last passing error of the scheduler: when another one is seen, the settling time begins anew.
    refusals
        Refusals that may be those of an API server that has just started.
    """

    kind: str
    name: str
    stale: Manifest | None = None
    seen: str = "nothing yet"
    since: float = field(default_factory=time.monotonic)
    hiccup: Manifest = field(default_factory=dict[str, Any])
    refusals: Refusals = field(default_factory=Refusals)


def wait_for(
    api: SeldonApi, gateway: GatewayProbe, wanted: Sequence[Awaited], deadline: Deadline, settle_s: float
) -> None:
    """Wait until every object is ready and every Model answers through the gateway.

    Parameters
    ----------
    settle_s
        The conditions of a running Experiment stay ``True`` throughout a change, so they count only after this time.

    Raises
    ------
    TargetError
        One failed for good.
    NotReadyError
        One was not ready in time.
    """
    waiting = list(wanted)
    for item in waiting:
        item.since = time.monotonic()
        item.hiccup = {} if item.stale is None else passing_error(item.stale)
    for _ in deadline.polls(_POLL_S):
        waiting = [item for item in waiting if not _is_ready(api, gateway, item, deadline, settle_s)]
        if not waiting:
            return
    seen = "; ".join(f"{item.kind} {item.name}: {item.seen}" for item in waiting)
    raise NotReadyError(f"waited {deadline.seconds:g} s for namespace {api.namespace}, last seen: {seen}")


def wait_absent(api: SeldonApi, kind: str, name: str, deadline: Deadline) -> None:
    """Wait until a deleted object is gone; its finalizers are the operator's and are never stripped.

    Raises
    ------
    NotReadyError
        It is still there; says which finalizers hold it.
    """
    seen, first, refusals = "", "", Refusals()
    for _ in deadline.polls(_POLL_S):
        try:
            stored = api.read(kind, name, deadline)
        except ApiCallError as fault:
            if refusals.end_the_wait(fault):
                raise
            seen = str(fault)
        else:
            refusals.answered()
            first = first or (stored or {}).get("metadata", {}).get("uid", "")
            # Another uid is a new object of the same name: the one that was deleted is gone.
            if stored is None or stored["metadata"].get("uid", "") != first:
                return
            finalizers = ", ".join(stored["metadata"].get("finalizers") or []) or "none"
            seen = f"finalizers {finalizers}; {judge({**stored, 'metadata': {}}).why}"
    raise NotReadyError(
        f"waited {deadline.seconds:g} s for {kind} {api.namespace}/{name} to go: {seen}; operator and scheduler must "
        "run to release it (nothing was stripped)"
    )


def _is_ready(api: SeldonApi, gateway: GatewayProbe, item: Awaited, deadline: Deadline, settle_s: float) -> bool:
    try:
        stored = api.read(item.kind, item.name, deadline)
    except ApiCallError as fault:
        if item.refusals.end_the_wait(fault):
            raise
        item.seen = str(fault)
        return False
    item.refusals.answered()
    if stored is None:
        item.seen = "was never applied"
        return False
    verdict = _verdict(item, {"kind": item.kind, **stored}, settle_s)
    item.seen = verdict.why
    if verdict.state == "failed":
        raise TargetError(f"{item.kind} {api.namespace}/{item.name}: {verdict.why}")
    if verdict.state == "ready" and item.kind == "Model":
        item.seen = gateway.problem(item.name)
        return not item.seen
    return verdict.state == "ready"


def _verdict(item: Awaited, stored: Manifest, settle_s: float) -> Verdict:
    """The object's state, unless it may be from before the change."""
    verdict, hiccup = judge(stored), passing_error(stored)
    if hiccup and hiccup != item.hiccup:  # the change was not taken at this attempt; the operator makes another
        item.since, item.hiccup = time.monotonic(), hiccup
    if item.stale is not None and is_current(stored, item.stale):
        item.stale = None
    deleted = bool(stored["metadata"].get("deletionTimestamp"))
    if item.stale is None or deleted or verdict.state == "pending":
        return verdict
    settled = time.monotonic() - item.since >= settle_s
    if item.kind == "Experiment" and (settled or verdict.state == "failed"):
        return verdict
    return Verdict("pending", f"{verdict.why}, but that may be from before the change")
