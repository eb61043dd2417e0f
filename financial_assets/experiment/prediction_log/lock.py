"""The right to send an experiment's requests: one replay at a time, proven again by every intent that is written.

The lock is a row of the log's database and needs no connection that stays open, so it survives a database that ends
idle connections or restarts. Three laws keep two replays from sending the same request:

1. taking the lock raises its *generation*, and an intent is written only in a transaction that finds its own one;
2. the holder renews the row every few seconds and sends nothing while the last renewal is too long ago;
3. the lock of a process of this machine that has ended is free at once. The lock of another machine is free when its
   row has not changed for much longer than its holder keeps sending, judged by the clock of the process that waits.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from financial_assets.errors import LockLostError, LogError
from financial_assets.experiment.prediction_log.engine import ADVISORY_LOCK, transaction, write_again
from financial_assets.experiment.prediction_log.holder import OWN_TOKENS, LockHolder

_RENEW_S = 2.0
_TRY_AGAIN_S = 0.25
_TRUSTED_S = 10.0  # after this long without a renewal, nothing more is sent
_LAPSED_S = 60.0  # longer than the above plus the longest request that may still be in flight then

_log = logging.getLogger(__name__)
# Outside the log's own metadata: a log without this table is complete, and any release may open it.
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
# A machine that slept must not trust a renewal from before its sleep: unlike the monotonic clock, the boot clock counts
# the sleep too.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ReplayLock:
    """A lock that this process holds; made by :func:`exclusive`.

    Parameters
    ----------
    engine
        The log's database.
    experiment
        Whose requests may be sent.
    generation
        Counts how often the lock was taken.
    """

    def __init__(self, engine: Engine, experiment: str, generation: int) -> None:
        self.experiment = experiment
        self.generation = generation
        self._engine = engine
        self._row = (locks.c.experiment == experiment, locks.c.generation == generation, locks.c.released.is_(False))
        self._ended = threading.Event()
        self._renewed_at = _now()
        self._renewal_error = ""
        self._is_lost = False
        self._renewer = threading.Thread(target=self._renew, name="replay-lock", daemon=True)
        self._renewer.start()

    def check(self, stop: threading.Event | None = None) -> None:
        """Return if a request may be sent now; asks nobody while the last renewal is recent.

        Waits for a database that does not take renewals for up to a minute, or until ``stop`` is set.

        Raises
        ------
        LockLostError
            Another replay has taken the lock, or the database does not confirm that it has not.
        """
        began = _now()
        while not self._is_lost and _now() - self._renewed_at > _TRUSTED_S:
            if _now() - began > _LAPSED_S or (stop is not None and stop.is_set()):
                raise LockLostError(
                    f"the replay of {self.experiment} has stopped sending: the prediction log has not confirmed its "
                    f"lock for {_now() - self._renewed_at:.0f} s ({self._renewal_error or 'no answer'}). Nothing is "
                    "lost: check the database of PREDICTION_LOG_URL and replay again; it continues where this one "
                    "stopped"
                )
            self._ended.wait(0.05)
        if self._is_lost:
            raise self._lost_error()

    def prove(self, connection: Connection) -> None:
        """Raise ``LockLostError`` unless the lock is held; it then stays so until the connection's transaction ends."""
        held = connection.execute(sa.select(locks.c.generation).where(*self._row).with_for_update(read=True)).scalar()
        if held is None:
            self._is_lost = True
            raise self._lost_error()

    def release(self) -> None:
        """Give it back.

        Raises
        ------
        LogError
            The database refuses.
        """
        self._ended.set()
        self._renewer.join(_RENEW_S)
        released = sa.update(locks).where(*self._row).values(released=True)
        write_again(self._engine, lambda connection: connection.execute(released))

    def _renew(self) -> None:
        while not self._ended.wait(_TRY_AGAIN_S if self._renewal_error else _RENEW_S):
            began = _now()  # taken before asking: the answer may arrive late
            try:
                with transaction(self._engine, write=True) as connection:
                    renewed = sa.update(locks).where(*self._row).values(renewals=locks.c.renewals + 1)
                    self._is_lost = connection.execute(renewed).rowcount == 0
            except LogError as error:
                self._renewal_error = str(error)
                continue
            if self._is_lost:
                return
            self._renewed_at, self._renewal_error = began, ""

    def _lost_error(self) -> LockLostError:
        return LockLostError(
            f"the replay of {self.experiment} has stopped: another process has taken its lock in the prediction log "
            "(table replay_locks) meanwhile. All answers are in the log; wait until the other replay has ended, then "
            "replay again: it continues with what is missing"
        )


