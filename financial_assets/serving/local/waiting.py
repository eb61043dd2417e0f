"""Waits until a plane that was just started works, or explains why it does not."""

from __future__ import annotations

import time

from financial_assets.errors import NotReadyError
from financial_assets.locking import is_held
from financial_assets.serving.local.envoy.gateway import EnvoyPublisher
from financial_assets.serving.local.layout import LOOPBACK, Layout, Ports
from financial_assets.serving.local.processes.orphans import SUPERVISOR
from financial_assets.serving.local.processes.process import ChildState, SupervisorState, answers

# A process that ended this often without ever getting healthy will not: its log says why.
_HOPELESS = 4


def wait_until_well(layout: Layout, ports: Ports, deadline: float, *, patient: bool) -> None:
    """Wait for every process; unless ``patient``, give up on one that only crashes since the supervisor started."""
    waiting = {
        "envoy": lambda: EnvoyPublisher(layout, ports).revision() is not None,
        "mlserver": lambda: answers(f"http://{LOOPBACK}:{ports.mlserver_http}/v2/health/live", 5),
        "supervisor": lambda: {child.state for child in _children(layout)} == {"running"},
    }
    for name, is_well in waiting.items():
        while not is_well():
            for child in () if patient else _children(layout):
                if child.restarts >= _HOPELESS:
                    what = f"{child.name} {child.last_exit}, {child.restarts} times"
                    raise NotReadyError(f"the local plane did not start: {what}; {_quote(layout, child.name)}")
            if not is_held(layout.supervisor_lock):
                raise NotReadyError(
                    f"the local plane did not start: its supervisor ended; {_quote(layout, SUPERVISOR)}; start it again"
                )
            if time.monotonic() > deadline:
                raise NotReadyError(f"the local plane did not start: waited for {name}; {_quote(layout, name)}")
            time.sleep(0.05)


def _children(layout: Layout) -> tuple[ChildState, ...]:
    state = SupervisorState.read(layout.supervisor_state)
    # A file of an earlier supervisor says nothing about the children of this one.
    return state.children if state and state.identity.find() else ()


def _quote(layout: Layout, name: str) -> str:
    path = layout.logs / f"{name}.log"
    lines = path.read_text(errors="replace").splitlines()[-5:] if path.exists() else []
    return f"{path} ends: " + (" | ".join(lines) or "(empty)")
