"""The files of signals: a parquet and a CSV file for each session, of this version and of earlier ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.errors import MarketDataError
from financial_assets.serving.signal_schema import FURTHER_COLUMNS, SIGNAL_SCHEMA
from financial_assets.serving.signals import tail_loss


def save_signals(signals: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """Write ``<as-of>.parquet`` and ``<as-of>.csv`` into ``folder``, each atomically; returns the paths.

    Raises
    ------
    ValueError
        The signals are not those of one session.
    """
    sessions = signals["as_of"].unique()
    if len(sessions) != 1:
        raise ValueError(f"signals of one session are needed, not of {len(sessions)}")
    parquet, csv = _files(folder, pd.Timestamp(sessions[0]))
    with atomic_path(parquet) as temporary:
        signals.to_parquet(temporary, index=False)
    with atomic_path(csv) as temporary:
        signals.to_csv(temporary, index=False, date_format="%Y-%m-%d")
    return parquet, csv


def read_signals(folder: Path, session: pd.Timestamp) -> pd.DataFrame | None:
    """The stored signals of a session, ``None`` if there are none; columns that their version did not know are empty.

    Returns
    -------
    pandas.DataFrame or None
        Columns and types of ``SIGNAL_SCHEMA``. Expected shortfall, which needs no head of its own, is filled in.

    Raises
    ------
    MarketDataError
        The file cannot be read, or lacks more than later versions have added.
    """
    path, _ = _files(folder, session)
    if not path.exists():
        return None
    try:
        stored = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise MarketDataError(f"the signals {path} cannot be read: {error}; `financial-assets doctor` helps") from error
    lacking = [name for name in SIGNAL_SCHEMA.columns if name not in stored]
    unknown = [name for name in lacking if name not in ("es_95", *FURTHER_COLUMNS)]
    if unknown:
        raise MarketDataError(
            f"the signals {path} have no columns {', '.join(unknown)}; `financial-assets doctor` helps"
        )
    added = {name: str(SIGNAL_SCHEMA.columns[name].dtype) for name in lacking if name in FURTHER_COLUMNS}
    filled = stored.reindex(columns=list(SIGNAL_SCHEMA.columns)).astype(added)
    if "es_95" in lacking:
        filled["es_95"] = tail_loss(filled["q01"].to_numpy(), filled["q05"].to_numpy())
    return filled


def has_signals(folder: Path, session: pd.Timestamp) -> bool:
    """Whether ``folder`` holds both files of ``session``."""
    return all(path.is_file() for path in _files(folder, session))


def _files(folder: Path, session: pd.Timestamp) -> tuple[Path, Path]:
    return folder / f"{session:%Y-%m-%d}.parquet", folder / f"{session:%Y-%m-%d}.csv"
