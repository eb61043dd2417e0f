"""What MLflow holds, read with its own client: tests of the tracker do not look into the tracker."""

from __future__ import annotations

from mlflow.tracking import MlflowClient

from financial_assets.tracking.connection import Connection


def client_of(uri: str) -> MlflowClient:
    """The client of a store, which is made if it is not there yet."""
    return Connection(uri).client


def experiment_of(client: MlflowClient, name: str = "experiment") -> str:
    """The id of an experiment, which is made if it is not there yet."""
    found = client.get_experiment_by_name(name)
    return client.create_experiment(name) if found is None else found.experiment_id
