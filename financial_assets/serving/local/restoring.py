"""Compares served files with the digests under which they were applied, and restores those that differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from financial_assets.errors import TargetError
from financial_assets.serving.local.desired import DesiredState
from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.repository import Repository

Restore = Callable[[Path, str], None]
"""Restores the registered file with a SHA-256 in the folder of an artefact, or raises ``FinancialAssetsError``."""


def mend_models(layout: Layout, restore: Restore | None = None) -> dict[str, str]:
    """Restore every served file that is not the one that was applied.

    Parameters
    ----------
    layout
        The plane; it may run or not.
    restore
        Restores a file whose own artefact is lost as well; ``None``: nothing does.

    Returns
    -------
    dict
        Name of each Model that could not be restored -> why, and what to materialize.

    Raises
    ------
    TargetError
        ``desired.json`` is damaged.
    StorageError
        The disk refuses.
    """
    repository, lost = Repository(layout.models, "", restore), dict[str, str]()
    for name, model in DesiredState.read(layout.desired).models.items():
        try:
            repository.install(model)
        except TargetError as error:
            lost[name] = str(error)
    return lost


def from_registry(tracking_uri: str) -> Restore:
    """Restores files from the model registry at ``tracking_uri``, which is asked only when a file is lost."""

    def restore(folder: Path, sha256: str) -> None:
        # Both take seconds to import, and most starts need neither.
        from financial_assets.models.artifacts.artifact import restore_by_digest
        from financial_assets.tracking import ModelRegistry

        restore_by_digest(ModelRegistry(tracking_uri), sha256, folder)

    return restore
