"""Checks executed without their asset, as by the button "Execute" beside a check in Dagster."""

from __future__ import annotations

from typing import Any

import dagster as dg

from tests.assets.conftest import Outcome

Verdict = tuple[bool, dg.AssetCheckSeverity, str | None]


def execute_checks(
    asset: dg.AssetsDefinition, resources: dict[str, Any], instance: dg.DagsterInstance, *names: str
) -> Outcome:
    """The checks of an asset (default: all), each in a run that makes no asset."""
    keys = [key for key in asset.check_keys if not names or key.name in names]
    result = dg.materialize(
        [asset],
        selection=dg.AssetSelection.checks(*keys),
        resources=resources,
        instance=instance,
        raise_on_error=False,
    )
    outcome = Outcome(result, instance)
    assert outcome.materialized == set()
    return outcome


def verdicts(outcome: Outcome | dg.ExecuteInProcessResult, asset: dg.AssetsDefinition) -> dict[str, Verdict]:
    """What a person sees of each check of an asset."""
    result = outcome.result if isinstance(outcome, Outcome) else outcome
    return {
        check.check_name: (check.passed, check.severity, check.description)
        for check in result.get_asset_check_evaluations()
        if check.asset_key == asset.key
    }