@contextmanager
def exclusive(engine: Engine, experiment: str) -> Generator[ReplayLock]:
    """Hold the right to send an experiment's requests.

    Raises
    ------
    LogError
        Another replay holds it.
    """
    # The token counts from before the row is written: otherwise another thread could take our own row for a dead one.
    holder = LockHolder.this_process()
    OWN_TOKENS.add(holder.token)
    try:
        lock = ReplayLock(engine, experiment, _acquire(engine, experiment, holder))
        try:
            yield lock
        except BaseException as error:
            _release_quietly(lock, error.add_note)
            raise
        _release_quietly(lock, _log.warning)
    finally:
        OWN_TOKENS.discard(holder.token)


def _release_quietly(lock: ReplayLock, report: Callable[[str], object]) -> None:
    """Release without raising: an error would hide an earlier one, and a lock ends with its process anyway."""
    try:
        lock.release()
    except LogError as error:
        report(
            f"the lock of the replay of {lock.experiment} could not be given back and ends with this process: {error}"
        )


def _acquire(engine: Engine, experiment: str, holder: LockHolder) -> int:
    """Take the lock, if need be after a holder that cannot be seen from here has lapsed; returns its generation."""
    _create_table(engine)
    # Of a holder elsewhere only its renewals are visible. Two looks at one clock, ours, tell whether they go on.
    seen: tuple[int, int] | None = None
    unchanged_since = _now()
    while True:
        with transaction(engine, write=True) as connection:
            row = _row_of(connection, experiment)
            other = LockHolder.read(row.holder)
            state = "gone" if row.released else other.state()
            has_lapsed = seen == (row.generation, row.renewals) and _now() - unchanged_since > _LAPSED_S
            if state == "gone" or (state == "unknown" and has_lapsed):
                taken = {"generation": row.generation + 1, "released": False, "holder": json.dumps(asdict(holder))}
                connection.execute(sa.update(locks).where(locks.c.experiment == experiment).values(**taken))
                return row.generation + 1
        if state == "alive" or seen not in (None, (row.generation, row.renewals)):
            raise LogError(f"another replay of {experiment} is running ({other}); wait until it has ended")
        if seen is None:
            _log.warning("%s has begun a replay of %s: checking whether it is still running", other, experiment)
            seen, unchanged_since = (row.generation, row.renewals), _now()
        time.sleep(_TRY_AGAIN_S)


def _create_table(engine: Engine) -> None:
    with transaction(engine) as connection:
        if sa.inspect(connection).has_table(locks.name):
            return
    with transaction(engine, write=True) as connection:
        if engine.dialect.name == "postgresql":  # two creations at once would collide in its catalogue
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        _metadata.create_all(connection)


def _row_of(connection: Connection, experiment: str) -> sa.Row[tuple[str, int, int, bool, str]]:
    """The experiment's row, locked until the transaction ends; made when missing."""
    free = {"experiment": experiment, "generation": 0, "renewals": 0, "released": True, "holder": ""}
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(locks).on_conflict_do_nothing(), free)
    return connection.execute(sa.select(locks).where(locks.c.experiment == experiment).with_for_update()).one()


def _now() -> float:
    return time.clock_gettime(_CLOCK)
