"""One run in MLflow, addressed by its id."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

from financial_assets.errors import TrackingError
from financial_assets.tracking.connection import Connection

FAILURE_TAG = "financial_assets.failure"
_MAX_REASON_LENGTH = 1000


class MlflowRun:
    """One tracked run, open for writing; it is addressed by its id.

    Parameters
    ----------
    connection
        Where the run is stored.
    run_id, experiment_id
        MLflow's identifiers.
    """

    def __init__(self, connection: Connection, run_id: str, experiment_id: str) -> None:
        self._connection = connection
        self.id = run_id
        self._experiment_id = experiment_id

    @property
    def url(self) -> str | None:
        """Page of the run on the tracking server; ``None`` without a server."""
        if not self._connection.is_server:
            return None
        return f"{self._connection.uri.rstrip('/')}/#/experiments/{self._experiment_id}/runs/{self.id}"

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters; a parameter already recorded cannot change its value."""
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        texts = {name: str(value) for name, value in params.items()}
        for name, text in texts.items():
            if len(text) > MAX_PARAM_VAL_LENGTH:
                raise TrackingError(
                    f"parameter {name!r} of run {self.id} is {len(text)} characters long, MLflow takes "
                    f"{MAX_PARAM_VAL_LENGTH}: log it as an artefact"
                )
        with self._connection.errors(f"log parameters to run {self.id}"):
            self._connection.client.log_batch(self.id, params=[Param(*item) for item in texts.items()])

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics, at a step if given. NaN is recorded as such; an infinite value is refused."""
        from mlflow.entities import Metric

        for name, value in metrics.items():
            if math.isinf(value):
                # MLflow would store the largest float instead, which reads as a measurement.
                raise TrackingError(f"metric {name!r} of run {self.id} is infinite")
        now = int(time.time() * 1000)
        rows = [Metric(name, float(value), now, step or 0) for name, value in metrics.items()]
        with self._connection.errors(f"log metrics to run {self.id}"):
            self._connection.client.log_batch(self.id, metrics=rows)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload one file, into a folder of the run if given."""
        if not path.is_file():
            raise TrackingError(f"no file {path} to upload to run {self.id}")
        with self._connection.errors(f"upload {path.name} to run {self.id}"):
            self._connection.client.log_artifact(self.id, str(path), folder)

    def log_artifacts(self, directory: Path, folder: str | None = None) -> None:
        """Upload the contents of a directory, into a folder of the run if given."""
        if not directory.is_dir():
            raise TrackingError(f"no directory {directory} to upload to run {self.id}")
        with self._connection.errors(f"upload {directory.name} to run {self.id}"):
            self._connection.client.log_artifacts(self.id, str(directory), folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a tag already there is overwritten."""
        from mlflow.entities import RunTag

        with self._connection.errors(f"set tags of run {self.id}"):
            self._connection.client.log_batch(self.id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def end(self, status: str, reason: str | None = None) -> None:
        """Set the final status; the status first, because it matters more than the reason."""
        with self._connection.errors(f"mark run {self.id} {status}"):
            self._connection.client.set_terminated(self.id, status=status)
            if reason is not None:
                self._connection.client.set_tag(self.id, FAILURE_TAG, reason[:_MAX_REASON_LENGTH])
