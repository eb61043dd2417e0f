"""What a replay counts while it runs, and what it reports at its end."""

from __future__ import annotations

from dataclasses import dataclass

from financial_assets.experiment.replay.open_loop import LoadSummary


@dataclass(slots=True)
class Counts:
    """Everything that changes while a replay runs; all of its weight epochs count into the same one.

    Attributes
    ----------
    worked
        Sessions in which something was sent; the others were complete.
    sent, ok, failed, unattributed
        Routed requests that ended, and how; ``sent`` is the sum of the other three.
    unanswered
        Times that a request was sent and no model answered; the request stays open and is sent again.
    repeated
        Requests that were sent again for that reason and have ended.
    waits, waited_s
        How often the replay waited until all arms answered again, and for how many seconds in total.
    direct, direct_failed
        Paired scorings, and those without a forecast.
    decisions, epochs
        Decisions taken, and weight epochs that they opened.
    most_in_flight
        In an open loop, the largest number of routed requests in flight at once.
    """

    worked: int = 0
    sent: int = 0
    ok: int = 0
    failed: int = 0
    unattributed: int = 0
    unanswered: int = 0
    repeated: int = 0
    waits: int = 0
    waited_s: float = 0.0
    direct: int = 0
    direct_failed: int = 0
    decisions: int = 0
    epochs: int = 0
    most_in_flight: int = 0


@dataclass(slots=True)
class ReplayReport(Counts):
    """What a replay did: its final counts and three figures about the whole.

    Attributes
    ----------
    sessions
        Sessions asked for.
    wall_s
        Duration in seconds.
    load
        Both latencies of an open loop; ``None`` for a closed one.
    """

    sessions: int = 0
    wall_s: float = 0.0
    load: LoadSummary | None = None
