"""One run in MLflow, addressed by its id."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from financial_assets.errors import TrackingError
from financial_assets.tracking.connection import Connection
from financial_assets.tracking.inputs import TrackedDataset
from financial_assets.tracking.owners import owner_is_alive

FAILURE_TAG = "financial_assets.failure"
NOTE_TAG = "mlflow.note.content"
"""What MLflow shows as the description of a run; it is rendered as Markdown."""
Ending = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ends: it did its work; its work went wrong; it was interrupted, or its process died."""
_MAX_REASON_LENGTH = 1000


@dataclass(frozen=True)
class RecordedRun:
    """A run as the store has it.

    Attributes
    ----------
    id
        MLflow's identifier.
    status
        ``RUNNING``, or how it ended.
    tags
        By name.
    """

    id: str
    status: str
    tags: Mapping[str, str]

    @property
    def goes_on(self) -> bool:
        """Whether it is open and its process lives, or may live."""
        return self.status == "RUNNING" and owner_is_alive(self.tags)


class MlflowRun:
    """One tracked run, open for writing; it is addressed by its id.

    Parameters
    ----------
    connection
        Where the run is stored.
    run_id, experiment_id
        MLflow's identifiers.

    Attributes
    ----------
    verdict
        How the run ends and why, where its block does not tell; see :meth:`conclude`.
    """

    def __init__(self, connection: Connection, run_id: str, experiment_id: str) -> None:
        self._connection = connection
        self.id = run_id
        self.experiment_id = experiment_id
        self.verdict: tuple[Ending, str] | None = None

    @property
    def url(self) -> str | None:
        """Page of the run on the tracking server; ``None`` without a server."""
        return page_of(self._connection.shown, self.experiment_id, self.id) if self._connection.is_server else None

    def conclude(self, ending: Ending, reason: str) -> None:
        """Let the run end as ``ending``, whatever is or is not raised in its block: others know how the work went."""
        self.verdict = ending, reason

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

    def log_history(self, history: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Record the metrics of many steps, in as few requests as MLflow allows.

        Parameters
        ----------
        history
            Steps with their metrics, by name. A value that is not finite is refused.
        """
        from mlflow.entities import Metric
        from mlflow.utils.validation import MAX_METRICS_PER_BATCH

        now = int(time.time() * 1000)
        rows = [Metric(name, float(value), now, step) for step, metrics in history for name, value in metrics.items()]
        for row in rows:
            if not math.isfinite(row.value):
                raise TrackingError(f"metric {row.key!r} of run {self.id} is {row.value} at step {row.step}")
        with self._connection.errors(f"log the history of run {self.id}"):
            for first in range(0, len(rows), MAX_METRICS_PER_BATCH):
                self._connection.client.log_batch(self.id, metrics=rows[first : first + MAX_METRICS_PER_BATCH])

    def log_datasets(self, datasets: Sequence[TrackedDataset]) -> None:
        """Record what the run has read; MLflow lists it under "Datasets"."""
        with self._connection.errors(f"log the datasets of run {self.id}"):
            self._connection.client.log_inputs(self.id, [dataset.to_mlflow() for dataset in datasets])

    def log_model(
        self,
        folder: Path,
        name: str,
        *,
        parts: Mapping[str, Path],
        tags: Mapping[str, str],
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        dataset: TrackedDataset | None = None,
    ) -> str:
        """Upload an MLflow model folder as a logged model of this run.

        Parameters
        ----------
        folder
            Holds ``MLmodel``.
        name
            Of the logged model.
        parts
            Further folders, by the name that each gets below the model's.
        tags, params
            Of the logged model.
        metrics, dataset
            How good it is, and on what it was measured: MLflow shows them on the model's page.

        Returns
        -------
        str
            Id of the logged model; it is marked as failed when this raises.
        """
        from mlflow.entities import LoggedModelOutput, Metric

        client = self._connection.client
        measured = {} if dataset is None else {"dataset_name": dataset.name, "dataset_digest": dataset.short_digest}
        with self._connection.errors(f"log model {name!r} of run {self.id}"):
            texts = {key: str(value) for key, value in params.items()}
            made = client.create_logged_model(
                self.experiment_id, name, self.id, tags=dict(tags), params=texts, model_type="onnx"
            )
            try:
                client.log_model_artifacts(made.model_id, str(folder))
                for part, content in parts.items():
                    client.log_model_artifacts(made.model_id, str(content), part)
                self._name_model(folder, made.model_id)
                client.log_outputs(self.id, [LoggedModelOutput(made.model_id, step=0)])
                now = int(time.time() * 1000)
                rows = [
                    Metric(key, value, now, 0, model_id=made.model_id, run_id=self.id, **measured)
                    for key, value in metrics.items()
                ]
                client.log_batch(self.id, metrics=rows)
            except BaseException:
                client.finalize_logged_model(made.model_id, "FAILED")
                raise
            client.finalize_logged_model(made.model_id, "READY")
        return made.model_id

    def _name_model(self, folder: Path, model_id: str) -> None:
        """Let the uploaded ``MLmodel`` say which logged model it belongs to; the one in ``folder`` stays as it is."""
        from mlflow.models import Model

        model = Model.load(str(folder))
        model.model_id, model.run_id = model_id, self.id
        with tempfile.TemporaryDirectory() as staging:
            model.save(str(Path(staging, "MLmodel")))
            self._connection.client.log_model_artifact(model_id, str(Path(staging, "MLmodel")))

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

    def end(self, status: Ending, reason: str | None = None) -> None:
        """Set the final status; the status first, because it matters more than the reason.

        An interrupt meanwhile takes effect afterwards: Ctrl-C in a terminal reaches the process of a step twice, by
        itself and from the process of the whole run, and the second one comes while the first is being recorded.
        """
        try:
            self._mark(status, reason)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._mark(status, reason)
            raise

    def _mark(self, status: Ending, reason: str | None) -> None:
        with self._connection.errors(f"mark run {self.id} {status}"):
            self._connection.client.set_terminated(self.id, status=status)
            if reason is not None:
                self._connection.client.set_tag(self.id, FAILURE_TAG, reason[:_MAX_REASON_LENGTH])


def page_of(server: str, experiment_id: str, run_id: str) -> str:
    """The page of a run in MLflow's browser interface at ``server``, whose user and password are left out."""
    address = urlsplit(server)
    host = address.netloc.rpartition("@")[2]
    return f"{address.scheme}://{host}{address.path.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
