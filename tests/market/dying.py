"""A process that dies in the middle of a write, as in a power cut."""

from __future__ import annotations

import itertools
import os
import signal
import stat


def die_at_write(at: int) -> None:
    """Let this process be killed at the file number ``at`` that it brings to the disk, with half of it there.

    For a forked process that is ended by it: ``os.fsync`` stays replaced.
    """
    whole, count = os.fsync, itertools.count()

    def killed(descriptor: int) -> None:
        if next(count) == at:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.truncate(descriptor, 20)
            os.kill(os.getpid(), signal.SIGKILL)
        whole(descriptor)

    os.fsync = killed
