"""Waiting for objects of a cluster, with a total timeout that says what was waited for and what was seen last."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from financial_assets.errors import NotReadyError, TargetError
from financial_assets.serving.client.probe import GatewayProbe
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.kubernetes.api import ApiCallError, SeldonApi
from financial_assets.serving.kubernetes.conditions import Verdict, is_current, judge
from financial_assets.serving.manifests import Manifest

_POLL_S = 0.2


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
    """

    kind: str
    name: str
    stale: Manifest | None = None
    seen: str = "nothing yet"


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
    start, waiting = time.monotonic(), list(wanted)
    for _ in deadline.polls(_POLL_S):
        settled = time.monotonic() - start >= settle_s
        waiting = [item for item in waiting if not _is_ready(api, gateway, item, deadline, settled)]
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
    seen, first = "", ""
    for _ in deadline.polls(_POLL_S):
        try:
            stored = api.read(kind, name, deadline)
        except ApiCallError as fault:
            if not fault.transient:
                raise
            seen = str(fault)
        else:
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


def _is_ready(api: SeldonApi, gateway: GatewayProbe, item: Awaited, deadline: Deadline, settled: bool) -> bool:
    try:
        stored = api.read(item.kind, item.name, deadline)
    except ApiCallError as fault:
        if not fault.transient:
            raise
        item.seen = str(fault)
        return False
    if stored is None:
        item.seen = "was never applied"
        return False
    verdict = _verdict(item, {"kind": item.kind, **stored}, settled)
    item.seen = verdict.why
    if verdict.state == "failed":
        raise TargetError(f"{item.kind} {api.namespace}/{item.name}: {verdict.why}")
    if verdict.state == "ready" and item.kind == "Model":
        item.seen = gateway.problem(item.name)
        return not item.seen
    return verdict.state == "ready"


def _verdict(item: Awaited, stored: Manifest, settled: bool) -> Verdict:
    """The object's state, unless it may be from before the change."""
    verdict = judge(stored)
    if item.stale is not None and is_current(stored, item.stale):
        item.stale = None
    deleted = bool(stored["metadata"].get("deletionTimestamp"))
    if item.stale is None or deleted or verdict.state == "pending":
        return verdict
    if item.kind == "Experiment" and (settled or verdict.state == "failed"):
        return verdict
    return Verdict("pending", f"{verdict.why}, but that may be from before the change")
