"""The right to send an experiment's requests: one replay at a time, proven again by every intent that is written.

The lock is a row of the log's database and needs no connection that stays open, so that nothing happens to it when the
database ends an idle connection or is started again. Three laws keep two replays from sending the same request:

1. taking the lock raises its *generation*, and an intent is written only in a transaction that finds the own one;
2. the holder renews the row every few seconds and sends nothing while the last renewal is too long ago;
3. the lock of a process of this machine that has ended is free at once. That of another machine is free when its row
   has not changed for much longer than its holder goes on sending, judged by the clock of who waits.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from financial_assets.errors import LockLostError, LogError
from financial_assets.experiment.prediction_log.engine import ADVISORY_LOCK, transaction, write_again
from financial_assets.serving.local.processes.process import Identity

__all__ = ["ReplayLock", "exclusive", "locks"]

_RENEW_S = 2.0
_TRY_AGAIN_S = 0.25
_TRUSTED_S = 10.0  # without a renewal for so long, nothing more is sent
_LAPSED_S = 60.0  # longer than the above and the longest request that may still be under way then

_log = logging.getLogger(__name__)
# Not in the log's own metadata: a log without this table is whole, and any release may open it.
_metadata = sa.MetaData()
locks = sa.Table(
    "replay_locks",
    _metadata,
    sa.Column("experiment", sa.String(255), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("renewals", sa.Integer, nullable=False),
    sa.Column("released", sa.Boolean, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
)
_mine: set[str] = set()  # tokens of the locks that this process holds
# A machine that slept must not take the time before its sleep for the present: the boot clock runs on meanwhile.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who holds a lock: a process that cannot be mistaken for another one."""

    host: str
    space: str
    pid: int
    created: float
    token: str

    @classmethod
    def this_process(cls) -> _Holder:
        identity = Identity.of(os.getpid())
        assert identity is not None
        return cls(socket.gethostname(), _process_space(), identity.pid, identity.created, uuid.uuid4().hex)

    def is_gone(self) -> bool | None:
        """Whether it has ended; ``None`` if that cannot be seen from here, because it ran somewhere else."""
        if (self.host, self.space) != (socket.gethostname(), _process_space()):
            return None
        if self.pid == os.getpid():
            return self.token not in _mine
        return Identity(self.pid, self.created).find() is None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class ReplayLock:
    """A lock that this process holds; made by :func:`exclusive`.

    Parameters
    ----------
    engine
        The log's database.
    experiment
        Whose requests may be sent.
    generation
        Number of this holding.
    """

    def __init__(self, engine: Engine, experiment: str, generation: int) -> None:
        self.experiment = experiment
        self.generation = generation
        self._engine = engine
        self._row = (locks.c.experiment == experiment, locks.c.generation == generation, locks.c.released.is_(False))
        self._ended = threading.Event()
        self._renewed_at = _now()
        self._trouble = ""
        self._lost = False
        self._keeper = threading.Thread(target=self._keep, name="replay-lock", daemon=True)

    def check(self, stop: threading.Event | None = None) -> None:
        """Return if a request may be sent now; asks nobody while the last renewal is recent.

        Waits for the database, up to a minute, when it does not take renewals; no longer than until ``stop`` is set.

        Raises
        ------
        LockLostError
            Another replay has taken the lock, or the database does not confirm that it has not.
        """
        began = _now()
        while not self._lost and _now() - self._renewed_at > _TRUSTED_S:
            if _now() - began > _LAPSED_S or (stop is not None and stop.is_set()):
                raise LockLostError(
                    f"the replay of {self.experiment} has stopped sending: the prediction log has not confirmed its "
                    f"lock for {_now() - self._renewed_at:.0f} s ({self._trouble or 'no answer'}). Nothing is lost: "
                    "see to the database of PREDICTION_LOG_URL and replay again; it goes on where this one stopped"
                )
            self._ended.wait(0.05)
        if self._lost:
            raise self._lost_error()

    def prove(self, connection: Connection) -> None:
        """Raise ``LockLostError`` unless the lock is held; it stays so until the transaction of ``connection`` ends."""
        held = connection.execute(sa.select(locks.c.generation).where(*self._row).with_for_update(read=True)).scalar()
        if held is None:
            self._lost = True
            raise self._lost_error()

    def start(self) -> None:
        """Begin to renew it."""
        self._keeper.start()

    def release(self) -> None:
        """End it.

        Raises
        ------
        LogError
            The database does not take that.
        """
        self._ended.set()
        self._keeper.join(_RENEW_S)
        released = sa.update(locks).where(*self._row).values(released=True)
        write_again(self._engine, lambda connection: connection.execute(released))

    def _keep(self) -> None:
        while not self._ended.wait(_TRY_AGAIN_S if self._trouble else _RENEW_S):
            began = _now()  # before asking: the answer may come late
            try:
                with transaction(self._engine, write=True) as connection:
                    renewed = sa.update(locks).where(*self._row).values(renewals=locks.c.renewals + 1)
                    self._lost = connection.execute(renewed).rowcount == 0
            except LogError as error:
                self._trouble = str(error)
                continue
            if self._lost:
                return
            self._renewed_at, self._trouble = began, ""

    def _lost_error(self) -> LockLostError:
        return LockLostError(
            f"the replay of {self.experiment} has stopped: another process has taken its lock in the prediction log "
            "(table replay_locks) meanwhile. What was answered is in the log; wait until the other replay has ended, "
            "then replay again: it goes on with what is missing"
        )


