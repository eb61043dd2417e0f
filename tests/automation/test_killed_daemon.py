"""The daemon is killed while a run goes on: the run ends as if nothing had been, and what was asked for is run once.

The instance is the repository's own; the definitions are small, so that its processes start in seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import psutil
import pytest

from tests.waiting import wait, wait_on

pytestmark = pytest.mark.integration
HERE = Path(__file__).parent


class World:
    """A folder of files that ask and tell, an instance, and its daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = (HERE.parents[1] / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {folder}")
        (folder / "dagster.yaml").write_text(text)
        self.instance = dg.DagsterInstance.from_config(str(folder))
        self.begun: list[psutil.Process] = []
        self.start()

    def start(self) -> None:
        """Start the daemon."""
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-f", str(HERE / "killed_daemon_world.py")],
                env={**os.environ, "DAGSTER_HOME": str(self.folder), "KILLED_DAEMON_WORLD": str(self.folder)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill the daemon alone; what it has started goes on, as far as it can."""
        self.begun += psutil.Process(self.daemon.pid).children(recursive=True)
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.wait()

    def ask(self, key: str) -> None:
        (self.folder / f"ask-{key}").touch()

    def wait_for(self, name: str) -> None:
        path, log = self.folder / name, self.folder / "daemon.log"
        wait_on(self.daemon, f"{name} is there", path.exists, log=lambda: log.read_text()[-4000:])

    def runs(self) -> list[tuple[str, str]]:
        """Key and status of all runs, the latest last."""
        return [(run.tags["key"], run.status.value) for run in reversed(self.instance.get_runs())]

    def close(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self.begun += psutil.Process(self.daemon.pid).children(recursive=True)
        for process in (*self.begun, self.daemon):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.begun, timeout=20)
        self.daemon.wait()
        self.instance.dispose()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    try:
        yield found
    finally:
        found.close()


def test_a_run_outlives_the_daemon_and_a_request_made_meanwhile_is_answered_once(world: World) -> None:
    world.ask("1")
    world.wait_for("begun-1")
    world.kill()
    world.ask("2")
    (world.folder / "go-1").touch()
    wait("the run ends without the daemon", lambda: world.runs() == [("1", "SUCCESS")])
    world.start()
    (world.folder / "go-2").touch()
    world.wait_for("begun-2")
    wait("the second run ends", lambda: world.runs() == [("1", "SUCCESS"), ("2", "SUCCESS")])
    assert (world.folder / "done").read_text().split() == ["1", "2"]
