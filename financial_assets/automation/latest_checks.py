"""The latest results of asset checks, whatever runs have begun since."""

from __future__ import annotations

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

_WITH_RESULT = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def latest_check(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """The latest result of a check, ``None`` if there never was one.

    Runs that are under way, or failed before they came to the check, do not hide the result before them. Dagster has no
    public API for this, so the storage is asked, here and nowhere else.
    """
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=_WITH_RESULT)
    return records[0].evaluation if records else None
