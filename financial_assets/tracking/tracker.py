"""Opens runs in MLflow and ends each as what it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

from financial_assets.errors import TrackingError
from financial_assets.folders import make_folder
from financial_assets.tracking.connection import Connection, ignoring
from financial_assets.tracking.owners import OWNER_LOST, OWNER_PID, describe_owner, owner_is_alive, owner_tags
from financial_assets.tracking.runs import FAILURE_TAG, MlflowRun

_PAGE = 1000


class MlflowTracker:
    """Tracks runs of one experiment in MLflow.

    The experiment is made on first use. Without a server its artefacts go under ``artifact_root`` (MLflow itself would
    put them into the working directory); with a server, the server decides.

    Parameters
    ----------
    tracking_uri
        ``sqlite:///<path>``, another database URI, or ``http(s)://`` of a tracking server.
    experiment
        Name of the experiment.
    artifact_root
        Folder for artefacts when no server looks after them.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_root: Path) -> None:
        self._connection = Connection(tracking_uri)
        self.experiment = experiment
        self.artifact_root = artifact_root.absolute()
        self._experiment_id: str | None = None

    @contextmanager
    def run(
        self, name: str, *, tags: Mapping[str, str] | None = None, params: Mapping[str, object] | None = None
    ) -> Generator[MlflowRun, None, None]:
        """Open a new run.

        It ends as FINISHED when the block ends well, and as FAILED, with the reason as tag ``FAILURE_TAG``, when
        anything is raised in it: also ``KeyboardInterrupt``, ``SystemExit`` and the interrupts of an orchestrator,
        which derive from ``BaseException``. SIGTERM, when nobody handles it, is raised in the block as
        ``SystemExit(143)``. A process that dies at once leaves its run RUNNING; whoever opens a run next ends it first.

        Raises
        ------
        TrackingError
            The store cannot be reached or refuses.
        """
        experiment_id = self._experiment()
        self.end_stale(owner_is_alive)
        with self._connection.errors(f"start run {name!r}"):
            info = self._connection.client.create_run(
                experiment_id, tags={**(tags or {}), **owner_tags()}, run_name=name
            ).info
        run = MlflowRun(self._connection, info.run_id, experiment_id)
        with self._ended_as_it_was(run):
            if params:
                run.log_params(params)
            yield run

    @contextmanager
    def resume(self, run_id: str) -> Generator[MlflowRun, None, None]:
        """Open an earlier run again: it is RUNNING in the block, then ends as under ``run``."""
        client = self._connection.client
        self.end_stale(owner_is_alive)
        with self._connection.errors(f"resume run {run_id}"):
            earlier = client.get_run(run_id)
        run = MlflowRun(self._connection, run_id, earlier.info.experiment_id)
        # The owner first: a RUNNING run of an owner long dead would be ended as stale.
        run.set_tags(owner_tags())
        with self._ended_as_it_was(run):
            with self._connection.errors(f"resume run {run_id}"):
                client.update_run(run_id, status="RUNNING")
                if FAILURE_TAG in earlier.data.tags:
                    client.delete_tag(run_id, FAILURE_TAG)
            yield run

    def is_active(self, run_id: str) -> bool:
        """Whether the store has the run and it is not deleted."""
        with self._connection.errors(f"look for run {run_id}"), ignoring("RESOURCE_DOES_NOT_EXIST"):
            return self._connection.client.get_run(run_id).info.lifecycle_stage == "active"
        return False

    def find(self, tag: str, value: str) -> str | None:
        """Id of the latest run of the experiment that ended well and carries the tag, ``None`` if there is none."""
        experiment_id, quoted = self._experiment(), value.replace("'", "''")
        with self._connection.errors(f"look for a run with {tag} {value!r}"):
            matching = self._connection.client.search_runs(
                [experiment_id], f"attributes.status = 'FINISHED' and tags.`{tag}` = '{quoted}'", max_results=1
            )
        return matching[0].info.run_id if matching else None

    def end_stale(self, is_alive: Callable[[Mapping[str, str]], bool]) -> int:
        """Mark as FAILED the runs of the experiment, started by this package, that are RUNNING with a dead owner.

        Parameters
        ----------
        is_alive
            Says from a run's tags whether its owner lives; ``owner_is_alive`` asks this host's process table.

        Returns
        -------
        int
            How many runs were ended.
        """
        ended = 0
        for stale in [run for run in self._running() if not is_alive(run.data.tags)]:
            client, run_id = self._connection.client, stale.info.run_id
            with self._connection.errors(f"end stale run {run_id}"):
                run = client.get_run(run_id)
                # Since the search it may have ended, which must stand, or been resumed by a process that lives.
                if run.info.status == "RUNNING" and not is_alive(run.data.tags):
                    client.set_terminated(run_id, status="FAILED")
                    client.set_tag(run_id, FAILURE_TAG, f"its {describe_owner(run.data.tags)} died without ending it")
                    client.set_tag(run_id, OWNER_LOST, "true")
                    ended += 1
        return ended

    def _running(self) -> list[Any]:
        if not self._connection.exists:
            return []
        client, is_running = self._connection.client, "attributes.status = 'RUNNING'"
        with self._connection.errors("look for stale runs"):
            from mlflow.utils import get_results_from_paginated_fn

            experiment = client.get_experiment_by_name(self.experiment)
            if experiment is None:
                return []
            places = [str(experiment.experiment_id)]
            running = get_results_from_paginated_fn(
                lambda size, token: client.search_runs(places, is_running, max_results=size, page_token=token), _PAGE
            )
        return [run for run in running if OWNER_PID in run.data.tags]

    @contextmanager
    def _ended_as_it_was(self, run: MlflowRun) -> Generator[None, None, None]:
        try:
            with _sigterm_as_exit():
                yield
        except BaseException as error:
            try:
                run.end("FAILED", f"{type(error).__name__}: {error}")
            except TrackingError as unreachable:
                # What went wrong in the run matters more than that it could not be recorded.
                error.add_note(f"run {run.id} could not be marked FAILED: {unreachable}")
            raise
        run.end("FINISHED")

    def _experiment(self) -> str:
        if self._experiment_id is None:
            client = self._connection.client
            with self._connection.errors(f"open experiment {self.experiment!r}"), self._connection.exclusive():
                experiment = client.get_experiment_by_name(self.experiment) or self._create_experiment()
            self._check(experiment)
            self._experiment_id = str(experiment.experiment_id)
        return self._experiment_id

    def _create_experiment(self) -> Any:
        client, location = self._connection.client, None
        if not self._connection.is_server:
            make_folder(self.artifact_root)
            location = self.artifact_root.as_uri()
        with ignoring("RESOURCE_ALREADY_EXISTS"):
            client.create_experiment(self.experiment, artifact_location=location)
        return client.get_experiment_by_name(self.experiment)

    def _check(self, experiment: Any) -> None:
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"MLFLOW_EXPERIMENT_NAME={self.experiment}: that experiment is deleted; restore it "
                f"(mlflow experiments restore -x {experiment.experiment_id}) or choose another name"
            )
        location = urlsplit(experiment.artifact_location)
        folder = Path(unquote(location.path))
        if self._connection.is_sqlite and location.scheme == "file" and not folder.is_dir():
            raise TrackingError(
                f"MLFLOW_EXPERIMENT_NAME={self.experiment} keeps its artefacts in {folder}, which is gone (was it "
                "moved?): move it back, or choose another name"
            )


@contextmanager
def _sigterm_as_exit() -> Generator[None, None, None]:
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def leave(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