@contextmanager
def exclusive(engine: Engine, experiment: str) -> Generator[ReplayLock]:
    """Hold the right to send an experiment's requests.

    Raises
    ------
    LogError
        Another replay has it.
    """
    holder = _Holder.this_process()
    _mine.add(holder.token)
    try:
        lock = ReplayLock(engine, experiment, _acquire(engine, experiment, holder))
        lock.start()
        try:
            yield lock
        except BaseException as error:
            _release_beside(lock, error.add_note)
            raise
        _release_beside(lock, _log.warning)
    finally:
        _mine.discard(holder.token)


def _release_beside(lock: ReplayLock, say: Callable[[str], object]) -> None:
    """Release without an error of its own: it would hide what happened, and a lock ends with its process anyhow."""
    try:
        lock.release()
    except LogError as error:
        say(f"the lock of the replay of {lock.experiment} could not be given back and ends with this process: {error}")


def _acquire(engine: Engine, experiment: str, holder: _Holder) -> int:
    """Take the lock, or wait for the end of a holder that cannot be seen from here; its generation."""
    _create_table(engine)
    seen: tuple[int, int] | None = None
    unchanged_since = _now()
    while True:
        with transaction(engine, write=True) as connection:
            row = _row_of(connection, experiment)
            other = None if row.released else _read_holder(row.holder)
            gone = True if other is None else other.is_gone()
            lapsed = seen == (row.generation, row.renewals) and _now() - unchanged_since > _LAPSED_S
            if gone or (gone is None and lapsed):
                taken = {"generation": row.generation + 1, "released": False, "holder": json.dumps(asdict(holder))}
                connection.execute(sa.update(locks).where(locks.c.experiment == experiment).values(**taken))
                return row.generation + 1
        if gone is False or seen not in (None, (row.generation, row.renewals)):
            raise LogError(f"another replay of {experiment} is running ({other}); wait until it has ended")
        if seen is None:
            _log.warning("a replay of %s was begun by %s: looking whether it still runs", experiment, other)
            seen, unchanged_since = (row.generation, row.renewals), _now()
        time.sleep(_TRY_AGAIN_S)


def _create_table(engine: Engine) -> None:
    with transaction(engine) as connection:
        if sa.inspect(connection).has_table(locks.name):
            return
    with transaction(engine, write=True) as connection:
        if engine.dialect.name == "postgresql":  # two at once would collide in its catalogue
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        _metadata.create_all(connection)


def _row_of(connection: Connection, experiment: str) -> sa.Row[tuple[str, int, int, bool, str]]:
    """The experiment's row, locked until the transaction ends; made when missing."""
    free = {"experiment": experiment, "generation": 0, "renewals": 0, "released": True, "holder": ""}
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(locks).on_conflict_do_nothing(), free)
    return connection.execute(sa.select(locks).where(locks.c.experiment == experiment).with_for_update()).one()


def _read_holder(text: str) -> _Holder:
    try:
        return _Holder(**json.loads(text))
    except (ValueError, TypeError):
        return _Holder("an unknown machine", "", 0, 0.0, "")


def _process_space() -> str:
    """What tells whether a process id means the same process here: the boot, and the container."""
    found: list[str] = []
    with suppress(OSError):
        found = [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(found)


def _now() -> float:
    return time.clock_gettime(_CLOCK)
