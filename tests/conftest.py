"""Shared by all tests: no settings leak in from the caller's shell, and absent Debian packages are named."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_timeout

from tests.waiting import FreeSeconds

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# Before numpy and torch are loaded: workers beside each other, each with a pool of threads that spin while they wait,
# take up to four times the processor time of one thread each. Processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where a shell sets it, each of the many processes that the tests start compiles the package anew, and each worker the
# tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Every run draws other examples, so that many runs try many. A deadline would measure how busy the machine is.
# `--hypothesis-profile=default` draws 100 of each.
hypothesis.settings.register_profile("few", max_examples=30, deadline=None)
hypothesis.settings.load_profile("few")

# A shell that starts pytest in the background makes it, and all it starts, deaf to the Ctrl-C that some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

COMMAND_OF_PACKAGE = {
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "chromium": "chromium",
    "git": "git",
    "kubernetes-client": "kubectl",
    "postgresql": "initdb",  # the server's; a machine may have the client alone
}
SEARCHED = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])


@pytest.fixture(autouse=True)
def _no_settings_from_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    from financial_assets.settings import Settings

    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PROGRESS", "false")


@pytest.fixture
def use_calendar() -> Iterator[Callable[[str], None]]:
    """Works on another exchange until the test ends."""
    from financial_assets.market import calendar

    before = calendar.name()
    yield calendar.use
    calendar.use(before)


@pytest.fixture(autouse=True)
def _secrets_of_a_test_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that was a password in one test must not be hidden in the messages of the next."""
    from financial_assets import redaction

    for name in ("_secrets", "_concealed"):
        monkeypatch.setattr(redaction, name, dict(getattr(redaction, name)))


@pytest.fixture(scope="session", autouse=True)
def _mlflow_migrates_one_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Later stores are copies of the first: MLflow's migrations take more than a second of processor time each.

    What revision the newest migration has is asked once: MLflow loads all of them whenever it opens a store.
    A folder in which a process died while it made a store gets its store in the real way.
    """
    from financial_assets.atomic import atomic_path
    from financial_assets.tracking import connection

    template, create = tmp_path_factory.mktemp("mlflow") / "mlflow.db", connection._create

    def copy_or_create(database: Path) -> None:
        if any(database.parent.glob(f".{database.name}.*")):
            create(database)
            return
        if not template.exists():
            from mlflow.store.db import utils

            patch.setattr(utils, "_get_latest_schema_revision", cache(utils._get_latest_schema_revision))
            create(template)
        with atomic_path(database) as unfinished:
            shutil.copyfile(template, unfinished)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_create", copy_or_create)
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: Any, settings: Any) -> bool:
    """The limit of a test is there to end hangs: its seconds are those of a free machine, however busy this one is."""
    clock = FreeSeconds()

    def look(*_: object) -> None:
        left = settings.timeout - clock.read()
        if left <= 0:
            pytest_timeout.timeout_sigalrm(item, settings)
        signal.setitimer(signal.ITIMER_REAL, max(left, 1.0))

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel  # the plugin calls it when the test has ended
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True


# What is imported stays: each full garbage collection would walk through all of it again.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole systems first; skip tests whose Debian package is absent, unless ``REQUIRE_INTEGRATION`` is set.

    A worker that began a file of :mod:`tests.integration` last would go on alone for minutes.
    """
    items.sort(key=lambda item: "integration" not in item.path.parts)
    if os.environ.get("REQUIRE_INTEGRATION"):
        return
    for item in items:
        for marker in item.iter_markers("debian"):
            package = marker.args[0]
            if shutil.which(COMMAND_OF_PACKAGE[package], path=SEARCHED) is None:
                item.add_marker(pytest.mark.skip(reason=f"needs the Debian package {package}: apt install {package}"))
