"""Opens runs in MLflow and ends each as what it was."""

from __future__ import annotations

import getpass
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
from financial_assets.tracking.runs import FAILURE_TAG, Ending, MlflowRun, RecordedRun, page_of

KIND_TAG = "financial_assets.kind"
"""What a run is the record of: ``pipeline``, ``training``, ``decision`` or what else the caller names it."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own tag, by which its pages nest runs."""
DECISIONS = "-decisions"
"""Ending of the name of the experiment that holds decisions, beside that of trainings."""
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
    ui_url
        Where MLflow's pages are looked at; ``None``: at the tracking server, if there is one.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_root: Path, ui_url: str | None = None) -> None:
        self._connection = Connection(tracking_uri)
        self.experiment = experiment
        self.artifact_root = artifact_root.absolute()
        self.ui_url = ui_url or (self._connection.shown if self._connection.is_server else None)
        self._experiment_id: str | None = None

    @property
    def connection(self) -> Connection:
        """Where runs are stored."""
        return self._connection

    @property
    def decisions(self) -> MlflowTracker:
        """The tracker of decisions, in an experiment of their own: they share no figure with trainings."""
        return MlflowTracker(self._connection.uri, self.experiment + DECISIONS, self.artifact_root, self.ui_url)

    @contextmanager
    def run(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
        parent: str | None = None,
    ) -> Generator[MlflowRun, None, None]:
        """Open a new run, nested below ``parent`` (the id of a run, which need not be open) if that is given.

        It ends as FINISHED when the block ends well, as FAILED when an error is raised in it, and as KILLED when it is
        interrupted: by ``KeyboardInterrupt``, ``SystemExit`` or the interrupts of an orchestrator, which derive from
        ``BaseException``. The tag ``FAILURE_TAG`` holds the reason. SIGTERM, when nobody handles it, is raised in the
        block as ``SystemExit(143)``. A process that dies at once leaves its run RUNNING; whoever opens a run next ends
        it first.

        Raises
        ------
        TrackingError
            The store cannot be reached or refuses.
        """
        experiment_id = self._experiment()
        self.end_stale(owner_is_alive)
        nested = {} if parent is None else {PARENT_TAG: parent}
        with self._connection.errors(f"start run {name!r}"):
            info = self._connection.client.create_run(
                experiment_id, tags={**_origin(), **(tags or {}), **nested, **owner_tags()}, run_name=name
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

    def opened(self, run_id: str) -> MlflowRun:
        """A run that somebody else has opened and will end, to write into.

        Raises
        ------
        TrackingError
            There is no such run.
        """
        with self._connection.errors(f"look for run {run_id}"):
            info = self._connection.client.get_run(run_id).info
        return MlflowRun(self._connection, run_id, info.experiment_id)

    def page(self, run_id: str) -> str | None:
        """Where a browser shows a run; ``None`` where nobody said at which address MLflow's pages are."""
        if self.ui_url is None:
            return None
        return page_of(self.ui_url, self.opened(run_id).experiment_id, run_id)

    def is_active(self, run_id: str) -> bool:
        """Whether the store has the run and it is not deleted."""
        with self._connection.errors(f"look for run {run_id}"), ignoring("RESOURCE_DOES_NOT_EXIST"):
            return self._connection.client.get_run(run_id).info.lifecycle_stage == "active"
        return False

    def find(self, tag: str, value: str) -> str | None:
        """Id of the latest run that ended well and carries the tag, ``None`` if there is none.

        It is looked for in the experiment and in that of its decisions, which earlier versions kept in one.
        """
        self._experiment()
        with self._connection.errors(f"look for a run with {tag} {value!r}"):
            matching = self._connection.client.search_runs(
                self._places(), f"attributes.status = 'FINISHED' and {_carries(tag, value)}", max_results=1
            )
        return matching[0].info.run_id if matching else None

    def runs_with(self, tag: str, value: str) -> tuple[RecordedRun, ...]:
        """All runs of the experiment that carry the tag, however they ended, the latest first; deleted ones are not."""
        experiment_id = self._experiment()
        with self._connection.errors(f"look for runs with {tag} {value!r}"):
            found = self._all_runs([experiment_id], _carries(tag, value))
        return tuple(RecordedRun(run.info.run_id, run.info.status, run.data.tags) for run in found)

    def end_stale(self, is_alive: Callable[[Mapping[str, str]], bool]) -> int:
        """Mark as KILLED the runs of the experiment, started by this package, that are RUNNING with a dead owner.

        Runs of its decisions are among them.

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
                    client.set_terminated(run_id, status="KILLED")
                    client.set_tag(run_id, FAILURE_TAG, f"its {describe_owner(run.data.tags)} died without ending it")
                    client.set_tag(run_id, OWNER_LOST, "true")
                    ended += 1
        return ended

    def _running(self) -> list[Any]:
        if not self._connection.exists:
            return []
        with self._connection.errors("look for stale runs"):
            places = self._places()
            running = self._all_runs(places, "attributes.status = 'RUNNING'") if places else []
        return [run for run in running if OWNER_PID in run.data.tags]

    def _all_runs(self, places: list[str], condition: str) -> list[Any]:
        from mlflow.utils import get_results_from_paginated_fn

        client = self._connection.client
        return get_results_from_paginated_fn(
            lambda size, token: client.search_runs(places, condition, max_results=size, page_token=token), _PAGE
        )

    def _places(self) -> list[str]:
        """Ids of the experiment and of that of its decisions, as far as there are any."""
        found = (self._connection.client.get_experiment_by_name(self.experiment + end) for end in ("", DECISIONS))
        return [str(experiment.experiment_id) for experiment in found if experiment is not None]

    @contextmanager
    def _ended_as_it_was(self, run: MlflowRun) -> Generator[None, None, None]:
        try:
            with _sigterm_as_exit():
                yield
        except BaseException as error:
            by_type: Ending = "FAILED" if isinstance(error, Exception) else "KILLED"
            ending, reason = run.verdict or (by_type, f"{type(error).__name__}: {error}")
            try:
                run.end(ending, reason)
            except TrackingError as unreachable:
                # What went wrong in the run matters more than that it could not be recorded.
                error.add_note(f"run {run.id} could not be marked {ending}: {unreachable}")
            raise
        run.end(*(run.verdict or ("FINISHED", None)))

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


def _carries(tag: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return f"tags.`{tag}` = '{quoted}'"


def _origin() -> dict[str, str]:
    """Who made a run and with what, as MLflow's columns "Created by" and "Source" show it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "financial_assets", "mlflow.source.type": "JOB"}


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
