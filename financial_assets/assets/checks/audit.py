"""When records are audited between runs, by those who switch the sensor ``audit_trading_records`` on."""

from __future__ import annotations

import dagster as dg

AUDITED_DAILY = dg.AutomationCondition.cron_tick_passed("0 5 * * *", "UTC").since_last_handled()
"""Once a day, whether the asset was materialized or not: a record may be edited at any time."""
