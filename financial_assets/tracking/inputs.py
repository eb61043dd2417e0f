"""What a tracked run has read: a dataset with its digest, origin and span, as MLflow lists it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST_DIGEST = 36
"""MLflow takes no longer one."""


@dataclass(frozen=True)
class TrackedDataset:
    """A dataset that a run has read, without its rows.

    Attributes
    ----------
    name
        What it is, e.g. ``prices``.
    digest
        Hash of its contents; MLflow shows the first 36 characters.
    context
        What it was used for: ``fit``, ``stop``, ``held_out``.
    source
        Where it came from, by name of each property, e.g. ``{"price source": "sample"}``.
    profile
        Figures about it: spans, rows, tickers.
    columns
        Names of its columns, all of them floating-point numbers.
    """

    name: str
    digest: str
    context: str
    source: Mapping[str, str]
    profile: Mapping[str, object]
    columns: Sequence[str]

    @property
    def short_digest(self) -> str:
        """The digest as far as MLflow keeps it."""
        return self.digest[:_LONGEST_DIGEST]

    def to_mlflow(self) -> Any:
        """The same as MLflow's ``DatasetInput``."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        schema = {"mlflow_colspec": [{"type": "float", "name": name, "required": True} for name in self.columns]}
        dataset = Dataset(
            name=self.name,
            digest=self.short_digest,
            source_type="code",
            source=json.dumps({"tags": dict(self.source)}),
            schema=json.dumps(schema),
            profile=json.dumps(dict(self.profile)),
        )
        return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, self.context)])
