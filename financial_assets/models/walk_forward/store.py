"""The forecasts of each fold on disk, each beside the fingerprint of everything that it depends on.

One parquet file for each set of models and fold, ``<folder>/<models>/<fold>.parquet``; the fingerprint is inside, so
that both appear at once or not at all. A file of another fingerprint, or a damaged one, counts as missing and is
replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_path
from financial_assets.errors import ForecastError, TrainingError
from financial_assets.locking import exclusive
from financial_assets.models.forecasts import check_forecasts

_LONGEST_FOLD_S = 4 * 3600.0
_KEY = b"financial_assets.walk_forward"


@dataclass(frozen=True)
class Provenance:
    """Where the forecasts of a fold come from.

    Attributes
    ----------
    fingerprint
        Of data, code, hyperparameters, seed and fold.
    cutoff, first, last
        ISO dates: the last session that was learned from, the first and the last test session.
    seconds
        Time it took to fit and forecast.
    silent
        Model, or model and ticker, -> why it has no forecast.
    """

    fingerprint: str
    cutoff: str
    first: str
    last: str
    seconds: float
    silent: Mapping[str, str]


_PROVENANCE = TypeAdapter(Provenance)


@dataclass(frozen=True)
class FoldStore:
    """Where the forecasts of all folds are kept.

    Parameters
    ----------
    folder
        Made when missing.
    """

    folder: Path

    def load(self, models: str, fold: str, fingerprint: str) -> tuple[pd.DataFrame, Provenance] | None:
        """The forecasts with exactly this fingerprint; ``None`` where there are none, or they are damaged."""
        found = self._read(models, fold)
        return found if found is not None and found[1].fingerprint == fingerprint else None

    def provenance(self, models: str, fold: str) -> Provenance | None:
        """Where the forecasts that are kept come from, whatever their fingerprint."""
        found = self._read(models, fold)
        return None if found is None else found[1]

    def save(self, models: str, fold: str, forecasts: pd.DataFrame, provenance: Provenance) -> None:
        """Keep the forecasts of a fold in place of what was there.

        Raises
        ------
        ForecastError
            It is not a forecast table.
        StorageError
            The disk refuses; what was there stays.
        """
        table = pa.Table.from_pandas(check_forecasts(forecasts), preserve_index=False)
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), _KEY: _PROVENANCE.dump_json(provenance)}
        )
        with atomic_path(self._path(models, fold)) as temporary:
            parquet.write_table(table, temporary)

    def alone_with(self, models: str, fold: str) -> AbstractContextManager[None]:
        """Hold a fold against other processes; the kernel releases it when its holder dies."""
        return exclusive(
            self.folder / models / f"{fold}.lock",
            _LONGEST_FOLD_S,
            error=TrainingError,
            purpose=f"{fold} of walk_forward/{models}",
            remedy="`fuser` names its process: wait for it, or end it",
        )

    def _path(self, models: str, fold: str) -> Path:
        return self.folder / models / f"{fold}.parquet"

    def _read(self, models: str, fold: str) -> tuple[pd.DataFrame, Provenance] | None:
        try:
            table = parquet.read_table(self._path(models, fold))
            provenance = _PROVENANCE.validate_json((table.schema.metadata or {})[_KEY])
            return check_forecasts(table.to_pandas()), provenance
        except (FileNotFoundError, KeyError, ValidationError, ForecastError, pa.ArrowException):
            return None


def fingerprint_of(**parts: object) -> str:
    """20 hexadecimal digits that name the values of ``parts``, which are JSON or text."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]
