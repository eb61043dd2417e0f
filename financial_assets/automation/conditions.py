"""What follows from data alone, declared as conditions of assets; each sensor waits to be switched on.

Dagster launches such runs without configuration or tags. What needs a calendar, a session of its own, one run at a
time, a cool-down or a halt is therefore a schedule or sensor of ours: ``daily_after_close``, ``retrain_on_alert``,
``retrain_on_drift``. The run of a session holds everything from prices to orders, so that either all of it is done or
the session is not complete; conditions of single assets would not keep that.
"""

from __future__ import annotations

import dagster as dg

_Condition = dg.AutomationCondition

_IDLE = ~_Condition.any_deps_in_progress() & ~_Condition.in_progress()
# Not when it was only updated: a run that reuses the training gives the same data version.
_NEW = _Condition.any_deps_match(_Condition.data_version_changed()) | _Condition.missing().newly_true()

AFTER_A_NEW_MODEL = _NEW.since_last_handled() & ~_Condition.any_deps_missing() & _IDLE
"""Once after each new version of what the asset is made from, and once where it was never made."""

AFTER_NEW_FOLDS = _Condition.any_deps_updated().since_last_handled() & _IDLE
"""Once after folds were computed, when none is under way; folds that nobody has asked for may be missing."""

SENSORS = [
    dg.AutomationConditionSensorDefinition(
        "explain_new_models",
        target=dg.AssetSelection.groups("explanations"),
        description="Explains each variant that was trained anew, or never explained. A run takes minutes of processor "
        "time for each variant, and shares the pool `training`.",
    ),
    dg.AutomationConditionSensorDefinition(
        "report_new_folds",
        target=dg.AssetSelection.assets("walk_forward_report"),
        description="Makes the report of the walk-forward when a backfill of folds is over, which does not hold it.",
    ),
    dg.AutomationConditionSensorDefinition(
        "audit_trading_records",
        target=dg.AssetSelection.checks_for_assets("orders", "paper_book"),
        description="Executes the checks `chain` of orders and paper_book once a day (05:00 UTC), without their "
        "assets: an edited record is noticed before the next run reads it.",
    ),
]


def with_condition(assets: list[dg.AssetsDefinition], condition: dg.AutomationCondition) -> list[dg.AssetsDefinition]:
    """The assets, each with that condition."""
    return [
        asset.map_asset_specs(lambda spec: spec.replace_attributes(automation_condition=condition)) for asset in assets
    ]
